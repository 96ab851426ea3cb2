"""The sheet shows what the network gets, row by row under the right name."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import augmentation as aug
from data import randaugment
from data.augmentation import Augmentation
from data.errors import InputError
from noisy_student.report import augmentation_sheet

NOISE = Augmentation(crop="pad", horizontal_flip=False, magnitude=27)


@pytest.fixture(scope="module")
def digits():
    return augmentation_sheet.read_images("digits", 3, seed=0)


@pytest.fixture(scope="module")
def rows(digits):
    return augmentation_sheet.sheet(digits, 8, NOISE)


def test_rows_are_the_originals_each_operation_and_draws_of_training(rows):
    operations = randaugment.OPS[NOISE.randaugment_mode]
    expected = ["original", *operations, *(f"training {i}" for i in range(1, 5))]
    assert list(rows) == expected
    assert all(x.shape == (3, 8, 8, 3) and x.dtype == np.uint8 for x in rows.values())


@pytest.mark.parametrize("mode", randaugment.MODES)
def test_each_row_is_the_operation_of_its_name_at_the_magnitude(digits, mode):
    noise = Augmentation(crop="pad", magnitude=5, randaugment_mode=mode)
    rows = augmentation_sheet.sheet(digits, 8, noise)
    strengths = (
        randaugment.reference_strengths(5, 1, 1)
        if mode == "reference"
        else randaugment.corrected_strengths(5, 1, 1, 8)
    )
    for name in set(randaugment.OPS[mode]) - {"Cutout"}:  # Its place is drawn.
        for image, direction, found in zip(
            rows["original"], (1, -1, 1), rows[name], strict=True
        ):
            expected = randaugment.apply_op(
                name, tf.constant(image), strengths, direction, mode=mode
            )
            np.testing.assert_array_equal(found, expected, name)


def test_training_rows_are_draws_of_the_training_augmentation(rows, digits):
    found = rows["training 2"]
    expected = aug.augmented(tf.constant(digits[2]), 8, NOISE, [1, 2])
    np.testing.assert_array_equal(found[2], expected)
    drawn = [rows[f"training {i}"].tobytes() for i in range(1, 5)]
    assert len(set(drawn)) == 4


def test_the_seed_decides_images_and_draws(rows, digits):
    assert augmentation_sheet.read_images("digits", 3, seed=0) == digits
    assert augmentation_sheet.read_images("digits", 3, seed=1) != digits
    other = augmentation_sheet.sheet(digits, 8, NOISE, seed=1)
    assert not np.array_equal(other["training 1"], rows["training 1"])
    np.testing.assert_array_equal(other["Invert"], rows["Invert"])


def test_small_images_are_shown_whole_and_photos_at_224(digits, tmp_path):
    size, noise = augmentation_sheet.fitting_settings(digits)
    assert (size, noise.crop, noise.horizontal_flip) == (8, "pad", False)
    Image.new("RGB", (300, 200)).save(tmp_path / "photo.jpg")
    photo = augmentation_sheet.read_images(f"folder:{tmp_path}", 1, seed=0)
    size, noise = augmentation_sheet.fitting_settings(photo)
    assert (size, noise.crop) == (224, "inception")


@pytest.mark.parametrize(("size", "cell"), [(8, 224), (100, 200), (224, 224), (600, 320)])
def test_pixels_become_squares_and_large_images_smaller(tmp_path, size, cell):
    pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    rows = {"original": pixels, "Rotate": pixels, "Invert": 255 - pixels}
    path = f"{tmp_path}/sheet.png"
    augmentation_sheet.write_sheet(rows, "a title", path)
    with Image.open(path) as image:
        drawn = np.asarray(image)
    if size > cell:
        return
    factor = cell // size
    large = pixels[0].repeat(factor, 0).repeat(factor, 1)
    top = augmentation_sheet._TITLE
    strip = drawn[top : top + cell]
    places = [
        left
        for left in range(strip.shape[1] - cell)
        if np.array_equal(strip[:, left : left + cell], large)
    ]
    assert len(places) == 2  # The originals head both halves.


def test_too_many_images_and_unwritable_files_are_refused(rows, tmp_path):
    with pytest.raises(InputError, match="`images`: expected at most 1000.*received 1001"):
        augmentation_sheet.read_images("digits", 1001, seed=0)
    with pytest.raises(InputError, match="`output`: expected a file that can be written"):
        augmentation_sheet.write_sheet(rows, "", f"{tmp_path}/none/sheet.png")


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match="received one that cannot: not an image"):
        augmentation_sheet.read_images(f"folder:{tmp_path}", 1, seed=0)
