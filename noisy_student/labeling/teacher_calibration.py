"""The temperature of a teacher, fitted once for a directory of predictions.

`calibration.json` there holds it: a rerun reads it and fits nothing.
"""

import os

import numpy as np
import tensorflow as tf

from data import files, json_form, streams
from data.errors import InputError
from data.records import RecordSet
from data.settings import differences
from noisy_student.evaluation.evaluation import labeled_predictions
from noisy_student.labeling import calibration
from noisy_student.models import model_files
from noisy_student.models.inference import Predictor
from noisy_student.stages.manifest import MANIFEST
from noisy_student.stages.progress import Progress

CALIBRATION = "calibration.json"


def calibrate_teacher(
    teacher: str,
    validation: RecordSet,
    directory: str,
    strategy: tf.distribute.Strategy,
    batch_size: int,
) -> dict:
    """Fits, or reads what was fitted, and returns the content of `calibration.json`.

    Args:
        teacher: Directory of a trained model.
        validation: Labeled images that it was not trained on.
        directory: Of its predictions; made if missing.
        strategy: Where to compute.
        batch_size: Images a step, over all replicas.

    Returns:
        `identity` (`teacher_sha256`, `validation_data`: the images' fingerprint,
        `label_offset`), `temperature`, `images`, and `before` and `after`, each as
        `calibration.reliability` gives it.

    Raises:
        InputError: The directory holds other labels, or see `fit_temperature`.
    """
    identity = {
        "teacher_sha256": model_files.load_info(teacher).weights_sha256,
        "validation_data": validation.fingerprint(),
        "label_offset": validation.label_offset,
    }
    # This order: another worker writes the calibration first, then the manifest.
    has_labels = tf.io.gfile.exists(os.path.join(directory, MANIFEST))
    record = read_calibration(directory)
    if record:
        _refuse_other(directory, record["identity"], identity)
        return record
    if has_labels:
        raise InputError(
            f"{directory}: expected no labels yet, or {CALIBRATION} of those there; they "
            "were made without --calibrate, or that file is gone. Choose another "
            "directory, or delete this one to label anew."
        )
    files.make_directory(directory)
    probabilities, labels = _predictions(teacher, validation, strategy, batch_size)
    # Another worker may have been first, on a device that rounds otherwise.
    record = read_calibration(directory)
    if record is None:
        record = {"identity": identity, **fitted(probabilities, labels)}
        files.write_json(os.path.join(directory, CALIBRATION), record)
    short = summary_of(record)
    print(
        f"calibration: temperature {short['temperature']:.3f}; expected calibration error "
        f"{short['expected_calibration_error_before']:.1%} before, "
        f"{short['expected_calibration_error_after']:.1%} after"
    )
    return record


def fitted(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    """Temperature, number of images, and the reliability before and after."""
    temperature = calibration.fit_temperature(probabilities, labels)
    after = calibration.tempered(probabilities, temperature)
    return {
        "temperature": temperature,
        "images": len(labels),
        "before": calibration.reliability(probabilities, labels),
        "after": calibration.reliability(after, labels),
    }


def read_calibration(directory: str) -> dict | None:
    """What was fitted for these predictions; None where they are not calibrated."""
    path = os.path.join(directory, CALIBRATION)
    if not tf.io.gfile.exists(path):
        return None
    reliability = {"expected_calibration_error": float}
    form = {
        "identity": dict,
        "temperature": float,
        "images": int,
        "before": reliability,
        "after": reliability,
    }
    return json_form.read(path, form, "the calibration of a teacher")


def summary_of(record: dict) -> dict:
    """The record in short: without its bins."""
    return {
        "temperature": record["temperature"],
        "images": record["images"],
        **{
            f"expected_calibration_error_{when}": record[when]["expected_calibration_error"]
            for when in ("before", "after")
        },
    }


def _refuse_other(directory: str, old: dict, new: dict) -> None:
    changed = differences(old, new)
    if changed:
        raise InputError(
            f"{os.path.join(directory, CALIBRATION)} was made from something else:\n  "
            + "\n  ".join(changed)
            + "\nChoose another directory, or delete this one to label anew."
        )


def _predictions(
    teacher: str, validation: RecordSet, strategy: tf.distribute.Strategy, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `[N, C]` of the teacher without noise, and labels `[N]`."""
    streams.check_not_empty(validation, "validation_data")
    model, info = model_files.load_model(teacher)
    predictor = Predictor(model, strategy, batch_size)
    probabilities, labels = [], []
    progress = Progress("calibration", validation.num_examples)
    for batch in labeled_predictions(predictor, validation, info, progress):
        probabilities.append(batch["probabilities"])
        labels.append(batch["label"])
    progress.finish()
    return np.concatenate(probabilities), np.concatenate(labels)
