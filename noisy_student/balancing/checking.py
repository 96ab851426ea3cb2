"""Refuses predictions that are damaged, mixed up or double, before any is used.

Apache Beam over the shards of the index; what is wrong with any of them is told at
once, by name.
"""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf

from data import files
from data.errors import InputError
from noisy_student.balancing.beam_progress import Shown
from noisy_student.balancing.beam_runner import BeamRunner
from noisy_student.balancing.duplicate_ids import duplicate_ids, parts
from noisy_student.labeling.predictions import Index, index_facts, index_path, read_index

_NAMED = 5


def check_predictions(
    shards: dict[str, dict | None],
    num_classes: int,
    runner: BeamRunner,
    directory: str,
    name: str = "balancing",
) -> None:
    """Checks every index against the record of labeling, and ids against each other.

    Args:
        shards: By path, what labeling's manifest says of it; None: nothing.
        num_classes: Of the teacher.
        runner: Where Beam runs.
        directory: Where what is found can be written for this process.
        name: For the line of progress.

    Raises:
        InputError: Names the first shards with something wrong, and says how many.
    """
    output = os.path.join(directory, "problems")
    predictions = sum(facts["records"] for facts in shards.values() if facts)
    work: list[tuple[str, Any]] = [("index", shard) for shard in shards.items()]
    work += [("ids", part) for part in parts(predictions)]
    check = _Check(num_classes, predictions, list(shards), output)
    if tf.io.gfile.exists(output):
        tf.io.gfile.rmtree(output)  # What a killed run found may be mended.
    shown = Shown(check, f"{name}: check", len(work), predictions)
    with runner.pipeline() as pipeline:
        _ = pipeline | beam.Create(enumerate(work)) | beam.Reshuffle() | beam.Map(shown)
    if not tf.io.gfile.exists(output):
        return
    found = [
        problem
        for name in sorted(tf.io.gfile.listdir(output))
        for problem in files.read_json(os.path.join(output, name))
    ]
    tf.io.gfile.rmtree(output)
    raise InputError(
        f"`predictions`: expected shards as labeling put them on record; received "
        f"{len(found):,} problems, the first of which are:\n  "
        + "\n  ".join(found[:_NAMED])
        + "\nDelete what is named, with its index or shard, and run label again."
    )


@dataclasses.dataclass(frozen=True)
class _Check:
    """Writes a file with what is wrong, if anything is: for any machine to read."""

    num_classes: int
    predictions: int
    paths: list[str]
    output: str

    def __call__(self, numbered: tuple[int, tuple[str, Any]]) -> None:
        number, (kind, item) = numbered
        if kind == "index":
            found = list(problems_of(item, self.num_classes))
        else:
            found = self._duplicates(item)
        if found:
            path = os.path.join(self.output, f"{number:06d}.json")
            files.write_json(path, found)

    def _duplicates(self, part: tuple[int, int]) -> list[str]:
        try:
            return duplicate_ids(part, self.paths, self.predictions)
        except InputError:
            return []  # An index that cannot be read is a problem already.


def problems_of(shard: tuple[str, dict | None], num_classes: int) -> Iterator[str]:
    """What is wrong with one shard of predictions (path, record of it), in words."""
    path, facts = shard
    if facts is None:
        yield f"{path}: labeling has no record of it"
        return
    try:
        # Without ids, which take longer than all the rest: the digest is theirs too.
        index = read_index(path, ["label", "confidence"])
    except InputError as error:
        yield str(error)
        return
    if index_facts(path).items() - facts.items():
        yield f"{index_path(path)}: its SHA-256 is not the one on record"
    if not tf.io.gfile.exists(path) or tf.io.gfile.stat(path).length != facts["bytes"]:
        yield f"{path}: expected a file of {facts['bytes']:,} bytes, as on record"
    yield from (
        f"{index_path(path)}: {text}" for text in _of_rows(path, index, facts, num_classes)
    )


def _of_rows(path: str, index: Index, facts: dict, num_classes: int) -> Iterator[str]:
    if len(index.labels) != facts["records"]:
        yield f"expected {facts['records']:,} rows; received {len(index.labels):,}"
    wrong = {
        f"labels outside 0 to {num_classes - 1}": (index.labels < 0)
        | (index.labels >= num_classes),
        # Not `<` and `>`: neither is true of NaN.
        "confidences outside 0 to 1": ~(
            (index.confidences >= 0) & (index.confidences <= 1 + 1e-3)
        ),
    }
    for what, rows in wrong.items():
        rows = np.flatnonzero(rows)
        if len(rows):
            id_ = read_index(path, ["id"]).ids[rows[0]]
            yield f"{len(rows):,} {what}, such as of {id_.decode()!r}"
