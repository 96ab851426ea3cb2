"""RandAugment (Cubuk et al., arXiv 1909.13719), as published and corrected.

`num_ops` operations are drawn uniformly with replacement and always applied,
all at one magnitude M; the level is L = M / 10. Images are uint8 `[H, W, 3]`
with static shape; empty pixels become grey 128.

Two modes:

* `reference` does what the published Noisy Student code does, to the bit:
  strengths are not clipped and wrap around (at M = 27 posterize keeps one bit
  and solarize inverts from 179), and contrast blends with a grey of H·W/256
  instead of the mean.
* `corrected` does in each operation what Pillow does, and a larger M never changes
  less: strengths are limited, and enhancements go both ways.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from data import image_ops

# A draw is an index into these: another order, or one more, is another augmentation.
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
DIRECTIONS = (1, -1)
_GATHERED = ("Rotate", "ShearX", "ShearY")
_TRANSLATIONS = ("TranslateX", "TranslateY")
_ENHANCEMENTS = ("Color", "Contrast", "Brightness", "Sharpness")


@dataclasses.dataclass(frozen=True)
class Strengths:
    """What a magnitude means for each operation.

    Attributes:
        degrees: Rotation, either direction.
        posterize_shift: Low bits dropped, 0 to 7.
        solarize_threshold: Values at or above it are inverted, 0 to 256.
        solarize_add: Added to values below 128.
        enhance: Blend factors, one or one a direction; 1 leaves the image as it is.
        shear: Pixels per pixel, either direction.
        translate: Pixels, either direction.
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


def reference_strengths(
    magnitude: float, translate_const: float, cutout_const: float
) -> Strengths:
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


def corrected_strengths(
    magnitude: float, translate_const: float, cutout_const: float, size: int
) -> Strengths:
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
        self._num_ops, self._mode = num_ops, mode
        self._prepared: dict[tf.TensorShape, tuple[list, tf.Tensor]] = {}
        self._strengths = (
            reference_strengths(magnitude, translate, cutout)
            if mode == "reference"
            else corrected_strengths(magnitude, translate, cutout, size)
        )

    def __call__(self, image: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
        """uint8 `[H, W, 3]` to the same.

        Args:
            image: The image.
            uniforms: `[num_ops, 4]` in [0, 1): operation, direction (below one half:
                positive), and where in y and x a cutout lies.
        """
        if image.shape not in self._prepared:
            self._prepared[image.shape] = self._prepare(image.shape)
        branches, sources = self._prepared[image.shape]
        for layer in range(self._num_ops):
            draw = uniforms[layer]
            # First the operation, then its direction: the order of the branches.
            choices = tf.cast(draw[:2] * [len(OPS), len(DIRECTIONS)], tf.int32)
            # Not tf.switch_case, which in a pipeline becomes a graph of all branches
            # whose idle nodes take longer than the one that runs.
            chosen = tf.raw_ops.StatelessCase(
                branch_index=choices[0] * len(DIRECTIONS) + choices[1],
                input=[image, draw[2:], sources],
                Tout=[tf.uint8],
                branches=branches,
                output_shapes=[image.shape],
            )
            image = tf.ensure_shape(chosen[0], image.shape)
        return image

    @tf.autograph.experimental.do_not_convert  # It cannot read `match`, and warns.
    def _prepare(self, shape):
        """A function for each operation and direction, and what they share."""
        # Once, even where a pipeline is being traced.
        with tf.init_scope(), tf.device("/CPU:0"):
            # Strengths are fixed, so that all moves are known before the first image.
            # They are given to the functions, not written into each.
            moves = [
                image_ops.source_pixels(
                    _transform(name, self._strengths, direction, *shape[:2]), *shape[:2]
                )
                for name in _GATHERED
                for direction in DIRECTIONS
            ]
            sources = tf.constant(np.array(moves), tf.int32)  # [6, H·W]
            spec = [
                tf.TensorSpec(shape, tf.uint8),
                tf.TensorSpec([2], tf.float32),
                tf.TensorSpec(sources.shape, tf.int32),
            ]
            branches = []
            for name in OPS:
                directions = DIRECTIONS if self._is_directed(name) else DIRECTIONS[:1]
                made = [
                    tf.function(
                        self._function(name, direction), autograph=False
                    ).get_concrete_function(*spec)
                    for direction in directions
                ]
                branches += made * (len(DIRECTIONS) // len(made))
            return branches, sources

    def _is_directed(self, name: str) -> bool:
        two_factors = len(self._strengths.enhance) > 1
        return name in (*_GATHERED, *_TRANSLATIONS) or (
            name in _ENHANCEMENTS and two_factors
        )

    def _function(self, name, direction):
        def function(image, place, sources):
            if name in _GATHERED:
                index = len(DIRECTIONS) * _GATHERED.index(name)
                index += DIRECTIONS.index(direction)
                return image_ops.move_pixels(image, sources[index])
            return apply_op(name, image, self._strengths, direction, place, self._mode)

        return function


def apply_op(
    name: str,
    image: tf.Tensor,
    strengths: Strengths,
    direction: int = 1,
    place: tf.Tensor | Sequence[float] = (0.5, 0.5),
    mode: str = "reference",
) -> tf.Tensor:
    """Applies the operation called `name`.

    Args:
        name: One of `OPS`.
        image: uint8 `[H, W, 3]`.
        strengths: How much.
        direction: 1 or -1. Of enhancements with two factors 1 takes the first.
        place: Two floats in [0, 1): where in y and x a cutout lies.
        mode: `reference` or `corrected` contrast.
    """
    if name in _ENHANCEMENTS:
        factor = strengths.enhance[0 if direction > 0 else -1]
        return _enhanced(name, image, factor, mode)
    if name in _GATHERED:
        height, width = image.shape[:2]
        transform = _transform(name, strengths, direction, height, width)
        sources = image_ops.source_pixels(transform, height, width)
        return image_ops.move_pixels(image, sources)
    shift = direction * strengths.translate
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
        case "Cutout":
            return image_ops.cutout(image, strengths.cutout, place)
        case "TranslateX":
            return image_ops.translate(image, shift, 0.0)
        case "TranslateY":
            return image_ops.translate(image, 0.0, shift)
    raise ValueError(f"Unknown operation: expected one of {OPS}; received {name!r}.")


def _enhanced(name: str, image: tf.Tensor, factor: float, mode: str) -> tf.Tensor:
    """The image blended with what lacks the quality; a factor of 1 leaves it as it is."""
    if factor == 1.0:
        return image  # As published; rounding would change it.
    match name:
        case "Color":
            return image_ops.color(image, factor)
        case "Contrast":
            return image_ops.contrast(image, _contrast_grey(image, mode), factor)
        case "Brightness":
            return image_ops.brightness(image, factor)
        case "Sharpness":
            return image_ops.sharpness(image, factor)


def _transform(
    name: str, strengths: Strengths, direction: int, height: int, width: int
) -> tuple[float, ...]:
    shear = direction * strengths.shear
    match name:
        case "ShearX":
            return (1.0, shear, 0.0, 0.0, 1.0, 0.0)
        case "ShearY":
            return (1.0, 0.0, 0.0, shear, 1.0, 0.0)
        case "Rotate":
            return image_ops.rotation(direction * strengths.degrees, height, width)
    raise ValueError(f"Unknown operation: expected one of {OPS}; received {name!r}.")


def _contrast_grey(image, mode):
    if mode == "corrected":
        return image_ops.mean_grey(image)
    # Averages the histogram's counts instead of the grey values.
    height, width = image.shape[:2]
    return int(min(255.0, height * width / 256))
