"""The flags that say from which weights a training starts."""

from absl import flags

from data.errors import InputError
from noisy_student import warm_start

flags.disclaim_key_flags()


def define() -> None:
    flags.DEFINE_string(
        "init_from",
        "",
        "Directory of a model, as train or convert_checkpoint writes it, to start from; "
        "empty: start at random weights.",
    )
    flags.DEFINE_bool(
        "new_head",
        False,
        "With --init_from: start the classifier at random, for other classes.",
    )


def initial_weights() -> warm_start.InitialWeights | None:
    """What the flags name, or None."""
    directory, new_head = flags.FLAGS.init_from, flags.FLAGS.new_head
    if directory:
        return warm_start.initial_weights(directory, new_head)
    if new_head:
        raise InputError(
            "`new_head`: expected --init_from to name the model whose other layers are "
            "used; received none. Without it every layer starts at random."
        )
    return None
