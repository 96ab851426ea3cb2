"""A folder of labeled photos and a larger one of unlabeled photos.

    python -m tpu_scripts.iterate --recipe=photos --work_dir=runs/photos \\
        --labeled_data=folder:photos/labeled --unlabeled_data=folder:photos/unlabeled

Sizes for one machine, not for the paper's tables; the settings were not tuned.
Every one can be changed by a flag, such as --student_variant=efficientnet-b2.
"""

from typing import Any

from data.augmentation import PRESETS
from noisy_student.config import Config, DataConfig, ModelConfig, TrainingConfig
from noisy_student.recipes.recipe import Recipe

_MODEL = ModelConfig(variant="efficientnet-b0", image_size=224, batch_norm_momentum=0.97)
_TRAINING: dict[str, Any] = dict(
    batch_size=32,
    duration="100 epochs",
    base_learning_rate=0.032,
    warmup="5 epochs",
    final_base_learning_rate=0.0003,
)

CONFIG = Config(
    data=DataConfig(
        labeled_data="folder:photos/labeled", unlabeled_data="folder:photos/unlabeled"
    ),
    augmentation=PRESETS["photos"],
    teacher=_MODEL,
    student=_MODEL,
    teacher_training=TrainingConfig(**_TRAINING),
    student_training=TrainingConfig(**_TRAINING, unlabeled_ratio=3.0),
    generations=2,
)

RECIPES = (
    Recipe("photos", "A folder of labeled photos and one of unlabeled photos.", CONFIG),
)
