"""The network: stem, MBConv blocks, head.

Reads as the published code does (reference: `efficientnet_model.py` of
google-research/noisystudent): TensorFlow SAME padding, swish, squeeze-excite
from the unexpanded width, batch norm after every convolution.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from efficientnet import noise, normalization, variants
from efficientnet.blocks import ConvNorm, MBConv, seed_for


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
    batch_norm_group_size: int = normalization.AUTOMATIC,
    remat: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    dtype: str = "float32",
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
        batch_norm_group_size: See `BatchNormalization`.
        remat: Compute the blocks' activations again in the backward pass
            instead of keeping them: less memory, more work.
        mean: Replaces the variant's per-channel mean, on the scale 0..1.
        std: Replaces the variant's standard deviation, on the scale 0..1.
        dtype: Precision policy: `float32`, `mixed_bfloat16`, `mixed_float16`.
        seed: Makes the initial weights reproducible.

    Returns:
        A Keras model, images `[N, H, W, 3]` (uint8 or float, 0..255) to logits
        `[N, num_classes]`. H and W are free: weights do not depend on them.
    """
    given = {"width": width, "depth": depth, "dropout_rate": dropout_rate}
    replaced: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    scale = dataclasses.replace(variants.get_variant(variant), **replaced)
    family = scale.family
    stages = variants.small_image_stages() if small_image else variants.STAGES
    blocks = _scaled_blocks(stages, scale)
    norm = {"momentum": batch_norm_momentum, "group_size": batch_norm_group_size}
    common: dict[str, Any] = {
        "activation": family.activation,
        "norm": norm,
        "seed": seed,
        "dtype": dtype,
    }
    images = keras.Input((None, None, 3), name="images")
    x = normalization.InputNormalization(
        mean or family.mean, std or family.std, name="normalization", dtype=dtype
    )(images)
    stem = _end_channels(variants.STEM_CHANNELS, scale)
    x = ConvNorm(stem, 3, strides=2, name="stem", **common)(x)
    for index, block in enumerate(blocks):
        x = MBConv(
            **dataclasses.asdict(block),
            se_ratio=family.se_ratio,
            stochastic_depth_rate=stochastic_depth_rate * index / len(blocks),
            remat=remat,
            name=f"block_{index}",
            **common,
        )(x)
    head = _end_channels(variants.HEAD_CHANNELS, scale)
    x = ConvNorm(head, 1, name="head", **common)(x)
    logits = _logits(x, num_classes, scale.dropout_rate, seed, dtype)
    return keras.Model(images, logits, name=variant.replace("-", "_"))


@dataclasses.dataclass(frozen=True)
class _Block:
    filters: int
    kernel_size: int
    strides: int
    expand_ratio: int


def _end_channels(channels: int, scale: variants.Variant) -> int:
    """Of stem and head, which some families do not scale."""
    scaled = scale.family.scaled_ends
    return variants.round_filters(channels, scale.width) if scaled else channels


def _scaled_blocks(
    stages: Sequence[variants.Stage], scale: variants.Variant
) -> list[_Block]:
    """The stages as a flat list of blocks; only a stage's first one strides."""
    blocks = []
    for stage in stages:
        filters = variants.round_filters(stage.channels, scale.width)
        is_end = stage in (stages[0], stages[-1])
        repeats = stage.repeats
        if scale.family.scaled_ends or not is_end:
            repeats = variants.round_repeats(repeats, scale.depth)
        for repeat in range(repeats):
            strides = stage.stride if repeat == 0 else 1
            blocks.append(_Block(filters, stage.kernel, strides, stage.expand))
    return blocks


def _logits(
    x: keras.KerasTensor,
    num_classes: int,
    dropout_rate: float,
    seed: int | None,
    dtype: str,
) -> keras.KerasTensor:
    """Pooling, dropout and the classifier; float32 in every precision."""
    x = keras.layers.GlobalAveragePooling2D(name="head_pool", dtype=dtype)(x)
    x = noise.Dropout(dropout_rate, name="head_dropout", dtype=dtype)(x)
    logits = _classifier(num_classes, seed, dtype)(x)
    return keras.layers.Activation("linear", dtype="float32", name="logits")(logits)


def _classifier(num_classes: int, seed: int | None, dtype: str) -> keras.layers.Dense:
    bound = num_classes**-0.5
    return keras.layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.RandomUniform(
            -bound, bound, seed=seed_for(seed, "head_dense")
        ),
        name="head_dense",
        dtype=dtype,
    )
