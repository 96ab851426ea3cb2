"""The objective of Noisy Student Training (paper §2; published `main.py`)."""

from collections.abc import Iterable

import keras
import tensorflow as tf


def hard_loss(
    labels: tf.Tensor,
    logits: tf.Tensor,
    label_smoothing: float,
    kept: tf.Tensor | None = None,
) -> tf.Tensor:
    """Mean cross entropy against labels smoothed by s: (1-s)·onehot + s/C.

    Args:
        labels: int `[N]`.
        logits: float32 `[N, C]`.
        label_smoothing: s, 0 to 1.
        kept: float32 `[N]` of 0 and 1 by which the terms are multiplied; their
            sum is divided by N all the same, as published.
    """
    num_classes = logits.shape[-1]
    targets = tf.one_hot(labels, num_classes)
    targets = targets * (1.0 - label_smoothing) + label_smoothing / num_classes
    terms = tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    return tf.reduce_mean(terms if kept is None else terms * kept)


def soft_loss(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Mean of -Σ_c q_c · log softmax(logits)_c. Both are float32 `[N, C]`."""
    return tf.reduce_mean(
        tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    )


def combined(
    labeled: tf.Tensor, pseudo_labeled: tf.Tensor, ratio: float, weighting: str
) -> tf.Tensor:
    """The data term of the objective, from the means over labeled and pseudo-labeled.

    `reference` (published `main.py`): L + ratio·U.
    `concatenated` (paper §2): (L + ratio·U) / (1 + ratio), the mean over the
    concatenated batch. It is the other one divided by 1 + ratio, so that weight
    decay weighs more beside it; RMSProp hardly sees the difference otherwise.

    Args:
        labeled: L, a scalar.
        pseudo_labeled: U, a scalar.
        ratio: Pseudo-labeled images for each labeled one.
        weighting: One of `noisy_student.config.training.LOSS_WEIGHTINGS`.
    """
    total = labeled + ratio * pseudo_labeled
    return total if weighting == "reference" else total / (1.0 + ratio)


def soften(probabilities: tf.Tensor, temperature: float) -> tf.Tensor:
    """q = p^(1/T) / Σ p^(1/T), for probabilities `[N, C]` of the teacher."""
    if temperature == 1:
        # Stored probabilities sum to 1 only about: keep what the teacher said.
        powered = probabilities
    else:
        powered = tf.pow(probabilities, 1.0 / temperature)
    return powered / tf.reduce_sum(powered, axis=-1, keepdims=True)


def l2_penalty(variables: Iterable[keras.Variable]) -> tf.Tensor:
    """Σ ½‖v‖² over trainable variables; batch norm's are left out by the caller."""
    return tf.add_n([tf.nn.l2_loss(variable) for variable in variables])


def decayed_variables(model: keras.Model) -> list:
    """What weight decay acts on: all trainables but batch norm's, biases too."""
    normalizing = {
        id(variable)
        for layer in model._flatten_layers()  # Keras has no public way inside layers.
        if "BatchNormalization" in type(layer).__name__
        for variable in layer.trainable_variables
    }
    return [v for v in model.trainable_variables if id(v) not in normalizing]
