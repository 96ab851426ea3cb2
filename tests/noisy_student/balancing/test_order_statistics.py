"""Radix selection finds what sorting finds, however the values are divided."""

import numpy as np
import pytest

from noisy_student.balancing import order_statistics
from noisy_student.balancing.order_statistics import Search


def found(classes, values, wanted, bits, parts):
    search = Search.start(wanted, bits)
    for _ in range(search.levels):
        total = np.zeros(search.counters, np.int64)
        for rows in np.array_split(np.arange(len(values)), parts):
            positions, counts = search.count(classes[rows], values[rows])
            total[positions] += counts
        search = search.narrowed(total)
    rows = search.candidates(classes, values)
    return search.finished(classes[rows], values[rows])


@pytest.mark.parametrize("bits", [1, 7, 24, 63])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("digit_bits", [1, 5, 12])
def test_the_value_is_that_of_sorting(bits, parts, digit_bits, monkeypatch):
    monkeypatch.setattr(order_statistics, "_MOST_BITS", digit_bits)
    generator = np.random.default_rng(bits)
    classes = generator.integers(0, 5, 4000).astype(np.int32)
    values = generator.integers(0, 2**bits, 4000)
    values[generator.random(4000) < 0.5] = values[0]  # Many are equal.
    wanted = np.array([0, 1, 400, 800, 1200])  # None, the least, some, all, too many.
    wanted[3] = (classes == 3).sum()
    result = found(classes, values, wanted, bits, parts)
    for label in range(5):
        of_class = np.sort(values[classes == label])
        expected = of_class[wanted[label] - 1] if label in (1, 2, 3) else -1
        assert result[label] == expected


def test_counters_are_few_with_many_classes():
    assert Search.start(np.ones(21_841, np.int64), 63).counters <= 2**22


def test_how_many_values_are_equal_is_known():
    classes, values = np.zeros(9, np.int32), np.array([3, 1, 4, 1, 5, 1, 2, 6, 5])
    search = Search.start(np.array([2]), 3)
    total = np.zeros(search.counters, np.int64)
    positions, counts = search.count(classes, values)
    total[positions] += counts
    search = search.narrowed(total)
    assert (search.low[0], search.wanted[0], search.within[0]) == (1, 2, 3)
