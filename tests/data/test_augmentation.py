"""Training's noise and evaluation's crops, from encoded images."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from data import augmentation as aug
from data import crops, image_ops, randaugment
from data.errors import InputError

PLAIN = aug.Augmentation(num_ops=0, horizontal_flip=False)


def test_presets_of_published_recipes_are_theirs():
    # Paper, section 3.1, and the flags of the published SVHN script.
    imagenet, svhn = aug.PRESETS["imagenet"], aug.PRESETS["svhn"]
    assert (imagenet.num_ops, imagenet.magnitude) == (2, 27)
    assert (svhn.num_ops, svhn.magnitude, svhn.cutout, svhn.crop) == (2, 5, True, "pad")
    assert {imagenet.randaugment_mode, svhn.randaugment_mode} == {"reference"}
    assert imagenet.horizontal_flip


@pytest.mark.parametrize("name", ["svhn", "digits"])
def test_images_of_characters_are_not_mirrored(name):
    assert not aug.PRESETS[name].horizontal_flip


@pytest.fixture
def photo(noise_image, encode):
    return encode(noise_image(50, 70, 3))


def _eager(encoded, size, augmentation, num_seeds):
    """Augmented images of the seeds (0, 7), (1, 7), …"""
    seeds = tf.constant([(seed, 7) for seed in range(num_seeds)], tf.int64)
    return np.stack([aug.augmented(encoded, size, augmentation, x) for x in seeds])


def _mapped(encoded, size, augmentation, num_seeds):
    """The same from one pipeline: slow to build, fast for many seeds."""
    seeds = tf.data.Dataset.range(num_seeds)
    images = seeds.map(
        lambda i: aug.augmented(encoded, size, augmentation, tf.stack([i, np.int64(7)]))
    )
    assert images.element_spec == tf.TensorSpec([size, size, 3], tf.uint8)
    return np.stack(list(images.as_numpy_iterator()))


@pytest.mark.parametrize("crop", aug.CROPS)
@pytest.mark.parametrize("mode", randaugment.MODES)
def test_equal_seeds_give_equal_images_and_others_others(photo, crop, mode):
    settings = aug.Augmentation(crop=crop, randaugment_mode=mode, magnitude=9, cutout=True)
    first, again = (_eager(photo, 32, settings, 6) for _ in range(2))
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first.reshape(6, -1), axis=0)) == 6


@pytest.mark.parametrize(("crop", "num_ops"), [("inception", 1), ("pad", 0)])
def test_eager_and_pipeline_agree(photo, crop, num_ops):
    settings = aug.Augmentation(crop=crop, num_ops=num_ops, magnitude=9, cutout=True)
    np.testing.assert_array_equal(
        _mapped(photo, 24, settings, 8), _eager(photo, 24, settings, 8)
    )


def test_seed_words_both_count(photo):
    seeds = [(1, 2), (2, 1), (1, 3), (3, 2)]
    found = [
        aug.augmented(photo, 16, PLAIN, tf.constant(seed, tf.int64)).numpy().tobytes()
        for seed in seeds
    ]
    assert len(set(found)) == len(seeds)


def test_photo_crop_becomes_bytes_without_wrapping_around(encode, noise_image, monkeypatch):
    # Black and white alone, so that bicubic leaves 0..255 both ways.
    encoded = encode(noise_image(50, 70, 3) // 128 * 255)
    exact = aug.clean(encoded, 24, "inception").numpy()
    assert exact.min() < -1
    assert exact.max() > 256
    monkeypatch.setattr(crops, "decoded_crop", lambda *_: tf.constant(exact))
    (found,) = _eager(encoded, 24, PLAIN, 1)
    np.testing.assert_array_equal(found, np.clip(exact, 0, 255).astype(np.uint8))


def test_photo_crops_are_as_varied_as_the_inception_crop():
    # On a ramp the values tell the place, and their step the side of the crop.
    rows, columns = np.mgrid[0:200, 0:250].astype(np.uint8)
    encoded = tf.io.encode_png(np.stack([rows, columns, rows], -1))
    found = _mapped(encoded, 32, PLAIN, 100).astype(int)
    sides = (found[:, 24, 24, :2] - found[:, 8, 8, :2]) * 2
    area = sides.prod(-1) / (200 * 250)
    assert area.min() < 0.2
    assert area.max() > 0.7
    assert (np.ptp(found[:, 0, 0, :2], axis=0) > 80).all()


def test_horizontal_flip_mirrors_about_half_of_the_photos(photo):
    plain = _mapped(photo, 16, PLAIN, 60)
    flipping = dataclasses.replace(PLAIN, horizontal_flip=True)
    found = _mapped(photo, 16, flipping, 60)
    mirrored = (found == plain[:, :, ::-1]).all((1, 2, 3))
    untouched = (found == plain).all((1, 2, 3))
    assert (mirrored ^ untouched).all()
    assert 15 < mirrored.sum() < 45


@pytest.mark.parametrize("flip", [False, True])
def test_small_images_are_shifted_by_up_to_an_eighth(noise_image, encode, flip):
    image = noise_image(16, 16, 3)
    settings = dataclasses.replace(PLAIN, crop="pad", horizontal_flip=flip)
    padded = np.pad(image, [(2, 2), (2, 2), (0, 0)], "reflect")
    windows = {
        padded[top : top + 16, left : left + 16].tobytes(): (top, left)
        for top in range(5)
        for left in range(5)
    }
    found = _mapped(encode(image), 16, settings, 200)
    straight = [x.tobytes() in windows for x in found]
    mirrored = [x[:, ::-1].tobytes() in windows for x in found]
    places = {windows.get(x.tobytes()) for x in found}
    places |= {windows.get(x[:, ::-1].tobytes()) for x in found}
    assert all(a or b for a, b in zip(straight, mirrored, strict=True))
    assert len(places - {None}) == 25
    assert (60 < sum(mirrored) < 140) if flip else not any(mirrored)


@pytest.mark.parametrize("crop", aug.CROPS)
def test_cutout_greys_a_square_of_half_the_side(encode, crop):
    black = np.zeros((32, 32, 3), np.uint8)
    settings = dataclasses.replace(PLAIN, crop=crop, cutout=True)
    found = _mapped(encode(black), 32, settings, 60)
    assert set(np.unique(found)) == {0, image_ops.FILL}
    sides = []
    for image in found[..., 0] == image_ops.FILL:
        rows, columns = image.any(1), image.any(0)
        assert (image == rows[:, None] & columns[None]).all()
        sides += [rows.sum(), columns.sum()]
    # The edge of the image cuts some; mirrored edges of `pad` add up to 4 rows.
    assert max(sides) == 16 or crop == "pad"
    assert min(sides) >= (8 if crop == "inception" else 4)
    without = dataclasses.replace(settings, cutout=False)
    assert _eager(encode(black), 32, without, 4).max() == 0


@pytest.mark.parametrize(
    "change", [{"num_ops": 1}, {"magnitude": 20.0}, {"randaugment_mode": "corrected"}]
)
def test_operations_follow_the_settings(photo, change):
    base = aug.Augmentation(num_ops=2, magnitude=9, horizontal_flip=False)
    other = dataclasses.replace(base, **change)
    assert not np.array_equal(_eager(photo, 32, base, 4), _eager(photo, 32, other, 4))


def test_operations_come_after_the_crop_of_a_photo(photo):
    settings = aug.Augmentation(num_ops=1, magnitude=9, horizontal_flip=False)
    plain, found = (_eager(photo, 32, x, 40) for x in (PLAIN, settings))
    inverted = (found == 255 - plain).all((1, 2, 3))
    equalized = [
        np.array_equal(one, image_ops.equalize(tf.constant(two)))
        for one, two in zip(found, plain, strict=True)
    ]
    assert inverted.any()
    assert any(equalized)


def test_the_svhn_preset_cuts_after_randaugment_and_shifts_last(noise_image, encode):
    image = noise_image(32, 32, 3)
    for seed in ([3, 1], [4, 1], [5, 1]):
        found = aug.augmented(encode(image), 32, aug.PRESETS["svhn"], seed)
        uniforms = tf.random.stateless_uniform([13], seed)
        randaugment_of_32 = randaugment.RandAugment(2, 5, 32, "reference")
        expected = randaugment_of_32(tf.constant(image), tf.reshape(uniforms[5:], [2, 4]))
        expected = image_ops.cutout(expected, 8, uniforms[3:5])
        expected = crops.reflect_pad_crop(expected, 4, uniforms[:2])
        np.testing.assert_array_equal(found, expected)  # And not mirrored.


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_clean_is_the_published_crop_of_a_photo(noise_image, encode, image_format):
    # Black and white alone, so that bicubic overshoots.
    encoded = encode(noise_image(50, 70, 3) // 128 * 255, image_format)
    pixels = tf.io.decode_image(encoded, channels=3)
    found = aug.clean(encoded, 24, "inception")
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, crops.center_crop(pixels, 24))
    assert found.numpy().max() > 255  # Not clipped.


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_clean_is_the_whole_of_a_small_image(noise_image, encode, image_format):
    encoded = encode(noise_image(16, 16, 3), image_format)
    found = aug.clean(encoded, 16, "pad")
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, tf.io.decode_image(encoded, channels=3))
    assert aug.clean(encoded, 8, "pad").shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": "center"}, r"`crop`.*'inception', 'pad'.*received 'center'"),
        ({"num_ops": -1}, r"`num_ops`.*0 or more; received -1"),
        ({"magnitude": -1.0}, r"`magnitude`.*0 to 100.*received -1.0"),
        ({"magnitude": 101}, r"`magnitude`.*received 101"),
        ({"randaugment_mode": "x"}, r"`randaugment_mode`.*received 'x'"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        aug.Augmentation(**settings)


def test_every_setting_explains_itself():
    for field in dataclasses.fields(aug.Augmentation):
        assert field.metadata["help"].endswith(".")


@pytest.mark.parametrize("crop", aug.CROPS)
def test_settings_of_operations_that_are_none_do_not_make_noise(photo, crop):
    quiet = dataclasses.replace(PLAIN, crop=crop, random_crop=False)
    settings = dataclasses.replace(quiet, magnitude=5, randaugment_mode="corrected")
    found = aug.augmented(photo, 32, settings, tf.constant([0, 7], tf.int64))
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, aug.clean(photo, 32, crop))
