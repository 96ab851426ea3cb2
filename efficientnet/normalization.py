"""Normalization of the input, and batch norm over one, some or all replicas.

`keras.layers.BatchNormalization` lets the moving statistics of the replicas
drift apart, and runs unfused. Ours averages them over replicas, and uses the
fused kernel where statistics are the replica's own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from efficientnet import fused

AUTOMATIC, LOCAL, GLOBAL = 0, 1, -1
_SMALLEST_GROUP = 8


@keras.saving.register_keras_serializable(package="efficientnet")
class InputNormalization(keras.layers.Layer):
    """(x - 255·mean) / (255·std) per channel, for pixels x in 0..255.

    Held in the model, so that a checkpoint cannot be fed wrongly scaled
    images. Computed in float32 whatever the precision policy.

    Args:
        mean: Three floats, per channel, on the scale 0..1.
        std: Three floats, per channel, on the scale 0..1.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs: Any):
        super().__init__(**kwargs, autocast=False)  # Pixels must arrive unrounded.
        self.mean, self.std = [float(m) for m in mean], [float(s) for s in std]

    def call(self, images: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        mean = tf.constant(self.mean, tf.float32) * 255.0
        std = tf.constant(self.std, tf.float32) * 255.0
        return tf.cast((images - mean) / std, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": self.mean, "std": self.std}


@keras.saving.register_keras_serializable(package="efficientnet")
class BatchNormalization(keras.layers.Layer):
    """Batch normalization over N, H, W.

    Training:  y = γ·(x - μ_B) / sqrt(σ²_B + ε) + β, and for both statistics
               moving = momentum·moving + (1 - momentum)·batch.
    Inference: the moving statistics instead of the batch's.

    σ²_B is the biased variance (divided by n), in the moving statistic too, as
    in the published code. B is the replica's own batch, or that of a group of
    replicas: with μ_r, σ²_r of replica r, μ_B = mean(μ_r) and
    σ²_B = mean(σ²_r + μ_r²) - μ_B². The moving statistics are averaged over all
    replicas at every update, so that each holds the same.

    Args:
        momentum: Weight of the old moving statistic, 0 to 1. 0.99 in the
            published code; runs of a few hundred steps need 0.9.
        epsilon: Added to the variance.
        group_size: Replicas that share statistics: LOCAL (1, the replica
            alone), GLOBAL (-1, all), another number, or AUTOMATIC (0), the
            published rule: local up to 8 replicas, above max(8, replicas / 8).
    """

    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        group_size: int = AUTOMATIC,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if group_size < GLOBAL:
            raise ValueError(
                "`group_size`: expected a number of replicas, 0 (automatic) or "
                f"-1 (all); received {group_size}."
            )
        self.momentum, self.epsilon, self.group_size = momentum, epsilon, group_size

    def build(self, input_shape: tuple) -> None:
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

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        outputs, statistics = self.normalize(inputs, training)
        self.update(statistics)
        return outputs

    def normalize(
        self,
        inputs: tf.Tensor,
        training: bool,
        activation: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor] | None]:
        """`call` without its update: outputs, and what `update` wants.

        Apart, so that a recomputed forward pass does not update twice.

        Args:
            inputs: Activations `[N, H, W, C]`.
            training: Whether to use the batch's statistics.
            activation: Function of the outputs, or None.
        """
        if not (training and self.trainable):
            outputs = self._fused(inputs, self.moving_mean, self.moving_variance)[0]
            return activation(outputs) if activation else outputs, None
        group_size = group_size_for(self.group_size, _replicas())
        if group_size == 1 and fused.applies(inputs):
            with_silu = activation is fused.silu
            outputs, mean, variance = fused.batch_norm(
                inputs, self.gamma, self.beta, self.epsilon, with_silu
            )
            statistics = mean, variance
            activation = None if with_silu else activation
        elif group_size == 1:
            outputs, statistics = self._alone(inputs)
        else:
            outputs, statistics = self._over_group(inputs, group_size)
        return activation(outputs) if activation else outputs, statistics

    def folded(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Scale and offset, `[C]`, by the moving statistics: y = x·scale + offset."""
        scale = self.gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
        return scale, self.beta - self.moving_mean * scale

    def _alone(self, inputs):
        empty = tf.zeros([0])
        outputs, mean, variance = self._fused(inputs, empty, empty, is_training=True)
        # The fused kernel returns the unbiased variance.
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        return outputs, (mean, variance * (tf.maximum(count, 2.0) - 1.0) / count)

    def update(self, statistics: tuple[tf.Tensor, tf.Tensor] | None) -> None:
        """Moves the moving statistics towards those `normalize` returned."""
        if statistics is None:
            return
        for moving, batch in zip(
            (self.moving_mean, self.moving_variance), statistics, strict=True
        ):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))

    def _fused(self, inputs, mean, variance, is_training=False):
        return tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            is_training=is_training,
        )[:3]

    def _over_group(self, inputs, group_size):
        x = tf.cast(inputs, tf.float32)
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        moments = tf.stack([mean, variance + tf.square(mean)])  # [2, C]
        mean, mean_of_squares = tf.unstack(group_mean(moments, group_size))
        variance = tf.maximum(mean_of_squares - tf.square(mean), 0.0)
        scale = self.gamma * tf.math.rsqrt(variance + self.epsilon)
        outputs = x * scale + (self.beta - mean * scale)
        return tf.cast(outputs, inputs.dtype), (mean, variance)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "group_size": self.group_size,
        }


def group_size_for(group_size: int, replicas: int) -> int:
    """How many of `replicas` share statistics; see `BatchNormalization`.

    Raises:
        ValueError: The replicas cannot be divided into such groups.
    """
    if group_size == AUTOMATIC:
        # Published `utils.py`, TpuBatchNormalization.
        return LOCAL if replicas <= _SMALLEST_GROUP else max(_SMALLEST_GROUP, replicas // 8)
    size = replicas if group_size == GLOBAL else group_size
    if replicas % size:
        raise ValueError(
            f"`group_size`: expected a divisor of the {replicas} replicas; received {size}."
        )
    return size


def group_mean(value: tf.Tensor, group_size: int) -> tf.Tensor:
    """Mean of `value` over the replica's group; call it in a replica context.

    Groups are runs of replicas: 0 … g-1, g … 2g-1, and so on. Differentiable:
    the gradient is the same mean of the replicas' gradients.
    """
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    if isinstance(context.strategy, tf.distribute.TPUStrategy):
        groups = tf.reshape(tf.range(replicas), [-1, group_size])
        total = tf.raw_ops.CrossReplicaSum(input=value, group_assignment=groups)
        return total / group_size
    # CrossReplicaSum has no kernel but the TPU's. Elsewhere all replicas sum a
    # tensor with one row a group, in which each fills the row of its own.
    group = context.replica_id_in_sync_group // group_size
    row = tf.one_hot(group, replicas // group_size, dtype=value.dtype)
    rows = context.all_reduce("sum", tf.tensordot(row, value, axes=0))
    return tf.tensordot(row, rows, axes=1) / group_size


def _replicas() -> int:
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1
