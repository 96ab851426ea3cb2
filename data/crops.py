"""Geometry of an image before augmentation: decoding, crops, resizing.

Images here are `[H, W, 3]`, in 0..255.
"""

import tensorflow as tf

CROP_PADDING = 32  # Of the centre crop, in pixels of the network's input.


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
    height, width = _sides(image)
    fraction = size / (size + CROP_PADDING)
    side = tf.cast(fraction * tf.cast(tf.minimum(height, width), tf.float32), tf.int32)
    side = tf.maximum(side, 1)
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    return resize_bicubic(image[top : top + side, left : left + side], size)


def inception_crop(image: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """A random part of 8-100 % of the area, aspect 3/4 to 4/3, resized.

    Falls back to the centre crop where ten attempts gave the whole image.
    """
    height, width = _sides(image)
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    whole = tf.logical_and(extent[0] == height, extent[1] == width)
    return tf.cond(
        whole,
        lambda: center_crop(image, size),
        lambda: resize_bicubic(tf.slice(image, begin, extent), size),
    )


def whole_image(image: tf.Tensor, size: int) -> tf.Tensor:
    """The whole image as float32 at `size`; untouched if it has that size."""
    height, width = _sides(image)
    image = tf.cond(
        tf.logical_and(height == size, width == size),
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


def _sides(image: tf.Tensor):
    shape = tf.shape(image)
    return shape[0], shape[1]
