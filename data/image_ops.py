"""Operations on uint8 images `[H, W, 3]` of static shape, fast on a CPU.

What was found to cost, and is avoided: choosing between two images
(`tf.where`), anything broadcast along the last axis of 3, and convolutions.
Cheap are arithmetic over whole images and moving whole rows. So images are
looked at as rows of W·3 values where possible, and choices are arithmetic.
"""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

FILL = 128  # Grey for empty pixels.


def posterize(image: tf.Tensor, shift: int) -> tf.Tensor:
    """Sets the `shift` lowest bits of every value to 0."""
    mask = tf.constant((255 >> shift) << shift, tf.uint8)
    return tf.bitwise.bitwise_and(image, mask)


def solarize(image: tf.Tensor, threshold: int) -> tf.Tensor:
    """Inverts values at or above `threshold`, 0 to 256."""
    if threshold > 255:
        return image
    inverted = tf.cast(image >= tf.constant(threshold, tf.uint8), tf.uint8) * 255
    return tf.bitwise.bitwise_xor(image, inverted)  # v xor 255 is 255 - v.


def solarize_add(image: tf.Tensor, addition: int) -> tf.Tensor:
    """Adds to values below 128; the sum stays within 255."""
    room = 255 - image
    added = tf.minimum(room, tf.constant(min(addition, 255), tf.uint8))
    return image + added * tf.cast(image < 128, tf.uint8)


def brightness(image: tf.Tensor, factor: float) -> tf.Tensor:
    """factor · image."""
    return _to_uint8(factor * tf.cast(image, tf.float32))


def contrast(image: tf.Tensor, grey: tf.Tensor | int, factor: float) -> tf.Tensor:
    """grey + factor · (image - grey), for one grey value, a scalar."""
    return _blend(tf.cast(grey, tf.float32), tf.cast(image, tf.float32), factor)


def color(image: tf.Tensor, factor: float) -> tf.Tensor:
    """grey + factor · (image - grey), for each pixel's own grey."""
    height, width = image.shape[:2]
    grey = tf.reshape(tf.image.rgb_to_grayscale(image), [height * width, 1])
    # A product with ones is the fastest way to repeat each value thrice.
    grey = tf.matmul(tf.cast(grey, tf.float32), tf.ones([1, 3]))
    grey = tf.reshape(grey, [height, width, 3])
    return _blend(grey, tf.cast(image, tf.float32), factor)


def mean_grey(image: tf.Tensor) -> tf.Tensor:
    """The mean luminance, rounded, as a float32 scalar."""
    luminance = tf.cast(tf.image.rgb_to_grayscale(image), tf.float32)
    return tf.floor(tf.reduce_mean(luminance) + 0.5)


def sharpness(image: tf.Tensor, factor: float) -> tf.Tensor:
    """smooth + factor · (image - smooth), smooth as in `_smooth`."""
    smooth = tf.cast(_smooth(image), tf.float32)
    return _blend(smooth, tf.cast(image, tf.float32), factor)


