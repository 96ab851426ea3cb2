"""scikit-learn's digits: the whole method in minutes on two cores.

python -m tpu_scripts.iterate --recipe=digits --work_dir=runs/digits
"""

from data.augmentation import Augmentation
from noisy_student.config import Config, DataConfig, ModelConfig, TrainingConfig

_MODEL = dict(image_size=16, small_image=True, depth=0.5, batch_norm_momentum=0.9)
_TRAINING = TrainingConfig(
    batch_size=32,
    epochs=256,  # Of 50 images: 400 steps.
    base_learning_rate=0.08,
    warmup_epochs=20,
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
    augmentation=Augmentation(
        crop="pad",
        horizontal_flip=False,
        num_ops=2,
        magnitude=5,
        randaugment_mode="corrected",
    ),
    teacher=ModelConfig(width=0.25, **_MODEL),
    student=ModelConfig(width=0.25, **_MODEL),
    teacher_training=_TRAINING,
    student_training=__import__("dataclasses").replace(_TRAINING, unlabeled_ratio=3.0),
    generations=2,
)
