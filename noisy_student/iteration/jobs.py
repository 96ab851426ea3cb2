"""The trainings of a run."""

import dataclasses

from data.records import RecordSet
from noisy_student.config import Config, seed_of
from noisy_student.preparation.preparation import PreparedData
from noisy_student.training.job import TrainingJob


def teacher_job(config: Config, data: PreparedData) -> TrainingJob:
    """The first teacher: labels alone, with noise."""
    return TrainingJob(
        labeled=data.labeled,
        pseudo_labeled=None,
        model=config.teacher,
        training=config.teacher_training,
        augmentation=config.augmentation,
        seed=seed_of(config.seed, 0),
    )


def student_job(
    config: Config, data: PreparedData, generation: int, pseudo_labeled: RecordSet | None
) -> TrainingJob:
    """A student; without pseudo-labels, a control."""
    training = config.training_of(generation)
    if pseudo_labeled is None:
        training = dataclasses.replace(config.student_training, labeled_loss_weight=1.0)
    return TrainingJob(
        labeled=data.labeled,
        pseudo_labeled=pseudo_labeled,
        model=config.student,
        training=training,
        augmentation=config.augmentation,
        seed=seed_of(config.seed, generation),
    )
