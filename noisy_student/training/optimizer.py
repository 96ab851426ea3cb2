"""TF1's RMSProp and the published learning-rate schedule."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from noisy_student.config import TrainingConfig

DECAY_RATE = 0.97


class RMSProp(keras.optimizers.Optimizer):
    """RMSProp as in TensorFlow 1, which the published numbers were made with.

    s = decay·s + (1 - decay)·g²            (s starts at 1)
    m = momentum·m + lr · g / sqrt(s + ε)   (m starts at 0)
    w = w - m

    `keras.optimizers.RMSprop` starts s at 0 and has ε outside the root.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
        decay: float = 0.9,
        momentum: float = 0.9,
        epsilon: float = 1e-3,
        name: str = "rmsprop",
        **kw: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kw)
        self.decay, self.momentum, self.epsilon = decay, momentum, epsilon

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self._mean_squares = self.add_optimizer_variables(
            variables, "mean_square", initializer="ones"
        )
        self._momenta = self.add_optimizer_variables(variables, "momentum")

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        index = self._get_variable_index(variable)
        mean_square, momentum = self._mean_squares[index], self._momenta[index]
        gradient = tf.cast(gradient, variable.dtype)
        learning_rate = tf.cast(learning_rate, variable.dtype)
        new_square = self.decay * mean_square + (1 - self.decay) * tf.square(gradient)
        change = learning_rate * gradient * tf.math.rsqrt(new_square + self.epsilon)
        new_momentum = self.momentum * momentum + change
        self.assign(mean_square, new_square)
        self.assign(momentum, new_momentum)
        self.assign_sub(variable, new_momentum)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "decay": self.decay,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }


class PublishedSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then a staircase of 0.97 (reference `utils.py`).

    With W warm-up steps and a stair of D steps:
    step s < W:  lr0 · s / W
    later:       lr0 · 0.97^floor(s / D)
    The staircase counts from step 0, not from the end of the warm-up.

    Args:
        initial: lr0.
        warmup_steps: W, whole; 0: no warm-up.
        decay_steps: D, may be fractional.
    """

    def __init__(self, initial: float, warmup_steps: float, decay_steps: float):
        self.initial = initial
        self.warmup_steps, self.decay_steps = warmup_steps, decay_steps

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        decayed = self.initial * tf.pow(DECAY_RATE, tf.floor(step / self.decay_steps))
        if not self.warmup_steps:
            return decayed
        warm = self.initial * step / self.warmup_steps
        return tf.where(step < self.warmup_steps, warm, decayed)

    def get_config(self) -> dict[str, Any]:
        return dict(vars(self))


class CosineSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then half a cosine (Loshchilov & Hutter, arXiv 1608.03983).

    With W warm-up steps of S in all:
    step s < W:  lr0 · s / W
    later:       end + (lr0 - end) · (1 + cos(π · (s - W) / (S - W))) / 2

    Args:
        initial: lr0.
        end: Learning rate at the end.
        warmup_steps: W, below S.
        total_steps: S.
    """

    def __init__(self, initial: float, end: float, warmup_steps: int, total_steps: int):
        self.initial, self.end = initial, end
        self.warmup_steps, self.total_steps = warmup_steps, total_steps

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        done = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        fall = (1.0 + tf.cos(math.pi * tf.clip_by_value(done, 0.0, 1.0))) / 2.0
        decayed = self.end + (self.initial - self.end) * fall
        warm = self.initial * step / max(self.warmup_steps, 1)
        return tf.where(step < self.warmup_steps, warm, decayed)

    def get_config(self) -> dict[str, Any]:
        return dict(vars(self))


def schedule_for(
    training: TrainingConfig, num_labeled: int
) -> PublishedSchedule | CosineSchedule:
    """The learning rate of each step of a training.

    lr0 = base learning rate · labeled images a step / 256. If a final base learning
    rate is given, D of `PublishedSchedule` is chosen so that the staircase ends there:
    with T steps after the warm-up, D = T / (ln(final / base) / ln 0.97).

    Args:
        training: A checked `TrainingConfig`.
        num_labeled: Labeled images, which an epoch passes over.

    Returns:
        `PublishedSchedule` or `CosineSchedule`, from a step (0 at the first) to a rate.
    """
    scale = training.labeled_per_step / 256
    initial = training.base_learning_rate * scale
    warmup = training.steps_of("warmup", num_labeled)
    if training.schedule == "cosine":
        return CosineSchedule(
            initial,
            training.final_base_learning_rate * scale,
            int(warmup),
            training.total_steps(num_labeled),
        )
    decay_steps = training.steps_of("decay_interval", num_labeled) * training.train_ratio
    if training.final_base_learning_rate:
        ratio = training.final_base_learning_rate / training.base_learning_rate
        stairs = math.log(ratio) / math.log(DECAY_RATE)
        total = training.steps_of("duration", num_labeled) * training.train_ratio
        decay_steps = max(total - warmup, 1e-6) / stairs
    return PublishedSchedule(initial, int(warmup), decay_steps)
