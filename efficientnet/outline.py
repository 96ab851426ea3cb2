"""Networks without values: layers and shapes, no memory."""

import contextlib
from collections.abc import Iterator

import keras
from keras.src.backend.common import global_state

_PENDING = "uninitialized_variables"  # In keras.src.backend.common.variables.


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Within it Keras networks are built without values.

    A `StatelessScope` alone only puts it off: Keras keeps a list of the variables, and
    the next such scope that ends, as where Keras infers a shape, gives all of them
    values, 2 GB for an L2.
    """
    with keras.StatelessScope(initialize_variables=False):
        before = len(global_state.get_global_attribute(_PENDING) or [])
        try:
            yield
        finally:
            pending = global_state.get_global_attribute(_PENDING) or []
            del pending[before:]
