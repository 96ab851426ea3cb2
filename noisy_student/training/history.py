"""The training curve: `history.jsonl`, a line a loop."""

import contextlib
import json
import os

import tensorflow as tf

from noisy_student.stages import full_disk

HISTORY = "history.jsonl"


class HistoryWriter:
    """Adds lines. One that a kill or a full disk cut off, in an earlier process, stays.

    Args:
        directory: Of the training.
    """

    def __init__(self, directory: str):
        self._directory, self._path = directory, os.path.join(directory, HISTORY)
        self._before: str | None = None  # The next line; until the first: not known.

    def append(self, row: dict) -> None:
        """Adds a line: JSON values with `step`."""
        if self._before is None:
            self._before = "" if _ends_whole(self._path) else "\n"
        with (
            full_disk.explained(self._directory, HISTORY),
            tf.io.gfile.GFile(self._path, "a") as history,
        ):
            history.write(f"{self._before}{json.dumps(row)}\n")
        self._before = ""


def read_history(directory: str) -> list[dict]:
    """The training curve, a dict a loop; a rerun's lines replace older ones."""
    path = os.path.join(directory, HISTORY)
    if not tf.io.gfile.exists(path):
        return []
    rows = {}
    with tf.io.gfile.GFile(path, "r") as history:
        for line in history.read().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # Cut off by a kill.
                row = json.loads(line)
                rows[row["step"]] = row
    return [rows[step] for step in sorted(rows)]


def timing(directory: str, images_per_step: int, replicas: int) -> dict:
    """How long a training took, in all processes that took part one after the other.

    Steps that were done twice, after a kill, count once.

    Args:
        directory: Of the training.
        images_per_step: Over all replicas.
        replicas: Of the last process.

    Returns:
        `seconds`, compiling and evaluations included; `images_per_second`; and
        `device_hours`, seconds · replicas / 3600.
    """
    rows = read_history(directory)
    seconds = sum(row["timing"].get("seconds", 0.0) for row in rows)
    images = rows[-1]["step"] * images_per_step if rows else 0
    return {
        "seconds": round(seconds, 2),
        "images_per_second": round(images / max(seconds, 1e-9), 1),
        "device_hours": round(seconds * replicas / 3600, 4),
    }


def _ends_whole(path: str) -> bool:
    size = tf.io.gfile.stat(path).length if tf.io.gfile.exists(path) else 0
    if not size:
        return True
    with tf.io.gfile.GFile(path, "rb") as history:
        history.seek(size - 1)
        return history.read(1) == b"\n"
