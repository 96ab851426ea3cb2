"""Finds, over all shards of predictions, what of every class is kept.

One Apache Beam pipeline over the index, whose elements are shards: every level of the
search counts in all shards and narrows down by the sum (`order_statistics.py`). The
first levels find the K-th highest confidence of each class; the rest, among images
that tie with it or among those of a class with too few, the last hash.
"""

import dataclasses

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton

from data import files
from noisy_student.beam_runner import BeamRunner
from noisy_student.order_statistics import Search
from noisy_student.predictions import read_index
from noisy_student.selection import ALL_HASHES, HASH_BITS, Rule, Selection, unbalanced

_EDGES = np.arange(101) / 100  # Of the published bins of confidence; the last is open.


def choose(paths: list[str], rule: Rule, runner: BeamRunner, output: str) -> Selection:
    """The selection by `rule` among the predictions in `paths`.

    Args:
        paths: Shards of predictions, with their index beside them.
        rule: What decides.
        runner: Where Beam runs.
        output: A JSON file that is written, for any machine to read.
    """
    by_rule = {"reference": _reference, "unchanged": _counted}
    find = by_rule.get(rule.selection.selection, _ranked)
    if rule.selection.balance == "none":
        find = _counted
    with runner.pipeline() as pipeline:
        shards = pipeline | beam.Create(paths) | "Spread" >> beam.Reshuffle()
        find(pipeline, shards, rule) | "Write" >> beam.Map(_write_selection, output)
    return read_selection(output)


def _ranked(pipeline, shards, rule: Rule):
    """Rules `top_k` and `uniform`."""
    wanted = np.full(rule.num_classes, rule.images_per_class)
    state = _Found(
        np.zeros(rule.num_classes, np.int64), Search.start(wanted, rule.rank_bits)
    )
    found = pipeline | "Start" >> beam.Create([state])
    for level in range(state.search.levels):
        name, counters = f"confidence {level + 1}", state.search.counters
        counts = shards | f"Count {name}" >> beam.Map(
            _count_ranks, rule, AsSingleton(found)
        )
        found = _narrowed(found, counts, counters, name)
    ties = found | "Ties" >> beam.Map(_ties_of, rule)
    hashes = Search.start(wanted, HASH_BITS)
    counts = shards | "Count hashes" >> beam.Map(_count_hashes, rule, AsSingleton(ties))
    ties = _narrowed(ties, counts, hashes.counters, "hashes")
    last = (
        shards
        | "Gather" >> beam.Map(_hash_candidates, rule, AsSingleton(ties))
        | "Join" >> beam.CombineGlobally(_Concatenate())
    )
    return ties | "Finish" >> beam.Map(_finished, rule, AsSingleton(last))


@dataclasses.dataclass(frozen=True)
class _Found:
    """How far the search by confidence is; `eligible` int64 `[C]`."""

    eligible: np.ndarray
    search: Search

    def narrowed(self, counts: np.ndarray) -> "_Found":
        eligible = self.eligible
        if not eligible.any():  # The first level sees every image.
            eligible = counts.reshape(len(eligible), -1).sum(1)
        return _Found(eligible, self.search.narrowed(counts))


@dataclasses.dataclass(frozen=True)
class _Ties:
    """The search for the last hash, among images of equal standing.

    Attributes:
        eligible: int64 `[C]`.
        by_rank: bool `[C]`: there are enough images to choose by confidence.
        last_rank: int64 `[C]`, of the last images chosen by confidence.
        search: Among those of that rank; without `by_rank` among all of the class.
    """

    eligible: np.ndarray
    by_rank: np.ndarray
    last_rank: np.ndarray
    search: Search

    def narrowed(self, counts: np.ndarray) -> "_Ties":
        return dataclasses.replace(self, search=self.search.narrowed(counts))


def _ties_of(found: _Found, rule: Rule) -> _Ties:
    ranks, by_rank = found.search, found.search.wanted > 0
    all_ties = ranks.wanted == ranks.within
    examples = np.minimum(rule.images_per_class, rule.most_examples(found.eligible))
    once_more = examples % np.maximum(found.eligible, 1)
    wanted = np.where(by_rank, np.where(all_ties, 0, ranks.wanted), once_more)
    return _Ties(found.eligible, by_rank, ranks.low, Search.start(wanted, HASH_BITS))


