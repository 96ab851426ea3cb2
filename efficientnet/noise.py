"""Noise inside the network: stochastic depth and dropout.

`keras.layers.Dropout` draws the same mask on every replica of a
`tf.distribute` strategy. The layers here draw statelessly from (seed, step, part
of the step, replica, layer), given by `noise_key`.
"""

import contextlib
import dataclasses
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

_active = threading.local()


@dataclasses.dataclass(frozen=True)
class _Key:
    """What is active: two numbers to draw from, and which rows have which noise."""

    numbers: tuple[tf.Tensor, tf.Tensor]
    noisy_rows: Mapping[str, tf.Tensor]


@contextlib.contextmanager
def noise_key(
    seed: int | tf.Tensor,
    step: int | tf.Tensor,
    part: int = 0,
    noisy_rows: Mapping[str, tf.Tensor] | None = None,
) -> Iterator[None]:
    """Makes the noise of every layer called inside a function of (seed, step, part).

    Call it inside the function that `strategy.run` runs: each replica then
    draws its own noise, and a repeated step draws the same noise again.
    Without an active key the noise is drawn from TensorFlow's global generator.

    Args:
        seed: Integer, one per training run.
        step: Scalar integer tensor, the training step.
        part: Integer below 2^15, of a step that goes through its batch in parts.
        noisy_rows: bool tensors `[N]` by kind of noise, `dropout` or
            `stochastic_depth`: only these images of a batch of N have it. A kind
            that is not there is on for all.
    """
    context = tf.distribute.get_replica_context()
    replica = context.replica_id_in_sync_group if context else 0
    first = tf.cast(seed, tf.int64) * 65536 + tf.cast(replica, tf.int64) + part * 2**48
    numbers = (first, tf.cast(step, tf.int64))
    with _activated(_Key(numbers, noisy_rows or {})):
        yield


def repeatable(function: Callable) -> Callable:
    """`function` drawing, whenever it is called again, the noise of now.

    For functions that are run a second time in the backward pass, when the key
    that was active in the forward pass is gone.
    """
    key = getattr(_active, "key", None)
    if key is None:
        numbers = tf.random.uniform([2], maxval=tf.int64.max, dtype=tf.int64)
        key = _Key((numbers[0], numbers[1]), {})

    def repeated(*args):
        with _activated(key):
            return function(*args)

    return repeated


@contextlib.contextmanager
def _activated(key):
    previous = getattr(_active, "key", None)
    _active.key = key
    try:
        yield
    finally:
        _active.key = previous


def uniform(shape: Sequence[int] | tf.Tensor, name: str) -> tf.Tensor:
    """Uniform float32 in [0, 1), differing by seed, step, part, replica and name."""
    key = getattr(_active, "key", None)
    if key is None:
        return tf.random.uniform(shape)
    salt = tf.constant(zlib.crc32(name.encode()), tf.int64)
    seed = tf.stack([key.numbers[0], key.numbers[1] * 2**32 + salt])
    # Named, since the automatic choice is another one on every kind of device. XLA
    # makes other numbers of the same key all the same, but for keys known beforehand.
    return tf.random.stateless_uniform(shape, seed, alg="philox")


def _in_noisy_rows(kind: str, noisy: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
    """`noisy` where the active key has this kind of noise on, else `inputs`."""
    key = getattr(_active, "key", None)
    rows = key.noisy_rows.get(kind) if key else None
    if rows is None:
        return noisy
    return tf.where(tf.reshape(rows, [-1] + [1] * (inputs.shape.rank - 1)), noisy, inputs)


def _check_rate(rate: float) -> float:
    if not 0 <= rate < 1:
        raise ValueError(f"`rate`: expected 0 <= rate < 1; received {rate}.")
    return float(rate)


@keras.saving.register_keras_serializable(package="efficientnet")
class StochasticDepth(keras.layers.Layer):
    """Drops a residual branch per image (Huang et al., arXiv 1603.09382).

    With k = 1 - rate and u uniform in [0, 1) per image:
    y = x / k · floor(k + u) in training, y = x in inference.

    Args:
        rate: Probability that an image loses the branch, 0 <= rate < 1.
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = _check_rate(rate)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or not self.trainable or self.rate == 0:
            return inputs
        keep = 1.0 - self.rate
        mask = tf.floor(keep + uniform([tf.shape(inputs)[0], 1, 1, 1], self.name))
        noisy = inputs / tf.cast(keep, inputs.dtype) * tf.cast(mask, inputs.dtype)
        return _in_noisy_rows("stochastic_depth", noisy, inputs)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable(package="efficientnet")
class Dropout(keras.layers.Layer):
    """Zeroes single features and scales the rest by 1 / (1 - rate), in training.

    Args:
        rate: Probability that a feature is zeroed, 0 <= rate < 1.
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = _check_rate(rate)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.rate == 0:
            return inputs
        kept = uniform(tf.shape(inputs), self.name) >= self.rate
        noisy = tf.where(kept, inputs / (1.0 - self.rate), tf.zeros_like(inputs))
        return _in_noisy_rows("dropout", noisy, inputs)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}
