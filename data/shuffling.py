"""The order of examples: random, from a seed alone, and with copies kept apart.

`Dataset.shuffle` is not used: its order also depends on TensorFlow's global seed,
and it leaves copies of one record in one batch by chance.
"""

import tensorflow as tf


def shuffled(
    dataset: tf.data.Dataset,
    buffer: int,
    batch_size: int,
    offset: tf.Tensor | int,
    seed: tf.Tensor,
) -> tf.data.Dataset:
    """The records in random order within windows of about `buffer` of them.

    Windows end where batches end. In each one, no batch has two copies of a record
    of which the window has no more than it has whole batches; of others a batch has
    as few as possible, or one more.

    Args:
        dataset: Tuples (path, position, record, copy) of scalars: string, int64,
            string, int64.
        buffer: Records held in memory. A window has at least two batches.
        batch_size: Of the batches that will be made of the result.
        offset: Records that are in the first batch already, from another dataset.
        seed: int64 `[2]`.
    """
    window = max(buffer // batch_size, 2) * batch_size
    offset = tf.cast(offset, tf.int64)
    # In the place of records before these, so that all windows begin with a batch.
    nothing = ("", tf.constant(-1, tf.int64), "", tf.constant(-1, tf.int64))
    padding = tf.data.Dataset.from_tensors(nothing).repeat(offset)
    windows = padding.concatenate(dataset).batch(window).enumerate()

    def shuffle(number, rows):
        """What the window holds, in its new order."""
        padded = tf.where(number == 0, offset, 0)
        path, position = rows[0][padded:], rows[1][padded:]
        _, file = tf.unique(path, out_idx=tf.int64)
        _, identity = tf.unique(file * 2**40 + position)
        window_seed = tf.random.experimental.stateless_fold_in(seed, number)
        order = spread_order(identity, batch_size, padded, window_seed)
        # One copy of the window, which may be large.
        return tuple(tf.gather(x, tf.cast(order, tf.int64) + padded) for x in rows)

    return windows.map(shuffle).prefetch(1).unbatch()


def spread_order(
    identity: tf.Tensor, batch_size: int, offset: tf.Tensor | int, seed: tf.Tensor
) -> tf.Tensor:
    """A random order in which equal elements lie in different batches.

    Elements are sorted by a random number drawn for each identity, so that equal ones
    are neighbours, and dealt out like cards: one to each batch in turn.

    Args:
        identity: int32 `[N]` from 0 to N - 1.
        batch_size: Elements in a batch.
        offset: How many places of the first batch are taken, below `batch_size`.
        seed: int64 `[2]`.

    Returns:
        int32 `[N]`: which element comes at each place.
    """
    count = tf.size(identity)
    # As many numbers as there are elements, though fewer may be needed.
    deck = tf.argsort(tf.gather(_random(count, seed, 0), identity), stable=True)
    offset = tf.cast(offset, tf.int32)
    place = tf.range(offset, offset + count)
    batch, row = place // batch_size, place % batch_size
    batches = (offset + count - 1) // batch_size + 1
    turn = tf.gather(tf.argsort(_random(batches, seed, 1)), batch)
    dealt = tf.argsort(row * batches + turn, stable=True)
    return tf.scatter_nd(dealt[:, None], deck, [count])


def _random(count: tf.Tensor, seed: tf.Tensor, stream: int) -> tf.Tensor:
    seed = tf.random.experimental.stateless_fold_in(seed, stream)
    return tf.random.stateless_uniform([count], seed, None, None, tf.int64)
