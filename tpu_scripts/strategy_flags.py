"""The flags that say where to compute."""

import tensorflow as tf
from absl import flags

from noisy_student import strategy

# They belong to the script that asks for them: --helpshort.
flags.disclaim_key_flags()


def define(several_workers: bool = False) -> None:
    """Defines --strategy and --tpu.

    Args:
        several_workers: Whether the script can be one of several workers.
    """
    flags.DEFINE_enum(
        "strategy",
        "auto",
        [s for s in strategy.STRATEGIES if several_workers or s != "multi_worker"],
        "Where to compute; auto: GPUs if there are any, else the CPU.",
    )
    flags.DEFINE_string("tpu", "local", "With --strategy=tpu: local, or the TPU's name.")


def create_strategy(**paths: str) -> tf.distribute.Strategy:
    """The strategy that the flags name. Before any other use of TensorFlow.

    Args:
        **paths: What is read and written, by argument: a TPU elsewhere must reach it.
    """
    strategy.check_reachable(flags.FLAGS.strategy, flags.FLAGS.tpu, paths)
    chosen = strategy.create_strategy(flags.FLAGS.strategy, flags.FLAGS.tpu)
    devices = chosen.extended.worker_devices
    kind = devices[0].rsplit(":", 2)[-2]  # …/device:GPU:0
    print(f"Computing on {chosen.num_replicas_in_sync} {kind}.")
    return chosen
