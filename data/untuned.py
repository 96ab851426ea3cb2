"""tf.data without its tuner."""

import tensorflow as tf

BATCHES_AHEAD = 2  # That wait for the device: of large images two are much.


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset; where it says `AUTOTUNE`, all threads of its machine from the start.

    tf.data's tuner looks again after 10 ms, 20 ms, 40 ms, … up to a minute. When an
    iterator is given up, it can miss being told to stop, and all wait for its next
    look: as long as the iterator was in use before, in half of the cases (TensorFlow
    2.20). Each shard, evaluation and training would end so.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.autotune.initial_parallelism = 2**16  # Bounded by the threads there are.
    return dataset.with_options(options)
