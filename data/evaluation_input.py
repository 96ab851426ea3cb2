"""Evaluation batches: every record once, in order, without noise if none is given.

They are dicts: image float32 `[B, S, S, 3]`, label int32 `[B]` (-1 unknown), id `[B]`.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from data import augmentation as aug
from data import bad_records, images, records
from data.example_tensors import checked_label, noise_seed, record_id
from data.record_order import numbered_records
from data.records import BadRecord, RecordSet
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


def evaluation_batches(
    paths: Sequence[str],
    image_size: int,
    crop: str,
    batch_size: int,
    label_offset: int = 0,
    num_classes: int | None = None,
    skipped: Sequence[BadRecord] = (),
    noise: InputNoise | None = None,
    by_file: bool = False,
) -> tf.data.Dataset:
    """Every record of the files once, in order, without noise if none is given.

    The last batch may be smaller; `by_file`, the last one of each file has blank
    examples at its end, always some, so that it shows where the file ends.

    Args:
        paths: The files.
        image_size: Side of the images in pixels.
        crop: One of `data.augmentation.CROPS`.
        batch_size: Examples in a batch.
        label_offset: Subtracted from known labels.
        num_classes: Where labels count: every record has one, below this number.
        skipped: Records to pass over.
        noise: On the images, which are uint8 then.
        by_file: No batch holds examples of two files; batches also have `path` and
            `position` in it, which is -1 for blank examples.
    """

    def example(path, position, serialized):
        features = tf.io.parse_single_example(serialized, _FEATURES)
        stored = features[records.TRUE_LABEL]
        label = tf.where(stored < 0, stored, stored - label_offset)
        if num_classes is not None:
            label = checked_label(label, num_classes)
        identity = record_id(features[records.ID], path, position)
        place = {"path": path, "position": position} if by_file else {}
        return {
            "image": _image(features[records.IMAGE], identity, image_size, crop, noise),
            "label": tf.cast(label, tf.int32),
            "id": identity,
            **place,
        }

    read = functools.partial(numbered_records, skipped=skipped)
    if by_file:
        read = functools.partial(_filled_records, batch_size=batch_size, skipped=skipped)
    dataset = tf.data.Dataset.from_tensor_slices(list(paths)).flat_map(read)
    if by_file:
        dataset = dataset.prefetch(batch_size)  # The next file is opened in good time.
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    return untuned(dataset.batch(batch_size).prefetch(BATCHES_AHEAD))


def _image(
    encoded: tf.Tensor,
    identity: tf.Tensor,
    image_size: int,
    crop: str,
    noise: InputNoise | None,
) -> tf.Tensor:
    if noise is None:
        return aug.clean(encoded, image_size, crop)
    seed = noise_seed(identity, noise.seed)
    return aug.augmented(encoded, image_size, noise.augmentation, seed)


def explained_evaluation(
    examples: RecordSet, kind: str, paths: Sequence[str] | None = None
) -> contextlib.AbstractContextManager[None]:
    """Makes errors of `evaluation_batches` an `InputError` that names the record.

    Args:
        examples: The set that is read.
        kind: `labeled` or `unlabeled`, see `data.bad_records`.
        paths: Those of its files that are read here; all if not given.
    """
    contract = bad_records.contract_of(examples, kind)
    return bad_records.explained(
        lambda: bad_records.find_first(paths or examples.files, contract, examples.skipped)
    )


def _filled_records(
    path: tf.Tensor, batch_size: int, skipped: Sequence[BadRecord]
) -> tf.data.Dataset:
    """`numbered_records`, then blank ones up to a whole batch: one at least.

    One stream over all files then has its batches' ends where files end, and decodes
    the next file's records while the last batch of this one is used.
    """
    pixel = images.encode_png(np.zeros((1, 1, 3), np.uint8))
    blank = records.serialize({records.IMAGE: pixel})
    blanks = tf.data.Dataset.from_tensors((path, tf.constant(-1, tf.int64), blank))
    dataset = numbered_records(path, skipped).concatenate(blanks.repeat(batch_size))
    return dataset.batch(batch_size, drop_remainder=True).unbatch()
