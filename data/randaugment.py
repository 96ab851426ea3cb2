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
import functools
import math

import numpy as np
import tensorflow as tf

FILL = 128
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
        self._num_ops, self._mode = num_ops, mode
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
        for layer in range(self._num_ops):
            draw = uniforms[layer]
            branches = [self._branch(name, image, draw) for name in OPS]
            chosen = tf.cast(draw[0] * len(OPS), tf.int32)
            image = tf.ensure_shape(tf.switch_case(chosen, branches), image.shape)
        return image

    def _branch(self, name, image, draw):
        # Not a lambda: AutoGraph cannot read those and warns.
        return functools.partial(
            apply_op, name, image, self._strengths, draw[1:], self._mode
        )


def apply_op(name, image, strengths, uniforms, mode="reference") -> tf.Tensor:
    """Applies the operation called `name`.

    Args:
        name: One of `OPS`.
        image: uint8 `[H, W, 3]`.
        strengths: How much.
        uniforms: Three floats in [0, 1): the sign (below one half: positive),
            and where in y and x a cutout lies.
        mode: `reference` or `corrected` contrast.
    """
    sign = tf.where(uniforms[0] < 0.5, 1.0, -1.0)
    enhance = tf.gather(
        tf.constant(strengths.enhance, tf.float32),
        tf.cast(uniforms[0] * len(strengths.enhance), tf.int32),
    )
    match name:
        case "AutoContrast":
            return auto_contrast(image)
        case "Equalize":
            return equalize(image)
        case "Invert":
            return 255 - image
        case "Rotate":
            return rotate(image, sign * strengths.degrees)
        case "Posterize":
            shift = tf.constant(strengths.posterize_shift, tf.uint8)
            return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift)
        case "Solarize":
            below = tf.cast(image, tf.int32) < strengths.solarize_threshold
            return tf.where(below, image, 255 - image)
        case "SolarizeAdd":
            added = tf.cast(image, tf.int32) + strengths.solarize_add
            added = tf.cast(tf.clip_by_value(added, 0, 255), tf.uint8)
            return tf.where(image < 128, added, image)
        case "Color":
            grey = tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))
            return blend(grey, image, enhance)
        case "Contrast":
            return blend(_contrast_grey(image, mode), image, enhance)
        case "Brightness":
            return blend(tf.zeros_like(image), image, enhance)
        case "Sharpness":
            return blend(_smooth(image), image, enhance)
        case "ShearX":
            return _project(image, [1.0, sign * strengths.shear, 0.0, 0.0, 1.0, 0.0])
        case "ShearY":
            return _project(image, [1.0, 0.0, 0.0, sign * strengths.shear, 1.0, 0.0])
        case "TranslateX":
            shift = sign * strengths.translate
            return _project(image, [1.0, 0.0, shift, 0.0, 1.0, 0.0])
        case "TranslateY":
            shift = sign * strengths.translate
            return _project(image, [1.0, 0.0, 0.0, 0.0, 1.0, shift])
        case "Cutout":
            return cutout(image, strengths.cutout, uniforms[1:3])
    raise ValueError(f"Unknown operation: expected one of {OPS}; received {name!r}.")


def blend(degenerate, image, factor) -> tf.Tensor:
    """degenerate + factor·(image - degenerate), clipped, truncated to uint8."""
    start = tf.cast(degenerate, tf.float32)
    blended = start + factor * (tf.cast(image, tf.float32) - start)
    blended = tf.cast(tf.clip_by_value(blended, 0.0, 255.0), tf.uint8)
    # At exactly 1 the published code returns the image; rounding would not.
    return tf.where(tf.equal(factor, 1.0), image, blended)


def auto_contrast(image) -> tf.Tensor:
    """Stretches each channel to 0..255; a flat channel stays as it is."""
    low = tf.cast(tf.reduce_min(image, [0, 1]), tf.float32)
    high = tf.cast(tf.reduce_max(image, [0, 1]), tf.float32)
    scale = tf.math.divide_no_nan(255.0, high - low)
    stretched = tf.cast(image, tf.float32) * scale + (-low * scale)
    stretched = tf.cast(tf.clip_by_value(stretched, 0.0, 255.0), tf.uint8)
    return tf.where(high > low, stretched, image)


