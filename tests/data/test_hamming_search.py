"""The search finds what comparing with every hash finds."""

import numpy as np
import pytest

from data.hamming_search import HammingSearch


def random_hashes(count, seed):
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64)


def near(hashes, flips, seed):
    """Copies of the hashes with so many of their bits flipped."""
    rng, changed = np.random.default_rng(seed), hashes.copy()
    for row, count in enumerate(flips):
        for bit in rng.permutation(64)[:count]:
            changed[row] ^= np.uint64(1) << np.uint64(bit)
    return changed


@pytest.mark.parametrize("max_distance", [0, 1, 3, 4, 7])
def test_every_hash_within_the_distance_is_found_and_no_other(max_distance):
    known = random_hashes(300, seed=0)
    flips = np.arange(300) % 12
    queries = np.concatenate([near(known, flips, seed=1), random_hashes(200, seed=2)])
    rows, distances = HammingSearch(known, max_distance).nearest(queries)
    all_distances = np.bitwise_count(queries[:, None] ^ known[None]).astype(np.int64)
    expected = all_distances.min(1)
    found = expected <= max_distance
    assert found.sum() == (flips <= max_distance).sum()
    np.testing.assert_array_equal(rows, np.where(found, all_distances.argmin(1), -1))
    np.testing.assert_array_equal(distances, np.where(found, expected, -1))


def test_of_equally_near_hashes_the_first_is_found():
    known = np.array([0b111, 0b001, 0b100, 0b001], np.uint64)
    rows, distances = HammingSearch(known, 4).nearest(np.array([0, 0b001], np.uint64))
    assert rows.tolist() == [1, 1]
    assert distances.tolist() == [1, 0]


@pytest.mark.parametrize(("known", "queries"), [(0, 3), (3, 0), (0, 0)])
def test_without_hashes_or_queries_nothing_is_found(known, queries):
    search = HammingSearch(random_hashes(known, seed=0), 4)
    rows, distances = search.nearest(random_hashes(queries, seed=1))
    assert rows.tolist() == distances.tolist() == [-1] * queries
