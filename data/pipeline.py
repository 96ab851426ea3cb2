"""tf.data pipelines: training batches with noise, evaluation batches without.

Training reads records in a seeded order of its own for every epoch, each
epoch keyed by its number; starting at step n reads past earlier records
without decoding them. All noise is drawn from (seed, epoch, record id, copy),
so a run started again sees exactly what an unbroken one would have seen.

Training batches are dicts:
    image uint8 `[B, S, S, 3]`, label int32 `[B]`, and for pseudo-labeled sets
    probabilities float32 `[B, C]`.
Evaluation batches are dicts:
    image float32 `[B, S, S, 3]`, label int32 `[B]` (-1 unknown), id `[B]`.
"""

import dataclasses

import tensorflow as tf

from data import augmentation as aug
from data import records
from data.errors import InputError
from data.records import RecordSet

SHUFFLE_BUFFER = 16384  # Records, as in the published code.


@dataclasses.dataclass(frozen=True)
class HostShare:
    """This host's part of the input: host `index` of `count`."""

    index: int = 0
    count: int = 1


@dataclasses.dataclass(frozen=True)
class TrainingInput:
    """What one training stream of examples is made from.

    Attributes:
        examples: The records.
        image_size: Side of the images in pixels.
        augmentation: The input noise.
        seed: Together with epoch, record id and copy decides every draw.
        pseudo_labeled: Read stored probabilities instead of true labels.
    """

    examples: RecordSet
    image_size: int
    augmentation: aug.Augmentation
    seed: int
    pseudo_labeled: bool = False


def training_batches(
    stream: TrainingInput,
    batch_size: int,
    start_example: int = 0,
    share: HostShare = HostShare(),
) -> tf.data.Dataset:
    """An endless stream of augmented batches.

    Args:
        stream: What to read.
        batch_size: Examples in a batch of this pipeline.
        start_example: How many examples of this host's stream to pass over.
        share: Which part of the records is this host's.
    """
    per_epoch = _examples_of_host(stream.examples, share)
    epoch, offset = divmod(start_example, per_epoch)
    dataset = tf.data.Dataset.counter(tf.constant(epoch, tf.int64))
    dataset = dataset.flat_map(lambda epoch: _epoch(stream, epoch, share))
    return augmented_batches(stream, dataset.skip(offset), batch_size)


