"""Evaluation batches: every record once, in order, without noise if none is given.

They are dicts: image float32 `[B, S, S, 3]`, label int32 `[B]` (-1 unknown), id `[B]`.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from data import augmentation as aug
from data import bad_records, images, records
from data.example_tensors import checked_label, noise_seed, record_id
from data.record_order import numbered_records
from data.records import RecordSet
from data.untuned import BATCHES_AHEAD, untuned

_FEATURES = {
    records.IMAGE: tf.io.FixedLenFeature([], tf.string),
    records.ID: tf.io.FixedLenFeature([], tf.string, ""),
    records.TRUE_LABEL: tf.io.FixedLenFeature([], tf.int64, -1),
}


@dataclasses.dataclass(frozen=True)
class InputNoise:
    """Noise on images that are not trained on, drawn from seed and record id."""

    augmentation: aug.Augmentation
    seed: int


@dataclasses.dataclass(frozen=True)
class EvaluationInput:
    """What evaluation batches are made from.

    Attributes:
        examples: The records.
        image_size: Side of the images in pixels.
        crop: One of `data.augmentation.CROPS`.
        kind: `labeled`: every record must have a label below the number of classes;
            `unlabeled`: labels, if any, are only handed on.
        noise: On the images, which are uint8 then.
    """

    examples: RecordSet
    image_size: int
    crop: str
    kind: str = "unlabeled"
    noise: InputNoise | None = None


def evaluation_batches(
    stream: EvaluationInput,
    batch_size: int,
    paths: Sequence[str] | None = None,
    by_file: bool = False,
) -> tf.data.Dataset:
    """Every record of the files once, in order, without noise if none is given.

    The last batch may be smaller; `by_file`, the last one of each file has blank
    examples at its end, always some, so that it shows where the file ends.

    Args:
        stream: What they are made from.
        batch_size: Examples in a batch.
        paths: Those of the set's files that are read; all if not given.
        by_file: No batch holds examples of two files; batches also have `path` and
            `position` in it, which is -1 for blank examples.
    """
    read = functools.partial(numbered_records, skipped=stream.examples.skipped)
    if by_file:
        read = functools.partial(_filled_records, read=read, batch_size=batch_size)
    paths = list(stream.examples.files if paths is None else paths)
    dataset = tf.data.Dataset.from_tensor_slices(paths).flat_map(read)
    if by_file:
        dataset = dataset.prefetch(batch_size)  # The next file is opened in good time.
    example = functools.partial(_example, stream, by_file)
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    return untuned(dataset.batch(batch_size).prefetch(BATCHES_AHEAD))


def encoded_records(examples: RecordSet) -> tf.data.Dataset:
    """The labeled records of a set, once and in order: dicts of `id`, `label`, `encoded`.

    Scalars: string, int32, and string, the image file's bytes. A label outside the
    classes is an error, which `explained_evaluation` explains.
    """
    paths = tf.data.Dataset.from_tensor_slices(list(examples.files))
    found = paths.flat_map(functools.partial(numbered_records, skipped=examples.skipped))

    def row(path, position, serialized):
        features = tf.io.parse_single_example(serialized, _FEATURES)
        label = features[records.TRUE_LABEL] - examples.label_offset
        return {
            "id": record_id(features[records.ID], path, position),
            "label": checked_label(label, examples.num_classes),
            "encoded": features[records.IMAGE],
        }

    return found.map(row, num_parallel_calls=tf.data.AUTOTUNE)


def explained_evaluation(
    stream: EvaluationInput, paths: Sequence[str] | None = None
) -> contextlib.AbstractContextManager[None]:
    """Makes errors of `evaluation_batches` an `InputError` that names the record.

    Args:
        stream: What is read.
        paths: Those of its files that are read here; all if not given.
    """
    examples = stream.examples
    paths = examples.files if paths is None else paths
    contract = bad_records.contract_of(examples, stream.kind)
    return bad_records.explained(
        lambda: bad_records.find_first(paths, contract, examples.skipped), paths
    )


def _example(
    stream: EvaluationInput,
    by_file: bool,
    path: tf.Tensor,
    position: tf.Tensor,
    serialized: tf.Tensor,
) -> dict:
    features = tf.io.parse_single_example(serialized, _FEATURES)
    stored = features[records.TRUE_LABEL]
    label = tf.where(stored < 0, stored, stored - stream.examples.label_offset)
    if stream.kind == "labeled":
        label = checked_label(label, stream.examples.num_classes)
    identity = record_id(features[records.ID], path, position)
    place = {"path": path, "position": position} if by_file else {}
    return {
        "image": _image(stream, features[records.IMAGE], identity),
        "label": tf.cast(label, tf.int32),
        "id": identity,
        **place,
    }


def _image(stream: EvaluationInput, encoded: tf.Tensor, identity: tf.Tensor) -> tf.Tensor:
    if stream.noise is None:
        return aug.clean(encoded, stream.image_size, stream.crop)
    seed = noise_seed(identity, stream.noise.seed)
    return aug.augmented(encoded, stream.image_size, stream.noise.augmentation, seed)


def _filled_records(path: tf.Tensor, read: Callable, batch_size: int) -> tf.data.Dataset:
    """A file's records, then blank ones up to a whole batch: one at least.

    One stream over all files then has its batches' ends where files end, and decodes
    the next file's records while the last batch of this one is used.
    """
    pixel = images.encode_png(np.zeros((1, 1, 3), np.uint8))
    blank = records.serialize({records.IMAGE: pixel})
    blanks = tf.data.Dataset.from_tensors((path, tf.constant(-1, tf.int64), blank))
    dataset = read(path).concatenate(blanks.repeat(batch_size))
    return dataset.batch(batch_size, drop_remainder=True).unbatch()
