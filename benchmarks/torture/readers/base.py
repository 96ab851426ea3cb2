"""What every reader is."""

import abc
import os
import random

from benchmarks.torture import mutations


class Reader(abc.ABC):
    """A kind of file, and the code that reads it.

    Args:
        directory: Of its own, for files to be read.
        run: Directory of a finished run of `small_run`: real files to damage.

    Attributes:
        name: Of the kind.
        share: Of all inputs, in parts of a whole that is the sum over readers.
    """

    name: str
    share: float = 1.0

    def __init__(self, directory: str, run: str):
        self.directory, self.run = directory, run
        self.whole = self.files()

    @abc.abstractmethod
    def files(self) -> list[bytes]:
        """Whole files, which are to be damaged."""

    @abc.abstractmethod
    def read(self, content: bytes) -> None:
        """Reads a file.

        Raises:
            InputError: It is refused.
        """

    def make(self, draw: random.Random) -> bytes:
        """A damaged file, or now and then a whole one."""
        return mutations.mutated(draw.choice(self.whole), draw, self.whole)

    def written(self, content: bytes, name: str) -> str:
        """Path of a file of the reader's directory with these bytes."""
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(content)
        return path


def contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
