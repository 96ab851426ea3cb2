"""The index of predictions: per shard a Parquet table of id, hash, label, confidence.

It lies beside the shard with the full probabilities, and is all that choosing
images needs: 16 bytes an image, without its id, instead of 4 KB for 1,000 classes.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from data import files
from data.errors import InputError
from data.id_hashes import hash_ids

COLUMNS = ("id", "id_hash", "label", "confidence")


@dataclasses.dataclass(frozen=True)
class Index:
    """One shard's predictions in short; what was not read is None.

    Attributes:
        ids: Byte strings, `N` of them.
        labels: int32 `[N]`, the most probable class.
        confidences: float32 `[N]`, its probability.
        id_hashes: uint64 `[N]`, see `data.id_hashes.hash_ids`.
    """

    ids: list[bytes]
    labels: np.ndarray
    confidences: np.ndarray
    id_hashes: np.ndarray = None  # type: ignore[assignment]  # None: was not read.


def index_path(shard_path: str) -> str:
    """Where the index of a shard of predictions lies."""
    # No more is cut off: shards may be named NAME.tfrecord-00000-of-00128.
    return shard_path.removesuffix(".tfrecord") + ".parquet"


def write_index(shard_path: str, index: Index) -> None:
    """Writes a shard's index beside it, atomically; hashes are made of the ids."""
    table = pa.table(
        {
            "id": pa.array(index.ids, pa.binary()),
            "id_hash": pa.array(hash_ids(index.ids), pa.uint64()),
            "label": pa.array(index.labels, pa.int32()),
            "confidence": pa.array(index.confidences, pa.float32()),
        }
    )
    write_table(index_path(shard_path), table)


def index_facts(shard_path: str) -> dict:
    """What the manifest holds of a shard's index: `index_sha256`."""
    return {"index_sha256": files.sha256(index_path(shard_path))}


def write_table(path: str, table: pa.Table) -> None:
    """A Parquet file, atomically."""
    buffer = pa.BufferOutputStream()
    # Hashes and confidences hardly repeat: a dictionary of them only takes time.
    pq.write_table(table, buffer, use_dictionary=["label"])
    with files.atomic_open(path, "wb") as file:
        file.write(buffer.getvalue().to_pybytes())


def read_index(shard_path: str, columns: Sequence[str] = COLUMNS) -> Index:
    """The index of a shard of predictions, or some columns of it.

    Raises:
        InputError: It is missing, or no whole Parquet file with these columns.
    """
    path = index_path(shard_path)
    try:
        table = pq.read_table(_source(path), columns=list(columns))
    except (OSError, pa.ArrowException, tf.errors.OpError) as error:
        raise _unreadable(path, error) from error
    if missing := set(columns) - set(table.column_names):
        raise _unreadable(path, f"no column {', '.join(sorted(missing))}")
    found: dict[str, Any] = dict.fromkeys(COLUMNS)  # Whoever asks for one has it.
    for name in table.column_names:
        found[name] = table[name].to_pylist() if name == "id" else table[name].to_numpy()
    return Index(found["id"], found["label"], found["confidence"], found["id_hash"])


def _source(path: str) -> Any:
    if files.is_local(path):
        return path
    with tf.io.gfile.GFile(path, "rb") as file:
        return pa.BufferReader(file.read())


def _unreadable(path: str, reason: object) -> InputError:
    return InputError(
        f"Unreadable index of predictions {path}: {reason}. Delete it and the shard of "
        "predictions beside it, and run label again: it makes what is missing."
    )
