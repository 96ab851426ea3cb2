"""Data sets to TFRecord shards: checks every image, splits labels from pool.

Output, below one directory: `labeled/`, `unlabeled/`, `validation/`, `test/`
(each with a manifest) and `bad_files.csv`. Sets that are TFRecord files
already and are used whole stay where they are.
"""

import concurrent.futures
import csv
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from data import files, images, records, sources
from data.errors import InputError
from data.records import RecordSet
from noisy_student.config import DataConfig
from noisy_student.manifest import MANIFEST, Stage, read_manifest
from noisy_student.progress import Progress

IMAGES_PER_SHARD = 5_000
BAD_FILES = "bad_files.csv"
_CHECKS_AHEAD = 64


@dataclasses.dataclass(frozen=True)
class PreparedData:
    """The record sets of a run; validation is None where there is none."""

    labeled: RecordSet
    unlabeled: RecordSet
    validation: RecordSet | None
    test: RecordSet

    def evaluation_sets(self) -> dict[str, RecordSet]:
        """The sets that accuracy is measured on, by name."""
        sets = {"validation": self.validation, "test": self.test}
        return {name: value for name, value in sets.items() if value is not None}


def prepare(config: DataConfig, directory: str, seed: int) -> PreparedData:
    """Writes what is missing of the sets and returns all of them.

    Args:
        config: Which data sets, and how to split them.
        directory: Where the shards go.
        seed: Of the split and of the order within the shards.

    Raises:
        InputError: A set is missing, empty, unreadable as a whole, or has
            classes that the labeled set has not.
    """
    opened = _Opened(config)
    parts = _split(opened, config, seed)
    sets = {
        name: _prepare_set(name, part, config, directory, seed)
        for name, part in parts.items()
    }
    _write_bad_files(directory, list(parts))
    return PreparedData(
        sets["labeled"], sets["unlabeled"], sets.get("validation"), sets["test"]
    )


def prepare_set(
    dataset: str, directory: str, *, class_names=None, label_offset=0, labeled=True
) -> RecordSet:
    """One data set as records, for scripts that take just one.

    Args:
        dataset: A data set string; TFRecord files are read where they lie.
        directory: Where shards of other kinds of data sets go.
        class_names: Names by label, where another set settled them.
        label_offset: Subtracted from labels in TFRecord files.
        labeled: Whether labels are needed.
    """
    source = sources.open_source(
        dataset, class_names=class_names, label_offset=label_offset, labeled=labeled
    )
    part = _whole(dataset, source, labeled)
    name = "labeled" if labeled else "unlabeled"
    record_set = _prepare_set(name, part, DataConfig(), directory, seed=0)
    _write_bad_files(directory, [name])
    return record_set


@dataclasses.dataclass
class _Part:
    """The records of one set: which of a source's, and whether labels count."""

    dataset: str
    source: sources.Source
    indices: np.ndarray
    labeled: bool


class _Opened:
    """The four sources, opened once; the labeled one decides the classes."""

    def __init__(self, config: DataConfig):
        offset = config.label_offset
        self.labeled = sources.open_source(config.labeled_data, label_offset=offset)
        names = self.labeled.class_names
        if not names or (self.labeled.labels < 0).any():
            raise InputError(
                f"`labeled_data`: expected a label for every image of "
                f"{config.labeled_data!r}; some have none."
            )
        if len(names) < 2:
            raise InputError(
                f"`labeled_data`: expected at least two classes in "
                f"{config.labeled_data!r}; received {', '.join(names)}."
            )

        def open_other(dataset, labeled=True):
            if not dataset:
                return None
            return sources.open_source(
                dataset, class_names=names, label_offset=offset, labeled=labeled
            )

        self.unlabeled = open_other(config.unlabeled_data, labeled=False)
        self.validation = open_other(config.validation_data)
        self.test = open_other(config.test_data)
        for name in ("validation", "test"):
            source = getattr(self, name)
            if source is not None and (source.labels >= len(names)).any():
                raise InputError(
                    f"`{name}_data`: expected the {len(names)} classes of the labeled "
                    f"data; received label {source.labels.max()}."
                )


def _split(opened: _Opened, config: DataConfig, seed: int) -> dict[str, _Part]:
    """Decides which record goes where. The test set is settled first."""
    source, labels = opened.labeled, opened.labeled.labels
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(source))
    test = None
    if opened.test is None:
        test, order = _hold_out(order, labels, config)
    rest = order[:0]
    if config.labels_per_class:
        order, rest = _take_per_class(order, labels, config, source.class_names)
    parts = {"labeled": _Part(config.labeled_data, source, order, True)}
    if opened.unlabeled is None:
        parts["unlabeled"] = _Part(config.labeled_data, source, rest, False)
    else:
        parts["unlabeled"] = _whole(config.unlabeled_data, opened.unlabeled, False)
    if opened.validation is not None:
        parts["validation"] = _whole(config.validation_data, opened.validation, True)
    if test is None:
        parts["test"] = _whole(config.test_data, opened.test, True)
    else:
        parts["test"] = _Part(config.labeled_data, source, test, True)
    if not len(parts["unlabeled"].indices):
        raise InputError(
            "Unlabeled images: expected at least one; `labels_per_class` "
            f"({config.labels_per_class}) leaves none of {config.labeled_data!r}."
        )
    return parts


def _whole(dataset, source, labeled) -> _Part:
    return _Part(dataset, source, np.arange(len(source)), labeled)


def _hold_out(order, labels, config):
    """Moves `holdout_fraction` of each class, at least one image, to the test."""
    held = []
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        if len(rows) < 2:
            raise InputError(
                f"`holdout_fraction`: expected at least 2 labeled images in every class "
                f"to hold one out for the test; class number {label} has {len(rows)}. "
                "Add images, or pass --test_data."
            )
        held.append(rows[: max(1, round(len(rows) * config.holdout_fraction))])
    held = np.concatenate(held)
    print(
        f"No test data given: {len(held):,} of {len(order):,} labeled images are held "
        "out for the test."
    )
    return held, order[~np.isin(order, held)]


