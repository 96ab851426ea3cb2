"""Classifies a folder of image files with an exported SavedModel."""

import itertools
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from data import files, images
from data.errors import InputError
from data.printable import write_csv
from data.records import Record
from data.sources import FolderSource
from noisy_student.stages.progress import Progress

COLUMNS = ("file", "class_name", "confidence", "top_5", "error")


def predict_folder(saved_model: str, folder: str, output: str, batch_size: int) -> dict:
    """Writes one CSV row an image file below `folder`.

    Args:
        saved_model: Directory of a SavedModel that `export` wrote.
        folder: Searched to any depth.
        output: Path of the CSV file, written atomically; see `write_csv`.
        batch_size: Images a step.

    Returns:
        `images` and `unreadable`: how many rows, and how many of them hold an
        error instead of a class.
    """
    if not tf.saved_model.contains_saved_model(saved_model):
        raise InputError(
            f"`model`: expected the directory of a SavedModel; {saved_model} is none. "
            "tpu_scripts.export writes one, as saved_model/."
        )
    files.make_directory(os.path.dirname(output) or ".")
    source = FolderSource(folder, class_names=None, labeled=False)
    classify = tf.saved_model.load(saved_model).signatures
    names = classify["class_names"]()["class_names"].numpy()
    names = [name.decode() for name in names]
    progress = Progress("predict", len(source))
    counts = {"images": len(source), "unreadable": 0}
    found = source.read(range(len(source)))
    with files.atomic_open(output) as file:
        write_csv(file, [COLUMNS])
        done = 0
        while batch := list(itertools.islice(found, batch_size)):
            rows = _classify_batch(classify["serving_default"], names, batch)
            write_csv(file, rows)
            counts["unreadable"] += sum(bool(row[-1]) for row in rows)
            done += len(batch)
            progress.update(done)
    progress.finish()
    return counts


def _classify_batch(
    classify: Callable[..., dict[str, tf.Tensor]], names: list[str], batch: Sequence[Record]
) -> list[tuple]:
    """CSV rows in the order of the batch."""
    readable, rows = [], {}
    for record in batch:
        try:
            readable.append((record.id, images.checked_record(record).image))
        except images.BadImage as error:
            rows[record.id] = (record.id, "", "", "", str(error))
    if readable:
        ids, encoded = zip(*readable, strict=True)
        outputs = classify(image_bytes=tf.constant(encoded))
        for id_, probabilities in zip(ids, outputs["probabilities"].numpy(), strict=True):
            rows[id_] = _row(id_, probabilities, names)
    return [rows[record.id] for record in batch]


def _row(id_: str, probabilities: np.ndarray, names: list[str]) -> tuple:
    best = np.argsort(-probabilities, kind="stable")[:5]
    top_5 = "; ".join(f"{names[label]} {probabilities[label]:.4f}" for label in best)
    return id_, names[best[0]], f"{probabilities[best[0]]:.4f}", top_5, ""
