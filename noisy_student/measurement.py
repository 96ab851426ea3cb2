"""How fast a training is here: real steps on real images, kept nowhere."""

import itertools
import os
import tempfile

import numpy as np
import tensorflow as tf

from data import records
from data.records import RecordSet
from noisy_student import iterate, preparation
from noisy_student.config import Config
from noisy_student.strategy import check_one_process
from noisy_student.train_step import NoisyStudentTrainer, TrainingJob

STEPS = 10
_FIRST_STEPS = 2  # Which compile and fill buffers.
_STAND_INS = 512


def images_per_second(job: TrainingJob, strategy) -> float:
    """Of ten real steps, input and all, after two that compile."""
    check_one_process("measuring the speed", strategy)
    with strategy.scope():
        trainer = NoisyStudentTrainer(job, strategy)
    trainer.train(tf.constant(_FIRST_STEPS))
    return trainer.train(tf.constant(STEPS))["images_per_second"]


def speeds_of_run(config: Config, data_directory: str, strategy) -> dict[str, float]:
    """Images a second of teacher and student; writes the run's data, and keeps them.

    Pseudo-labels are not there yet: some unlabeled images with equal probabilities
    stand in for them. An online teacher's forward passes are left out.

    Args:
        config: Checked.
        data_directory: Of the run.
        strategy: Where to compute.
    """
    data = preparation.prepare(config.data, data_directory, config.seed)
    teacher = iterate.teacher_job(config, data)
    found = {"teacher": images_per_second(teacher, strategy)}
    with tempfile.TemporaryDirectory() as directory:
        names = data.labeled.class_names
        pseudo_labeled = _stand_ins(data.unlabeled, names, directory)
        student = iterate.student_job(config, data, 1, pseudo_labeled)
        found["student"] = images_per_second(student, strategy)
    return found


def _stand_ins(unlabeled: RecordSet, class_names, directory: str) -> RecordSet:
    probabilities = np.full(len(class_names), 1 / len(class_names), np.float32)
    examples = (
        {
            records.IMAGE: example.features.feature[records.IMAGE].bytes_list.value[0],
            records.ID: records.example_id(example, path, position).encode(),
            records.LABEL: 0,
            records.CONFIDENCE: float(probabilities[0]),
            records.PROBABILITIES: probabilities,
        }
        for path in unlabeled.files
        for position, example in records.numbered_examples(path, unlabeled.skipped)
    )
    path = os.path.join(directory, records.shard_name("stand_in", 0, 1))
    count = records.write_shard(path, itertools.islice(examples, _STAND_INS))
    return RecordSet((path,), (count,), tuple(class_names))
