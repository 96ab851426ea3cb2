"""The training curve: `history.jsonl`, a line a loop."""

import contextlib
import json
import os

import tensorflow as tf

from noisy_student.stages import full_disk

HISTORY = "history.jsonl"


def append(directory: str, row: dict) -> None:
    """Adds a line. A line that a kill or a full disk cut off stays its own.

    Args:
        directory: Of the training.
        row: JSON values with `step`.
    """
    path = os.path.join(directory, HISTORY)
    with (
        full_disk.explained(directory, HISTORY),
        tf.io.gfile.GFile(path, "a") as history,
    ):
        history.write(("" if _ends_whole(path) else "\n") + json.dumps(row) + "\n")


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


def _ends_whole(path: str) -> bool:
    size = tf.io.gfile.stat(path).length if tf.io.gfile.exists(path) else 0
    if not size:
        return True
    with tf.io.gfile.GFile(path, "rb") as history:
        history.seek(size - 1)
        return history.read(1) == b"\n"
