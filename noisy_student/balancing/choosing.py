"""Finds, over all shards of predictions, what of every class is kept.

The index is read several times, a shard at once: each pass counts in all shards, and
the next one is narrowed down by the sum (`order_statistics.py`). Few predictions are
counted in this process, many by Apache Beam with a shard as element.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf

from data import files
from noisy_student.balancing.beam_progress import Shown
from noisy_student.balancing.beam_runner import BeamRunner
from noisy_student.balancing.ranking import RankSearch, Ties, finished, ties_of
from noisy_student.balancing.reference_selection import (
    bins_of,
    num_bins,
    reference_selection,
)
from noisy_student.balancing.selection import Rule, Selection, unbalanced
from noisy_student.labeling.predictions import read_index

WITHOUT_BEAM = 2**20  # Predictions that are counted in this process.


@dataclasses.dataclass(frozen=True)
class Shards:
    """Predictions to choose from, and how to go through them.

    Attributes:
        paths: Shards of predictions, with their index beside them.
        predictions: How many they hold.
        runner: Where Beam runs.
        directory: Where workers can write what is for this process.
        name: For the lines of progress.
    """

    paths: list[str]
    predictions: int
    runner: BeamRunner
    directory: str
    name: str = "choosing"

    def summed(self, count: Callable, size: int, what: str) -> np.ndarray:
        """Adds `count(path)`, positions and counts, up to int64 `[size]`."""
        return self._combined(count, _Sum(size), what)

    def joined(self, find: Callable, what: str) -> tuple[np.ndarray, np.ndarray]:
        """All of what `find(path)` gives: classes and hashes."""
        return tuple(self._combined(find, _Concatenate(), what))

    def _combined(
        self, function: Callable, combine: beam.CombineFn, what: str
    ) -> np.ndarray:
        if self.predictions <= WITHOUT_BEAM:
            accumulator = combine.create_accumulator()
            for path in self.paths:
                accumulator = combine.add_input(accumulator, function(path))
            return combine.extract_output(accumulator)
        name = f"{self.name}: {what}"
        shown = Shown(function, name, len(self.paths), self.predictions)
        output = os.path.join(self.directory, f"pass-{files.unique_name()}.npy")
        # A pipeline for each pass: its result is known here, and goes into the next as
        # it is. As side inputs, runners such as Dask's compute all before it anew.
        with self.runner.pipeline() as pipeline:
            _ = (
                pipeline
                | beam.Create(self.paths)
                | beam.Reshuffle()
                | beam.Map(shown)
                | beam.CombineGlobally(combine)
                | beam.Map(_save, output)
            )
        with tf.io.gfile.GFile(output, "rb") as file:
            result = np.load(file)
        tf.io.gfile.remove(output)
        return result


def _ranked(shards: Shards, rule: Rule) -> Selection:
    """The first K images of every class by rank, then by hash.

    The first passes find the K-th rank of each class; the rest, among images that tie
    with it or among those of a class with too few, the last hash.
    """
    found = RankSearch.start(rule)
    while found.search.levels:
        count = functools.partial(_count_ranks, rule=rule, found=found)
        counts = shards.summed(count, found.search.counters, "confidences")
        found = found.narrowed(counts)
    ties = ties_of(found, rule)
    if ties.search.wanted.any():
        count = functools.partial(_count_hashes, rule=rule, ties=ties)
        counts = shards.summed(count, ties.search.counters, "hashes of ties")
        ties = ties.narrowed(counts)
    find = functools.partial(_hash_candidates, rule=rule, ties=ties)
    return finished(ties, rule, shards.joined(find, "last ties"))


def _reference(shards: Shards, rule: Rule) -> Selection:
    """The published code's rule."""
    count = functools.partial(_count_bins, rule=rule)
    counts = shards.summed(count, num_bins(rule), "confidences")
    return reference_selection(counts, rule)


def _counted(shards: Shards, rule: Rule) -> Selection:
    """Nothing is chosen: all that pass the filter."""
    count = functools.partial(_count_eligible, rule=rule)
    return unbalanced(shards.summed(count, rule.num_classes, "classes"))


# By the name of `SelectionConfig.selection`.
_RULES = {
    "top_k": _ranked,
    "uniform": _ranked,
    "reference": _reference,
    "unchanged": _counted,
}


def choose(shards: Shards, rule: Rule) -> Selection:
    """The selection by `rule` among the predictions."""
    find = _RULES[rule.settings.selection]
    if rule.settings.balance == "none":
        find = _counted
    return find(shards, rule)


def _count_ranks(path: str, rule: Rule, found: RankSearch) -> tuple[np.ndarray, np.ndarray]:
    labels, confidences, _ = _eligible(path, rule, hashed=False)
    return found.search.count(labels, rule.ranks(confidences))


def _count_hashes(path: str, rule: Rule, ties: Ties) -> tuple[np.ndarray, np.ndarray]:
    return ties.search.count(*_tied(path, rule, ties))


def _hash_candidates(path: str, rule: Rule, ties: Ties) -> tuple[np.ndarray, np.ndarray]:
    """Classes and hashes of what is left to choose from."""
    labels, hashes = _tied(path, rule, ties)
    rows = np.flatnonzero(ties.search.candidates(labels, hashes))
    return labels[rows], hashes[rows]


def _tied(path: str, rule: Rule, ties: Ties) -> tuple[np.ndarray, np.ndarray]:
    labels, confidences, hashes = _eligible(path, rule)
    rows = ties.tied(labels, rule.ranks(confidences))
    return labels[rows], hashes[rows]


def _count_bins(path: str, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    labels, confidences, _ = _eligible(path, rule, hashed=False)
    return _sparse(bins_of(labels, confidences))


def _count_eligible(path: str, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    return _sparse(_eligible(path, rule, hashed=False)[0])


def _sparse(positions: np.ndarray) -> tuple:
    counts = np.bincount(positions)
    positions = np.flatnonzero(counts)
    return positions, counts[positions]


def _eligible(
    path: str, rule: Rule, hashed: bool = True
) -> tuple[np.ndarray, np.ndarray, Any]:
    """Labels, confidences and, if wanted, hashes of a shard's images that pass."""
    columns = ["label", "confidence"]
    if hashed or rule.needs_hashes:
        columns.append("id_hash")
    index = read_index(path, columns)
    rows = rule.eligible(index)
    hashes = rule.hashes(index, rows) if hashed else None
    return index.labels[rows], index.confidences[rows], hashes


def _save(array: np.ndarray, path: str) -> None:
    with files.atomic_open(path, "wb") as file:
        np.save(file, array)


class _Sum(beam.CombineFn):
    """Adds up (positions, counts) to int64 `[size]`."""

    def __init__(self, size: int):
        self._size = size

    def create_accumulator(self):
        return np.zeros(self._size, np.int64)

    def add_input(self, accumulator, counted):
        positions, counts = counted
        accumulator[positions] += counts  # No position occurs twice.
        return accumulator

    def merge_accumulators(self, accumulators):
        return sum(accumulators)

    def extract_output(self, accumulator):
        return accumulator


class _Concatenate(beam.CombineFn):
    """Joins (classes, hashes) to int64 `[2, N]`."""

    def create_accumulator(self):
        return []

    def add_input(self, accumulator, arrays):
        return [*accumulator, arrays]

    def merge_accumulators(self, accumulators):
        return [arrays for accumulator in accumulators for arrays in accumulator]

    def extract_output(self, accumulator):
        return np.concatenate([np.stack(arrays) for arrays in accumulator], axis=1)
