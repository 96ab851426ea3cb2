"""Run by test_eight_replicas.py in a process of its own: trainings on eight replicas.

`python -m tests.noisy_student.training.eight_replicas WORK_DIR OUT`: WORK_DIR is a
finished run of `tiny_config()`; what it finds goes to the directory OUT.
"""

import contextlib
import dataclasses
import os
import sys

import numpy as np
import tensorflow as tf

REPLICAS, STEPS, KILLED_AT = 8, 6, 4


def student(work_dir, **model):
    """A student with one labeled image and two pseudo-labeled ones on a replica."""
    from noisy_student.balancing.balancing import load_balanced
    from noisy_student.iteration.jobs import student_job
    from noisy_student.preparation.preparation import prepare
    from tests.conftest import tiny_config

    tiny = tiny_config()
    settings = dataclasses.replace(
        tiny.student_training,
        batch_size=REPLICAS,
        duration=f"{STEPS} steps",
        warmup="1 steps",
    )
    tiny = dataclasses.replace(
        tiny,
        student_training=settings,
        student=dataclasses.replace(tiny.student, **model),
    )
    data = prepare(tiny.data, os.path.join(work_dir, "data"), seed=0)
    balanced = load_balanced(os.path.join(work_dir, "generation_1/balanced"))
    return student_job(tiny, data, 1, balanced), data


NOISELESS = {"dropout_rate": 0.0, "stochastic_depth_rate": 0.0}
# Statistics of all images: the same training on any number of replicas.
TOGETHER = {**NOISELESS, "batch_norm_group_size": -1}
# Of four replicas each.
IN_GROUPS = {**NOISELESS, "batch_norm_group_size": 4}


def options():
    from noisy_student.training.training_loop import LoopOptions

    return LoopOptions(steps_per_loop=2, checkpoint_interval="2 steps")


class Killed(BaseException):
    """Stands in for a kill: nothing catches it."""


def train_until_killed(work_dir, directory, strategy):
    """Leaves a checkpoint of step `KILLED_AT`."""
    from noisy_student.training import training
    from noisy_student.training.train_step import NoisyStudentTrainer

    whole = NoisyStudentTrainer.train

    def dying(self, num_steps):
        if int(self.step.numpy()) == KILLED_AT:
            raise Killed
        return whole(self, num_steps)

    job, _ = student(work_dir, **TOGETHER)
    NoisyStudentTrainer.train = dying
    with contextlib.suppress(Killed):
        training.train(job, directory, strategy, options())
    NoisyStudentTrainer.train = whole


def loss_in_groups(work_dir, strategy):
    """The mean loss of the first step, every group with its own statistics."""
    from noisy_student.training.train_step import NoisyStudentTrainer

    job, _ = student(work_dir, **IN_GROUPS)
    with strategy.scope():
        trainer = NoisyStudentTrainer(job, strategy)
    return trainer.train(tf.constant(1))["loss"]


def noisy_logits(work_dir, strategy):
    """`[replica, image, class]`: what each makes of the same images, by step drawn."""
    from efficientnet import noise
    from noisy_student.training.train_step import NoisyStudentTrainer

    job, _ = student(work_dir, dropout_rate=0.5, stochastic_depth_rate=0.5)
    with strategy.scope():
        trainer = NoisyStudentTrainer(job, strategy)
    size = job.model.resolution
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8)

    @tf.function
    def step(number):
        def replica():
            with noise.noise_key(job.seed, number):
                return trainer.model(tf.constant(images), training=True)

        return strategy.run(replica)

    found = {}
    for name, number in {"first": 0, "again": 0, "next": 1}.items():
        logits = strategy.experimental_local_results(step(tf.constant(number, tf.int64)))
        found[name] = np.stack([one.numpy() for one in logits])
    return found


def evaluated(work_dir, out, strategy):
    """Metrics of the finished student; the last batch is not full on all replicas."""
    from noisy_student.evaluation import evaluation

    model = os.path.join(out, "model")
    os.makedirs(model)
    for name in ("model.keras", "model.json"):
        os.symlink(
            os.path.join(work_dir, "generation_1/student", name), os.path.join(model, name)
        )
    _, data = student(work_dir)
    return evaluation.evaluate(model, data.evaluation_sets(), strategy)


def main(work_dir, out):
    from data import files

    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        device, [tf.config.LogicalDeviceConfiguration()] * REPLICAS
    )
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    strategy = tf.distribute.MirroredStrategy(names)
    assert strategy.num_replicas_in_sync == REPLICAS
    train_until_killed(work_dir, os.path.join(out, "resumed"), strategy)
    found = {
        "loss_in_groups": loss_in_groups(work_dir, strategy),
        "metrics": evaluated(work_dir, out, strategy),
    }
    files.write_json(os.path.join(out, "found.json"), found)
    np.savez(os.path.join(out, "noisy_logits.npz"), **noisy_logits(work_dir, strategy))


if __name__ == "__main__":
    main(*sys.argv[1:])
