"""The flags that say where to compute."""

from absl import flags

from noisy_student import strategy

_STRATEGY = flags.DEFINE_enum(
    "strategy", "auto", strategy.STRATEGIES, "Where to compute; auto: GPUs, else CPU."
)
_TPU = flags.DEFINE_string("tpu", "local", "With --strategy=tpu: local, or its name.")


def create_strategy():
    """The strategy that the flags name."""
    return strategy.create_strategy(_STRATEGY.value, _TPU.value)
