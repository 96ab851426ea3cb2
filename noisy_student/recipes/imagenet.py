"""ImageNet: baselines and students B0 to B7, and the chain of L2; studies: imagenet_tables.

    python -m tpu_scripts.reproduce --scale=imagenet --table=6 --work_dir=gs://BUCKET/tables

Settings are those of the published scripts, with the paper's value in a comment where it
differs; L2's are the paper's. None of these recipes has been run. The paper's unlabeled
images are JFT's, which are not public: docs/unlabeled_data.md names public ones.
"""

import dataclasses
from typing import Any

from data.augmentation import Augmentation
from noisy_student.config import Config, DataConfig, ModelConfig, TrainingConfig
from noisy_student.config.selection import SelectionConfig
from noisy_student.recipes.recipe import FixRes, PaperNumber, Recipe

SCALE = "imagenet"
LABELED, UNLABELED = 1_281_167, 81_000_000  # Unlabeled: distinct ones that are kept.
IMAGES_PER_CLASS = 130_000  # With copies; 130M in all.

_SOURCE = "published scripts (github.com/google-research/noisystudent)"
JFT = "Unlabeled images are public ones in place of JFT's: docs/unlabeled_data.md."
SELECTED = "The paper selects by an EfficientNet-B0's confidence; here the teacher's."
EXACT = "The choice is the exact top K; the published lots: --selection=reference."
_CHAIN = (
    "Teachers within the chain label at 475 pixels: FixRes follows the last training.",
    "The first B7 has L2's batch size; version 1's B7 had a B7 as teacher itself.",
)
_SMALLER = (1, 3, 3, 3, 3, 3, 3, 3)  # Unlabeled ratio, B0 to B7. Version 1: 1, B7 3.
_TWICE_AS_LONG = 5  # B0 to B4 train 700 epochs, the others 350.
# RandAugment's magnitude, B0 to B7; without it crop and mirror are the only noise.
MAGNITUDES = (None, None, 6, 12, 15, 18, 24, 27)

_DATA = DataConfig(
    labeled_data="tfrecord:imagenet/train-*",
    unlabeled_data="tfrecord:unlabeled/train-*",
    test_data="tfrecord:imagenet/validation-*",
    label_offset=1,
)


def augmentation_of(number: int) -> Augmentation:
    """Of EfficientNet-B`number`."""
    magnitude = MAGNITUDES[number]
    if magnitude is None:
        return Augmentation(num_ops=0)
    return Augmentation(num_ops=2, magnitude=magnitude)  # 16 operations; in the paper 14.


def network(number: int) -> ModelConfig:
    """EfficientNet-B`number` at its own image size."""
    return ModelConfig(f"efficientnet-b{number}", precision="mixed_bfloat16")


def training_of(number: int, **changes: Any) -> TrainingConfig:
    """Of EfficientNet-B`number`, teacher and student."""
    settings: dict[str, Any] = dict(
        batch_size=4096,  # Paper: 2048.
        duration="350 epochs",
        train_ratio=2.0 if number < _TWICE_AS_LONG else 1.0,
    )
    return TrainingConfig(**{**settings, **changes})


def same_size(number: int) -> Config:
    """A B`number` student of a B`number` teacher, no iteration."""
    return Config(
        data=_DATA,
        augmentation=augmentation_of(number),
        teacher=network(number),
        student=network(number),
        teacher_training=training_of(number),
        student_training=training_of(number, unlabeled_ratio=float(_SMALLER[number])),
        selection=SelectionConfig(images_per_class=IMAGES_PER_CLASS),
        generations=1,
    )


def make_row(name: str, summary: str, config: Config, **more: Any) -> Recipe:
    settings: dict[str, Any] = dict(
        source=_SOURCE,
        differs=() if more.get("role") == "teacher" else (JFT, SELECTED, EXACT),
        num_classes=1000,
        labeled_images=LABELED,
        unlabeled_images=UNLABELED,
    )
    return Recipe(f"{SCALE}-{name}", summary, config, scale=SCALE, **{**settings, **more})


def _of_b(number: int, column: str, top_1: float, top_5: float) -> tuple[PaperNumber, ...]:
    cell = f"b0_to_b7/B{number}/{column}"
    return (
        PaperNumber("top_1", top_1, f"{cell}_top_1"),
        PaperNumber("top_5", top_5, f"{cell}_top_5"),
    )