def augmented_batches(
    stream: TrainingInput, ordered: tf.data.Dataset, batch_size: int
) -> tf.data.Dataset:
    """Batches of (path, position, record, copy, epoch), decoded and with noise."""
    dataset = ordered.map(
        lambda *raw: _training_example(stream, *raw),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    dataset = dataset.batch(batch_size, drop_remainder=True)
    return dataset.prefetch(tf.data.AUTOTUNE)


def evaluation_batches(
    paths, image_size: int, crop: str, batch_size: int, label_offset: int = 0
) -> tf.data.Dataset:
    """Every record of the files once, in order, without noise.

    The last batch may be smaller.
    """

    def parse(path, position, serialized):
        features = tf.io.parse_single_example(
            serialized,
            {
                records.IMAGE: tf.io.FixedLenFeature([], tf.string),
                records.ID: tf.io.FixedLenFeature([], tf.string, ""),
                records.TRUE_LABEL: tf.io.FixedLenFeature([], tf.int64, -1),
            },
        )
        label = features[records.TRUE_LABEL]
        return {
            "image": aug.clean(features[records.IMAGE], image_size, crop),
            "label": tf.cast(tf.where(label < 0, label, label - label_offset), tf.int32),
            "id": _record_id(features[records.ID], path, position),
        }

    dataset = tf.data.Dataset.from_tensor_slices(list(paths)).flat_map(_numbered_records)
    dataset = dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def _examples_of_host(examples: RecordSet, share: HostShare) -> int:
    if share.count == 1:
        return examples.num_examples
    # Every share-th record of the whole set, see `_epoch`.
    return len(range(share.index, examples.num_examples, share.count))


def _epoch(stream: TrainingInput, epoch, share: HostShare) -> tf.data.Dataset:
    """(path, position, record, copy, epoch) in this epoch's order.

    Order matters: copies are made before the shuffle, so that it spreads them;
    the shuffle comes after the split between hosts, so that hosts never share.
    """
    order = tf.stack([tf.cast(stream.seed, tf.int64), epoch])
    paths = tf.constant(stream.examples.files)
    if len(stream.examples.files) > 1:
        ranks = tf.random.stateless_uniform([len(stream.examples.files)], order)
        paths = tf.gather(paths, tf.argsort(ranks))
    dataset = tf.data.Dataset.from_tensor_slices(paths)
    dataset = dataset.flat_map(lambda path: copied_records(stream, path))
    if share.count > 1:
        dataset = dataset.shard(share.count, share.index)
    shuffle_seed = stream.seed * 1_000_003 + epoch + 1  # (0, 0) would be random.
    buffer = min(SHUFFLE_BUFFER, max(stream.examples.num_examples, 1))
    dataset = dataset.shuffle(buffer, seed=shuffle_seed)
    return dataset.map(lambda *record: (*record, epoch))


def copied_records(stream: TrainingInput, path) -> tf.data.Dataset:
    """(path, position, record, copy) of one file, in the file's order."""
    if stream.pseudo_labeled:
        return _numbered_records(path).flat_map(_copies)
    return _numbered_records(path).map(lambda *record: (*record, tf.constant(0, tf.int64)))


def _numbered_records(path) -> tf.data.Dataset:
    dataset = tf.data.TFRecordDataset(path, buffer_size=8 << 20)
    return dataset.enumerate().map(lambda position, record: (path, position, record))


def _copies(path, position, serialized) -> tf.data.Dataset:
    """A balanced record as often as its `copies` says, each numbered."""
    features = tf.io.parse_single_example(
        serialized, {records.COPIES: tf.io.FixedLenFeature([], tf.int64, 1)}
    )
    return tf.data.Dataset.range(features[records.COPIES]).map(
        lambda copy: (path, position, serialized, copy)
    )


def _training_example(stream: TrainingInput, path, position, serialized, copy, epoch):
    spec = {
        records.IMAGE: tf.io.FixedLenFeature([], tf.string),
        records.ID: tf.io.FixedLenFeature([], tf.string, ""),
    }
    if stream.pseudo_labeled:
        num_classes = stream.examples.num_classes
        spec[records.LABEL] = tf.io.FixedLenFeature([], tf.int64)
        spec[records.PROBABILITIES] = tf.io.FixedLenFeature([num_classes], tf.float32)
    else:
        spec[records.TRUE_LABEL] = tf.io.FixedLenFeature([], tf.int64)
    features = tf.io.parse_single_example(serialized, spec)

    identity = _record_id(features[records.ID], path, position)
    seed = tf.stack(
        [
            tf.strings.to_hash_bucket_fast(identity, 2**62) + copy,
            tf.cast(stream.seed, tf.int64) * 2**32 + epoch,
        ]
    )
    image = aug.augmented(
        features[records.IMAGE], stream.image_size, stream.augmentation, seed
    )
    if stream.pseudo_labeled:
        return {
            "image": image,
            "label": tf.cast(features[records.LABEL], tf.int32),
            "probabilities": features[records.PROBABILITIES],
        }
    label = features[records.TRUE_LABEL] - stream.examples.label_offset
    return {"image": image, "label": tf.cast(label, tf.int32)}


def _record_id(stored, path, position):
    name = tf.strings.split(path, "/")[-1]
    made = tf.strings.join([name, tf.strings.as_string(position)], ":")
    return tf.where(tf.equal(stored, ""), made, stored)


def check_not_empty(examples: RecordSet, name: str) -> None:
    """Refuses a set without examples, before training waits on it for ever."""
    if examples.num_examples < 1:
        raise InputError(
            f"`{name}`: expected at least one example in {examples.files[:1]}; received "
            "none. An endless stream of nothing would hang."
        )
