"""How fast a training is here: real steps on real images, kept nowhere."""

import tensorflow as tf

from noisy_student.strategy import check_one_process
from noisy_student.training.job import TrainingJob
from noisy_student.training.train_step import NoisyStudentTrainer

STEPS = 10
_FIRST_STEPS = 2  # Which compile and fill buffers.


def images_per_second(job: TrainingJob, strategy: tf.distribute.Strategy) -> float:
    """Of ten real steps, input and all, after two that compile."""
    check_one_process("measuring the speed", strategy)
    with strategy.scope():
        trainer = NoisyStudentTrainer(job, strategy)
    trainer.train(tf.constant(_FIRST_STEPS))
    return trainer.train(tf.constant(STEPS))["images_per_second"]
