"""Adversarial images: the change within ε that raises the loss, found by its gradient.

With x0 the image as evaluation crops it, 0 to 255, y its label and L the cross entropy:

    FGSM (Goodfellow et al., arXiv 1412.6572):  x = clip(x0 + ε · sign(∇L(x0, y)))
    PGD (Madry et al., arXiv 1706.06083):       x ← clip(project(x + α · sign(∇L(x, y))))

`project` keeps each value within ε of x0's, `clip` within 0 to 255. PGD starts at x0,
without a random step; its α is 2.5·ε / steps, as Madry et al. choose it, so that the
steps together can cross the whole range. The paper gives ε and ten steps, no α.

Gradients go through the network's own normalization, to pixels at the size of
evaluation, in float32, and need not end at whole numbers. Batch norm is at its moving
statistics, and nothing is dropped. Where a network is so sure that float32 has no
gradient left, a value stays as it is.
"""

import keras
import tensorflow as tf

from data.errors import InputError


class Attack:
    """Makes adversarial images of batches.

    Args:
        model: Images `[N, S, S, 3]`, 0 to 255, to logits.
        epsilon: ε, the most that a value may change, 0 to 255.
        steps: 1: FGSM; more: PGD.

    Raises:
        InputError: ε or the number of steps is outside.
    """

    def __init__(self, model: keras.Model, epsilon: float, steps: int = 1):
        if steps < 1:
            raise InputError(f"`steps`: expected 1 or more; received {steps}.")
        self._model, self._steps = model, steps
        # A variable: a network is compiled once for all ε.
        self._epsilon = tf.Variable(0.0, trainable=False, name="epsilon")
        self.set_epsilon(epsilon)

    def set_epsilon(self, epsilon: float) -> None:
        """Takes another ε from now on."""
        if not 0 <= epsilon <= 255:
            raise InputError(f"`epsilon`: expected 0 to 255; received {epsilon}.")
        self._epsilon.assign(epsilon)

    def __call__(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Images float32 `[N, S, S, 3]` and labels int32 `[N]` to float32 images.

        What an evaluation crop has outside 0 to 255, by bicubic interpolation, is cut
        off first.
        """
        original = tf.clip_by_value(tf.cast(images, tf.float32), 0.0, 255.0)
        epsilon = self._epsilon.read_value()
        step_size = epsilon if self._steps == 1 else 2.5 * epsilon / self._steps
        lowest = tf.maximum(original - epsilon, 0.0)
        highest = tf.minimum(original + epsilon, 255.0)

        def step(found):
            moved = found + step_size * tf.sign(self._gradient(found, labels))
            return [tf.clip_by_value(moved, lowest, highest)]

        if self._steps == 1:
            return step(original)[0]
        # Not a Python loop: the program would hold the network once a step.
        return tf.while_loop(
            lambda _: True, step, [original], maximum_iterations=self._steps
        )[0]

    def _gradient(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = self._model(images, training=False)
            # Summed: an image's gradient must not depend on how many there are.
            loss = tf.reduce_sum(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            )
        return tape.gradient(loss, images)
