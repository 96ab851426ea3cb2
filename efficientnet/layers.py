"""Layers that differ from stock Keras: normalization, batch norm, and noise.

Why they are here and not taken from Keras 3:

* `keras.layers.Dropout` draws the same mask on every replica of a
  `tf.distribute` strategy. The noise layers below draw statelessly from
  (seed, step, replica, layer), given by `noise_key`.
* `keras.layers.BatchNormalization` lets the moving statistics of the replicas
  drift apart, and runs unfused. Ours averages them over replicas and uses the
  fused kernel.
"""

import contextlib
import threading
import zlib

import keras
import tensorflow as tf

_active = threading.local()


@contextlib.contextmanager
def noise_key(seed, step):
    """Makes the noise of every layer called inside a function of (seed, step).

    Call it inside the function that `strategy.run` runs: each replica then
    draws its own noise, and a repeated step draws the same noise again.
    Without an active key the noise is drawn from TensorFlow's global generator.

    Args:
        seed: Integer, one per training run.
        step: Scalar integer tensor, the training step.
    """
    context = tf.distribute.get_replica_context()
    replica = context.replica_id_in_sync_group if context else 0
    previous = getattr(_active, "key", None)
    _active.key = (
        tf.cast(seed, tf.int64) * 65536 + tf.cast(replica, tf.int64),
        tf.cast(step, tf.int64),
    )
    try:
        yield
    finally:
        _active.key = previous


def _uniform(shape, layer_name: str) -> tf.Tensor:
    """Uniform float32 in [0, 1), differing by seed, step, replica and layer."""
    key = getattr(_active, "key", None)
    if key is None:
        return tf.random.uniform(shape)
    salt = tf.constant(zlib.crc32(layer_name.encode()), tf.int64)
    seed = tf.stack([key[0], key[1] * 2**32 + salt])
    return tf.random.stateless_uniform(shape, seed)


def _check_rate(rate: float) -> float:
    if not 0 <= rate < 1:
        raise ValueError(f"Invalid `rate`: expected 0 <= rate < 1; received {rate}.")
    return float(rate)


@keras.saving.register_keras_serializable(package="efficientnet")
class InputNormalization(keras.layers.Layer):
    """(x - 255·mean) / (255·std) per channel, for pixels x in 0..255.

    Held in the model, so that a checkpoint cannot be fed wrongly scaled
    images. Computed in float32 whatever the precision policy.

    Args:
        mean: Three floats, per channel, on the scale 0..1.
        std: Three floats, per channel, on the scale 0..1.
    """

    def __init__(self, mean, std, **kwargs):
        super().__init__(**kwargs, autocast=False)  # Pixels must arrive unrounded.
        self.mean, self.std = [float(m) for m in mean], [float(s) for s in std]

    def call(self, images):
        images = tf.cast(images, tf.float32)
        mean = tf.constant(self.mean, tf.float32) * 255.0
        std = tf.constant(self.std, tf.float32) * 255.0
        return tf.cast((images - mean) / std, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "std": self.std}


@keras.saving.register_keras_serializable(package="efficientnet")
class BatchNormalization(keras.layers.Layer):
    """Batch normalization over N, H, W with the fused kernel.

    Training:  y = γ·(x - μ_B) / sqrt(σ²_B + ε) + β, and for both statistics
               moving = momentum·moving + (1 - momentum)·batch.
    Inference: the moving statistics instead of the batch's.

    σ²_B is the biased variance (divided by n), in the moving statistic too, as
    in the published code; the fused kernel returns the unbiased one, which is
    converted. Statistics are those of the replica's own batch; the moving ones
    are averaged over replicas at every update.

    Args:
        momentum: Weight of the old moving statistic, 0 to 1. 0.99 in the
            published code; runs of a few hundred steps need 0.9.
        epsilon: Added to the variance.
    """

    def __init__(self, momentum=0.99, epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.momentum, self.epsilon = momentum, epsilon

    def build(self, input_shape):
        shape = (input_shape[-1],)
        # Kept float32 under mixed precision: the fused kernel wants it so.
        options = dict(shape=shape, dtype="float32", autocast=False)
        self.gamma = self.add_weight(name="gamma", initializer="ones", **options)
        self.beta = self.add_weight(name="beta", initializer="zeros", **options)
        # Without aggregation="mean" a checkpoint would hold replica 0's alone.
        options.update(trainable=False, aggregation="mean")
        self.moving_mean = self.add_weight(
            name="moving_mean", initializer="zeros", **options
        )
        self.moving_variance = self.add_weight(
            name="moving_variance", initializer="ones", **options
        )

    def call(self, inputs, training=False):
        use_batch = bool(training) and self.trainable
        outputs, mean, variance = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=tf.zeros([0]) if use_batch else self.moving_mean,
            variance=tf.zeros([0]) if use_batch else self.moving_variance,
            epsilon=self.epsilon,
            is_training=use_batch,
        )[:3]
        if use_batch:
            count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
            self._update(self.moving_mean, mean)
            self._update(
                self.moving_variance, variance * (tf.maximum(count, 2.0) - 1.0) / count
            )
        return outputs

    def _update(self, moving, batch):
        moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(package="efficientnet")
class StochasticDepth(keras.layers.Layer):
    """Drops a residual branch per image (Huang et al., arXiv 1603.09382).

    With k = 1 - rate and u uniform in [0, 1) per image:
    y = x / k · floor(k + u) in training, y = x in inference.

    Args:
        rate: Probability that an image loses the branch, 0 <= rate < 1.
    """

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = _check_rate(rate)

    def call(self, inputs, training=False):
        if not training or not self.trainable or self.rate == 0:
            return inputs
        keep = 1.0 - self.rate
        mask = tf.floor(keep + _uniform([tf.shape(inputs)[0], 1, 1, 1], self.name))
        return inputs / tf.cast(keep, inputs.dtype) * tf.cast(mask, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable(package="efficientnet")
class Dropout(keras.layers.Layer):
    """Zeroes single features and scales the rest by 1 / (1 - rate), in training.

    Args:
        rate: Probability that a feature is zeroed, 0 <= rate < 1.
    """

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = _check_rate(rate)

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        kept = _uniform(tf.shape(inputs), self.name) >= self.rate
        return tf.where(kept, inputs / (1.0 - self.rate), tf.zeros_like(inputs))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}
