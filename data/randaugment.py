"""RandAugment (Cubuk et al., arXiv 1909.13719), as published and corrected.

`num_ops` operations are drawn uniformly with replacement and always applied,
all at one magnitude M; the level is L = M / 10. Images are uint8 `[H, W, 3]`
with static shape; empty pixels become grey 128.

Two modes:

* `reference` does what the published Noisy Student code does, to the bit:
  strengths are not clipped and wrap around (at M = 27 posterize keeps one bit
  and solarize inverts from 179), and contrast blends with a grey of H·W/256
  instead of the mean.
* `corrected` means by each operation what Pillow does, and a larger M never is
  a weaker change: strengths are clipped, enhancements go both ways.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from data import image_ops

OPS = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "Posterize",
    "Solarize",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "SolarizeAdd",
    "Cutout",
)
MODES = ("reference", "corrected")
_GEOMETRIC = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")


@dataclasses.dataclass(frozen=True)
class Strengths:
    """What a magnitude means for each operation.

    Attributes:
        degrees: Rotation, random sign.
        posterize_shift: Low bits dropped, 0 to 7.
        solarize_threshold: Values at or above it are inverted, 0 to 256.
        solarize_add: Added to values below 128.
        enhance: Blend factors to draw from; 1 leaves the image as it is.
        shear: Pixels per pixel, random sign.
        translate: Pixels, random sign.
        cutout: Half the side of the grey square, in pixels.
    """

    degrees: float
    posterize_shift: int
    solarize_threshold: int
    solarize_add: int
    enhance: tuple[float, ...]
    shear: float
    translate: float
    cutout: int


def reference_strengths(magnitude, translate_const, cutout_const) -> Strengths:
    """Published strengths, wrap-around included."""
    level = magnitude / 10
    bits = int(4 * level)
    return Strengths(
        degrees=30 * level,
        # 8 - bits as uint8, and shifts of 8 and more act as 7.
        posterize_shift=min((8 - bits) % 256, 7),
        solarize_threshold=int(256 * level) % 256,
        solarize_add=int(110 * level),
        enhance=(1.8 * level + 0.1,),
        shear=0.3 * level,
        translate=translate_const * level,
        cutout=int(cutout_const * level),
    )


def corrected_strengths(magnitude, translate_const, cutout_const, size) -> Strengths:
    """Strengths that grow with the magnitude and stay in a useful range."""
    level = min(max(magnitude / 10, 0.0), 3.0)
    change = min(0.9 * level, 0.9)
    return Strengths(
        degrees=30 * level,
        posterize_shift=min(int(4 * level), 7),
        solarize_threshold=256 - min(int(256 * level), 256),
        solarize_add=min(int(110 * level), 128),
        enhance=(1 - change, 1 + change),
        shear=0.3 * level,
        translate=min(translate_const * level, 0.45 * size),
        cutout=min(int(cutout_const * level), size // 4),
    )


class RandAugment:
    """Augments one image.

    Args:
        num_ops: Operations applied to each image.
        magnitude: M, from 0 to about 30.
        size: Side of the images in pixels. 64 and below use the constants
            of the published 32-pixel recipe, size / 8 for translation and
            cutout; above it those of ImageNet, 100 and 40.
        mode: `reference` or `corrected`.
    """

    def __init__(self, num_ops: int, magnitude: float, size: int, mode: str):
        if mode not in MODES:
            raise ValueError(
                f"Invalid `randaugment_mode`: expected one of {MODES}; received {mode!r}."
            )
        translate, cutout = (size // 8, size // 8) if size <= 64 else (100, 40)
        self._num_ops, self._mode, self._prepared = num_ops, mode, {}
        self._strengths = (
            reference_strengths(magnitude, translate, cutout)
            if mode == "reference"
            else corrected_strengths(magnitude, translate, cutout, size)
        )

    def __call__(self, image: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
        """uint8 `[H, W, 3]` to the same.

        Args:
            image: The image.
            uniforms: `[num_ops, 4]` in [0, 1): operation, sign, and place.
        """
        if image.shape not in self._prepared:
            self._prepared[image.shape] = self._prepare(image.shape)
        branches, sources = self._prepared[image.shape]
        for layer in range(self._num_ops):
            draw = uniforms[layer]
            # Not tf.switch_case, which in a pipeline becomes a graph of all branches
            # whose idle nodes take longer than the one that runs.
            chosen = tf.raw_ops.StatelessCase(
                branch_index=tf.cast(draw[0] * len(OPS), tf.int32),
                input=[image, draw[1:], sources],
                Tout=[tf.uint8],
                branches=branches,
                output_shapes=[image.shape],
            )
            image = tf.ensure_shape(chosen[0], image.shape)
        return image

    @tf.autograph.experimental.do_not_convert  # It cannot read `match`, and warns.
    def _prepare(self, shape):
        """A function for each operation, and what the geometric ones share."""
        with tf.init_scope():  # Once, even where a pipeline is being traced.
            sources = _all_sources(self._strengths, *shape[:2])
            spec = [
                tf.TensorSpec(shape, tf.uint8),
                tf.TensorSpec([3], tf.float32),
                tf.TensorSpec(sources.shape, tf.int32),
            ]
            branches = [tf.function(self._function(name), autograph=False) for name in OPS]
            return [branch.get_concrete_function(*spec) for branch in branches], sources

    def _function(self, name):
        def function(image, uniforms, sources):
            return apply_op(name, image, self._strengths, uniforms, self._mode, sources)

        return function


def apply_op(name, image, strengths, uniforms, mode="reference", sources=None) -> tf.Tensor:
    """Applies the operation called `name`.

    Args:
        name: One of `OPS`.
        image: uint8 `[H, W, 3]`.
        strengths: How much.
        uniforms: Three floats in [0, 1): the sign (below one half: positive),
            and where in y and x a cutout lies.
        mode: `reference` or `corrected` contrast.
        sources: What `_all_sources` gives, where it is there already.
    """
    factor = _draw(strengths.enhance, uniforms[0])
    # At exactly 1 the published code returns the image; rounding would not.
    enhances = strengths.enhance != (1.0,) * len(strengths.enhance)
    match name:
        case "AutoContrast":
            return image_ops.auto_contrast(image)
        case "Equalize":
            return image_ops.equalize(image)
        case "Invert":
            return 255 - image
        case "Posterize":
            return image_ops.posterize(image, strengths.posterize_shift)
        case "Solarize":
            return image_ops.solarize(image, strengths.solarize_threshold)
        case "SolarizeAdd":
            return image_ops.solarize_add(image, strengths.solarize_add)
        case "Color":
            return image_ops.color(image, factor) if enhances else image
        case "Contrast":
            grey = _contrast_grey(image, mode)
            return image_ops.contrast(image, grey, factor) if enhances else image
        case "Brightness":
            return image_ops.brightness(image, factor) if enhances else image
        case "Sharpness":
            return image_ops.sharpness(image, factor) if enhances else image
        case "Cutout":
            return image_ops.cutout(image, strengths.cutout, uniforms[1:3])
    if name not in _GEOMETRIC:
        raise ValueError(f"Unknown operation: expected one of {OPS}; received {name!r}.")
    if sources is None:
        sources = _all_sources(strengths, *image.shape[:2])
    sign = tf.cast(uniforms[0] >= 0.5, tf.int32)
    return image_ops.move_pixels(image, sources[_GEOMETRIC.index(name), sign])


def _all_sources(strengths: Strengths, height: int, width: int) -> tf.Tensor:
    """Where pixels come from, int32 `[5, 2, H·W]`, by operation and sign.

    Strengths are fixed, so that all of it is known before the first image.
    """
    found = [
        [
            image_ops.source_pixels(
                _transform(name, strengths, sign, height, width), height, width
            )
            for sign in (1.0, -1.0)
        ]
        for name in _GEOMETRIC
    ]
    with tf.init_scope():  # Given to a pipeline's functions, not written into them.
        return tf.constant(np.array(found), tf.int32)


def _transform(name, strengths, sign, height, width) -> tuple[float, ...]:
    shear, shift = sign * strengths.shear, sign * strengths.translate
    match name:
        case "ShearX":
            return (1.0, shear, 0.0, 0.0, 1.0, 0.0)
        case "ShearY":
            return (1.0, 0.0, 0.0, shear, 1.0, 0.0)
        case "TranslateX":
            return (1.0, 0.0, shift, 0.0, 1.0, 0.0)
        case "TranslateY":
            return (1.0, 0.0, 0.0, 0.0, 1.0, shift)
        case "Rotate":
            return image_ops.rotation(sign * strengths.degrees, height, width)


def _contrast_grey(image, mode):
    if mode == "corrected":
        return image_ops.mean_grey(image)
    # Averages the histogram's counts instead of the grey values.
    height, width = image.shape[:2]
    return int(min(255.0, height * width / 256))


def _draw(values: tuple[float, ...], uniform) -> tf.Tensor:
    """One of the values, all as probable."""
    chosen = tf.cast(uniform * len(values), tf.int32)
    return tf.constant(values, tf.float32)[chosen]
