"""A batch in parts that are computed one after the other: less memory, same update."""

import math
from collections.abc import Sequence

import tensorflow as tf


def parts_of(batch: dict, count: int) -> list:
    """The batch in `count` equal parts, each with labeled and pseudo-labeled rows."""
    if count == 1:
        return [batch]
    pieces = [tf.split(rows, count) for rows in tf.nest.flatten(batch)]
    return [tf.nest.pack_sequence_as(batch, part) for part in zip(*pieces, strict=True)]


def after(part: dict, gradients: Sequence[tf.Tensor]) -> dict:
    """The same rows, which cannot be used before the gradients are there.

    XLA, and with it a TPU, does not heed `tf.control_dependencies`. Here the rows depend
    on the gradients by their values: a zero is added that XLA does not know to be one.
    """
    some = tf.stack([tf.reshape(gradient, [-1])[0] for gradient in gradients])
    never = tf.reduce_all(some > math.inf)
    return tf.nest.map_structure(lambda rows: rows + tf.cast(never, rows.dtype), part)
