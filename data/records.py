"""TFRecord shards of images: the features, writing a shard, describing a set.

Features (all kinds keep the image's original JPEG or PNG bytes):

* labeled, unlabeled: `image/encoded` bytes, `image/id` bytes,
  `image/class/label` int64 (0-based; of unlabeled images only where the truth
  is known, and then used for reports alone);
* predictions: `image/id`, `label` int64, `prob` float, and the probabilities:
  `probabilities` float32 `[classes]`, or what `data.soft_labels` has instead;
* pseudo-labeled: `image/encoded`, `image/id`, `copies` int64, and of the prediction
  `label`, `prob` and the probabilities.
"""

import dataclasses
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from data import files, storage_errors
from data.errors import InputError
from data.storage_errors import StorageErrors
from data.untuned import untuned

IMAGE, ID, TRUE_LABEL = "image/encoded", "image/id", "image/class/label"
LABEL, CONFIDENCE, PROBABILITIES, COPIES = "label", "prob", "probabilities", "copies"

_FRAME_BYTES = 16  # Of the TFRecord format: length and two checksums.
_READ_TOGETHER, _BYTES_TOGETHER = 128, 16 * 2**20  # Of records: at most, and about.
_FINGERPRINT_BYTES = 65536


@dataclasses.dataclass(frozen=True)
class Record:
    """One image.

    Attributes:
        id: Names the image within its data set.
        image: The image file's bytes.
        label: -1 where unknown.
        error: Why the file could not be read, if so; `image` is empty then.
    """

    id: str
    image: bytes
    label: int = -1
    error: str = ""


@dataclasses.dataclass(frozen=True)
class BadRecord:
    """A record that cannot be used.

    Attributes:
        file: Its shard.
        position: Its place in it, from 0.
        id: `image/id`, or empty.
        problem: What was expected and what came.
        remedy: What to do, without a full stop.
        rest_of_file: Nothing from here on can be read.
    """

    file: str
    position: int
    id: str
    problem: str
    remedy: str
    rest_of_file: bool = False

    @property
    def place(self) -> str:
        """Where in its file it is, and its id."""
        end = " and all after it" if self.rest_of_file else ""
        id_ = f" ({self.id!r})" if self.id else ""
        return f"record {self.position}{id_}{end}"

    @property
    def name(self) -> str:
        """File and place in short, for lists: `a.tfrecord:3 ('cat/1.jpg')`."""
        id_ = f" ({self.id!r})" if self.id else ""
        end = " to the end" if self.rest_of_file else ""
        return f"{os.path.basename(self.file)}:{self.position}{id_}{end}"


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """Shards on disk that belong together.

    Attributes:
        files: Shard paths, sorted.
        examples_per_file: Of one pass, copies counted, skipped ones not.
        class_names: Names by label.
        label_offset: Subtracted from stored labels (1 for the usual ImageNet
            files, whose labels start at 1).
        truth_known: Whether stored labels, if any, are of these classes.
        skipped: Bad records, which every reader passes over.
    """

    files: tuple[str, ...]
    examples_per_file: tuple[int, ...]
    class_names: tuple[str, ...]
    label_offset: int = 0
    truth_known: bool = True
    skipped: tuple[BadRecord, ...] = ()

    @property
    def num_examples(self) -> int:
        """Of one pass over all files."""
        return sum(self.examples_per_file)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def true_label(self, example: tf.train.Example) -> int:
        """The label of one of its records by `class_names`; -1 where it is not known."""
        stored = example_label(example)
        known = self.truth_known and stored >= max(self.label_offset, 0)
        return stored - self.label_offset if known else -1

    def fingerprint(self) -> str:
        """Tells this set's content from another's without reading all of it.

        A digest of names, sizes and the first and last 64 KiB of the files, and of
        the places of skipped records.
        """
        digest = hashlib.sha256()
        for found in files.map_in_threads(_name_size_and_ends, self.files):
            digest.update(found)
        for bad in self.skipped:
            place = f"{os.path.basename(bad.file)}:{bad.position}:{bad.rest_of_file};"
            digest.update(place.encode())
        return digest.hexdigest()[:16]


def shard_name(prefix: str, index: int, num_shards: int) -> str:
    """`NAME-00000-of-00128.tfrecord`."""
    return f"{prefix}-{index:05d}-of-{num_shards:05d}.tfrecord"


def image_example(record: Record) -> dict:
    """The features of a labeled or unlabeled record, for `write_shard`."""
    features: dict = {IMAGE: record.image, ID: record.id.encode()}
    if record.label >= 0:
        features[TRUE_LABEL] = record.label
    return features


def write_shard(path: str, examples: Iterable[dict | tf.train.Example]) -> int:
    """Writes examples, or dicts of features, as one shard; returns their number.

    Atomically: the file is whole, or not there.
    """
    count = 0
    with files.atomic_path(path) as temporary, tf.io.TFRecordWriter(temporary) as writer:
        for features in examples:
            writer.write(serialize(features))
            count += 1
    return count


def serialize(features: dict | tf.train.Example) -> bytes:
    """A serialized `tf.train.Example`.

    Args:
        features: By name: bytes; an int; a float; or floats, a list or an array `[N]`.
    """
    if isinstance(features, tf.train.Example):
        return features.SerializeToString(deterministic=True)
    return tf.train.Example(
        features=tf.train.Features(
            feature={key: _feature(value) for key, value in features.items()}
        )
    ).SerializeToString(deterministic=True)  # Else features come in any order.


def record_bytes(features: dict) -> int:
    """What an example takes in a file."""
    return len(serialize(features)) + _FRAME_BYTES


