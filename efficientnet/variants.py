"""The EfficientNet family as data: scaling coefficients and the seven stages.

Numbers: Tan & Le, arXiv 1905.11946, and the published code of the EfficientNet
and Noisy Student papers. B8, L2 and the Lite family come from the published code,
L0 and L1 from the first version of the Noisy Student paper.
"""

import dataclasses
import difflib
import math


@dataclasses.dataclass(frozen=True)
class Family:
    """What variants of different scale have in common.

    Attributes:
        activation: A Keras activation.
        se_ratio: Squeeze-excite channels over a block's input channels; 0: none.
        scaled_ends: Whether width scales stem and head, and depth the first and
            the last stage.
        mean: Per-channel mean of the images, on the scale 0..1.
        std: Per-channel standard deviation, on the scale 0..1.
    """

    activation: str
    se_ratio: float
    scaled_ends: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


STANDARD = Family(
    activation="silu",
    se_ratio=0.25,
    scaled_ends=True,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
# Made for integer arithmetic: bounded activations, no gates; input (x - 127) / 128.
LITE = Family(
    activation="relu6",
    se_ratio=0.0,
    scaled_ends=False,
    mean=(127 / 255,) * 3,
    std=(128 / 255,) * 3,
)


@dataclasses.dataclass(frozen=True)
class Variant:
    """How far the base network is scaled.

    Attributes:
        width: Factor on every channel count, before rounding to multiples of 8.
        depth: Factor on every stage's number of blocks, rounded up.
        resolution: Side of the square input image, in pixels.
        dropout_rate: Dropout before the classifier, 0 to 1.
        family: What is the same at every scale.
    """

    width: float
    depth: float
    resolution: int
    dropout_rate: float
    family: Family = STANDARD


@dataclasses.dataclass(frozen=True)
class Stage:
    """A run of MBConv blocks of one kind, before scaling: the numbers are B0's.

    Attributes:
        repeats: Number of blocks.
        kernel: Side of the depthwise kernel, in pixels.
        stride: Of the first block; the others have 1.
        expand: Inner channels over input channels; 1: no expansion.
        channels: Output channels of every block.
    """

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


VARIANTS = {
    "efficientnet-b0": Variant(1.0, 1.0, 224, 0.2),
    "efficientnet-b1": Variant(1.0, 1.1, 240, 0.2),
    "efficientnet-b2": Variant(1.1, 1.2, 260, 0.3),
    "efficientnet-b3": Variant(1.2, 1.4, 300, 0.3),
    "efficientnet-b4": Variant(1.4, 1.8, 380, 0.4),
    "efficientnet-b5": Variant(1.6, 2.2, 456, 0.4),
    "efficientnet-b6": Variant(1.8, 2.6, 528, 0.5),
    "efficientnet-b7": Variant(2.0, 3.1, 600, 0.5),
    "efficientnet-b8": Variant(2.2, 3.6, 672, 0.5),
    "efficientnet-l0": Variant(2.8, 3.7, 600, 0.5),
    "efficientnet-l1": Variant(3.9, 3.7, 600, 0.5),
    "efficientnet-l2": Variant(4.3, 5.3, 800, 0.5),
    "efficientnet-lite0": Variant(1.0, 1.0, 224, 0.2, LITE),
    "efficientnet-lite1": Variant(1.0, 1.1, 240, 0.2, LITE),
    "efficientnet-lite2": Variant(1.1, 1.2, 260, 0.3, LITE),
    "efficientnet-lite3": Variant(1.2, 1.4, 280, 0.3, LITE),
    "efficientnet-lite4": Variant(1.4, 1.8, 300, 0.3, LITE),
}

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280

STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expand=1, channels=16),
    Stage(repeats=2, kernel=3, stride=2, expand=6, channels=24),
    Stage(repeats=2, kernel=5, stride=2, expand=6, channels=40),
    Stage(repeats=3, kernel=3, stride=2, expand=6, channels=80),
    Stage(repeats=3, kernel=5, stride=1, expand=6, channels=112),
    Stage(repeats=4, kernel=5, stride=2, expand=6, channels=192),
    Stage(repeats=1, kernel=3, stride=1, expand=6, channels=320),
)


def small_image_stages() -> tuple[Stage, ...]:
    """The stages for images of about 32 pixels: stages 2 and 3 keep stride 1.

    Parameter shapes do not change, so weights move between the two forms.
    """
    return tuple(
        dataclasses.replace(stage, stride=1) if index in (1, 2) else stage
        for index, stage in enumerate(STAGES)
    )


def get_variant(name: str) -> Variant:
    """The variant called `name`; a `ValueError` names the nearest ones."""
    if name in VARIANTS:
        return VARIANTS[name]
    near = difflib.get_close_matches(name, VARIANTS, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"`variant`: expected one of {', '.join(VARIANTS)}; received {name!r}.{hint}"
    )


def round_filters(filters: int, width: float) -> int:
    """Channels after scaling: the multiple of 8 nearest to `filters * width`.

    n = max(8, floor((f·w + 4) / 8)·8), and 8 more if that lost over 10 %.
    """
    scaled = filters * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def round_repeats(repeats: int, depth: float) -> int:
    """Blocks of a stage after scaling: ceil(repeats · depth)."""
    return math.ceil(depth * repeats)
