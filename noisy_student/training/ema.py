"""Exponential moving average of weights and batch-norm statistics."""

from collections.abc import Iterable

import keras
import tensorflow as tf


class ExponentialMovingAverage(tf.Module):
    """shadow = d·shadow + (1 - d)·variable, d = min(decay, (1 + n) / (10 + n)).

    n is the number of steps done, counted after the increment: 1 at the first
    update. A shadow starts at its variable's first value, without debiasing.
    Covers all variables of a model, moving means and variances too, as the
    published code does and `keras.optimizers` with `use_ema` does not. Of integers,
    such as the state of a random generator, it keeps the newest value.

    Args:
        variables: What to average: Keras variables.
        decay: Upper limit of d, 0 to 1.
    """

    def __init__(self, variables: Iterable[keras.Variable], decay: float):
        super().__init__()
        self._variables = list(variables)
        self.decay = decay
        self.shadows = [
            tf.Variable(variable.value, trainable=False) for variable in self._variables
        ]

    def update(self, step: tf.Tensor) -> None:
        """Moves every shadow; `step` is n. Call it after the weight update."""
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(self.decay, (1.0 + step) / (10.0 + step))
        for shadow, variable in zip(self.shadows, self._variables, strict=True):
            if shadow.dtype.is_floating:
                shadow.assign_sub((1.0 - decay) * (shadow - variable.value))
            else:
                shadow.assign(variable.value)

    def values(self) -> list:
        """The averages as NumPy arrays, in the order of the variables."""
        return [shadow.numpy() for shadow in self.shadows]