def _finished(ties: _Ties, rule: Rule, candidates) -> Selection:
    last_hash = ties.search.finished(*candidates)
    examples = np.minimum(rule.images_per_class, rule.most_examples(ties.eligible))
    all_copies = examples // np.maximum(ties.eligible, 1)
    below = last_hash + 1  # 0: no hash was looked for.
    selection = Selection(
        eligible=ties.eligible,
        confidence=np.where(
            ties.by_rank, rule.confidences(ties.last_rank), np.float32(-1)
        ).astype(np.float32),
        hash_below=np.where(ties.by_rank & (below > 0), below, ALL_HASHES),
        copies=np.where(ties.by_rank, 1, all_copies),
        extra_below=np.where(ties.by_rank, 0, below),
    )
    if rule.selection.selection != "uniform":
        return selection
    # By hash alone: confidences say nothing, and what is drawn occurs "once more".
    drawn = np.where(below > 0, below, ALL_HASHES)
    return dataclasses.replace(
        selection,
        confidence=np.full(rule.num_classes, -1, np.float32),
        hash_below=np.full(rule.num_classes, ALL_HASHES),
        copies=np.where(ties.by_rank, 0, all_copies),
        extra_below=np.where(ties.by_rank, drawn, below),
    )


def _reference(pipeline, shards, rule: Rule):
    """The published code's rule."""
    del pipeline
    counts = shards | beam.Map(_count_bins, rule)
    return _summed(counts, rule.num_classes * len(_EDGES), "bins") | beam.Map(
        reference_selection, rule
    )


def _counted(pipeline, shards, rule: Rule):
    """Nothing is chosen: all that pass the filter."""
    del pipeline
    counts = shards | beam.Map(_count_eligible, rule)
    return _summed(counts, rule.num_classes, "classes") | beam.Map(unbalanced)


def reference_selection(counts: np.ndarray, rule: Rule) -> Selection:
    """Thresholds and expected copies of the published code (reference.md, 4.2).

    Bins of 0.01 from the top down until there are K images, or down to the smallest
    confidence. Of the n images from there on each occurs K / n times: the whole part
    always, and once more with the fraction's probability, here by its hash.

    Args:
        counts: int64 `[C · 101]`, of eligible images by class and bin.
        rule: What decides.
    """
    counts = counts.reshape(rule.num_classes, -1)
    above = counts[:, ::-1].cumsum(1)[:, ::-1]  # At or above each edge.
    enough = (above >= rule.images_per_class).sum(1) - 1  # The highest such edge.
    lowest = rule.selection.min_confidence if rule.thresholded else 0.0
    threshold = np.maximum(np.where(enough >= 0, _EDGES[enough], lowest), lowest)
    eligible = above[:, 0]
    total = np.where(enough >= 0, above[np.arange(len(above)), enough], eligible)
    examples = np.minimum(rule.images_per_class, rule.most_examples(total))
    share = examples / np.maximum(total, 1)
    rounded = threshold.astype(np.float32)  # To the next float32 that is not below.
    rounded = np.where(rounded < threshold, np.nextafter(rounded, np.float32(2)), rounded)
    copies = share.astype(np.int64)
    return Selection(
        eligible=eligible,
        confidence=rounded,
        hash_below=np.full(rule.num_classes, ALL_HASHES),
        copies=copies,
        extra_below=((share - copies) * 2.0**HASH_BITS).astype(np.int64),
    )


def _count_ranks(path, rule: Rule, found: _Found):
    labels, confidences, _ = _eligible(path, rule, hashed=False)
    return found.search.count(labels, rule.ranks(confidences))


def _count_hashes(path, rule: Rule, ties: _Ties):
    return ties.search.count(*_tied(path, rule, ties))


def _hash_candidates(path, rule: Rule, ties: _Ties):
    """Classes and hashes of what is left to choose from."""
    labels, hashes = _tied(path, rule, ties)
    rows = np.flatnonzero(ties.search.candidates(labels, hashes))
    return labels[rows], hashes[rows]


def _tied(path, rule: Rule, ties: _Ties):
    if not ties.search.wanted.any():
        return np.zeros(0, np.int32), np.zeros(0, np.int64)
    labels, confidences, hashes = _eligible(path, rule)
    searched = ties.search.wanted[labels] > 0
    same = rule.ranks(confidences) == ties.last_rank[labels]
    rows = np.flatnonzero(searched & (same | ~ties.by_rank[labels]))
    return labels[rows], hashes[rows]


def _count_bins(path, rule: Rule):
    labels, confidences, _ = _eligible(path, rule, hashed=False)
    bins = np.searchsorted(_EDGES, confidences.astype(np.float64), "right") - 1
    return _sparse(labels.astype(np.int64) * len(_EDGES) + np.minimum(bins, 100))


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
