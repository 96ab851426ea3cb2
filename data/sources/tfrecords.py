"""TFRecord files that are there already."""

import os

import numpy as np
import tensorflow as tf

from data import files, records
from data.errors import InputError
from data.records import Record
from data.sources.base import Source

CLASS_NAMES = "class_names.json"  # Beside the files: a list, by label.


class TFRecordSource(Source):
    """Shards in the features of `data.records`, read where they lie."""

    sequential = True

    def __init__(self, pattern, label_offset, class_names):
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
        self._label_offset = label_offset
        stored = np.array(
            [
                records.example_label(example)
                for path in self.files
                for example in records.read_shard(path)
            ],
            np.int64,
        )
        if not len(stored):
            raise InputError(
                f"tfrecord:{pattern}: expected at least one record; the "
                f"{len(self.files)} files hold none."
            )
        known = stored >= 0
        if (stored[known] < label_offset).any():
            raise InputError(
                f"tfrecord:{pattern}: `label_offset` {label_offset} makes labels negative; "
                f"the smallest stored label is {stored[known].min()}."
            )
        self.labels = np.where(known, stored - label_offset, -1)
        class_names = self._stored_class_names() or class_names
        if class_names is None and known.any():
            class_names = [str(label) for label in range(int(self.labels.max()) + 1)]
        self.class_names = tuple(class_names) if class_names else None

    def _stored_class_names(self):
        path = os.path.join(os.path.dirname(self.files[0]), CLASS_NAMES)
        return files.read_json(path) if tf.io.gfile.exists(path) else None

    def record_set(self) -> records.RecordSet:
        """The files as they lie."""
        return records.RecordSet(
            self.files,
            len(self),
            self.class_names or (),
            self._label_offset,
            truth_known=bool((self.labels >= 0).any()),
        )

    def read(self, indices):
        wanted = set(np.asarray(indices).tolist())
        index = 0
        for path in self.files:
            for position, example in enumerate(records.read_shard(path)):
                if index in wanted:
                    yield Record(
                        records.example_id(example, path, position),
                        example.features.feature[records.IMAGE].bytes_list.value[0],
                        int(self.labels[index]),
                    )
                index += 1
