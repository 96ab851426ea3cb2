"""Whatever the labels, every image goes to one part, and classes get what is asked."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from data import sources
from data.errors import InputError
from noisy_student.config import DataConfig
from noisy_student.preparation import splits


class Numbered(sources.Source):
    """Labels alone: a split is settled before any image is read."""

    def __init__(self, labels, classes):
        self.labels = np.array(labels)
        self.class_names = tuple(f"class {number}" for number in range(classes))


def split(labels, classes, seed, **settings):
    config = DataConfig(labeled_data="labeled", **settings)
    opened = {"labeled": Numbered(labels, classes), "more": Numbered([-1] * 5, classes)}
    with mock.patch.object(splits.sources, "open_source", lambda name, **_: opened[name]):
        return splits.split(config, seed)


@st.composite
def label_lists(draw):
    """Labels of 2 to 5 classes, each with 4 images or more, in any order."""
    counts = draw(st.lists(st.integers(4, 15), min_size=2, max_size=5))
    labels = np.repeat(np.arange(len(counts)), counts)
    return draw(st.permutations(labels.tolist())), counts


@given(label_lists(), st.integers(0, 9), st.floats(0.05, 0.95), st.integers(1, 2))
def test_labels_per_class_are_exact_and_the_rest_is_unlabeled(pool, seed, fraction, wanted):
    labels, counts = pool
    settings = {"labels_per_class": wanted, "holdout_fraction": fraction}
    held = [min(max(1, round(count * fraction)), count - 1) for count in counts]
    left = np.subtract(counts, held)
    assume(min(left) >= wanted and max(left) > wanted)  # Else it is refused.
    parts = split(labels, len(counts), seed, **settings)
    indices = {name: np.asarray(part.indices) for name, part in parts.items()}
    together = np.sort(np.concatenate(list(indices.values())))
    assert together.tolist() == list(range(len(labels)))  # Each image once.
    of_class = {
        name: np.bincount(np.array(labels)[rows], minlength=len(counts)).tolist()
        for name, rows in indices.items()
    }
    assert of_class["labeled"] == [wanted] * len(counts)
    assert of_class["test"] == held
    assert [part.labeled for part in parts.values()] == [
        name != "unlabeled" for name in parts
    ]
    again = split(labels, len(counts), seed, **settings)
    for name, rows in indices.items():
        np.testing.assert_array_equal(rows, again[name].indices)


@given(label_lists(), st.integers(0, 9))
def test_with_unlabeled_data_all_that_is_not_held_out_is_labeled(pool, seed):
    labels, counts = pool
    parts = split(labels, len(counts), seed, unlabeled_data="more")
    held, kept = set(parts["test"].indices), set(parts["labeled"].indices)
    assert held | kept == set(range(len(labels)))
    assert not held & kept
    assert len(parts["unlabeled"].indices) == 5


def test_holding_out_leaves_every_class_one_image():
    parts = split([0] * 4 + [1] * 15, 2, 0, unlabeled_data="more", holdout_fraction=0.95)
    assert np.bincount(np.array([0] * 4 + [1] * 15)[parts["test"].indices]).tolist() == [
        3,
        14,
    ]


def test_another_seed_takes_other_images():
    labels = [0, 1] * 20
    first, second = (split(labels, 2, seed, labels_per_class=3) for seed in (0, 1))
    for name in ("labeled", "unlabeled", "test"):
        assert set(first[name].indices) != set(second[name].indices)


def test_a_class_with_too_few_labels_is_named():
    with pytest.raises(InputError, match="at least 3 .*received 2 of class 'class 1'"):
        split([0] * 9 + [1] * 3, 2, 0, labels_per_class=3)
    with pytest.raises(InputError, match="at least 2 .*'class 1' has 1"):
        split([0] * 9 + [1], 2, 0, labels_per_class=1)


def test_an_imbalanced_pool_has_a_long_tail():
    """n · imbalance^(-r / (C - 1)) of 100 images: 100, 32, 10. Ranks are the seed's."""
    labels = [0, 1, 2] * 100 + [0, 1, 2]
    settings = {"labels_per_class": 1, "test_data": "more", "pool_imbalance": 10.0}
    orders = set()
    for seed in range(6):
        with mock.patch.object(splits, "check_labels"):
            parts = split(labels, 3, seed, **settings)
        kept = np.array(parts["unlabeled"].indices)
        counts = np.bincount(np.array(labels)[kept], minlength=3)
        assert sorted(counts) == [10, 32, 100]
        assert len(set(kept)) == 142
        assert not set(kept) & set(parts["labeled"].indices)
        orders.add(tuple(np.argsort(counts)))
    assert len(orders) > 1


def test_an_imbalanced_pool_needs_its_true_classes():
    with pytest.raises(InputError, match="`pool_imbalance`: expected 1.*received 5.0"):
        split([0, 1] * 9, 2, 0, unlabeled_data="more", pool_imbalance=5.0)
