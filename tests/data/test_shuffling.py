"""Orders that are random and keep copies apart."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from data import shuffling


def _batches(order, identity, batch_size, offset):
    """The identities in each batch."""
    placed = np.asarray(identity)[order]
    places = (np.arange(len(placed)) + offset) // batch_size
    return [placed[places == batch].tolist() for batch in range(places[-1] + 1)]


def _spread(identity, batch_size, offset, seed=0):
    order = shuffling.spread_order(tf.constant(identity), batch_size, offset, [seed, 1])
    assert sorted(order.numpy()) == list(range(len(identity)))
    return order.numpy()


@pytest.mark.parametrize("offset", [0, 1, 5])
@pytest.mark.parametrize("count", [40, 60, 63])
def test_equal_elements_lie_in_different_batches(count, offset):
    rng = np.random.default_rng(count)
    for seed in range(20):
        # Up to as many of each as there are whole batches.
        whole = (count - (8 - offset) % 8) // 8
        identity = np.repeat(np.arange(count), rng.integers(1, whole + 1, count))[:count]
        order = _spread(identity, 8, offset, seed)
        for batch in _batches(order, identity, 8, offset):
            assert len(set(batch)) == len(batch)


def test_more_equal_elements_than_batches_are_spread_evenly():
    identity = np.repeat(np.arange(4), [33, 5, 1, 1])
    for batch in _batches(_spread(identity, 8, 0), identity, 8, 0):
        assert 6 <= batch.count(0) <= 7


def test_every_place_is_as_probable_for_an_element():
    orders = np.stack([_spread(np.arange(6), 2, 1, seed) for seed in range(1200)])
    for element in range(6):
        places = np.argwhere(orders == element)[:, 1]
        counts = np.bincount(places, minlength=6)
        assert (abs(counts - 200) < 60).all()  # Five standard deviations.


def test_copies_are_as_often_near_as_far():
    """Not always in neighbouring batches, though dealt one after the other."""
    identity = np.arange(64) // 2
    distances = collections.Counter()
    for seed in range(50):
        order = _spread(identity, 8, 0, seed)
        for element in range(32):
            one, two = np.flatnonzero(identity[order] == element) // 8
            distances[two - one] += 1
    # Of 28 pairs of 8 batches 7 are neighbours; dealt in turns, 8 of 28 pairs are used.
    assert 0.15 < distances[1] / 1600 < 0.35
    assert max(distances) == 7


@pytest.mark.parametrize("count", [0, 1, 7, 16, 50])
@pytest.mark.parametrize("offset", [0, 3])
def test_every_element_comes_once_whatever_the_windows(count, offset):
    dataset = tf.data.Dataset.range(count).map(
        lambda i: ("file", i, tf.strings.as_string(i), tf.constant(0, tf.int64))
    )
    found = shuffling.shuffled(dataset, 8, 4, offset, [3, 4])
    rows = list(found.as_numpy_iterator())
    assert sorted(position for _, position, _, _ in rows) == list(range(count))
    assert all(int(record) == position for _, position, record, _ in rows)
    # Windows of 8 places: an element never leaves its own.
    for place, (_, position, _, _) in enumerate(rows):
        assert (place + offset) // 8 == (position + offset) // 8


def test_windows_are_ordered_differently():
    dataset = tf.data.Dataset.range(40).map(
        lambda i: ("file", i, "", tf.constant(0, tf.int64))
    )
    found = shuffling.shuffled(dataset, 8, 4, 0, [3, 4]).as_numpy_iterator()
    orders = np.array([position % 8 for _, position, _, _ in found]).reshape(5, 8)
    assert len(set(map(tuple, orders))) == 5


def test_equal_positions_in_two_files_are_not_copies():
    files = tf.data.Dataset.from_tensor_slices(["a", "b"])
    dataset = files.flat_map(
        lambda path: tf.data.Dataset.range(4).map(
            lambda i: (path, i, "", tf.constant(0, tf.int64))
        )
    )
    met = 0
    for seed in range(10):
        rows = list(shuffling.shuffled(dataset, 8, 4, 0, [seed, 4]).as_numpy_iterator())
        assert len({(path, position) for path, position, *_ in rows}) == 8
        met += len({position for _, position, *_ in rows[:4]}) < 4
    assert met  # Copies never would.
