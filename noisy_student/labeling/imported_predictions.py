"""Predictions made elsewhere take the place of a teacher's.

Writes what `labeling.label` writes: shards of predictions named like the unlabeled
ones, each with its index, and a manifest of the stage `label`, which has the digests
of the imported files where a teacher's would be. Everything after goes on from there.

In memory are 16 bytes a prediction, the hash of its id and its row (24 while they are
sorted); of probabilities, those of `_GROUP_BYTES` of images at a time. All files are
read once and checked; then, group by group, the row groups (Parquet) or parts (.npz)
that hold rows of the group. So files in the order of the images are read twice, files
in any other order once and once more for each group. The images' shards are read twice.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from data import bad_records, files, records, soft_labels
from data.errors import InputError
from data.id_hashes import hash_ids
from data.records import RecordSet
from data.soft_labels import LabelFormat
from noisy_student.labeling import labeling, prediction_files
from noisy_student.labeling.prediction_files import Block, PredictionFile
from noisy_student.labeling.prediction_writer import PredictedBatch, write_predictions
from noisy_student.stages.manifest import Stage
from noisy_student.stages.parents import parent_records
from noisy_student.stages.progress import Progress
from noisy_student.stages.shards import shards_by_name

_GROUP_BYTES = 2**29
_AT_ONCE = 1_000  # Ids that share a hash and are compared together.


def import_predictions(
    source: str,
    unlabeled: RecordSet,
    class_names: Sequence[str],
    directory: str,
    label_format: str = "float32",
) -> str:
    """Writes predictions made elsewhere as labeling would; returns `directory`.

    Args:
        source: Parquet or .npz files, see `prediction_files`: a path or a glob.
        unlabeled: The images. Each needs a prediction of its id.
        class_names: Names in the order of the probabilities.
        directory: Where predictions go. Shards finished earlier are kept.
        label_format: How probabilities are stored, see `data.soft_labels`.

    Raises:
        InputError: A file is damaged or has other columns, a row is no distribution
            over the classes, an id comes twice, or an image has no prediction.
    """
    num_classes = len(class_names)
    parsed_format = soft_labels.parse_format(label_format, num_classes)
    paths = _paths_by_name(source)
    found = [prediction_files.open_file(path, num_classes) for path in paths.values()]
    shards = shards_by_name(unlabeled, directory)
    identity: dict = {
        "imported_sha256": {key: files.sha256(path) for key, path in paths.items()},
        "class_names": list(class_names),
        "images": unlabeled.num_examples,
        "unlabeled_data": unlabeled.fingerprint(),
        "label_format": label_format,
    }
    parent = parent_records(unlabeled, identity["unlabeled_data"])
    stage = Stage(directory, "label", identity, {"unlabeled_data": parent})
    if stage.complete:
        return directory
    imported, unknown = _checked(stage, found, num_classes, unlabeled)
    progress = Progress("import", unlabeled.num_examples)
    _write_missing(stage, imported, unlabeled, parsed_format, progress)
    results = labeling.summarize(list(stage.facts_of(shards).values()))
    results["unknown_predictions"] = unknown
    results["skipped_records"] = bad_records.report(unlabeled.skipped)
    timing = progress.finish(f"{unknown:,} predictions of other images left out")
    stage.finish(list(shards), results, timing)
    return directory


def _checked(
    stage: Stage, found: list[PredictionFile], num_classes: int, unlabeled: RecordSet
) -> tuple["_Imported", int]:
    """The rows of all files, and how many of them are of no image."""
    try:
        imported = _Imported(found, num_classes)
        return imported, imported.count - _matched(imported, unlabeled)
    except InputError:
        stage.abandon()  # Mended files may take the same directory.
        raise


def _write_missing(
    stage: Stage,
    imported: "_Imported",
    unlabeled: RecordSet,
    label_format: LabelFormat,
    progress: Progress,
) -> None:
    """Writes the shards that are not there yet, group by group."""
    done = 0
    for group in _groups(unlabeled, imported.num_classes):
        names = [_name(path) for path in group]
        finished = stage.finished_shards(names)
        missing = [path for path in group if not finished[_name(path)]]
        for predicted in _rows_of(imported, missing, unlabeled):
            write_predictions(stage, predicted, label_format)
        done += sum(facts["records"] for facts in stage.facts_of(names).values())
        progress.update(done)


def read_class_names(path: str) -> tuple[str, ...]:
    """Class names from a JSON list, or from a file with one name a line.

    Raises:
        InputError: There is no such file, or no list of different names in it.
    """
    if not tf.io.gfile.exists(path):
        raise InputError(f"`class_names`: expected a file; received {path}, which is none.")
    if path.endswith(".json"):
        try:
            names = files.read_json(path)
        except ValueError as error:
            raise InputError(
                f"`class_names` {path}: expected JSON, a list of names; {error}."
            ) from error
    else:
        with tf.io.gfile.GFile(path) as file:
            names = [line.strip() for line in file.read().splitlines() if line.strip()]
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or not names or len(set(names)) < len(names):
        raise InputError(
            f"`class_names` {path}: expected a list of different names, in the order of "
            f"the probabilities; received {str(names)[:100]}."
        )
    return tuple(names)


class _Imported:
    """The rows of all files, numbered through and found by id."""

    def __init__(self, found: list[PredictionFile], num_classes: int):
        self._files, self.num_classes = found, num_classes
        self._starts = np.cumsum([0] + [file.count for file in found])
        self.count = int(self._starts[-1])
        hashes = self._checked_hashes()
        self._rows = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._rows]
        self._of_equal_hash = self._compared()

    @property
    def first_id(self) -> bytes:
        ids, _ = self.read(np.zeros(1, np.int64))
        return ids[0]

    def find(self, ids: list[bytes]) -> np.ndarray:
        """int64 `[N]`, the row that has the hash of an id; -1: none has."""
        hashes = hash_ids(ids)
        at = np.searchsorted(self._hashes, hashes)
        at = np.minimum(at, self.count - 1)
        rows = np.where(self._hashes[at] == hashes, self._rows[at], -1)
        if self._of_equal_hash:
            for number, id_ in enumerate(ids):
                rows[number] = self._of_equal_hash.get(id_, rows[number])
        return rows

    def read(self, rows: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """Ids and probabilities float32 `[N, C]` of rows in any order."""
        ids = [b""] * len(rows)
        probabilities = np.empty([len(rows), self.num_classes], np.float32)
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        for file, start in zip(self._files, self._starts, strict=False):
            first, last = np.searchsorted(ascending, [start, start + file.count])
            wanted = ascending[first:last] - start
            for block in file.blocks(wanted) if len(wanted) else ():
                ends = [block.first, block.first + len(block.ids)]
                low, high = first + np.searchsorted(wanted, ends)
                within = ascending[low:high] - start - block.first
                probabilities[order[low:high]] = block.probabilities[within]
                for number, row in zip(order[low:high], within, strict=True):
                    ids[number] = block.ids[row]
        return ids, probabilities

    def place(self, row: int) -> str:
        """File and number of a row."""
        file = int(np.searchsorted(self._starts, row, side="right")) - 1
        return f"{self._files[file].path} row {row - self._starts[file]}"

    def _checked_hashes(self) -> np.ndarray:
        """Hashes by row; refuses files with rows that are no distributions."""
        hashes = np.empty(self.count, np.uint64)
        faults = _Faults()
        for file, start in zip(self._files, self._starts, strict=False):
            for block in file.blocks():
                first = start + block.first
                hashes[first : first + len(block.ids)] = hash_ids(block.ids)
                faults.look_at(block, file, self.num_classes)
        faults.refuse()
        if not self.count:
            raise InputError(
                f"`import_predictions`: expected predictions; {len(self._files)} file(s) "
                f"such as {self._files[0].path} hold none."
            )
        return hashes

    def _compared(self) -> dict[bytes, int]:
        """Rows by id where different ids have one hash; refuses equal ids."""
        same = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        found: dict[bytes, int] = {}
        for start in range(0, len(same), _AT_ONCE):
            here = same[start : start + _AT_ONCE]
            rows = np.unique(self._rows[np.concatenate([here, here + 1])])
            ids, _ = self.read(rows)
            for id_, row in zip(ids, rows.tolist(), strict=True):
                if found.setdefault(id_, row) != row:
                    raise InputError(
                        f"`import_predictions`: expected each id once; {len(same)} row(s) "
                        f"repeat one, such as {id_!r} in {self.place(found[id_])} and "
                        f"{self.place(row)}. Keep one prediction an image."
                    )
        return found


@dataclasses.dataclass
class _Faults:
    """What is wrong with rows: how often, and where first."""

    found: dict[str, list] = dataclasses.field(default_factory=dict)

    def look_at(self, block: Block, file: PredictionFile, num_classes: int) -> None:
        values = block.probabilities
        totals = values.sum(-1, dtype=np.float64)
        finite = np.isfinite(values).all(-1)
        named = np.array([bool(id_) for id_ in block.ids], bool)
        complete = block.lengths == num_classes
        negative = finite & (values < 0).any(-1)
        off = finite & ~negative & (np.abs(totals - 1) > file.tolerance)
        softmax = "(the softmax of logits)"
        for bad, expected, received in (
            (~named, "an id", lambda _: "none"),
            (
                ~complete,
                f"{num_classes} probabilities, one a class of --class_names",
                lambda row: block.lengths[row],
            ),
            (~finite, "finite probabilities", lambda _: "NaN or infinity"),
            (
                negative,
                f"probabilities of 0 or more {softmax}",
                lambda row: f"{values[row].min():.6g}",
            ),
            (
                off,
                f"probabilities that sum to 1 within {file.tolerance} {softmax}",
                lambda row: f"{totals[row]:.6g}",
            ),
        ):
            for row in np.flatnonzero(bad)[:1]:
                place = f"{file.path} row {block.first + row} (id {block.ids[row]!r})"
                first = f"{received(row)} in {place}"
                self.found.setdefault(expected, [0, first])[0] += int(bad.sum())

    def refuse(self) -> None:
        """Raises one `InputError` with all that was found."""
        if not self.found:
            return
        lines = [
            f"{count} row(s): expected {expected}; received {first}"
            for expected, (count, first) in self.found.items()
        ]
        raise InputError(
            "`import_predictions`: rows that are no predictions:\n  "
            + "\n  ".join(lines)
            + "\nMend what wrote these files, or leave such rows out."
        )


def _paths_by_name(source: str) -> dict[str, str]:
    """Files by their path below what they have in common, so that they may move."""
    paths = sorted(tf.io.gfile.glob(source))
    if not paths:
        raise InputError(
            f"`import_predictions`: expected files; {source} matches none. It is a path or "
            "a glob of .parquet or .npz files."
        )
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    return {os.path.relpath(path, common or "."): path for path in paths}


def _matched(imported: _Imported, unlabeled: RecordSet) -> int:
    """How many predictions are of these images; refuses images without any."""
    used = np.zeros(imported.count, bool)
    images, missing, first = 0, 0, ""
    for path in unlabeled.files:
        ids, _ = _images_of(path, unlabeled)
        rows = imported.find(ids)
        used[rows[rows >= 0]] = True
        lacking = np.flatnonzero(rows < 0)
        images, missing = images + len(ids), missing + len(lacking)
        if len(lacking) and not first:
            first = f"{ids[lacking[0]]!r} of {path}"
    if missing and missing == images:
        raise InputError(
            f"`import_predictions`: expected predictions of these images; none of "
            f"{imported.count} ids is one of an image. The first prediction is of "
            f"{imported.first_id!r}, the first image is {first}. Write the ids as "
            f"`{records.ID}` has them."
        )
    if missing:
        raise _without_prediction(missing, images, first)
    return int(used.sum())


def _without_prediction(count: int, images: int, first: str) -> InputError:
    return InputError(
        f"`import_predictions`: expected a prediction of every image; {count} of {images} "
        f"images have none, the first: {first}. Predict them too, or leave them out of "
        "--unlabeled_data."
    )


def _images_of(path: str, unlabeled: RecordSet) -> tuple[list[bytes], np.ndarray]:
    """Ids and true labels of a shard's images; -1 where unknown."""
    ids, truth = [], []
    for position, example in records.numbered_examples(path, unlabeled.skipped):
        ids.append(records.example_id(example, path, position).encode())
        truth.append(unlabeled.true_label(example))
    return ids, np.array(truth, np.int64)


