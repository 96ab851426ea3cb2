"""What the paper's ablations and studies change in a configuration, at any scale."""

import dataclasses
from typing import Any

from noisy_student.config import Config


def with_student_training(config: Config, **changes: Any) -> Config:
    """Other settings of the students' training."""
    training = dataclasses.replace(config.student_training, **changes)
    return dataclasses.replace(config, student_training=training)


def with_selection(config: Config, **changes: Any) -> Config:
    """Another choice of pseudo-labels."""
    selection = dataclasses.replace(config.selection, **changes)
    return dataclasses.replace(config, selection=selection)


def with_student_model(config: Config, **changes: Any) -> Config:
    """Another student network."""
    student = dataclasses.replace(config.student, **changes)
    return dataclasses.replace(config, student=student)


def without_augmentation(config: Config) -> Config:
    """Table 6, `student w/o Aug`: no RandAugment on pseudo-labeled images.

    Where training has no RandAugment, as in the table's left column, it is the random
    crop and the mirror that go.
    """
    if config.augmentation.num_ops or config.augmentation.cutout:
        return with_student_training(config, pseudo_labeled_augmentation=False)
    return with_student_training(config, pseudo_labeled_random_crop=False)


def without_noise(config: Config) -> Config:
    """Table 6, `student w/o Aug, SD, Dropout`: on pseudo-labeled images."""
    return with_student_training(
        without_augmentation(config),
        pseudo_labeled_dropout=False,
        pseudo_labeled_stochastic_depth=False,
    )


def noised_teacher(config: Config) -> Config:
    """Table 6, `teacher with Aug, SD, Dropout`, as it labels."""
    return dataclasses.replace(config, noised_teacher=True)


def confidence_bucket(
    config: Config, low: float, high: float, images_per_class: int, soft: bool
) -> Config:
    """Study 3: as many images of one bucket of the teacher's confidence for each class.

    Args:
        config: What it is a variation of.
        low: The least confidence.
        high: Above all of the bucket; the last one, which has 1.0 itself, has 2.
        images_per_class: The same for each bucket.
        soft: Whether labels are probabilities.
    """
    config = with_selection(
        config,
        min_confidence=low,
        max_confidence=high,
        images_per_class=images_per_class,
        selection="uniform",
    )
    return with_student_training(config, soft_labels=soft)


def part_of_pool(config: Config, fraction: float) -> Config:
    """Study 2: labels of a share of the unlabeled images, drawn uniformly."""
    return with_selection(config, pool_fraction=fraction, selection="uniform")


def pre_training(config: Config) -> Config:
    """Study 6: pseudo-labels first; labels in the fine-tuning that follows."""
    return with_student_training(config, labeled_loss_weight=0.0)


def unbalanced(config: Config) -> Config:
    """Study 5: every confident image once, however many its class has."""
    return with_selection(config, balance="none", images_per_class=0)


def warm_started(config: Config) -> Config:
    """Study 8: the student starts from its teacher's weights."""
    return dataclasses.replace(config, student_init_from_teacher=True)
