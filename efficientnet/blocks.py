"""What the network is made of: convolution with batch norm, MBConv."""

import functools
import zlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from efficientnet import fused, noise
from efficientnet.normalization import BatchNormalization


def published_normal(
    fan_out: int, seed: int | None, name: str
) -> keras.initializers.Initializer:
    """Normal with std sqrt(2 / fan_out), untruncated, unlike Keras' HeNormal.

    Args:
        fan_out: Kernel height · width · output channels; for a depthwise kernel
            `[k, k, C, 1]` the published code counts its last axis, 1.
        seed: Of the network, or None.
        name: Of the layer: layers of one shape start with different weights.
    """
    return keras.initializers.RandomNormal(
        stddev=(2.0 / fan_out) ** 0.5, seed=seed_for(seed, name)
    )


def seed_for(seed: int | None, name: str) -> int | None:
    """A layer's own seed out of the network's."""
    return None if seed is None else zlib.crc32(f"{seed}/{name}".encode())


def _activation(name: str | None) -> Callable[[tf.Tensor], tf.Tensor] | None:
    if name in ("silu", "swish"):
        return fused.silu
    return keras.activations.get(name) if name else None


@keras.saving.register_keras_serializable(package="efficientnet")
class ConvNorm(keras.layers.Layer):
    """Convolution (SAME, no bias), batch norm, activation.

    Args:
        filters: Output channels; None for a depthwise convolution.
        kernel_size: Side of the kernel.
        strides: 1 or 2.
        activation: A Keras activation, or None.
        norm: Arguments of `BatchNormalization`.
        seed: Makes the initial kernel reproducible, with the layer's name.
    """

    def __init__(
        self,
        filters: int | None,
        kernel_size: int,
        strides: int = 1,
        activation: str | None = None,
        norm: dict | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.strides = filters, kernel_size, strides
        self.activation, self.norm_options, self.seed = activation, norm or {}, seed
        initializer = published_normal(
            kernel_size**2 * (filters or 1), seed, f"{self.name}_conv"
        )
        options = {
            "strides": strides,
            "padding": "same",
            "use_bias": False,
            "name": "conv",
            "dtype": self.dtype_policy,
        }
        if filters is None:
            self.conv = keras.layers.DepthwiseConv2D(
                kernel_size, depthwise_initializer=initializer, **options
            )
        else:
            self.conv = keras.layers.Conv2D(
                filters, kernel_size, kernel_initializer=initializer, **options
            )
        self.norm = BatchNormalization(
            **self.norm_options, name="norm", dtype=self.dtype_policy
        )
        self._activate = _activation(activation)

    def build(self, input_shape: tuple) -> None:
        self.conv.build(input_shape)
        self.norm.build(self.conv.compute_output_shape(input_shape))

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        outputs, statistics = self.compute(inputs, training)
        self.norm.update(statistics)
        return outputs

    def compute(
        self, inputs: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor] | None]:
        """`call` without the update of the moving statistics, which it returns."""
        if self.filters is None and not training:
            return self._folded_depthwise(inputs), None
        return self.norm.normalize(self.conv(inputs), training, self._activate)

    def _folded_depthwise(self, inputs):
        """Inference with the norm inside the kernel: one pass over memory less.

        For other convolutions Grappler does it, where the kernels can.
        """
        scale, offset = self.norm.folded()  # [C]
        kernel = self.conv.kernel * tf.cast(scale[:, None], self.compute_dtype)
        strides = [1, self.strides, self.strides, 1]
        outputs = tf.nn.depthwise_conv2d(inputs, kernel, strides, "SAME")
        outputs = tf.nn.bias_add(outputs, tf.cast(offset, self.compute_dtype))
        return self._activate(outputs) if self._activate else outputs

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return self.conv.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "activation": self.activation,
            "norm": self.norm_options,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="efficientnet")
