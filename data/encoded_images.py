"""Labeled images as an evaluation reads them: each once, in order, where they lie."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from data import augmentation, bad_records, crops, evaluation_input, images
from data.errors import InputError
from data.evaluation_input import EvaluationInput
from data.records import RecordSet
from data.sources import Source
from data.untuned import BATCHES_AHEAD, untuned

_DIGESTED = 8  # Images whose bytes are part of a fingerprint.


@dataclasses.dataclass(frozen=True)
class EncodedImages:
    """Image files with labels that are read in one pass.

    Attributes:
        count: How many.
        fingerprint: Tells them from others without reading all of them.
        read: Makes the data set: dicts of the scalars `id` string, `label` int32, and
            `encoded` string, the file's bytes.
        explained: A context in which a bad image becomes an `InputError` that names it.
    """

    count: int
    fingerprint: str
    read: Callable[[], tf.data.Dataset]
    explained: Callable[[], contextlib.AbstractContextManager[None]]


def of_records(examples: RecordSet) -> EncodedImages:
    """The labeled records of a set."""
    # Size and crop play no part in finding a bad record.
    stream = EvaluationInput(examples, image_size=1, crop="pad", kind="labeled")
    return EncodedImages(
        examples.num_examples,
        f"{examples.fingerprint()}-{examples.label_offset}",
        lambda: evaluation_input.encoded_records(examples),
        lambda: evaluation_input.explained_evaluation(stream),
    )


def of_source(dataset: str, source: Source) -> EncodedImages:
    """All images of a source, without writing them anywhere.

    Args:
        dataset: What a user named it by.
        source: Of it.
    """
    digest = hashlib.sha256(source.digest(range(len(source))).encode())
    # Names and labels are the same for images at other sizes, or made anew.
    for record in source.read(range(min(_DIGESTED, len(source)))):
        digest.update(hashlib.sha256(record.image).digest())
    return EncodedImages(
        len(source),
        digest.hexdigest()[:16],
        source.encoded,
        lambda: _explained(dataset, source),
    )


def sampled(found: EncodedImages, count: int, seed: int) -> EncodedImages:
    """So many of the images, drawn without replacement; their order stays.

    Args:
        found: The images.
        count: How many; 0, or more than there are: all.
        seed: Of the draw.
    """
    if not 0 < count < found.count:
        return found
    drawn = np.zeros(found.count, bool)
    drawn[np.random.default_rng(seed).permutation(found.count)[:count]] = True

    def read():
        chosen = tf.constant(drawn)
        rows = found.read().enumerate().filter(lambda at, _: chosen[at])
        return rows.map(lambda _, row: row)

    fingerprint = f"{found.fingerprint}-{count}-{seed}"
    return EncodedImages(count, fingerprint, read, found.explained)


def cropped_batches(
    found: EncodedImages, size: int, crop: str, batch_size: int
) -> tf.data.Dataset:
    """Batches of `image` float32 `[B, size, size, 3]`, `label` int32 and `id`, both `[B]`.

    Args:
        found: The images.
        size: Side in pixels.
        crop: Of evaluation, one of `data.augmentation.CROPS`: `inception` the padded
            centre, `pad` the whole image.
        batch_size: Images in a batch; the last one may have fewer.
    """

    def cropped(row):
        image = augmentation.clean(row["encoded"], size, crop)
        return {"image": image, "label": row["label"], "id": row["id"]}

    dataset = found.read().map(cropped, num_parallel_calls=tf.data.AUTOTUNE)
    return untuned(dataset.batch(batch_size).prefetch(BATCHES_AHEAD))


def decoded(found: EncodedImages) -> tf.data.Dataset:
    """Dicts of `image` uint8 `[H, W, 3]` at its own size, `label` and `id`."""

    def row_of(row):
        image = crops.decode(row["encoded"])
        return {"image": image, "label": row["label"], "id": row["id"]}

    dataset = found.read().map(row_of, num_parallel_calls=tf.data.AUTOTUNE)
    return untuned(dataset.prefetch(16))


@contextlib.contextmanager
def _explained(dataset: str, source: Source) -> Iterator[None]:
    """Looks for the image that cannot be read, once a pipeline has failed."""
    try:
        yield
    except (*bad_records.PIPELINE_ERRORS, tf.errors.NotFoundError) as error:
        for record in source.read(range(len(source))):
            try:
                images.checked_record(record)
            except images.BadImage as problem:
                raise InputError(
                    f"{dataset}: expected image files that can be read; {record.id}: "
                    f"{problem}. Get the file again: a benchmark counts all of them."
                ) from error
        raise
