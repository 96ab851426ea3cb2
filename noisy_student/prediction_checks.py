"""Whether predictions on disk are what their manifest and index say.

`check_index` looks at what is in memory anyway, some microseconds a thousand images.
`check_shard` reads the index of a shard and the size of its records' file, and only
if asked the file itself.
"""

import os

import numpy as np
import pyarrow as pa
import tensorflow as tf

from data import files
from data.errors import InputError
from noisy_student.predictions import Index, index_path, read_index

_REMEDY = "Delete the shard and its index, and run label again: it makes both anew"


def check_shard(path: str, facts: dict, num_classes: int, sha256: bool = False) -> Index:
    """Checks a shard of predictions with its index, and returns this.

    Args:
        path: The shard.
        facts: Of this shard in the manifest: `records`, `bytes`, `sha256`.
        num_classes: Labels lie below it.
        sha256: Whether to read the records too, and compare their digest.

    Raises:
        InputError: A file is missing or damaged, or says something else.
    """
    for each in (path, index_path(path)):
        if not tf.io.gfile.exists(each):
            raise InputError(f"{each}: expected this file; it is missing. {_REMEDY}.")
    size = tf.io.gfile.stat(path).length
    if size != facts["bytes"]:
        raise InputError(
            f"{path}: expected {facts['bytes']} bytes, as its manifest says; received "
            f"{size}. {_REMEDY}."
        )
    if sha256 and files.sha256(path) != facts["sha256"]:
        raise InputError(
            f"{path}: expected the content on record; its SHA-256 is another. {_REMEDY}."
        )
    try:
        index = read_index(path)
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{index_path(path)}: expected a whole Parquet file with id, label and "
            f"confidence; it cannot be read ({reason}). {_REMEDY}."
        ) from error
    check_index(index, facts, num_classes, path)
    return index


def check_index(index: Index, facts: dict, num_classes: int, path: str) -> None:
    """Checks the index of a shard of predictions.

    Args:
        index: As `predictions.read_index` reads it.
        facts: Of the shard in the manifest: `records`.
        num_classes: Labels lie below it.
        path: The shard, to name it.

    Raises:
        InputError: It has another number of rows than the shard, an id twice, a label
            that is none or a confidence outside 0 to 1.
    """
    rows = len(index.ids)
    if not rows == len(index.labels) == len(index.confidences) == facts["records"]:
        raise InputError(
            f"{index_path(path)}: expected {facts['records']} rows, as many as records in "
            f"the manifest; received {rows}. {_REMEDY}."
        )
    labels, confidences = np.asarray(index.labels), np.asarray(index.confidences)
    wrong = (labels < 0) | (labels >= num_classes)
    _refuse(index, wrong, labels, f"labels from 0 to {num_classes - 1}", path)
    wrong = ~((confidences >= 0) & (confidences <= 1))  # NaN too.
    _refuse(index, wrong, confidences, "confidences from 0 to 1", path)
    repeated = rows - len(set(index.ids))
    if repeated:
        seen = set()
        twice = next(id_ for id_ in index.ids if id_ in seen or seen.add(id_))
        raise InputError(
            f"{index_path(path)}: expected each id once; {repeated} row(s) repeat one, "
            f"such as {twice!r}. Give the images different ids, and label them again."
        )


def _refuse(index: Index, wrong, values, expected: str, path: str) -> None:
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InputError(
            f"{index_path(path)}: expected {expected}; received {values[first]} of "
            f"{index.ids[first]!r}, and {int(wrong.sum())} such rows in all. {_REMEDY}."
        )


def check_directory(directory: str, manifest: dict, sha256: bool = False) -> None:
    """`check_shard` of every shard of a manifest of the stage `label`."""
    num_classes = len(manifest["identity"]["class_names"])
    for name, facts in manifest["shards"].items():
        check_shard(os.path.join(directory, name), facts, num_classes, sha256)
