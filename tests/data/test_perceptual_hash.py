"""The hash is pHash's, and keeps what it promises on photos."""

import io
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images

from data.perceptual_hash import perceptual_hashes, thumbnail
from tests import imagenet_photos, sample_photos


def hashed(*encoded):
    return perceptual_hashes(np.stack([thumbnail(image) for image in encoded]))


def distances(first, second):
    return np.bitwise_count(first ^ second)


def test_bits_are_those_of_the_formula(noise_image):
    thumbnails = noise_image(5, 32, 32)
    found, _ = perceptual_hashes(thumbnails)
    n = np.arange(32)
    cosines = np.cos(math.pi * (2 * n + 1) * n[:, None] / 64)
    for levels, value in zip(thumbnails, found, strict=True):
        lowest = (cosines @ levels.astype(float) @ cosines.T)[:8, :8]
        bits = (lowest > np.median(lowest)).ravel()
        assert int(value) == int("".join("01"[int(bit)] for bit in bits), 2)


def test_transposed_thumbnails_have_transposed_bits(noise_image):
    thumbnails = noise_image(1, 32, 32)
    (value,), _ = perceptual_hashes(thumbnails)
    (other,), _ = perceptual_hashes(thumbnails.transpose(0, 2, 1))
    bits = np.array(list(f"{int(value):064b}")).reshape(8, 8)
    assert f"{int(other):064b}" == "".join(bits.T.ravel())


def test_thumbnails_are_of_luminance_and_32_pixels(encode, noise_image):
    grey = noise_image(40, 60)
    color = np.stack([grey] * 3, -1)
    np.testing.assert_array_equal(thumbnail(encode(grey)), thumbnail(encode(color)))
    assert thumbnail(encode(noise_image(8, 8))).shape == (32, 32)
    green = np.zeros((50, 50, 3), np.uint8)
    green[..., 1] = 255
    assert set(thumbnail(encode(green)).ravel()) == {150}  # 255 · 0.587


def test_what_is_no_image_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError):
        thumbnail(b"no image")


def test_hashes_are_those_of_imagehash():
    """Of the decoded pixels; decoders of JPEG differ, which is worth two bits."""
    expected = {"china.jpg": 0x9DB8C2C7445DBB24, "flower.jpg": 0x9B64386633CDC96C}
    for path in load_sample_images().filenames:
        with open(path, "rb") as file:
            encoded = file.read()
        pixels = io.BytesIO()
        Image.open(io.BytesIO(encoded)).save(pixels, "PNG")
        found, _ = hashed(pixels.getvalue(), encoded)
        imagehashs = np.uint64(expected[path.rsplit("/", 1)[-1]])  # imagehash 4.3.2
        assert found[0] == imagehashs
        assert distances(found[1], imagehashs) <= 2


def test_photos_saved_again_are_near_and_other_photos_far():
    photos = sample_photos.pictures()
    del photos[2]  # Plain sky.
    first, clear = hashed(*map(sample_photos.jpeg, photos))
    assert clear.all()
    for changes in (dict(quality=60), dict(scale=0.75)):
        again, _ = hashed(*[sample_photos.jpeg(photo, **changes) for photo in photos])
        assert distances(first, again).max() <= 4
    assert min(itertools.starmap(distances, itertools.combinations(first, 2))) > 8


@pytest.mark.slow
def test_imagenet_photos_saved_again_are_near_and_other_photos_far():
    """Measured: at most 2 bits, at least 18."""
    files = [encoded for encoded, _ in imagenet_photos.labeled_photos()]
    first, clear = hashed(*files)
    assert clear.all()
    photos = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
    for changes in (dict(quality=60), dict(scale=0.75), dict(scale=0.25, quality=75)):
        again, _ = hashed(*[sample_photos.jpeg(photo, **changes) for photo in photos])
        assert distances(first, again).max() <= 4
    assert min(itertools.starmap(distances, itertools.combinations(first, 2))) > 12


def test_hashes_of_flat_and_almost_flat_images_say_nothing(encode, noise_image):
    photo, _, sky = map(sample_photos.jpeg, sample_photos.pictures()[:3])
    across = np.tile(np.arange(200, dtype=np.uint8)[:, None], (100, 1, 3))
    flat = {
        "plain sky": sky,
        "one grey": encode(np.full((60, 60, 3), 128, np.uint8)),
        "faint noise": encode(noise_image(60, 60, 3) // 64 + 100),
        "a gradient": encode(across, "JPEG"),
        "two halves": encode(np.repeat([[0] * 30 + [255] * 30], 60, 0).astype(np.uint8)),
    }
    _, clear = hashed(photo, *flat.values())
    assert clear.tolist() == [True] + [False] * len(flat)
