"""CIFAR-10 and STL-10: public sets that have unlabeled images, or can play them.

    python -m tpu_scripts.iterate --recipe=stl10 --work_dir=runs/stl10
    python -m tpu_scripts.iterate --recipe=cifar10 --work_dir=runs/cifar10

Both come from TensorFlow Datasets, which downloads them. The paper has no number for
them. CIFAR-10 has SVHN's settings of the published code, mirrored, and 50,000 steps;
STL-10 the augmentation of photos. Not tuned, and not run yet.
"""

import dataclasses
from typing import Any

from data.augmentation import PRESETS, Augmentation
from noisy_student.config import Config, DataConfig, ModelConfig, TrainingConfig
from noisy_student.recipes.recipe import Recipe

_AUGMENTATION = dataclasses.replace(PRESETS["svhn"], horizontal_flip=True)
_DIFFERS = ("Not in the paper, and not tuned.",)


def _config(
    data: DataConfig, network: ModelConfig, augmentation: Augmentation, duration: str
) -> Config:
    training: dict[str, Any] = dict(
        batch_size=128,
        duration=duration,
        base_learning_rate=0.016,
        final_base_learning_rate=0.0002,
        weight_decay=1e-4,
    )
    return Config(
        data=data,
        augmentation=augmentation,
        teacher=network,
        student=network,
        teacher_training=TrainingConfig(**training),
        student_training=TrainingConfig(**training, unlabeled_ratio=5.0),
        generations=3,
    )


CIFAR10 = _config(
    DataConfig(
        labeled_data="tfds:cifar10:train[5000:]",
        labels_per_class=400,
        validation_data="tfds:cifar10:train[:5000]",
        test_data="tfds:cifar10:test",
    ),
    ModelConfig("efficientnet-b0", image_size=32, small_image=True),
    _AUGMENTATION,
    "50000 steps",
)
STL10 = _config(
    DataConfig(
        labeled_data="tfds:stl10:train[500:]",
        unlabeled_data="tfds:stl10:unlabelled",
        validation_data="tfds:stl10:train[:500]",
        test_data="tfds:stl10:test",
    ),
    ModelConfig("efficientnet-b0", image_size=96),
    dataclasses.replace(PRESETS["photos"], magnitude=5),
    "50000 steps",
)
RECIPES = (
    Recipe(
        "cifar10",
        "CIFAR-10 with 4,000 labels; 41,000 images play the unlabeled ones.",
        CIFAR10,
        differs=_DIFFERS,
        labeled_images=4_000,
        unlabeled_images=41_000,
    ),
    Recipe(
        "stl10",
        "STL-10: 4,500 labels, 100,000 unlabeled images of other classes too.",
        STL10,
        differs=_DIFFERS,
        labeled_images=4_500,
        unlabeled_images=100_000,
    ),
)