def _take_per_class(order, labels, config, class_names):
    """The first `labels_per_class` of each class in `order`, and the rest."""
    wanted = config.labels_per_class
    kept = []
    for label, name in enumerate(class_names):
        rows = order[labels[order] == label]
        if len(rows) < wanted:
            raise InputError(
                f"`labels_per_class`: expected at least {wanted} labeled images in "
                f"every class; class {name!r} has {len(rows)}."
            )
        kept.append(rows[:wanted])
    kept = order[np.isin(order, np.concatenate(kept))]
    return kept, order[~np.isin(order, kept)]


def _prepare_set(name, part, config, directory, seed) -> RecordSet:
    """Writes one set, or finds it written, or takes it where it lies."""
    source = part.source
    if isinstance(source, sources.TFRecordSource) and len(part.indices) == len(source):
        return source.record_set()
    identity = {
        "dataset": part.dataset,
        "images": len(part.indices),
        "selection": _digest(part.indices),
        "class_names": list(source.class_names or ()),
        "seed": seed,
    }
    stage = Stage(os.path.join(directory, name), "prepare", identity)
    if not stage.complete:
        _write_shards(stage, name, part, config, seed)
    return RecordSet(
        files=tuple(stage.path(shard) for shard in sorted(stage.shards)),
        num_examples=stage.results["images"],
        class_names=tuple(stage.identity["class_names"]),
    )


def _write_shards(stage, name, part, config, seed) -> None:
    files.write_json(stage.path(sources.CLASS_NAMES), stage.identity["class_names"])
    indices = part.indices
    if not part.source.sequential:
        # Mixed, so that a reader's shuffle buffer never sees one class alone.
        indices = np.random.default_rng(seed + 1).permutation(indices)
    else:
        indices = np.sort(indices)
    num_shards = config.num_shards or -(-len(indices) // IMAGES_PER_SHARD)
    chunks = np.array_split(indices, num_shards)
    names = [records.shard_name(name, i, num_shards) for i in range(num_shards)]
    progress = Progress(f"prepare {name}", len(indices))
    done = 0
    for shard, chunk in zip(names, chunks, strict=True):
        if stage.finished_shard(shard) is None:
            bad = []
            examples = (
                records.image_example(record)
                for record in _checked(part.source.read(chunk), bad)
            )
            count = records.write_shard(
                stage.path(shard), _counted(examples, progress, done)
            )
            stage.finish_shard(shard, count, bad_files=bad)
        done += len(chunk)
        progress.update(done)
    shards = [stage.finished_shard(shard) for shard in names]
    written = sum(facts["records"] for facts in shards)
    bad = [row for facts in shards for row in facts["bad_files"]]
    if not written:
        raise InputError(
            f"{part.dataset}: expected at least one readable image; all {len(bad)} are "
            f"bad. The first: {bad[0][0]}: {bad[0][1]}."
        )
    if part.labeled:
        _check_no_class_lost(part, bad)
    timing = progress.finish(f"{len(bad)} bad files skipped" if bad else "")
    stage.finish(names, {"images": written, "bad_files": len(bad)}, timing)


def _check_no_class_lost(part: _Part, bad: list) -> None:
    """Refuses a class whose images all turned out unreadable."""
    labels = part.source.labels[part.indices]
    counts = np.bincount(labels, minlength=len(part.source.class_names))
    lost = np.bincount([row[2] for row in bad], minlength=len(counts)) if bad else 0
    empty = np.flatnonzero((counts > 0) & (counts - lost <= 0))
    if len(empty):
        names = ", ".join(part.source.class_names[label] for label in empty)
        raise InputError(
            f"{part.dataset}: expected a readable image in every class; all of {names} are "
            f"bad. The first: {bad[0][0]}: {bad[0][1]}."
        )


def _counted(examples, progress, start) -> Iterator[dict]:
    for count, example in enumerate(examples, start=start + 1):
        yield example
        progress.update(count)


def _checked(found: Iterator[records.Record], bad: list) -> Iterator[records.Record]:
    """Records with bytes fit for TensorFlow; appends the others to `bad`."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        while ahead := list(itertools.islice(found, _CHECKS_AHEAD)):
            checks = [pool.submit(images.checked_image_bytes, r.image) for r in ahead]
            for record, check in zip(ahead, checks, strict=True):
                try:
                    yield dataclasses.replace(record, image=check.result())
                except images.BadImage as error:
                    bad.append([record.id, str(error), record.label])


def _write_bad_files(directory: str, names: list[str]) -> None:
    """`bad_files.csv`: set, path and reason of every image that was skipped."""
    manifests = [
        (name, read_manifest(os.path.join(directory, name)))
        for name in names
        # Not there for TFRecord files, which are taken where they lie.
        if tf.io.gfile.exists(os.path.join(directory, name, MANIFEST))
    ]
    if not manifests:
        return
    rows = [
        (name, path, reason)
        for name, manifest in manifests
        for facts in manifest["shards"].values()
        for path, reason, _ in facts["bad_files"]
    ]
    path = os.path.join(directory, BAD_FILES)
    with files.atomic_path(path) as temporary, tf.io.gfile.GFile(temporary, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("set", "path", "reason"))
        writer.writerows(rows)
    if rows:
        print(f"{len(rows)} unreadable image file(s) skipped; see {path}.")


def _digest(indices: np.ndarray) -> str:
    return hashlib.sha256(np.sort(indices).astype("<i8").tobytes()).hexdigest()[:16]
