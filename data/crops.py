"""Geometry of an image before augmentation: decoding, crops, resizing.

Images here are `[H, W, 3]`, in 0..255.
"""

from collections.abc import Callable

import tensorflow as tf

CROP_PADDING = 32  # Of the centre crop, in pixels of the network's input.
_MARGIN = 16  # Of a part of a JPEG file that is decoded alone, in pixels.


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """JPEG, PNG, GIF or BMP bytes to uint8 RGB; first frame of animations."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def resize_bicubic(image: tf.Tensor, size: int) -> tf.Tensor:
    """TF1 bicubic (coefficient -0.75, no half-pixel centres) to float32.

    What the published models saw; `tf.image.resize` differs by up to 97 grey
    levels. Values may leave 0..255: they are not clipped here.
    """
    image = tf.raw_ops.ResizeBicubic(images=image[None], size=[size, size])[0]
    return tf.ensure_shape(image, [size, size, 3])


def center_crop(image: tf.Tensor, size: int) -> tf.Tensor:
    """The centre square of side size/(size+32) of the shorter side, resized."""
    return resize_bicubic(_part(image, center_window(_sides(image), size)), size)


def inception_crop(image: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """A random part of 8-100 % of the area, aspect 3/4 to 4/3, resized.

    Falls back to the centre crop where ten attempts gave the whole image.
    """
    window = inception_window(_sides(image), size, seed)
    return resize_bicubic(_part(image, window), size)


def decoded_crop(
    encoded: tf.Tensor, size: int, window: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """A part of an image file, resized; of a JPEG file no more is decoded.

    Args:
        encoded: The file's bytes, a scalar.
        size: Side of the result in pixels.
        window: Gives the part for the sides of the image, `[2]` to `[4]`.

    Returns:
        What cropping the whole decoded image gives, float32 `[size, size, 3]`.
    """

    def of_jpeg():
        sides = tf.io.extract_jpeg_shape(encoded)[:2]
        where = window(sides)
        # At its edges a part differs from the whole image: colors are interpolated.
        start = tf.maximum(where[:2] - _MARGIN, 0)
        end = tf.minimum(where[:2] + where[2:] + _MARGIN, sides)
        larger = tf.concat([start, end - start], 0)
        pixels = tf.io.decode_and_crop_jpeg(encoded, larger, channels=3)
        return _part(pixels, tf.concat([where[:2] - start, where[2:]], 0))

    def of_other():
        image = decode(encoded)
        return _part(image, window(_sides(image)))

    pixels = tf.cond(tf.io.is_jpeg(encoded), of_jpeg, of_other)
    return resize_bicubic(pixels, size)


def center_window(sides: tf.Tensor, size: int) -> tf.Tensor:
    """Top, left, height and width of the centre crop of an image of `sides`."""
    fraction = size / (size + CROP_PADDING)
    shorter = tf.cast(tf.reduce_min(sides), tf.float32)
    side = tf.maximum(tf.cast(fraction * shorter, tf.int32), 1)
    corner = (sides - side + 1) // 2
    return tf.concat([corner, [side, side]], 0)


def inception_window(sides: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """Top, left, height and width of the random crop of an image of `sides`."""
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([sides, [3]], 0),
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    is_whole = tf.reduce_all(extent[:2] == sides)
    drawn = tf.concat([begin[:2], extent[:2]], 0)
    return tf.where(is_whole, center_window(sides, size), drawn)


def whole_image(image: tf.Tensor, size: int) -> tf.Tensor:
    """The whole image as float32 at `size`; untouched if it has that size."""
    image = tf.cond(
        tf.reduce_all(_sides(image) == size),
        lambda: tf.cast(image, tf.float32),
        lambda: resize_bicubic(image, size),
    )
    return tf.ensure_shape(image, [size, size, 3])


def reflect_pad_crop(image: tf.Tensor, pad: int, uniform: tf.Tensor) -> tf.Tensor:
    """Shifts by up to `pad` pixels in x and y; the edge is mirrored.

    Args:
        image: `[H, W, 3]`.
        pad: Largest shift, in pixels, smaller than the image.
        uniform: Two floats in [0, 1): where in y and x.
    """
    height, width = image.shape[:2]
    padded = tf.pad(image, [[pad, pad], [pad, pad], [0, 0]], "REFLECT")
    offset = tf.cast(uniform * (2 * pad + 1), tf.int32)
    return tf.slice(padded, [offset[0], offset[1], 0], [height, width, 3])


def _sides(image: tf.Tensor) -> tf.Tensor:
    return tf.shape(image)[:2]


def _part(image: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    top, left, height, width = tf.unstack(window)
    return image[top : top + height, left : left + width]