def _groups(unlabeled: RecordSet, num_classes: int) -> list[list[str]]:
    """Shards whose probabilities are in memory together."""
    groups: list[list[str]] = [[]]
    images = 0
    for path, count in zip(unlabeled.files, unlabeled.examples_per_file, strict=True):
        images += count
        if groups[-1] and images * num_classes * 4 > _GROUP_BYTES:
            groups.append([])
            images = count
        groups[-1].append(path)
    return groups


def _rows_of(
    imported: _Imported, paths: list[str], unlabeled: RecordSet
) -> Iterator[PredictedBatch]:
    """The predictions of some shards, a `PredictedBatch` for each."""
    found = [_images_of(path, unlabeled) for path in paths]
    ids = [id_ for ids, _ in found for id_ in ids]
    rows = imported.find(ids)
    stored, probabilities = imported.read(rows)
    other = [number for number, id_ in enumerate(ids) if stored[number] != id_]
    if other:  # Another id has the hash of this one.
        raise _without_prediction(len(other), len(ids), repr(ids[other[0]]))
    start = 0
    for path, (names, truth) in zip(paths, found, strict=True):
        part = slice(start, start + len(names))
        start += len(names)
        # Sums are 1 within the tolerance; a confidence is 1 at most.
        here = np.minimum(probabilities[part], 1)
        given = functools.partial(np.asarray, here)
        yield PredictedBatch(_name(path), names, truth, given, last=True)


def _name(path: str) -> str:
    return os.path.basename(path)
