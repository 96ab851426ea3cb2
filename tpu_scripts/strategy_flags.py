"""The flags that say where to compute."""

from absl import flags

from noisy_student import strategy

# They belong to the script that asks for them: --helpshort.
flags.disclaim_key_flags()


def define() -> None:
    """Defines --strategy and --tpu."""
    flags.DEFINE_enum(
        "strategy",
        "auto",
        strategy.STRATEGIES,
        "Where to compute; auto: GPUs if there are any, else the CPU.",
    )
    flags.DEFINE_string("tpu", "local", "With --strategy=tpu: local, or the TPU's name.")


def create_strategy():
    """The strategy that the flags name."""
    return strategy.create_strategy(flags.FLAGS.strategy, flags.FLAGS.tpu)
