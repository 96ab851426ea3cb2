"""scikit-learn's classifiers on pixels, which a network on labels alone must beat."""

from typing import Any

import numpy as np
import tensorflow as tf

from data import records
from data.errors import InputError
from data.records import RecordSet
from noisy_student.preparation.preparation import PreparedData

KINDS = ("rbf_svm", "random_forest")
_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)  # C of the support vector machine.
_TREES = 1_000


def measured(kind: str, data: PreparedData) -> dict:
    """Accuracy of a classifier trained on the labeled images' pixels, 0 to 1.

    The support vector machine has scikit-learn's γ ('scale') and the C that suits the
    validation images best, out of five; the random forest 1,000 trees.

    Args:
        kind: `rbf_svm` or `random_forest`.
        data: With validation images, all of one size.

    Returns:
        `test_top_1`, `validation_top_1`, `settings`.
    """
    import sklearn.ensemble
    import sklearn.svm

    if data.validation is None:
        raise InputError(
            f"`{kind}`: expected `validation_data` to choose its settings on; "
            "received none."
        )
    images, labels = _pixels(data.labeled)
    candidates: list[Any] = [sklearn.svm.SVC(C=c) for c in _PENALTIES]
    if kind == "random_forest":
        candidates = [sklearn.ensemble.RandomForestClassifier(_TREES, random_state=0)]
    validation = _pixels(data.validation)
    scored = [(each.fit(images, labels).score(*validation), each) for each in candidates]
    best, chosen = max(scored, key=lambda pair: pair[0])
    settings = chosen.get_params()
    return {
        "test_top_1": float(chosen.score(*_pixels(data.test))),
        "validation_top_1": float(best),
        "settings": {
            key: settings[key] for key in ("C", "n_estimators") if key in settings
        },
    }


def _pixels(examples: RecordSet) -> tuple[np.ndarray, np.ndarray]:
    """Grey values 0 to 1 `[N, H·W·C]`, and labels `[N]`."""
    images, labels = [], []
    for path in examples.files:
        for _, example in records.numbered_examples(path, examples.skipped):
            feature = example.features.feature
            encoded = feature[records.IMAGE].bytes_list.value[0]
            images.append(tf.io.decode_image(encoded).numpy().reshape(-1))
            labels.append(feature[records.TRUE_LABEL].int64_list.value[0])
    if len({image.size for image in images}) > 1:
        raise InputError(
            "Baselines on pixels: expected images of one size; received several sizes in "
            f"{examples.files[0]}."
        )
    return np.stack(images).astype(np.float32) / 255, np.array(
        labels
    ) - examples.label_offset
