"""mCE from errors whose mean is published."""

import numpy as np
import pytest

from data.errors import InputError
from noisy_student.evaluation import alexnet, corruption_error
from noisy_student.evaluation.alexnet import ERRORS, EXTRA_ERRORS

# ResNeXt-101 32x48d WSL (Orhan, arXiv 1907.07640), percent, in the order of `ERRORS`.
WSL_ERRORS = [36.587, 38.436, 39.808, 39.116, 54.818, 37.500, 44.494, 39.666, 37.804]
WSL_ERRORS += [29.916, 18.376, 32.110, 40.259, 25.626, 26.900]


def errors_of(means):
    """Five severities around each mean."""
    spread = np.array([-0.1, -0.05, 0.0, 0.05, 0.1])
    return {name: (mean + spread).tolist() for name, mean in means.items()}


@pytest.fixture
def wsl():
    return errors_of(
        {name: error / 100 for name, error in zip(ERRORS, WSL_ERRORS, strict=True)}
    )


def test_mce_is_the_published_one(wsl):
    found = corruption_error.corruption_errors(wsl)
    assert found["mce"] == pytest.approx(45.70, abs=0.005)
    assert found["top_1"] == pytest.approx(1 - np.mean(WSL_ERRORS) / 100)
    assert found["ce"]["glass_blur"] == pytest.approx(54.818 / 0.826268)
    assert "relative_mce" not in found


def test_alexnet_itself_has_100_and_extra_corruptions_do_not_count():
    errors = {name: [error] * 5 for name, error in (ERRORS | EXTRA_ERRORS).items()}
    errors["saturate"] = [0.0] * 5
    found = corruption_error.corruption_errors(errors, alexnet.CLEAN_ERROR)
    assert found["mce"] == pytest.approx(100)
    assert found["relative_mce"] == pytest.approx(100)
    assert found["extra_ce"]["saturate"] == 0
    assert set(found["extra_ce"]) == set(EXTRA_ERRORS)
    assert list(found["ce"]) == list(ERRORS)


def test_relative_mce_is_that_of_the_rise_over_clean_images(wsl):
    flat = {name: [0.2] * 5 for name in ERRORS}
    assert corruption_error.corruption_errors(flat, 0.2)["relative_mce"] == 0
    found = corruption_error.corruption_errors(wsl, 0.146)["relative_mce"]
    rises = [
        (error / 100 - 0.146) / (alexnet - 0.4348)
        for error, alexnet in zip(WSL_ERRORS, ERRORS.values(), strict=True)
    ]
    assert found == pytest.approx(100 * np.mean(rises))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda errors: errors.pop("fog"), "missing: fog; unknown: none"),
        (lambda errors: errors.update(rain=[0.1] * 5), "missing: none; unknown: rain"),
        (lambda errors: errors.update(fog=[0.1] * 4), "under fog: expected 5 numbers"),
        (lambda errors: errors.update(snow=[10.0] * 5), "under snow.*from 0 to 1"),
    ],
)
def test_what_is_not_whole_is_refused(wsl, change, message):
    change(wsl)
    with pytest.raises(InputError, match=message):
        corruption_error.corruption_errors(wsl)
