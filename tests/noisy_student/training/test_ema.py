"""The moving average against TF1's recurrence."""

import keras
import numpy as np
import pytest

from noisy_student.training.ema import ExponentialMovingAverage


def test_average_follows_tf1_with_num_updates():
    variable = keras.Variable(0.0)
    average = ExponentialMovingAverage([variable], decay=0.9999)
    seen = []
    for step in range(1, 5):
        variable.assign(float(step))
        average.update(step)
        seen.append(float(average.values()[0]))
    expected = [0.8181818, 1.7045455, 2.6013986, 3.5004995]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_decay_is_the_upper_limit():
    variable = keras.Variable(0.0)
    average = ExponentialMovingAverage([variable], decay=0.5)
    variable.assign(1.0)
    average.update(1_000_000)
    assert float(average.values()[0]) == pytest.approx(0.5)


def test_shadow_starts_at_the_first_value():
    average = ExponentialMovingAverage([keras.Variable([3.0, 4.0])], decay=0.9)
    np.testing.assert_array_equal(average.values()[0], [3.0, 4.0])
