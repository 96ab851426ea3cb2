"""The training curve: `history.jsonl`, a line a loop."""

import contextlib
import json
import os

import tensorflow as tf

from data import full_disk, json_form

HISTORY = "history.jsonl"
_ROW = {
    "step": int,
    "timing": json_form.optional({"seconds": json_form.optional(float)}),
}


class HistoryWriter:
    """Adds lines. One that a kill or a full disk cut off stays a line of its own.

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
    """The training curve, a dict a loop, without the loops that a kill undid."""
    path = os.path.join(directory, HISTORY)
    if not tf.io.gfile.exists(path):
        return []
    rows: list[dict] = []
    with tf.io.gfile.GFile(path, "rb") as history:
        for line in history.read().splitlines():
            with contextlib.suppress(ValueError, RecursionError):  # Cut off by a kill.
                row = json.loads(line)
                if json_form.problem(row, _ROW):
                    continue
                while rows and rows[-1]["step"] >= row["step"]:
                    rows.pop()  # Done again, from a checkpoint before it.
                rows.append(row)
    return rows


def timing(directory: str, images_per_step: int, replicas: int) -> dict:
    """How long a training took, in all processes that took part one after the other.

    Loops that a kill undid do not count, nor those without a time, of older versions.

    Args:
        directory: Of the training.
        images_per_step: Over all replicas.
        replicas: Of the last process.

    Returns:
        `seconds`, compiling and evaluations included; `images_per_second`; and
        `device_hours`, seconds · replicas / 3600.
    """
    seconds, images, before = 0.0, 0, 0
    for row in read_history(directory):
        spent = (row.get("timing") or {}).get("seconds")
        if spent is not None:
            seconds += spent
            images += (row["step"] - before) * images_per_step
        before = row["step"]
    return {
        "seconds": round(seconds, 2),
        "images_per_second": round(images / seconds, 1) if seconds else 0.0,
        "device_hours": round(seconds * replicas / 3600, 4),
    }


def _ends_whole(path: str) -> bool:
    size = tf.io.gfile.stat(path).length if tf.io.gfile.exists(path) else 0
    if not size:
        return True
    with tf.io.gfile.GFile(path, "rb") as history:
        history.seek(size - 1)
        return history.read(1) == b"\n"
