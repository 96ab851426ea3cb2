"""What became of each image: one row of a table, in memory and as Parquet.

Sums are made of these rows once all are there, and divided once. They stay on disk,
so that a benchmark goes on after the parts it has finished, and so that two models can
be compared image by image.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from data import files
from data.errors import InputError
from noisy_student.models.inference import Predictor
from noisy_student.stages.progress import Progress

Table = dict[str, np.ndarray]  # Columns of one length by name; `id` holds str.
_OWN = ("image", "probabilities", "id", "label")


def of_batch(batch: Mapping[str, np.ndarray], classes: np.ndarray | None = None) -> Table:
    """The rows of a batch, as `Predictor.over` yields it.

    Args:
        batch: `id`, `label` `[B]` and `probabilities` `[B, C]`; other keys are kept.
        classes: Of which the most probable one counts; None: all.

    Returns:
        `id`, `label`, and of the prediction `predicted`, its `confidence`,
        `label_probability`, `rank` (how many classes are more probable than the label:
        of equal ones the label's comes first), and `brier`, Σ_c (p_c - y_c)². The
        last four are of all classes, but `rank` of `classes`.
    """
    probabilities, labels = batch["probabilities"], batch["label"]
    of_label = probabilities[np.arange(len(labels)), labels]
    among = np.arange(probabilities.shape[-1]) if classes is None else classes
    predicted = among[probabilities[:, among].argmax(-1)]
    squares = (probabilities.astype(np.float64) ** 2).sum(-1)
    return {
        "id": np.array([name.decode("utf-8", "backslashreplace") for name in batch["id"]]),
        "label": labels.astype(np.int32),
        "predicted": predicted.astype(np.int32),
        "confidence": probabilities[np.arange(len(labels)), predicted],
        "label_probability": of_label,
        "rank": (probabilities[:, among] > of_label[:, None]).sum(-1).astype(np.int32),
        "brier": squares - 2 * of_label + 1,
        **{name: values for name, values in batch.items() if name not in _OWN},
    }


def collect(
    predictor: Predictor,
    batches: tf.data.Dataset,
    count: int,
    progress: Progress,
    classes: np.ndarray | None = None,
    rows_per_image: int = 1,
) -> Table:
    """One pass: the rows of all images, padding left out.

    Args:
        predictor: The network.
        batches: Data set of batches with `image`, `label`, `id`.
        count: Rows that there must be.
        progress: Told of every batch.
        classes: See `of_batch`.
        rows_per_image: One after the other, such as the severities of a corruption.

    Raises:
        InputError: There are more or fewer rows.
    """
    rows, done = [], 0
    for batch in predictor.over(batches):
        rows.append(of_batch(batch, classes))
        done += len(batch["label"])
        progress.update(done)
    if done != count:
        raise InputError(
            f"Images to evaluate on: expected {count:,}, as counted before; read {done:,}. "
            "Their files were changed in the meantime: run the command again."
        )
    table = joined(rows)
    return {**table, "id": _distinct(table["id"], rows_per_image)}


def _distinct(ids: np.ndarray, rows_per_image: int) -> np.ndarray:
    """Ids with the image's number where several images have the same: each counts."""
    images = ids[::rows_per_image]
    if len(np.unique(images)) == len(images):
        return ids
    numbered = np.array([f"{id_}#{number}" for number, id_ in enumerate(images)])
    return np.repeat(numbered, rows_per_image)


def joined(tables: Sequence[Table]) -> Table:
    """Tables of the same columns, one below the other."""
    return {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}


def write(path: str, table: Table) -> None:
    """Writes the rows, atomically."""
    buffer = io.BytesIO()
    pq.write_table(pa.table({k: pa.array(v) for k, v in table.items()}), buffer)
    with files.atomic_open(path, "wb") as file:
        file.write(buffer.getvalue())


def read(path: str) -> Table:
    with tf.io.gfile.GFile(path, "rb") as file:
        found = pq.read_table(pa.BufferReader(file.read()))
    return {
        name: np.array(column.to_pylist()) if name == "id" else column.to_numpy()
        for name, column in zip(found.column_names, found.columns, strict=True)
    }


def by_id(columns: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Table:
    """Values of several tables side by side, a row an image.

    Args:
        columns: By the column's new name the ids and the values, float `[N]`. Where an
            id comes more than once its values are averaged.

    Returns:
        `id`, sorted, and each column as float64, NaN for images that it lacks.
    """
    every = np.unique(np.concatenate([np.unique(ids) for ids, _ in columns.values()]))
    table: Table = {"id": every}
    for name, (ids, values) in columns.items():
        at = np.searchsorted(every, ids)
        sums = np.bincount(at, values, len(every))
        counts = np.bincount(at, minlength=len(every))
        table[name] = np.where(counts, sums / np.maximum(counts, 1), np.nan)
    return table


def matrix(table: Table, names: Sequence[str]) -> np.ndarray:
    """The columns side by side, float64 `[N, M]`."""
    return np.stack([table[name].astype(np.float64) for name in names], -1)