class SqueezeExcite(keras.layers.Layer):
    """x · sigmoid(expand(act(reduce(mean of x over H, W)))), per channel.

    Hu et al., arXiv 1709.01507; both 1x1 convolutions have a bias.

    Args:
        reduced: Channels between the two convolutions.
        activation: Between them.
        seed: Makes the initial kernels reproducible, with the layer's name.
    """

    def __init__(
        self, reduced: int, activation: str, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.reduced, self.activation, self.seed = reduced, activation, seed

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[-1]
        self.reduce = self._conv(self.reduced, self.activation, "reduce")
        self.expand = self._conv(channels, "sigmoid", "expand")
        self.reduce.build((None, 1, 1, channels))
        self.expand.build((None, 1, 1, self.reduced))

    def _conv(self, filters, activation, name):
        return keras.layers.Conv2D(
            filters,
            1,
            activation=activation,
            kernel_initializer=published_normal(filters, self.seed, f"{self.name}_{name}"),
            name=name,
            dtype=self.dtype_policy,
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        inputs, means = fused.with_mean(inputs)
        return fused.scale(inputs, self.expand(self.reduce(means)))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduced": self.reduced,
            "activation": self.activation,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="efficientnet")
class MBConv(keras.layers.Layer):
    """Expand 1x1, depthwise kxk, squeeze-excite, project 1x1, add the input.

    The input is added where neither size nor channels change (Sandler et al.,
    arXiv 1801.04381; squeeze-excite as in Tan & Le, arXiv 1905.11946).

    Args:
        filters: Output channels.
        kernel_size: Of the depthwise convolution.
        strides: Of the depthwise convolution.
        expand_ratio: Inner channels over input channels; 1: no expansion.
        se_ratio: Squeeze-excite channels over *input* channels; 0: none.
        activation: Of all but the projection.
        stochastic_depth_rate: Probability that an image loses the branch.
        remat: Keep only the block's input for the backward pass, and compute
            the rest again. Less memory, about a forward pass more work.
        norm: Arguments of `BatchNormalization`.
        seed: Makes the initial weights reproducible, with the block's name.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        expand_ratio: int = 6,
        se_ratio: float = 0.25,
        activation: str = "silu",
        stochastic_depth_rate: float = 0.0,
        remat: bool = False,
        norm: dict | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.strides = filters, kernel_size, strides
        self.expand_ratio, self.se_ratio = expand_ratio, se_ratio
        self.activation = activation
        self.stochastic_depth_rate, self.remat = stochastic_depth_rate, remat
        self.norm_options, self.seed = norm or {}, seed

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[-1]
        self.has_shortcut = self.strides == 1 and channels == self.filters
        inner = channels * self.expand_ratio
        self.expand = None
        if self.expand_ratio != 1:
            self.expand = self._conv_norm("expand", inner, 1, activation=self.activation)
        self.depthwise = self._conv_norm(
            "depthwise", None, self.kernel_size, self.strides, self.activation
        )
        self.squeeze_excite = None
        if self.se_ratio:
            reduced = max(1, int(channels * self.se_ratio))
            self.squeeze_excite = SqueezeExcite(
                reduced,
                self.activation,
                self.seed,
                name=f"{self.name}_se",
                dtype=self.dtype_policy,
            )
        self.project = self._conv_norm("project", self.filters, 1)
        self.stochastic_depth = None
        if self.has_shortcut and self.stochastic_depth_rate:
            self.stochastic_depth = noise.StochasticDepth(
                self.stochastic_depth_rate,
                # Its noise differs by name, so the name must say which block.
                name=f"{self.name}_stochastic_depth",
                dtype=self.dtype_policy,
            )
        self._build_parts(input_shape)

    def _conv_norm(self, part, filters, kernel_size, strides=1, activation=None):
        return ConvNorm(
            filters,
            kernel_size,
            strides,
            activation,
            self.norm_options,
            self.seed,
            name=f"{self.name}_{part}",
            dtype=self.dtype_policy,
        )

    def _build_parts(self, shape):
        for part in self._convolutions():
            part.build(shape)
            shape = part.compute_output_shape(shape)
            if part is self.depthwise and self.squeeze_excite:
                self.squeeze_excite.build(shape)

    def _convolutions(self) -> list[ConvNorm]:
        parts = [self.expand, self.depthwise, self.project]
        return [part for part in parts if part is not None]

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        compute = functools.partial(self._compute, training=training)
        if training and self.remat:
            compute = tf.recompute_grad(noise.repeatable(compute))
        outputs, statistics = compute(inputs)
        # Outside what is recomputed, or they would be updated twice.
        for part, found in zip(self._convolutions(), statistics, strict=True):
            part.norm.update(found)
        return outputs

    def _compute(self, inputs, training):
        x = inputs
        statistics: list[tuple[tf.Tensor, tf.Tensor] | None] = []
        if self.expand:
            x = _collect(statistics, self.expand.compute(x, training))
        x = _collect(statistics, self.depthwise.compute(x, training))
        if self.squeeze_excite:
            x = self.squeeze_excite(x)
        x = _collect(statistics, self.project.compute(x, training))
        if self.has_shortcut:
            if self.stochastic_depth:
                x = self.stochastic_depth(x, training=training)
            x = x + inputs
        return x, statistics

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        shape = self.depthwise.compute_output_shape(tuple(input_shape))
        return (*shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "expand_ratio": self.expand_ratio,
            "se_ratio": self.se_ratio,
            "activation": self.activation,
            "stochastic_depth_rate": self.stochastic_depth_rate,
            "remat": self.remat,
            "norm": self.norm_options,
            "seed": self.seed,
        }


def _collect(
    found: list,
    outputs_and_statistics: tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor] | None],
) -> tf.Tensor:
    outputs, statistics = outputs_and_statistics
    found.append(statistics)
    return outputs
