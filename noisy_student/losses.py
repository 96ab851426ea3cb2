"""The objective of Noisy Student Training (paper §2; published `main.py`)."""

import tensorflow as tf


def labeled_loss(labels, logits, label_smoothing: float) -> tf.Tensor:
    """Mean cross entropy against labels smoothed by s: (1-s)·onehot + s/C.

    Args:
        labels: int `[N]`.
        logits: float32 `[N, C]`.
        label_smoothing: s, 0 to 1.
    """
    num_classes = logits.shape[-1]
    targets = tf.one_hot(labels, num_classes)
    targets = targets * (1.0 - label_smoothing) + label_smoothing / num_classes
    return soft_loss(targets, logits)


def soft_loss(targets, logits) -> tf.Tensor:
    """Mean of -Σ_c q_c · log softmax(logits)_c. Both are float32 `[N, C]`."""
    return tf.reduce_mean(
        tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    )


def soften(probabilities, temperature: float) -> tf.Tensor:
    """q = p^(1/T) / Σ p^(1/T), for probabilities `[N, C]` of the teacher."""
    if temperature == 1:
        # Stored probabilities sum to 1 only about: keep what the teacher said.
        powered = probabilities
    else:
        powered = tf.pow(probabilities, 1.0 / temperature)
    return powered / tf.reduce_sum(powered, axis=-1, keepdims=True)


def l2_penalty(variables) -> tf.Tensor:
    """Σ ½‖v‖² over trainable variables; batch norm's are left out by the caller."""
    return tf.add_n([tf.nn.l2_loss(variable) for variable in variables])


def decayed_variables(model) -> list:
    """What weight decay acts on: all trainables but batch norm's, biases too."""
    normalizing = {
        id(variable)
        for layer in model._flatten_layers()  # Keras has no public way inside layers.
        if "BatchNormalization" in type(layer).__name__
        for variable in layer.trainable_variables
    }
    return [v for v in model.trainable_variables if id(v) not in normalizing]
