"""Corruptions of real photos: seeded, whoever makes them, and as strong as they say."""

import io

import numpy as np
import pytest
from PIL import Image

from data import corruptions
from data.errors import InputError
from tests import sample_photos


@pytest.fixture(scope="module")
def photo():
    return np.asarray(sample_photos.pictures()[5])


@pytest.mark.parametrize("name", corruptions.NAMES)
def test_each_is_decided_by_seed_id_and_severity_alone(photo, name):
    small = photo[:48, :56]
    np.random.seed(1)
    first = corruptions.corrupted(small, name, 3, seed=0, image_id="a")
    state = np.random.get_state()[1].copy()
    np.random.seed(2)
    again = corruptions.corrupted(small, name, 3, seed=0, image_id="a")
    assert first.shape == small.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != small).mean() > 0.05
    np.random.seed(1)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # Left as it was.


RANDOM = ("gaussian_noise", "impulse_noise", "glass_blur", "snow", "fog", "motion_blur")


@pytest.mark.parametrize("name", RANDOM)
def test_another_seed_or_id_draws_anew(photo, name):
    small = photo[:48, :56]
    first = corruptions.corrupted(small, name, 3, seed=0, image_id="a")
    for seed, image_id in ((1, "a"), (0, "b")):
        other = corruptions.corrupted(small, name, 3, seed, image_id)
        assert (first != other).mean() > 0.05


@pytest.mark.parametrize("name", ["gaussian_noise", "defocus_blur", "contrast", "pixelate"])
def test_higher_severities_change_more(photo, name):
    change = [
        np.abs(corruptions.corrupted(photo, name, s, 0, "a") - photo.astype(float)).mean()
        for s in corruptions.SEVERITIES
    ]
    assert change == sorted(change)
    assert change[-1] > 1.2 * change[0]


def test_known_corruptions_are_the_published_ones(photo):
    # Contrast: values go to 5 % of their distance to the mean of their channel.
    found = corruptions.corrupted(photo, "contrast", 5, 0, "a")
    means = photo.mean((0, 1))
    expected = np.clip((photo - means) * 0.05 + means, 0, 255)
    assert np.abs(found - expected).max() <= 1
    # JPEG of quality 7; Gaussian noise of 0.08 of the range.
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=7)
    found = corruptions.corrupted(photo, "jpeg_compression", 5, 0, "a")
    np.testing.assert_array_equal(found, np.asarray(Image.open(buffer)))
    grey = np.full((128, 128, 3), 128, np.uint8)
    found = corruptions.corrupted(grey, "gaussian_noise", 1, 0, "a")
    assert found.std() == pytest.approx(0.08 * 255, rel=0.02)


def test_small_images_are_enlarged_to_what_the_corruptions_take():
    digit = np.zeros((8, 8, 3), np.uint8)
    digit[2:6, 3:5] = 255
    assert corruptions.corrupted(digit, "fog", 1, 0, "a").shape == (32, 32, 3)
    wide = np.zeros((10, 30, 3), np.uint8)
    assert corruptions.enlarged(wide).shape == (32, 96, 3)
    assert corruptions.enlarged(np.zeros((32, 40, 3), np.uint8)).shape == (32, 40, 3)


def test_large_images_are_shrunk_if_asked_for(photo):
    assert photo.shape == (142, 160, 3)
    assert corruptions.shrunk(photo, 71).shape == (71, 80, 3)
    assert corruptions.shrunk(photo, 0) is photo
    assert corruptions.shrunk(photo, 200) is photo


def test_several_processes_make_what_one_makes_in_order(photo):
    images = [(f"id{k}", np.roll(photo[:40, :40], k, 0)) for k in range(11)]
    expected = [
        corruptions.corrupted(pixels, "shot_noise", severity, 7, id_)
        for id_, pixels in images
        for severity in corruptions.SEVERITIES
    ]
    for workers in (1, 2):
        found = corruptions.corrupted_in_order(iter(images), "shot_noise", 7, 0, workers)
        np.testing.assert_array_equal(np.stack(list(found)), np.stack(expected))


def test_images_are_read_as_they_are_needed():
    taken = []

    def images():
        for k in range(1000):
            taken.append(k)
            yield f"id{k}", np.zeros((32, 32, 3), np.uint8)

    found = corruptions.corrupted_in_order(images(), "contrast", 0, 0, workers=1)
    next(found)
    assert len(taken) < 20
    found.close()


def test_without_the_package_the_remedy_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(InputError, match="--no-deps -r requirements-corruptions.txt"):
        corruptions.check_installed()
