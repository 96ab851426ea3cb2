"""What a Python generator yields as a data set, whose errors stay what they are."""

import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf


class Generated:
    """A data set of what a generator yields, made by a thread of its own.

    TensorFlow makes an UnknownError, with a stack trace as its message, of whatever
    the generator raises; within `errors` the error comes out as it was.

    Args:
        make: Starts the generator.
        signature: Of what it yields, for `tf.data.Dataset.from_generator`.
    """

    def __init__(self, make: Callable[[], Iterator[dict]], signature: dict):
        self._raised: list[Exception] = []
        self._make = make
        self.dataset = tf.data.Dataset.from_generator(
            self._rows, output_signature=signature
        )

    def _rows(self):
        try:
            yield from self._make()
        except Exception as error:
            self._raised.append(error)
            raise

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            if self._raised:
                raise self._raised[0] from error
            raise
