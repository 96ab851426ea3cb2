"""Progress of work that Beam divides: each process shows what it has done itself.

On one machine in one process that is all of it; on a cluster these are the lines in
the workers' logs, and the runner's own page shows the whole.
"""

import dataclasses
import threading
import uuid
from collections.abc import Callable
from typing import Any

from noisy_student.stages.progress import Progress

_of_this_process: dict[str, list] = {}
_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Shown:
    """A function of a shard that shows how many shards it has seen.

    Attributes:
        function: What is done with each element.
        name: For the line of progress.
        shards: How many there are in all.
        images: In all of them.
        token: Tells one use from another: a process may see a part of each.
    """

    function: Callable
    name: str
    shards: int
    images: int
    token: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)

    def __call__(self, element: Any) -> Any:
        with _lock:
            if self.token not in _of_this_process:
                per_shard = self.images / max(self.shards, 1)
                progress = Progress(
                    self.name, self.shards, "shards", items_per_unit=per_shard
                )
                _of_this_process[self.token] = [progress, 0]
            state = _of_this_process[self.token]
        result = self.function(element)
        with _lock:  # A worker may have several threads.
            state[1] += 1
            state[0].update(state[1])
            if state[1] == self.shards:
                state[0].finish()
                del _of_this_process[self.token]
        return result
