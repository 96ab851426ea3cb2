"""Storage that does not answer for a while: waited for, and the work begun again.

What a run has finished is on disk and its streams can begin anywhere; what comes out is
what would have come out without errors.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

from data.errors import reason_of

# What is made of a request that fails: of an object store that answers 429 or 5xx for
# longer than TensorFlow's client asks again, or of a network disk's EIO, for which
# TensorFlow has no code.
PASSING = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
    tf.errors.UnknownError,
)
MOST_IN_A_ROW = 6
_LONGEST_WAIT = 60.0  # Seconds.

T = TypeVar("T")


class StorageErrors:
    """Counts them, and waits after each: 1, 2, 4, … seconds while nothing is finished.

    Args:
        name: What is being done, such as `generation_1/student`.

    Attributes:
        count: Errors so far.
    """

    def __init__(self, name: str):
        self._name = name
        self.count = self._in_a_row = 0
        self._reached: object = None

    def retry(self, work: Callable[[], T], reached: Callable[[], object] = int) -> T:
        """What `work` returns; begins it again after an error.

        Args:
            work: Goes on from what is finished, and keeps nothing of what an error left
                half done.
            reached: What is finished, as a value. An error is the first of a row if more
                is finished than at the one before.

        Raises:
            tf.errors.OpError: The last of `MOST_IN_A_ROW` errors, or one that does not
                pass.
        """
        while True:
            try:
                return work()
            except PASSING as error:
                self.wait(error, reached())

    def wait(self, error: tf.errors.OpError, reached: object) -> None:
        """Waits after an error, or raises it if it is the last of a row; see `retry`."""
        self.count += 1
        self._in_a_row = self._in_a_row + 1 if reached == self._reached else 1
        self._reached = reached
        failed = f"{self._name}: storage failed ({_reason(error)})"
        if self._in_a_row >= MOST_IN_A_ROW:
            print(f"{failed}, {self._in_a_row} times in a row.", flush=True)
            raise error
        seconds = min(2.0 ** (self._in_a_row - 1), _LONGEST_WAIT)
        print(
            f"{failed}; goes on from what is finished in {seconds:.0f} s, attempt "
            f"{self._in_a_row + 1} of {MOST_IN_A_ROW}.",
            flush=True,
        )
        time.sleep(seconds)


def _reason(error: tf.errors.OpError) -> str:
    """The line of the message that says it: before come the lines of the program."""
    lines = (error.message or type(error).__name__).strip().splitlines()
    said = [line for line in lines if "[[" not in line] or lines
    return reason_of(said[-1])[:200]
