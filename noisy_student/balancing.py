"""Filters and balances pseudo-labels (paper §2, "data filtering and balancing").

Images below `min_confidence` are dropped; of the others every class that has any
gets exactly `images_per_class` examples, by the rule in `selection.py`.

Two Apache Beam passes over shards: the first combines per class the ranking of
its images; the second joins images with predictions by id and writes.
"""

import dataclasses
import os

import apache_beam as beam
import numpy as np
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from data import files, records, soft_labels
from data.bad_records import without_bad
from data.errors import InputError
from data.records import RecordSet
from noisy_student.config import SelectionConfig
from noisy_student.labeling import shards_by_name
from noisy_student.manifest import Stage, read_manifest
from noisy_student.predictions import read_index
from noisy_student.selection import ClassSelection, RankImages, copies_of, id_hashes

SELECTION = "selection.json"


def balance(
    unlabeled: RecordSet,
    predictions: str,
    directory: str,
    selection: SelectionConfig,
    seed: int,
    runner=None,
    name: str = "balancing",
) -> RecordSet:
    """Writes the pseudo-labeled shards and returns their set.

    Args:
        unlabeled: The images.
        predictions: Directory that `labeling.label` wrote for these images.
        directory: Where the shards go, one for each unlabeled shard.
        selection: Threshold and images per class.
        seed: Of the hash that breaks ties and places extra copies.
        runner: A Beam runner; None runs in this process.
        name: For the progress line.

    Raises:
        InputError: The predictions are of other images, or none is confident
            enough.
    """
    labeled = read_manifest(predictions)
    _check_same_images(unlabeled, predictions, labeled["identity"])
    class_names = tuple(labeled["identity"]["class_names"])
    shards = shards_by_name(unlabeled)
    per_class = selection.images_per_class or -(-unlabeled.num_examples // len(class_names))
    identity = {
        "predictions": {k: f["sha256"] for k, f in labeled["shards"].items()},
        "unlabeled_data": unlabeled.fingerprint(),
        "min_confidence": selection.min_confidence,
        "images_per_class": per_class,
        "class_names": list(class_names),
        "seed": seed,
    }
    stage = Stage(directory, "balance", identity)
    if not stage.complete:
        print(f"{name}: {per_class:,} images a class of {unlabeled.num_examples:,}")
        runner = runner or FnApiRunner()
        _select(shards, predictions, stage, selection, per_class, seed, runner)
        chosen = _read_selection(stage)
        if not chosen:
            raise InputError(
                f"`min_confidence` {selection.min_confidence}: expected some of the "
                f"{unlabeled.num_examples:,} images at or above it; there are none. The "
                f"teacher's mean confidence is "
                f"{labeled['results']['mean_confidence']:.3f}: train it better or lower "
                "--min_confidence, in a new --work_dir or --output_dir."
            )
        writer = _ShardWriter(stage, predictions, chosen, unlabeled, seed)
        _write(shards, writer, runner)
        stage.finish(list(shards), _summarize(stage, shards, chosen, unlabeled))
        results = stage.results
        print(
            f"{name}: kept {results['kept']:,}, dropped {results['dropped']:,}, "
            f"{results['examples']:,} examples with copies"
        )
    return load_balanced(directory)


def load_balanced(directory: str, skip_bad_records: bool = False) -> RecordSet:
    """The pseudo-labeled set that `balance` wrote; empty shards are left out."""
    manifest = read_manifest(directory)
    shards = {n: f for n, f in sorted(manifest["shards"].items()) if f["records"]}
    examples = RecordSet(
        files=tuple(os.path.join(directory, name) for name in shards),
        examples_per_file=tuple(facts["examples"] for facts in shards.values()),
        class_names=tuple(manifest["identity"]["class_names"]),
    )
    return without_bad(examples, "pseudo_labeled") if skip_bad_records else examples


def _check_same_images(unlabeled, predictions, identity) -> None:
    if identity["unlabeled_data"] != unlabeled.fingerprint():
        raise InputError(
            f"{predictions}: expected predictions for these unlabeled images; they were "
            "made for others. Pass the --unlabeled_data that was labeled, and "
            "--skip_bad_records as it was then."
        )


def _select(shards, predictions, stage, selection, per_class, seed, runner) -> None:
    """First pass: one `ClassSelection` a class, written as JSON."""
    paths = [os.path.join(predictions, name) for name in shards]
    minimum = selection.min_confidence
    with beam.Pipeline(runner=runner) as pipeline:
        (
            pipeline
            | beam.Create(paths)
            | "Read" >> beam.FlatMap(_confident_by_class, minimum, seed)
            | "Rank" >> beam.CombinePerKey(RankImages(per_class))
            | "Gather" >> beam.combiners.ToDict()
            | "Write" >> beam.Map(_write_selection, stage.path(SELECTION))
        )


def _confident_by_class(shard_path: str, min_confidence: float, seed: int):
    """(class, (confidences, hashes)) for each class of a shard's predictions."""
    index = read_index(shard_path)
    rows = np.flatnonzero(index.confidences >= np.float32(min_confidence))
    labels, confidences = index.labels[rows], index.confidences[rows]
    hashes = id_hashes([index.ids[row] for row in rows], seed)
    for label in np.unique(labels):
        of_class = labels == label
        yield int(label), (confidences[of_class], hashes[of_class])


def _write_selection(by_class: dict, path: str) -> None:
    rows = {str(k): dataclasses.asdict(v) for k, v in sorted(by_class.items())}
    files.write_json(path, rows)


def _read_selection(stage) -> dict[int, ClassSelection]:
    rows = files.read_json(stage.path(SELECTION))
    return {int(label): ClassSelection(**row) for label, row in rows.items()}


def _write(shards: dict, writer: "_ShardWriter", runner) -> None:
    """Second pass: the pseudo-labeled shards that are still missing."""
    missing = [
        shard for shard in shards.items() if not writer.stage.finished_shard(shard[0])
    ]
    with beam.Pipeline(runner=runner) as pipeline:
        (
            pipeline
            | beam.Create(missing)
            # Otherwise a runner may fuse all shards into one worker's bundle.
            | beam.Reshuffle()
            | beam.Map(writer.write)
        )


@dataclasses.dataclass(frozen=True)
class _ShardWriter:
    """What a worker needs to write any pseudo-labeled shard."""

    stage: Stage
    predictions: str
    chosen: dict[int, ClassSelection]
    unlabeled: RecordSet
    seed: int

    def write(self, shard: tuple[str, str]) -> None:
        name, images_path = shard
        predictions_path = os.path.join(self.predictions, name)
        copies = _copies_by_id(predictions_path, self.chosen, self.seed)
        tally = _Tally(self.unlabeled)
        skipped = self.unlabeled.skipped
        examples = _join(images_path, predictions_path, copies, tally, skipped)
        count = records.write_shard(self.stage.path(name), examples)
        self.stage.finish_shard(name, count, **tally.counts())


def _copies_by_id(shard_path: str, chosen, seed) -> dict[bytes, int]:
    """How often each kept image of a shard occurs."""
    index = read_index(shard_path)
    hashes = id_hashes(index.ids, seed)
    copies = np.zeros(len(index.ids), np.int64)
    for label, selection in chosen.items():
        of_class = index.labels == label
        copies[of_class] = copies_of(
            selection, index.confidences[of_class], hashes[of_class]
        )
    return {index.ids[row]: int(copies[row]) for row in np.flatnonzero(copies)}


@dataclasses.dataclass
class _Tally:
    """Counts of one shard. `correct` are kept images whose truth agrees."""

    unlabeled: RecordSet
    examples: int = 0
    truth_known: int = 0
    correct: int = 0
    kept_per_class: dict = dataclasses.field(default_factory=dict)
    examples_per_class: dict = dataclasses.field(default_factory=dict)

    def add(self, label: int, copies: int, truth: int) -> None:
        key = str(label)
        self.examples += copies
        if self.unlabeled.truth_known and truth >= 0:
            self.truth_known += 1
            self.correct += truth - self.unlabeled.label_offset == label
        self.kept_per_class[key] = self.kept_per_class.get(key, 0) + 1
        self.examples_per_class[key] = self.examples_per_class.get(key, 0) + copies

    def counts(self) -> dict:
        values = dataclasses.asdict(self)
        del values["unlabeled"]
        return values


def _join(images_path, predictions_path, copies, tally, skipped=()):
    """Features of the kept images, joined with their predictions by id."""
    predicted = {}
    for position, example in records.numbered_examples(predictions_path):
        id_ = records.example_id(example, predictions_path, position).encode()
        if id_ in copies:
            predicted[id_] = example.features.feature
    for position, example in records.numbered_examples(images_path, skipped):
        id_ = records.example_id(example, images_path, position).encode()
        if id_ not in copies:
            continue
        features = predicted[id_]
        label = features[records.LABEL].int64_list.value[0]
        tally.add(label, copies[id_], records.example_label(example))
        yield {
            records.IMAGE: example.features.feature[records.IMAGE].bytes_list.value[0],
            records.ID: id_,
            records.LABEL: label,
            records.CONFIDENCE: features[records.CONFIDENCE].float_list.value[0],
            **soft_labels.copy_features(features),
            records.COPIES: copies[id_],
        }


def _summarize(stage, shards, chosen, unlabeled) -> dict:
    """Totals and per-class counts; `accuracy` where the truth is known."""
    facts = [stage.finished_shard(name) for name in shards]
    names = stage.identity["class_names"]

    def per_class(key):
        return [
            sum(fact[key].get(str(label), 0) for fact in facts)
            for label in range(len(names))
        ]

    kept, known = sum(f["records"] for f in facts), sum(f["truth_known"] for f in facts)
    return {
        "unlabeled": unlabeled.num_examples,
        "eligible": sum(selection.eligible for selection in chosen.values()),
        "kept": kept,
        "dropped": unlabeled.num_examples - kept,
        "examples": sum(fact["examples"] for fact in facts),
        "accuracy": sum(f["correct"] for f in facts) / known if known else None,
        "classes_without_images": [
            name for label, name in enumerate(names) if label not in chosen
        ],
        "kept_per_class": per_class("kept_per_class"),
        "examples_per_class": per_class("examples_per_class"),
    }
