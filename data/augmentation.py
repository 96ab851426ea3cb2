"""From an encoded image to what the network sees, with noise and without."""

import dataclasses
import functools

import tensorflow as tf

from data import crops, image_ops, randaugment
from data.errors import InputError
from data.settings import setting

CROPS = ("inception", "pad")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The input noise of training.

    `crop` decides the evaluation crop too. `inception` is for photos: a random
    part, resized; evaluation takes the padded centre crop. `pad` is for small
    images (32 pixels in the published code): the whole image, shifted by up to
    size / 8 with mirrored edges; evaluation takes the whole image.
    """

    crop: str = setting("inception", "inception (photos) or pad (small images).")
    horizontal_flip: bool = setting(
        True, "Mirror each image with probability 1/2; not for digits."
    )
    num_ops: int = setting(2, "RandAugment operations an image; 0: none.")
    magnitude: float = setting(27.0, "RandAugment's M, 0 to about 30.")
    randaugment_mode: str = setting(
        "reference", "reference (as published) or corrected, see data/randaugment.py."
    )
    random_crop: bool = setting(
        True, "Random part or shift; otherwise the crop of evaluation."
    )
    cutout: bool = setting(
        False, "Always cut a grey square of half the side, as published for 32 pixels."
    )

    def __post_init__(self) -> None:
        check_crop(self.crop)
        if self.num_ops < 0:
            raise InputError(f"`num_ops`: expected 0 or more; received {self.num_ops}.")
        if not 0 <= self.magnitude <= 100:
            raise InputError(
                f"`magnitude`: expected 0 to 100 (10 is the level 1); "
                f"received {self.magnitude}."
            )
        if self.randaugment_mode not in randaugment.MODES:
            raise InputError(
                f"`randaugment_mode`: expected one of {randaugment.MODES}; "
                f"received {self.randaugment_mode!r}."
            )


def without_noise(crop: str) -> Augmentation:
    """Training on what evaluation sees (the published `remove_aug`)."""
    return Augmentation(crop=crop, horizontal_flip=False, num_ops=0, random_crop=False)


def check_crop(crop: str) -> None:
    if crop not in CROPS:
        raise InputError(f"`crop`: expected one of {CROPS}; received {crop!r}.")


# Named settings; docs/input.md says which mode of RandAugment each has, and why.
PRESETS = {
    # Of the published B7 and L2 students (section 3.1 of the paper).
    "imagenet": Augmentation(),
    # As published: RandAugment, a 16x16 cutout, a shift by up to 4 pixels.
    "svhn": Augmentation(crop="pad", horizontal_flip=False, magnitude=5, cutout=True),
    "photos": Augmentation(magnitude=9, randaugment_mode="corrected"),
    "digits": Augmentation(
        crop="pad", horizontal_flip=False, magnitude=5, randaugment_mode="corrected"
    ),
}


def clean(encoded: tf.Tensor, size: int, crop: str) -> tf.Tensor:
    """The image without noise: float32 `[size, size, 3]`, not clipped."""
    if crop == "pad":
        return crops.whole_image(crops.decode(encoded), size)
    return crops.decoded_crop(encoded, size, lambda s: crops.center_window(s, size))


def clean_pixels(image: tf.Tensor, size: int, crop: str) -> tf.Tensor:
    """`clean` for an image that is decoded: uint8 `[H, W, 3]`."""
    if crop == "pad":
        return crops.whole_image(image, size)
    return crops.center_crop(image, size)


def augmented(
    encoded: tf.Tensor, size: int, augmentation: Augmentation, seed: tf.Tensor
) -> tf.Tensor:
    """The image with noise: uint8 `[size, size, 3]`; without any, as `clean` gives it.

    Order for photos: crop, flip, RandAugment, cutout; for small images
    RandAugment, cutout, shift, flip (the published orders).

    Args:
        encoded: Scalar string, the image file's bytes.
        size: Side of the result in pixels.
        augmentation: What to do.
        seed: int64 `[2]`; the same seed gives the same image.
    """
    changed = (augmentation.random_crop, augmentation.horizontal_flip, augmentation.cutout)
    if not augmentation.num_ops and not any(changed):
        return clean(encoded, size, augmentation.crop)
    num_ops = augmentation.num_ops
    uniforms = tf.random.stateless_uniform([num_ops * 4 + 5], seed)
    op_draws = tf.reshape(uniforms[5:], [num_ops, 4])
    if augmentation.crop == "pad":
        image = _to_uint8(crops.whole_image(crops.decode(encoded), size))
        image = _noise(image, size, augmentation, op_draws, uniforms[3:5])
        if augmentation.random_crop:
            image = crops.reflect_pad_crop(image, max(size // 8, 1), uniforms[0:2])
        return _flip(image, augmentation, uniforms[2])
    # A stream of its own: one that the draws above have not begun.
    crop_seed = tf.random.experimental.stateless_fold_in(seed, 1)
    if augmentation.random_crop:
        image = crops.decoded_crop(
            encoded, size, lambda sides: crops.inception_window(sides, size, crop_seed)
        )
    else:
        image = clean(encoded, size, augmentation.crop)
    image = _to_uint8(image)
    image = _flip(image, augmentation, uniforms[2])
    return _noise(image, size, augmentation, op_draws, uniforms[3:5])


def _noise(image, size, augmentation, op_draws, cutout_place):
    if augmentation.num_ops:
        image = _randaugment(
            augmentation.num_ops,
            augmentation.magnitude,
            size,
            augmentation.randaugment_mode,
        )(image, op_draws)
    if augmentation.cutout:
        image = image_ops.cutout(image, size // 4, cutout_place)
    return image


# Tracing its functions takes a second, whoever calls them.
_randaugment = functools.lru_cache(maxsize=8)(randaugment.RandAugment)


def _flip(image, augmentation, uniform):
    if not augmentation.horizontal_flip:
        return image
    return tf.cond(uniform < 0.5, lambda: tf.reverse(image, [1]), lambda: image)


def _to_uint8(image):
    return tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)
