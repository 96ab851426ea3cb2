"""Where the stages of a run put their output."""

import hashlib
import json
import os
from collections.abc import Callable
from typing import Protocol


class Places(Protocol):
    """Directories of stages.

    Attributes:
        directory: That all are in.
    """

    directory: str

    def of(self, name: str, decided_by: Callable[[], object]) -> str:
        """The directory of a stage.

        Args:
            name: In `stages.layout`, such as `generation_1/student`.
            decided_by: Gives all that decides the stage's output, as JSON values.
        """


class WorkDir:
    """A run's own: each stage has the place that `stages.layout` says.

    Args:
        directory: The run's `work_dir`.
    """

    def __init__(self, directory: str):
        self.directory = directory

    def of(self, name: str, decided_by: Callable[[], object]) -> str:
        del decided_by
        return os.path.join(self.directory, name)


class Shared:
    """Of many runs with other settings: what is made from the same is made once.

    Each stage's directory is named by what decides its output, such as
    `student-1f0c22ab3d4e`.

    Args:
        directory: That all are in.
    """

    def __init__(self, directory: str):
        self.directory = directory

    def of(self, name: str, decided_by: Callable[[], object]) -> str:
        text = json.dumps(decided_by(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return os.path.join(self.directory, f"{name.rpartition('/')[-1]}-{digest}")