def equalize(image) -> tf.Tensor:
    """Equalizes each channel's histogram as Pillow does.

    step = (n - n_last) // 255 with n_last the count of the brightest value;
    value v becomes (Σ_{u<v} count_u + step // 2) // step; unchanged at step 0.
    """
    channels = tf.unstack(tf.cast(image, tf.int32), axis=-1)
    return tf.stack([_equalize_channel(channel) for channel in channels], axis=-1)


def _equalize_channel(channel) -> tf.Tensor:
    histogram = tf.math.bincount(tf.reshape(channel, [-1]), minlength=256)
    brightest = tf.gather(histogram, tf.reduce_max(channel))
    step = (tf.size(channel) - brightest) // 255
    divisor = tf.maximum(step, 1)
    table = (tf.cumsum(histogram, exclusive=True) + step // 2) // divisor
    table = tf.where(step == 0, tf.range(256), tf.clip_by_value(table, 0, 255))
    return tf.cast(tf.gather(table, channel), tf.uint8)


def rotate(image, degrees) -> tf.Tensor:
    """Rotates about the centre, nearest neighbour."""
    height, width = (float(side - 1) for side in image.shape[:2])
    angle = degrees * tf.constant(math.pi / 180, tf.float32)
    cos, sin = tf.cos(angle), tf.sin(angle)
    x = (width - (cos * width - sin * height)) / 2.0
    y = (height - (sin * width + cos * height)) / 2.0
    return _project(image, [cos, -sin, x, sin, cos, y])


def cutout(image, half_side: int, uniform) -> tf.Tensor:
    """A grey square of side 2·half_side whose centre is anywhere in the image."""
    height, width = image.shape[:2]
    center_y = tf.cast(uniform[0] * height, tf.int32)
    center_x = tf.cast(uniform[1] * width, tf.int32)

    def inside(position, center):
        return (position >= center - half_side) & (position < center + half_side)

    rows = inside(tf.range(height), center_y)[:, None, None]
    columns = inside(tf.range(width), center_x)[None, :, None]
    return tf.where(rows & columns, tf.constant(FILL, tf.uint8), image)


def _project(image, transform) -> tf.Tensor:
    """Output pixel (x, y) takes input (a0·x + a1·y + a2, a3·x + a4·y + a5)."""
    transform = [tf.cast(value, tf.float32) for value in transform] + [0.0, 0.0]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack(transform)[None],
        output_shape=image.shape[:2],
        fill_value=float(FILL),
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]


def _contrast_grey(image, mode) -> tf.Tensor:
    if mode == "reference":
        # Averages the histogram's counts instead of the grey values.
        height, width = image.shape[:2]
        grey = tf.constant(int(min(255.0, height * width / 256)), tf.float32)
    else:
        luminance = tf.cast(tf.image.rgb_to_grayscale(image), tf.float32)
        grey = tf.floor(tf.reduce_mean(luminance) + 0.5)
    return tf.fill(tf.shape(image), tf.cast(grey, tf.uint8))


def _smooth(image) -> tf.Tensor:
    """Weighted mean over 3x3, centre weight 5; the border keeps its values.

    Nine products added in row-major order: a convolution kernel may add in
    another order and then differs in the last bit on some pixels.
    """
    height, width = image.shape[:2]
    pixels = tf.cast(image, tf.float32)
    total = None
    for row in range(3):
        for column in range(3):
            weight = np.float32(5 if row == column == 1 else 1) / np.float32(13)
            part = pixels[row : row + height - 2, column : column + width - 2] * weight
            total = part if total is None else total + part
    inner = tf.cast(tf.clip_by_value(total, 0.0, 255.0), tf.uint8)
    inner = tf.pad(inner, [[1, 1], [1, 1], [0, 0]])
    rows = (tf.range(height) > 0) & (tf.range(height) < height - 1)
    columns = (tf.range(width) > 0) & (tf.range(width) < width - 1)
    return tf.where(rows[:, None, None] & columns[None, :, None], inner, image)
