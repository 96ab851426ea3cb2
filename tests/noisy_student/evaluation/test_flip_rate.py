"""mFR from flip probabilities whose mean is published; distances by their definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import InputError
from noisy_student.evaluation import flip_rate
from noisy_student.evaluation.alexnet import EXTRA_FLIPS, FLIPS

# ResNeXt-101 32x48d WSL (Orhan, arXiv 1907.07640), in the order of `FLIPS`.
WSL = [0.0585, 0.0699, 0.0284, 0.0232, 0.0367, 0.0154, 0.0242, 0.0347, 0.0215, 0.0462]


@pytest.fixture
def wsl():
    return dict(zip(FLIPS, WSL, strict=True))


def test_mfr_is_the_published_one(wsl):
    found = flip_rate.flip_rates(wsl)
    assert found["mfr"] == pytest.approx(27.84, abs=0.005)
    assert found["fr"]["tilt"] == pytest.approx(100 * 0.0215 / 0.0705)
    assert flip_rate.flip_rates(FLIPS | EXTRA_FLIPS)["mfr"] == pytest.approx(100)
    extra = flip_rate.flip_rates(wsl | {"shear": 0.0})
    assert extra["extra_fr"] == {"shear": 0}
    assert extra["mfr"] == found["mfr"]


def test_noise_is_compared_with_the_first_frame_and_others_with_the_one_before():
    classes = np.array([[1, 2, 2, 1, 1], [3, 3, 3, 3, 4]])
    assert flip_rate.flip_probability(classes, "translate") == pytest.approx(3 / 8)
    assert flip_rate.flip_probability(classes, "shot_noise") == pytest.approx(3 / 8)
    classes = np.array([[1, 2, 2, 2, 2]])
    assert flip_rate.flip_probability(classes, "rotate") == 1 / 4
    assert flip_rate.flip_probability(classes, "gaussian_noise") == 1


def distance_by_definition(before, after):
    """The double sum of the paper, over ranks from 1 (section 4.3 there)."""
    ranks = np.empty(len(after), int)
    ranks[np.argsort(-after, kind="stable")] = np.arange(1, len(after) + 1)
    total = 0
    for i, label in enumerate(np.argsort(-before, kind="stable")[:5], 1):
        low, high = sorted((i, ranks[label]))
        total += sum(1 <= j - 1 <= 5 for j in range(low + 1, high + 1))
    return total


@given(st.integers(0, 2**32 - 1), st.integers(6, 12), st.integers(2, 4))
def test_top_5_distance_is_the_papers_double_sum(seed, classes, frames):
    sequences = np.random.default_rng(seed).random((3, frames, classes))
    for perturbation in ("tilt", "speckle_noise"):
        expected = [
            distance_by_definition(
                sequence[0 if perturbation == "speckle_noise" else t - 1], sequence[t]
            )
            for sequence in sequences
            for t in range(1, frames)
        ]
        found = flip_rate.top_5_distance(sequences, perturbation)
        assert found == pytest.approx(np.mean(expected))


def test_top_5_distance_is_0_for_equal_frames_and_15_for_other_classes():
    frame = np.linspace(1, 0, 12)
    assert flip_rate.top_5_distance(np.array([[frame, frame]]), "scale") == 0
    assert flip_rate.top_5_distance(np.array([[frame, frame[::-1]]]), "scale") == 15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.pop("tilt"), "missing: tilt; unknown: none"),
        (lambda found: found.update(hue=0.1), "missing: none; unknown: hue"),
    ],
)
def test_what_is_not_whole_is_refused(wsl, change, message):
    change(wsl)
    with pytest.raises(InputError, match=message):
        flip_rate.flip_rates(wsl)


@pytest.mark.parametrize("shape", [(0, 5), (3, 1)])
def test_sequences_without_a_second_frame_are_refused(shape):
    with pytest.raises(InputError, match="two frames or more; received"):
        flip_rate.flip_probability(np.zeros(shape, int), "tilt")
