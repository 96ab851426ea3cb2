"""TFRecord files that are there already."""

import functools
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from data import bad_records, record_scan, records
from data.bad_records import Contract
from data.class_names import read_class_names
from data.errors import InputError
from data.records import BadRecord, Record
from data.sources.base import Source

CLASS_NAMES = "class_names.json"  # Beside the files: a list, by label.


class TFRecordSource(Source):
    """Shards in the features of `data.records`, read where they lie.

    Args:
        pattern: A glob, or a directory.
        label_offset: Subtracted from stored labels.
        class_names: Names by label, for files without their own.
        labeled: Whether labels count. Otherwise files are not read to the end before
            somebody asks for `labels`, and records without one are no bad ones.
        skip_bad_records: Examine every record, images too, and leave bad ones out.
    """

    sequential = True

    def __init__(
        self,
        pattern: str,
        label_offset: int = 0,
        class_names: Sequence[str] | None = None,
        labeled: bool = True,
        skip_bad_records: bool = False,
    ):
        self.files = _all_shards(pattern)
        self._pattern, self._label_offset = pattern, label_offset
        self._truth_known = True
        class_names = self._stored_class_names() or class_names
        labels = None
        if skip_bad_records:
            num_classes = len(class_names) if class_names else None
            kind = "labeled" if labeled else "unlabeled"
            contract = Contract(kind, num_classes, label_offset)
            labels, self.skipped = _examined(self.files, contract)
        elif labeled:
            labels = record_scan.read_labels(self.files)
        if labels is None:
            self._examples_per_file = record_scan.count_records(self.files)
        else:
            self._examples_per_file = tuple(map(len, labels))
        if not len(self):
            raise InputError(
                f"tfrecord:{pattern}: expected at least one record; the "
                f"{len(self.files)} files hold none."
            )
        if labels is not None:
            self.labels = self._checked(labels)
        if class_names is None and labeled and self.labels.max() >= 0:
            class_names = [str(label) for label in range(int(self.labels.max()) + 1)]
        self.class_names = tuple(class_names) if class_names else None

    def __len__(self) -> int:
        return sum(self._examples_per_file)

    @functools.cached_property
    def labels(self) -> np.ndarray:  # type: ignore[override]  # Can be set too.
        return self._checked(record_scan.read_labels(self.files))

    def forget_labels(self, class_names: Sequence[str]) -> None:
        super().forget_labels(class_names)
        self._truth_known = False

    def _checked(self, labels: list[np.ndarray]) -> np.ndarray:
        stored = np.concatenate(labels)
        known = stored >= 0
        below = np.flatnonzero(known & (stored < self._label_offset))
        if len(below):
            raise InputError(
                f"`label_offset`: expected at most {stored[known].min()}, the smallest "
                f"label in tfrecord:{self._pattern}; received {self._label_offset}. The "
                f"first smaller label is of {self.name_of(below[0])}. Lower --label_offset "
                "(0 for labels that start at 0)."
            )
        return np.where(known, stored - self._label_offset, -1)

    def name_of(self, index: int) -> str:
        for at, (path, position, example) in enumerate(self._examples()):
            if at == index:
                return f"{path}:{position} ({records.example_id(example, path, position)})"
        raise IndexError(index)

    def _examples(self):
        """(path, position, example) of the records that are not skipped."""
        for path in self.files:
            for position, example in records.numbered_examples(path, self.skipped):
                yield path, position, example

    def digest(self, indices: Sequence[int] | np.ndarray) -> str:
        digest = super().digest(indices)
        # The same labels may be left of other records.
        places = [(os.path.basename(bad.file), bad.position) for bad in self.skipped]
        return f"{digest}-{places}" if places else digest

    def _stored_class_names(self):
        path = os.path.join(os.path.dirname(self.files[0]), CLASS_NAMES)
        return read_class_names(path) if tf.io.gfile.exists(path) else None

    def record_set(self) -> records.RecordSet:
        """The files as they lie."""
        return records.RecordSet(
            self.files,
            self._examples_per_file,
            self.class_names or (),
            self._label_offset,
            truth_known=self._truth_known,
            skipped=self.skipped,
        )

    def read(self, indices: Sequence[int] | np.ndarray) -> Iterator[Record]:
        wanted = set(np.asarray(indices).tolist())
        for index, (path, position, example) in enumerate(self._examples()):
            if index in wanted:
                image = example.features.feature[records.IMAGE].bytes_list.value
                yield Record(
                    records.example_id(example, path, position),
                    image[0] if image else b"",
                    self._label_of(example),
                    error="" if image else f"the record has no `{records.IMAGE}`",
                )

    def _label_of(self, example: tf.train.Example) -> int:
        stored = records.example_label(example)
        known = stored >= 0 and self._truth_known
        return stored - self._label_offset if known else -1


def _all_shards(pattern: str) -> tuple[str, ...]:
    """The files that match; refuses none, and numbered ones of which some are missing."""
    found = records.glob_shards(pattern)
    if not found:
        raise InputError(
            f"tfrecord:{pattern}: expected at least one file to match; found none."
        )
    absent = records.missing_shards(found)
    if absent:
        raise InputError(
            f"tfrecord:{pattern}: expected every shard that the names number "
            f"(…-of-00128); received all but {len(absent)}, the first missing one is "
            f"{absent[0]}. Copy them here, or write the set again."
        )
    return found


def _examined(
    paths: Sequence[str], contract: Contract
) -> tuple[list[np.ndarray], tuple[BadRecord, ...]]:
    """Stored labels of the good records of each file, and the bad ones."""
    labels, skipped = [], []
    for path in paths:
        of_file = []
        for example, bad in bad_records.examine(path, contract):
            if bad:
                skipped.append(bad)
            else:
                of_file.append(records.example_label(example))
        labels.append(np.array(of_file, np.int64))
    if skipped and not any(map(len, labels)):
        raise bad_records.all_bad(skipped)
    return labels, tuple(skipped)