# Top-1 and top-5 of B0 to B7: supervised, with a teacher of the same size, with L2.
_BASE = (
    (77.3, 93.4),
    (79.2, 94.4),
    (80.0, 94.9),
    (81.7, 95.7),
    (83.2, 96.4),
    (84.0, 96.8),
    (84.5, 97.0),
    (85.0, 97.2),
)
_SAME = (
    (78.1, 94.2),
    (80.2, 95.2),
    (81.1, 95.5),
    (82.5, 96.4),
    (84.4, 97.0),
    (85.0, 97.2),
    (85.6, 97.6),
    (85.9, 97.6),
)
_BY_L2 = (
    (78.8, 94.5),
    (81.5, 95.8),
    (82.4, 96.3),
    (84.1, 96.9),
    (85.3, 97.5),
    (86.1, 97.8),
    (86.4, 97.9),
    (86.9, 98.1),
)
SUPERVISED = tuple(
    make_row(
        f"b{number}",
        f"EfficientNet-B{number} on ImageNet's labels alone, with the student's noise.",
        same_size(number),
        role="teacher",
        paper=_of_b(number, "base", *_BASE[number]),
    )
    for number in range(8)
)
STUDENTS = tuple(
    make_row(
        f"b{number}-student",
        f"EfficientNet-B{number}, student of an EfficientNet-B{number}.",
        same_size(number),
        paper=_of_b(number, "same_teacher", *_SAME[number]),
    )
    for number in range(8)
)

# The chain to 88.4: a B7 teaches an L2, which teaches an L2 twice.
_L2_TRAINING: dict[str, Any] = dict(batch_size=2048, duration="350 epochs")
L2_CHAIN = Config(
    data=_DATA,
    augmentation=Augmentation(num_ops=2, magnitude=27),
    teacher=network(7),
    student=ModelConfig(
        "efficientnet-l2",
        image_size=475,
        batch_norm_group_size=-1,  # Over all cores, the author said.
        precision="mixed_bfloat16",
        remat=True,
    ),
    teacher_training=TrainingConfig(**_L2_TRAINING),
    student_training=TrainingConfig(**_L2_TRAINING, unlabeled_ratio=14.0),
    selection=SelectionConfig(images_per_class=IMAGES_PER_CLASS),
)
_L2_COST = dict(hardware="Cloud TPU v3 Pod, 2,048 cores", cost="6 days for ratio 14")
L2 = tuple(
    make_row(
        f"l2-generation_{generation}",
        f"EfficientNet-L2 of generation {generation}, at 475 pixels, FixRes at 800.",
        dataclasses.replace(
            L2_CHAIN,
            generations=generation,
            last_unlabeled_ratio=28.0 if generation == 3 else 0.0,
        ),
        fixres=FixRes(800),
        source="the paper, sections 3.1 and 4.1",
        differs=(JFT, SELECTED, EXACT, *_CHAIN),
        paper=(PaperNumber("top_1", top_1, f"table_7/{generation}/top_1"), *more),
        **_L2_COST,
    )
    for generation, top_1, more in (
        (1, 87.6, ()),
        (2, 88.1, ()),
        (3, 88.4, (PaperNumber("top_5", 98.7, "table_2/Noisy Student (L2)/top_5"),)),
    )
)
L2_SUPERVISED = make_row(
    "l2",
    "EfficientNet-L2 on ImageNet's labels alone, at 475 pixels, FixRes at 800.",
    dataclasses.replace(L2_CHAIN, teacher=L2_CHAIN.student),
    role="teacher",
    fixres=FixRes(800),
    source="the paper, section 4.1",
    paper=(
        PaperNumber("top_1", 85.5, "table_2/EfficientNet-L2/top_1"),
        PaperNumber("top_5", 97.5, "table_2/EfficientNet-L2/top_5"),
    ),
)
STUDENTS_OF_L2 = tuple(
    make_row(
        f"b{number}-student_of_l2",
        f"EfficientNet-B{number}, student of the last L2; of the released checkpoints.",
        dataclasses.replace(
            same_size(number), teacher=L2_CHAIN.student, allow_smaller_student=True
        ),
        teacher_recipe=f"{SCALE}-l2-generation_3",
        paper=_of_b(number, "l2_teacher", *_BY_L2[number]),
    )
    for number in range(8)
)
