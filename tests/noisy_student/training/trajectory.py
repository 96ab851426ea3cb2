"""Run by test_distributed.py in processes of its own: steps on given global batches.

`python -m tests.noisy_student.training.trajectory STRATEGY REPLICAS PATH` writes losses,
weights and averages after some steps to PATH, an `.npz` file. STRATEGY is `mirrored`, or
`multi_worker` with the workers of TF_CONFIG.
"""

import sys

import numpy as np
import tensorflow as tf

STEPS, LABELED, PSEUDO, CLASSES, SIZE = 4, 8, 16, 10, 16


def global_batch(step):
    """The same whatever the replicas; soft labels, so that nothing is drawn."""
    rng = np.random.default_rng(step)

    def images(count):
        return rng.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)

    probabilities = rng.dirichlet(np.ones(CLASSES), PSEUDO).astype(np.float32)
    return {
        "labeled": {
            "image": images(LABELED),
            "label": rng.integers(0, CLASSES, LABELED).astype(np.int32),
        },
        "pseudo_labeled": {
            "image": images(PSEUDO),
            "label": probabilities.argmax(-1).astype(np.int32),
            "probabilities": probabilities,
        },
    }


def trainer_for(strategy):
    """A tiny network without noise, its statistics synchronized."""
    from data.augmentation import Augmentation
    from data.records import RecordSet
    from noisy_student.config import ModelConfig, TrainingConfig
    from noisy_student.training.job import TrainingJob
    from noisy_student.training.train_step import NoisyStudentTrainer

    examples = RecordSet((), (4 * LABELED,), tuple("abcdefghij"))
    job = TrainingJob(
        labeled=examples,
        pseudo_labeled=examples,
        model=ModelConfig(
            width=0.1,
            depth=0.1,
            image_size=SIZE,
            dropout_rate=0.0,
            stochastic_depth_rate=0.0,
            batch_norm_group_size=-1,
        ),
        training=TrainingConfig(
            batch_size=LABELED,
            unlabeled_ratio=PSEUDO / LABELED,
            base_learning_rate=1.6,
            warmup="1 epoch",
            clip_gradient_norm=5.0,
        ),
        augmentation=Augmentation(),
        seed=0,
    )
    with strategy.scope():
        return NoisyStudentTrainer(job, strategy)


def train(strategy):
    """Losses of the steps, and variables and averages after them."""
    trainer = trainer_for(strategy)
    replicas = strategy.num_replicas_in_sync

    @tf.function
    def run(batch):
        strategy.run(trainer._train_step, args=(batch,))

    losses = []
    for step in range(STEPS):
        whole = global_batch(step)

        def part(context, whole=whole):
            index = context.replica_id_in_sync_group
            return tf.nest.map_structure(
                lambda x: tf.constant(np.split(x, replicas)[index]), whole
            )

        run(strategy.experimental_distribute_values_from_function(part))
        losses.append(trainer._sums.take()["loss"])
    found = {f"variable_{i}": v.numpy() for i, v in enumerate(trainer.model.variables)}
    found.update({f"average_{i}": v for i, v in enumerate(trainer.ema.values())})
    return {"losses": losses, **found}


def main(strategy_name, replicas, path):
    if strategy_name == "multi_worker":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        device = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            device, [tf.config.LogicalDeviceConfiguration()] * replicas
        )
        names = [device.name for device in tf.config.list_logical_devices("CPU")]
        strategy = tf.distribute.MirroredStrategy(names)
    assert strategy.num_replicas_in_sync == replicas
    np.savez(path, **train(strategy))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
