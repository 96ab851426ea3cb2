"""TFRecord files that are there already."""

import os

import numpy as np
import tensorflow as tf

from data import bad_records, files, records
from data.bad_records import Contract
from data.errors import InputError
from data.records import Record
from data.sources.base import Source

CLASS_NAMES = "class_names.json"  # Beside the files: a list, by label.


class TFRecordSource(Source):
    """Shards in the features of `data.records`, read where they lie.

    Args:
        pattern: A glob, or a directory.
        label_offset: Subtracted from stored labels.
        class_names: Names by label, for files without their own.
        labeled: Whether records without a label are bad ones.
        skip_bad_records: Examine every record, images too, and leave bad ones out.
    """

    sequential = True

    def __init__(
        self,
        pattern,
        label_offset=0,
        class_names=None,
        labeled=True,
        skip_bad_records=False,
    ):
        self.files = records.glob_shards(pattern)
        if not self.files:
            raise InputError(
                f"tfrecord:{pattern}: expected at least one file to match; found none."
            )
        absent = records.missing_shards(self.files)
        if absent:
            raise InputError(
                f"tfrecord:{pattern}: {len(absent)} shards of the numbering are missing, "
                f"the first is {absent[0]}."
            )
        self._label_offset, self._examples_per_file = label_offset, []
        class_names = self._stored_class_names() or class_names
        if skip_bad_records:
            num_classes = len(class_names) if class_names else None
            kind = "labeled" if labeled else "unlabeled"
            stored = self._examined(Contract(kind, num_classes, label_offset))
        else:
            stored = self._read_labels()
        if not len(stored):
            raise InputError(
                f"tfrecord:{pattern}: expected at least one record; the "
                f"{len(self.files)} files hold none."
            )
        self._set_labels(pattern, stored)
        if class_names is None and self.labels.max() >= 0:
            class_names = [str(label) for label in range(int(self.labels.max()) + 1)]
        self.class_names = tuple(class_names) if class_names else None

    def _read_labels(self) -> np.ndarray:
        labels = []
        for path in self.files:
            before = len(labels)
            labels += map(records.example_label, records.read_shard(path))
            self._examples_per_file.append(len(labels) - before)
        return np.array(labels, np.int64)

    def _examined(self, contract) -> np.ndarray:
        """Stored labels of the good records; the others go to `skipped`."""
        labels, skipped = [], []
        for path in self.files:
            before = len(labels)
            for example, bad in bad_records.examine(path, contract):
                if bad:
                    skipped.append(bad)
                else:
                    labels.append(records.example_label(example))
            self._examples_per_file.append(len(labels) - before)
        if skipped and not labels:
            raise bad_records.all_bad(skipped)
        self.skipped = tuple(skipped)
        return np.array(labels, np.int64)

    def _set_labels(self, pattern, stored) -> None:
        known = stored >= 0
        self.labels = np.where(known, stored - self._label_offset, -1)
        below = np.flatnonzero(known & (stored < self._label_offset))
        if len(below):
            raise InputError(
                f"tfrecord:{pattern}: `label_offset` {self._label_offset} makes labels "
                f"negative; the smallest stored label is {stored[known].min()}, the first "
                f"too small one is of {self.name_of(below[0])}."
            )

    def name_of(self, index):
        for at, (path, position, example) in enumerate(self._examples()):
            if at == index:
                return f"{path}:{position} ({records.example_id(example, path, position)})"
        raise IndexError(index)

    def _examples(self):
        """(path, position, example) of the records that are not skipped."""
        for path in self.files:
            for position, example in records.numbered_examples(path, self.skipped):
                yield path, position, example

    def digest(self, indices):
        digest = super().digest(indices)
        # The same labels may be left of other records.
        places = [(os.path.basename(bad.file), bad.position) for bad in self.skipped]
        return f"{digest}-{places}" if places else digest

    def _stored_class_names(self):
        path = os.path.join(os.path.dirname(self.files[0]), CLASS_NAMES)
        return files.read_json(path) if tf.io.gfile.exists(path) else None

    def record_set(self) -> records.RecordSet:
        """The files as they lie."""
        return records.RecordSet(
            self.files,
            tuple(self._examples_per_file),
            self.class_names or (),
            self._label_offset,
            truth_known=bool((self.labels >= 0).any()),
            skipped=self.skipped,
        )

    def read(self, indices):
        wanted = set(np.asarray(indices).tolist())
        for index, (path, position, example) in enumerate(self._examples()):
            if index in wanted:
                image = example.features.feature[records.IMAGE].bytes_list.value
                yield Record(
                    records.example_id(example, path, position),
                    image[0] if image else b"",
                    int(self.labels[index]),
                    error="" if image else f"the record has no `{records.IMAGE}`",
                )