def read_shard(path: str) -> Iterator[tf.train.Example]:
    """The examples of a shard, parsed; errors name the file."""
    return (example for _, example in numbered_examples(path))


def numbered_examples(
    path: str, skipped: Iterable[BadRecord] = ()
) -> Iterator[tuple[int, tf.train.Example]]:
    """Position and example of the records of a shard that are not skipped."""
    here = [bad for bad in skipped if bad.file == path]
    gone = {bad.position for bad in here}
    end = min((bad.position for bad in here if bad.rest_of_file), default=None)
    for position, serialized in enumerate(itertools.islice(_serialized(path), end)):
        if position not in gone:
            yield position, _parsed(path, position, serialized)


def example_id(example: tf.train.Example, path: str, position: int) -> str:
    """`image/id`, or `<file>:<position>` for files without ids.

    Raises:
        InputError: The id is no UTF-8.
    """
    value = example.features.feature[ID].bytes_list.value
    if not value or not value[0]:
        return f"{path.rsplit('/', 1)[-1]}:{position}"
    try:
        return value[0].decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}, record {position}: expected an `{ID}` in UTF-8; received "
            f"{value[0][:80]!r}. Mend what wrote these files, or pass --skip_bad_records "
            "to go on without such records."
        ) from error


def example_label(example: tf.train.Example, key: str = TRUE_LABEL) -> int:
    """The label as stored, or -1 where there is none."""
    value = example.features.feature[key].int64_list.value
    return value[0] if value else -1


def glob_shards(pattern: str) -> tuple[str, ...]:
    """The finished shards that match a glob, or all of a directory."""
    if tf.io.gfile.isdir(pattern):
        pattern = f"{pattern.rstrip('/')}/*.tfrecord*"
    found = [
        path
        for path in tf.io.gfile.glob(pattern)
        if files.TEMPORARY_SUFFIX not in path and not path.endswith(".json")
    ]
    return tuple(sorted(found))


def missing_shards(paths: Iterable[str]) -> list[str]:
    """Names that `-00000-of-00128` numbering promises and that are not there."""
    there = set(paths)
    matches = (re.fullmatch(r"(.*)-\d{5}-of-(\d{5})(.*)", path) for path in there)
    numberings = {match.groups() for match in matches if match}
    promised = {
        f"{start}-{index:05d}-of-{total}{end}"
        for start, total, end in numberings
        for index in range(int(total))
    }
    return sorted(promised - there)


def _name_size_and_ends(path: str) -> bytes:
    size = tf.io.gfile.stat(path).length
    with tf.io.gfile.GFile(path, "rb") as file:
        first = file.read(_FINGERPRINT_BYTES)
        file.seek(max(0, size - _FINGERPRINT_BYTES))
        last = file.read(_FINGERPRINT_BYTES)
    return f"{os.path.basename(path)}:{size};".encode() + first + last


def _serialized(path: str) -> Iterator[bytes]:
    """The records of a shard as they are; errors name the file.

    Many at a time: TensorFlow takes longer to hand one over than to read it. A batch with
    a damaged record is lost as a whole, and then read again one by one. Errors of storage
    that pass are waited out.
    """
    count, errors = 0, StorageErrors(path)
    dataset = tf.data.TFRecordDataset(path)
    while True:
        try:
            rest = dataset.skip(count).batch(_read_together(dataset))
            for together in untuned(rest).as_numpy_iterator():
                yield from together.tolist()
                count += len(together)
            return
        except (tf.errors.DataLossError, tf.errors.NotFoundError):
            return (yield from _one_by_one(path, dataset, count))
        except storage_errors.PASSING as error:
            errors.wait(error, reached=count)


def _read_together(dataset: tf.data.Dataset) -> int:
    """How many records like the first one are some megabytes."""
    first = next(untuned(dataset.take(1)).as_numpy_iterator(), b"")
    return max(1, min(_READ_TOGETHER, _BYTES_TOGETHER // max(len(first), 1)))


def _one_by_one(path: str, dataset: tf.data.Dataset, count: int) -> Iterator[bytes]:
    """The records from number `count` on, up to a damaged one."""
    try:
        for serialized in untuned(dataset.skip(count)).as_numpy_iterator():
            yield serialized
            count += 1
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        raise _unreadable(path, count, error.message) from error


def _parsed(path: str, position: int, serialized: bytes) -> tf.train.Example:
    try:
        return tf.train.Example.FromString(serialized)
    except DecodeError as error:
        reason = "the next record is no tf.train.Example."
        raise _unreadable(path, position, reason) from error


def _unreadable(path: str, count: int, reason: str) -> InputError:
    return InputError(
        f"Unreadable TFRecord file {path} after {count} records: {reason} Write the file "
        "again (delete it and rerun the stage that made it), or pass --skip_bad_records "
        "to go on without what cannot be read."
    )


def _feature(value: Any) -> tf.train.Feature:
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    if isinstance(value, np.ndarray) and value.dtype.kind == "i":
        return tf.train.Feature(int64_list=tf.train.Int64List(value=value))
    floats = np.asarray([value] if isinstance(value, float) else value, "<f4")
    if floats.ndim != 1:
        raise TypeError(
            "`features`: expected values that are bytes, an int, a float, or a list or "
            f"array `[N]` of floats; received {value!r}."
        )
    # Both lists are one field of a length and bytes. Value by value, a thousand floats
    # would take 0.3 ms.
    packed = tf.train.BytesList(value=[floats.tobytes()]).SerializeToString()
    return tf.train.Feature(float_list=tf.train.FloatList.FromString(packed))
