"""SVHN: the one recipe of the published code that is whole, and its missing teacher.

    python -m tpu_scripts.iterate --recipe=svhn --work_dir=runs/svhn

Wants train_32x32.mat, extra_32x32.mat and test_32x32.mat in svhn/, from
http://ufldl.stanford.edu/housenumbers. The same data by TensorFlow Datasets:
--labeled_data='tfds:svhn_cropped:train[4000:]' --unlabeled_data=tfds:svhn_cropped:extra
--validation_data='tfds:svhn_cropped:train[:4000]' --test_data=tfds:svhn_cropped:test
(which holds out other 4,000 images than the published code).

The published teacher's file is gone and its training was never published: here it has
the student's settings without the unlabeled images. Not run yet: no such data at hand.
"""

import dataclasses
from typing import Any

from data.augmentation import PRESETS
from noisy_student.config import Config, DataConfig, ModelConfig, TrainingConfig
from noisy_student.config.selection import SelectionConfig
from noisy_student.recipes.recipe import PaperNumber, Recipe

LABELED, UNLABELED = 69_257, 531_131

_NETWORK = ModelConfig(
    "efficientnet-b0", image_size=32, small_image=True, pixel_statistics="svhn"
)
# 69,257 images: 541.07 steps an epoch, 202.3 epochs, a rate of 0.008 that falls by 3 %
# every 742.14 steps to 9.09e-5.
_TRAINING: dict[str, Any] = dict(
    batch_size=128,
    duration="109474 steps",
    base_learning_rate=0.016,
    warmup="5 epochs",
    final_base_learning_rate=0.0002,
    weight_decay=1e-4,
)
ONLINE = Config(
    data=DataConfig(
        labeled_data="svhn:svhn:train",
        unlabeled_data="svhn:svhn:extra",
        validation_data="svhn:svhn:dev",
        test_data="svhn:svhn:test",
    ),
    augmentation=PRESETS["svhn"],
    teacher=_NETWORK,
    student=_NETWORK,
    teacher_training=TrainingConfig(**_TRAINING),
    student_training=TrainingConfig(**_TRAINING, unlabeled_ratio=5.0),
    generations=1,
    online_teacher=True,
)
_STORED = dataclasses.replace(
    ONLINE,
    online_teacher=False,
    selection=SelectionConfig(
        min_confidence=0.3, images_per_class=53_113, selection="reference"
    ),
)
_SOURCE = "published scripts, local_scripts/svhn"
_DIFFERS = ("Images stay as they are; the published code saves them as JPEG again.",)
_NO_TEACHER = "The teacher's settings are not published; here the student's."


def _recipe(name: str, summary: str, config: Config, top_1: float, **more: Any) -> Recipe:
    row = "teacher" if more.get("role") == "teacher" else "student"
    return Recipe(
        name,
        summary,
        config,
        paper=(PaperNumber("top_1", top_1, f"svhn/{row}/top_1"),),
        source=_SOURCE,
        differs=(*_DIFFERS, _NO_TEACHER),
        labeled_images=LABELED,
        unlabeled_images=UNLABELED,
        **more,
    )


RECIPES = (
    _recipe(
        "svhn-teacher", "EfficientNet-B0 on SVHN's labels.", ONLINE, 97.9, role="teacher"
    ),
    _recipe("svhn", "Student of an online teacher, as run_online.sh.", ONLINE, 98.6),
    _recipe(
        "svhn-stored",
        "Student of stored labels, filtered and balanced, as svhn_offline.sh.",
        _STORED,
        98.6,
    ),
)
