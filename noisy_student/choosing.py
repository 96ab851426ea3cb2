"""Finds, over all shards of predictions, what of every class is kept.

One Apache Beam pipeline over the index, whose elements are shards: every level of the
search counts in all shards and narrows down by the sum (`order_statistics.py`). The
first levels find the K-th highest confidence of each class; the rest, among images
that tie with it or among those of a class with too few, the last hash.
"""

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton

from data import files
from noisy_student.beam_runner import BeamRunner
from noisy_student.order_statistics import Search
from noisy_student.predictions import read_index
from noisy_student.ranking import (
    RankSearch,
    Ties,
    finished,
    ranked_selection,
    ties_of,
)
from noisy_student.reference_selection import bins_of, num_bins, reference_selection
from noisy_student.selection import HASH_BITS, Rule, Selection, unbalanced

AT_ONCE = 2**20  # Predictions that are chosen from in one step, of some 30 MB.


def choose(
    paths: list[str], predictions: int, rule: Rule, runner: BeamRunner, output: str
) -> Selection:
    """The selection by `rule` among the predictions in `paths`.

    Args:
        paths: Shards of predictions, with their index beside them.
        predictions: How many they hold: few are chosen from in one step.
        rule: What decides.
        runner: Where Beam runs.
        output: A JSON file that is written, for any machine to read.
    """
    with runner.pipeline() as pipeline:
        if predictions <= AT_ONCE:
            chosen = pipeline | beam.Create([paths]) | "Choose" >> beam.Map(_at_once, rule)
        else:
            shards = pipeline | beam.Create(paths) | "Spread" >> beam.Reshuffle()
            chosen = _steps_of(rule)(pipeline, shards, rule)
        _ = chosen | "Write" >> beam.Map(_write_selection, output)
    return read_selection(output)


def _steps_of(rule: Rule):
    """How the rule's selection is found where it takes several steps."""
    if rule.selection.balance == "none":
        return _counted
    by_rule = {"reference": _reference, "unchanged": _counted}
    return by_rule.get(rule.selection.selection, _ranked)


def _at_once(paths, rule: Rule) -> Selection:
    """The same selection in one go, where all fits into memory."""
    parts = [_eligible(path, rule) for path in paths]
    labels, confidences, hashes = map(np.concatenate, zip(*parts, strict=True))
    steps = _steps_of(rule)
    if steps is _counted:
        return unbalanced(np.bincount(labels, minlength=rule.num_classes))
    if steps is _reference:
        counts = np.bincount(bins_of(labels, confidences), minlength=num_bins(rule))
        return reference_selection(counts, rule)
    return ranked_selection(labels, rule.ranks(confidences), hashes, rule)


def _ranked(pipeline, shards, rule: Rule):
    """Rules `top_k` and `uniform`: a level counts in all shards, and narrows down."""
    found = RankSearch.start(rule)
    searches = [found.search]
    while searches[-1].levels:  # Sizes do not depend on what is found.
        empty = np.zeros(searches[-1].counters, np.int64)
        searches.append(searches[-1].narrowed(empty))
    state = pipeline | "Start" >> beam.Create([found])
    for level, search in enumerate(searches[:-1]):
        name = f"confidence {level + 1}"
        counts = shards | f"Count {name}" >> beam.Map(
            _count_ranks, rule, AsSingleton(state)
        )
        state = _narrowed(state, counts, search.counters, name)
    ties = state | "Ties" >> beam.Map(ties_of, rule)
    size = Search.start(np.zeros(rule.num_classes), HASH_BITS).counters
    counts = shards | "Count hashes" >> beam.Map(_count_hashes, rule, AsSingleton(ties))
    ties = _narrowed(ties, counts, size, "hashes")
    last = (
        shards
        | "Gather" >> beam.Map(_hash_candidates, rule, AsSingleton(ties))
        | "Join" >> beam.CombineGlobally(_Concatenate())
    )
    return ties | "Finish" >> beam.Map(finished, rule, AsSingleton(last))


def _reference(pipeline, shards, rule: Rule):
    """The published code's rule."""
    del pipeline
    counts = shards | beam.Map(_count_bins, rule)
    return _summed(counts, num_bins(rule), "bins") | beam.Map(reference_selection, rule)


def _counted(pipeline, shards, rule: Rule):
    """Nothing is chosen: all that pass the filter."""
    del pipeline
    counts = shards | beam.Map(_count_eligible, rule)
    return _summed(counts, rule.num_classes, "classes") | beam.Map(unbalanced)


def _count_ranks(path, rule: Rule, found: RankSearch):
    labels, confidences, _ = _eligible(path, rule, hashed=False)
    return found.count(labels, rule.ranks(confidences))


def _count_hashes(path, rule: Rule, ties: Ties):
    return ties.search.count(*_tied(path, rule, ties))


def _hash_candidates(path, rule: Rule, ties: Ties):
    """Classes and hashes of what is left to choose from."""
    labels, hashes = _tied(path, rule, ties)
    rows = np.flatnonzero(ties.search.candidates(labels, hashes))
    return labels[rows], hashes[rows]


def _tied(path, rule: Rule, ties: Ties):
    if not ties.search.wanted.any():
        return np.zeros(0, np.int32), np.zeros(0, np.int64)
    labels, confidences, hashes = _eligible(path, rule)
    rows = ties.tied(labels, rule.ranks(confidences))
    return labels[rows], hashes[rows]


def _count_bins(path, rule: Rule):
    labels, confidences, _ = _eligible(path, rule, hashed=False)
    return _sparse(bins_of(labels, confidences))


def _count_eligible(path, rule: Rule):
    return _sparse(_eligible(path, rule, hashed=False)[0])


def _sparse(positions) -> tuple:
    counts = np.bincount(positions)
    positions = np.flatnonzero(counts)
    return positions, counts[positions]


def _eligible(path, rule: Rule, hashed: bool = True):
    """Labels, confidences and, if wanted, hashes of a shard's images that pass."""
    columns = ["label", "confidence"]
    if hashed or rule.needs_hashes:
        columns.append("id_hash")
    index = read_index(path, columns)
    rows = rule.eligible(index)
    hashes = rule.hashes(index, rows) if hashed else None
    return index.labels[rows], index.confidences[rows], hashes


def _write_selection(selection: Selection, path: str) -> None:
    files.write_json(path, selection.to_json())


def read_selection(path: str) -> Selection:
    return Selection.from_json(files.read_json(path))


def _summed(counts, size: int, name: str):
    return counts | f"Add {name}" >> beam.CombineGlobally(_Sum(size))


def _narrowed(state, counts, size: int, name: str):
    total = _summed(counts, size, name)
    return state | f"Narrow {name}" >> beam.Map(
        lambda before, counts: before.narrowed(counts), AsSingleton(total)
    )


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
    """Joins (classes, hashes)."""

    def create_accumulator(self):
        return []

    def add_input(self, accumulator, arrays):
        return [*accumulator, arrays]

    def merge_accumulators(self, accumulators):
        return [arrays for accumulator in accumulators for arrays in accumulator]

    def extract_output(self, accumulator):
        if not accumulator:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return tuple(np.concatenate(part) for part in zip(*accumulator, strict=True))
