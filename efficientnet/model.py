"""The network: stem, MBConv blocks, head.

Reads as the published code does (reference: `efficientnet_model.py` of
google-research/noisystudent): TensorFlow SAME padding, swish, squeeze-excite
from the unexpanded width, batch norm after every convolution.
"""

import dataclasses
import zlib

import keras

from efficientnet import layers as own
from efficientnet import variants

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def build_efficientnet(
    variant: str = "efficientnet-b0",
    *,
    num_classes: int,
    width: float | None = None,
    depth: float | None = None,
    dropout_rate: float | None = None,
    stochastic_depth_rate: float = 0.2,
    small_image: bool = False,
    batch_norm_momentum: float = 0.99,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    seed: int | None = None,
) -> keras.Model:
    """Builds an EfficientNet from images in 0..255 to float32 logits.

    Args:
        variant: A key of `VARIANTS`.
        num_classes: Size of the logits.
        width: Replaces the variant's width factor.
        depth: Replaces the variant's depth factor.
        dropout_rate: Replaces the variant's dropout rate before the classifier.
        stochastic_depth_rate: R; block i of N drops its branch with rate R·i/N.
        small_image: Use the strides for images of about 32 pixels.
        batch_norm_momentum: See `BatchNormalization`.
        mean: Per-channel mean of the images on the scale 0..1.
        std: Per-channel standard deviation on the scale 0..1.
        seed: Makes the initial weights reproducible.

    Returns:
        A Keras model, images `[N, H, W, 3]` (uint8 or float, 0..255) to logits
        `[N, num_classes]`. H and W are free: weights do not depend on them.
    """
    scale = variants.get_variant(variant)
    width = scale.width if width is None else width
    depth = scale.depth if depth is None else depth
    dropout_rate = scale.dropout_rate if dropout_rate is None else dropout_rate
    stages = variants.small_image_stages() if small_image else variants.STAGES
    blocks = _scaled_blocks(stages, width, depth)
    make = _LayerFactory(batch_norm_momentum, seed)

    images = keras.Input((None, None, 3), name="images")
    x = own.InputNormalization(mean, std, name="normalization")(images)

    stem_channels = variants.round_filters(variants.STEM_CHANNELS, width)
    x = make.conv(x, stem_channels, 3, stride=2, name="stem_conv")
    x = make.norm(x, "stem_bn", activate=True)

    for index, block in enumerate(blocks):
        rate = stochastic_depth_rate * index / len(blocks)
        x = _mbconv(make, x, block, rate, f"block_{index}")

    head_channels = variants.round_filters(variants.HEAD_CHANNELS, width)
    x = make.conv(x, head_channels, 1, name="head_conv")
    x = make.norm(x, "head_bn", activate=True)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = own.Dropout(dropout_rate, name="head_dropout")(x)
    logits = make.dense(x, num_classes, "head_dense")
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(logits)
    return keras.Model(images, logits, name=variant.replace("-", "_"))


@dataclasses.dataclass(frozen=True)
class _Block:
    kernel: int
    stride: int
    expand: int
    channels: int


def _scaled_blocks(stages, width: float, depth: float) -> list[_Block]:
    """The stages as a flat list of blocks; only a stage's first one strides."""
    blocks = []
    for stage in stages:
        channels = variants.round_filters(stage.channels, width)
        for repeat in range(variants.round_repeats(stage.repeats, depth)):
            stride = stage.stride if repeat == 0 else 1
            blocks.append(_Block(stage.kernel, stride, stage.expand, channels))
    return blocks


def _mbconv(make, inputs, block: _Block, stochastic_depth_rate: float, name: str):
    """Expand 1x1, depthwise kxk, squeeze-excite, project 1x1, add the input."""
    in_channels = inputs.shape[-1]
    x = inputs
    if block.expand != 1:
        x = make.conv(x, in_channels * block.expand, 1, name=f"{name}_expand_conv")
        x = make.norm(x, f"{name}_expand_bn", activate=True)
    x = make.depthwise(x, block.kernel, block.stride, f"{name}_depthwise_conv")
    x = make.norm(x, f"{name}_depthwise_bn", activate=True)
    x = _squeeze_excite(make, x, max(1, int(in_channels * variants.SE_RATIO)), name)
    x = make.conv(x, block.channels, 1, name=f"{name}_project_conv")
    x = make.norm(x, f"{name}_project_bn", activate=False)
    if block.stride == 1 and in_channels == block.channels:
        if stochastic_depth_rate > 0:
            x = own.StochasticDepth(stochastic_depth_rate, name=f"{name}_stochastic_depth")(
                x
            )
        x = keras.layers.Add(name=f"{name}_add")([x, inputs])
    return x


def _squeeze_excite(make, inputs, reduced: int, name: str):
    """Scales each channel by a gate computed from all channels' means."""
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_se_pool")(inputs)
    x = make.conv(x, reduced, 1, use_bias=True, name=f"{name}_se_reduce")
    x = keras.layers.Activation("silu", name=f"{name}_se_silu")(x)
    x = make.conv(x, inputs.shape[-1], 1, use_bias=True, name=f"{name}_se_expand")
    x = keras.layers.Activation("sigmoid", name=f"{name}_se_gate")(x)
    return keras.layers.Multiply(name=f"{name}_se_scale")([inputs, x])


class _LayerFactory:
    """Makes layers with the published initializers, one seed per layer name."""

    def __init__(self, batch_norm_momentum: float, seed: int | None):
        self._momentum, self._seed = batch_norm_momentum, seed

    def _seed_for(self, name: str) -> int | None:
        return None if self._seed is None else zlib.crc32(f"{self._seed}/{name}".encode())

    def _normal(self, fan_out: int, name: str):
        # Untruncated, unlike Keras' own HeNormal.
        return keras.initializers.RandomNormal(
            stddev=(2.0 / fan_out) ** 0.5, seed=self._seed_for(name)
        )

    def conv(self, x, channels, kernel, *, name, stride=1, use_bias=False):
        return keras.layers.Conv2D(
            channels,
            kernel,
            strides=stride,
            padding="same",
            use_bias=use_bias,
            kernel_initializer=self._normal(kernel * kernel * channels, name),
            name=name,
        )(x)

    def depthwise(self, x, kernel, stride, name):
        # Fan-out of a depthwise kernel [k, k, C, 1] counts its multiplier, 1.
        return keras.layers.DepthwiseConv2D(
            kernel,
            strides=stride,
            padding="same",
            use_bias=False,
            depthwise_initializer=self._normal(kernel * kernel, name),
            name=name,
        )(x)

    def norm(self, x, name, activate: bool):
        x = own.BatchNormalization(momentum=self._momentum, name=name)(x)
        if activate:
            x = keras.layers.Activation("silu", name=name.replace("_bn", "_silu"))(x)
        return x

    def dense(self, x, num_classes, name):
        bound = num_classes**-0.5
        return keras.layers.Dense(
            num_classes,
            kernel_initializer=keras.initializers.RandomUniform(
                -bound, bound, seed=self._seed_for(name)
            ),
            name=name,
        )(x)
