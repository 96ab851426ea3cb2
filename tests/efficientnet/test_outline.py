"""Networks without values, and that they stay without."""

import keras
import pytest

from efficientnet import build_efficientnet, without_values

TINY = {"width": 0.1, "depth": 0.1, "num_classes": 5}


def _outlined():
    with without_values():
        return build_efficientnet("efficientnet-b0", **TINY)


def _initialize_what_waits():
    with keras.StatelessScope():
        pass  # At its end Keras gives every variable that waits its value.


def test_no_value_comes_with_a_scope_that_ends_later():
    outlined = _outlined()
    _initialize_what_waits()
    assert outlined.count_params() > 0
    assert all(variable._value is None for variable in outlined.variables)


def test_of_a_network_that_cannot_be_built_nothing_stays():
    unfinished = keras.layers.Dense(3)

    def build():
        with without_values():
            unfinished.build((None, 2))
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        build()
    _initialize_what_waits()
    assert unfinished.kernel._value is None


def test_variables_that_wait_already_get_theirs():
    with keras.StatelessScope():
        before = keras.layers.Dense(3)
        before.build((None, 2))
        outlined = _outlined()
    assert before.kernel._value is not None
    assert outlined.variables[0]._value is None