def auto_contrast(image: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to 0..255; a flat channel stays as it is."""
    rows = tf.cast(_as_rows(image), tf.float32)  # Reduced faster than uint8.
    low, high = _over_pixels(tf.reduce_min, rows), _over_pixels(tf.reduce_max, rows)
    is_flat = tf.equal(low, high)
    scale = tf.where(is_flat, 1.0, tf.math.divide_no_nan(255.0, high - low))
    offset = tf.where(is_flat, 0.0, -low * scale)
    stretched = rows * _as_row(scale, image) + _as_row(offset, image)
    return tf.reshape(_to_uint8(stretched), image.shape)


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Equalizes each channel's histogram as Pillow does.

    step = (n - n_last) // 255 with n_last the count of the brightest value;
    value v becomes (Σ_{u<v} count_u + step // 2) // step; unchanged at step 0.
    """
    # Values of the three channels are counted side by side: v + 256·channel.
    places = tf.cast(_as_rows(image), tf.int32)
    places += _as_row(tf.constant([0, 256, 512]), image)
    places = tf.reshape(places, [-1])
    histogram = tf.raw_ops.DenseBincount(
        input=places, size=3 * 256, weights=tf.constant([], tf.int32)
    )
    histogram = tf.reshape(histogram, [3, 256])
    values = tf.range(256)
    brightest = tf.reduce_max(tf.where(histogram > 0, values, 0), 1)  # [3]
    last = tf.gather(histogram, brightest, batch_dims=1)
    step = ((image.shape[0] * image.shape[1] - last) // 255)[:, None]
    divisor = tf.maximum(step, 1)
    table = (tf.cumsum(histogram, axis=1, exclusive=True) + step // 2) // divisor
    table = tf.where(step == 0, values, tf.clip_by_value(table, 0, 255))
    table = tf.reshape(tf.cast(table, tf.uint8), [-1])
    # tf.gather takes twice the time for single values and pixels.
    return tf.reshape(tf.gather_nd(table, places[:, None]), image.shape)


def cutout(
    image: tf.Tensor, half_side: int, uniform: tf.Tensor | Sequence[float]
) -> tf.Tensor:
    """A grey square of side 2·half_side whose centre is anywhere in the image.

    Args:
        image: The image.
        half_side: In pixels.
        uniform: Two floats in [0, 1): where the centre is in y and x.
    """
    height, width = image.shape[:2]

    def inside(side, share):
        center = tf.cast(share * side, tf.int32)
        position = tf.range(side)
        found = (position >= center - half_side) & (position < center + half_side)
        return tf.cast(found, tf.uint8)

    columns = tf.repeat(inside(width, uniform[1]), 3)[None]  # [1, W·3]
    square = inside(height, uniform[0])[:, None] * columns  # [H, W·3], 0 or 1
    rows = _as_rows(image)
    return tf.reshape(rows + (FILL - rows) * square, image.shape)


@functools.lru_cache(maxsize=64)
def source_pixels(transform: tuple[float, ...], height: int, width: int) -> np.ndarray:
    """Where each output pixel comes from, int32 `[H·W]`; H·W where from outside.

    Output pixel (x, y) takes input (a0·x + a1·y + a2, a3·x + a4·y + a5),
    nearest neighbour. TensorFlow's own kernel says where, on an image of
    numbers, so that what is moved by the result equals its output.

    Args:
        transform: a0 to a5.
        height: Of the image, H.
        width: Of the image, W.
    """
    numbers = np.arange(height * width, dtype=np.int32).reshape(1, height, width, 1)
    with tf.init_scope():  # Now, even where a pipeline is being traced.
        found = tf.raw_ops.ImageProjectiveTransformV3(
            images=numbers,
            transforms=[[*transform, 0.0, 0.0]],
            output_shape=[height, width],
            fill_value=float(height * width),
            interpolation="NEAREST",
            fill_mode="CONSTANT",
        )
    return found.numpy().reshape(-1)


def rotation(degrees: float, height: int, width: int) -> tuple[float, ...]:
    """The transform that rotates about the centre, counterclockwise."""
    with tf.init_scope():  # In TensorFlow's float32, as the published code.
        angle = degrees * tf.constant(math.pi / 180, tf.float32)
        cos, sin = tf.cos(angle), tf.sin(angle)
        x = (width - 1.0 - (cos * (width - 1.0) - sin * (height - 1.0))) / 2.0
        y = (height - 1.0 - (sin * (width - 1.0) + cos * (height - 1.0))) / 2.0
        transform = [cos, -sin, x, sin, cos, y]
    return tuple(float(value) for value in transform)


def move_pixels(image: tf.Tensor, sources: tf.Tensor | np.ndarray) -> tf.Tensor:
    """Fills each pixel from where `source_pixels` says."""
    pixels = tf.reshape(image, [-1, 3])
    empty = tf.fill([1, 3], tf.constant(FILL, tf.uint8))
    moved = tf.gather_nd(tf.concat([pixels, empty], 0), sources[:, None])
    return tf.reshape(moved, image.shape)


def translate(image: tf.Tensor, x: float, y: float) -> tf.Tensor:
    """Output pixel (i, j) takes input (i + x, j + y), the nearest; others are grey.

    One part of the image moved as a whole, a quarter of the time of `move_pixels`.
    """
    height, width = image.shape[:2]
    sources = source_pixels((1.0, 0.0, x, 0.0, 1.0, y), height, width)
    sources = sources.reshape(height, width)
    inside = np.argwhere(sources < height * width)
    if not len(inside):
        return tf.fill(image.shape, tf.constant(FILL, tf.uint8))
    (top, left), (bottom, right) = inside[0], inside[-1] + 1
    from_y, from_x = divmod(int(sources[top, left]), width)
    part = _as_rows(image)[
        from_y : from_y + bottom - top, from_x * 3 : (from_x + right - left) * 3
    ]
    paddings = [[top, height - bottom], [left * 3, (width - right) * 3]]
    padded = tf.pad(part, paddings, constant_values=tf.constant(FILL, tf.uint8))
    return tf.reshape(padded, image.shape)


def _blend(start: tf.Tensor, image: tf.Tensor, factor: float) -> tf.Tensor:
    """start + factor·(image - start), in this form, as uint8."""
    return _to_uint8(start + factor * (image - start))


def _to_uint8(values: tf.Tensor) -> tf.Tensor:
    """Clipped and truncated."""
    return tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.uint8)


def _smooth(image: tf.Tensor) -> tf.Tensor:
    """Weighted mean over 3x3, centre weight 5; the border keeps its values.

    Nine products added in row-major order, as published: another order differs
    in the last bit on some pixels. TensorFlow keeps the order of subtractions,
    but makes one `add_n` of additions, and that adds in any order.
    """
    height = image.shape[0]
    rows = _as_rows(image)
    values = tf.cast(rows, tf.float32)
    weighted = values * (np.float32(1) / np.float32(13))
    center = values * (np.float32(5) / np.float32(13))
    # Neighbours in x; what comes around at the ends is in the border.
    left = tf.concat([weighted[:, -3:], weighted[:, :-3]], 1)
    right = tf.concat([weighted[:, 3:], weighted[:, :3]], 1)
    above, here, below = (slice(top, height - 2 + top) for top in range(3))
    negative = -left[above]
    for part in (weighted[above], right[above], left[here], center[here], right[here]):
        negative -= part
    for part in (left[below], weighted[below], right[below]):
        negative -= part
    inner = _to_uint8(-negative)
    inner = tf.concat([rows[here, :3], inner[:, 3:-3], rows[here, -3:]], 1)
    return tf.reshape(tf.concat([rows[:1], inner, rows[-1:]], 0), image.shape)


def _as_rows(image: tf.Tensor) -> tf.Tensor:
    """`[H, W·3]`."""
    height, width = image.shape[:2]
    return tf.reshape(image, [height, width * 3])


def _as_row(per_channel: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """A value a channel, `[3]`, for each value of a row, `[W·3]`."""
    return tf.tile(per_channel, [image.shape[1]])


def _over_pixels(
    reduce: Callable[[tf.Tensor, int], tf.Tensor], rows: tf.Tensor
) -> tf.Tensor:
    """Minimum or maximum a channel, `[3]`; over rows first, which is fast."""
    return reduce(tf.reshape(reduce(rows, 0), [-1, 3]), 0)
