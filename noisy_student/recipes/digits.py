"""scikit-learn's digits: the whole method in minutes on two cores.

    python -m tpu_scripts.iterate --recipe=digits --work_dir=runs/digits

5 labels a class and 950 unlabeled images. Measured numbers and how the settings
were chosen: docs/results/digits.md.
"""

from typing import Any

from data.augmentation import PRESETS
from noisy_student.config import Config, DataConfig, ModelConfig, TrainingConfig
from noisy_student.recipes.recipe import Recipe

_MODEL = ModelConfig(
    width=0.25, depth=0.25, image_size=16, small_image=True, batch_norm_momentum=0.9
)
_TRAINING: dict[str, Any] = dict(
    batch_size=32,
    duration="256 epochs",  # Of 50 images: 400 steps.
    base_learning_rate=0.08,
    warmup="20 epochs",
    final_base_learning_rate=0.0008,
)

CONFIG = Config(
    data=DataConfig(
        labeled_data="digits:pool",
        labels_per_class=5,
        validation_data="digits:validation",
        test_data="digits:test",
        num_shards=2,
    ),
    augmentation=PRESETS["digits"],
    teacher=_MODEL,
    student=_MODEL,
    teacher_training=TrainingConfig(**_TRAINING),
    student_training=TrainingConfig(**_TRAINING, unlabeled_ratio=3.0),
    generations=2,
)

RECIPES = (
    Recipe(
        "digits",
        "The method on scikit-learn's digits: 5 labels a class, 950 unlabeled images.",
        CONFIG,
        labeled_images=50,
        unlabeled_images=950,
    ),
)
