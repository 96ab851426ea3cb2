"""In which order a training reads records, and from where on.

Every epoch has a seeded order of its own, keyed by its number; starting at step n reads
past earlier records without decoding them.

An epoch: files in random order -> this host's part -> copies -> random order with copies
apart.
"""

from collections.abc import Sequence

import tensorflow as tf

from data import records, shuffling
from data.errors import InputError, reason_of
from data.records import BadRecord, RecordSet
from data.streams import HostShare, TrainingInput

SHUFFLE_BUFFER = 16384  # Records, as in the published code.
SHUFFLE_BYTES = 2**29  # About; four times as much is in memory for moments.


def undecoded(
    stream: TrainingInput, batch_size: int, start_example: int, share: HostShare
) -> tf.data.Dataset:
    """What `_epoch` yields, from `start_example` of this host's stream on."""
    start, end = _part_of_host(stream.examples, share)
    epoch, offset = divmod(start_example, end - start)
    dataset = tf.data.Dataset.counter(tf.constant(epoch, tf.int64))
    dataset = dataset.flat_map(lambda epoch: _epoch(stream, epoch, batch_size, share))
    return dataset.skip(offset)


def _part_of_host(examples: RecordSet, share: HostShare) -> tuple[int, int]:
    """First and end of this host's examples, counted through an epoch's files."""
    start, end = (
        examples.num_examples * index // share.count
        for index in (share.index, share.index + 1)
    )
    if start == end:
        raise InputError(
            f"Host {share.index} of {share.count}: expected at least one of the examples "
            f"of {examples.files[:1]}; received none of {examples.num_examples}. Use fewer "
            "hosts (workers), or more data."
        )
    return start, end


def other_number(examples: RecordSet, error: tf.errors.OpError) -> InputError:
    return InputError(
        f"{examples.files[:1]} and the other {len(examples.files) - 1} files of the set: "
        f"expected the {examples.num_examples} examples on record; received another "
        f"number ({reason_of(error.message)}) The files were changed: delete them and "
        "rerun the stage that made them."
    )


def _epoch(
    stream: TrainingInput, epoch: tf.Tensor, batch_size: int, share: HostShare
) -> tf.data.Dataset:
    """(path, position, record, copy, epoch) in this epoch's order.

    Order matters: copies are made before the shuffle, so that it spreads them;
    the shuffle comes after the split between hosts, so that hosts never share.
    """
    seed = tf.stack([tf.cast(stream.seed, tf.int64), epoch])
    start, end = _part_of_host(stream.examples, share)
    dataset = _in_file_order(stream, seed, start, end)
    # Any other number would shift what a resumed run sees, and none would hang.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(end - start))
    per_step = batch_size * share.replicas
    in_first_step = epoch * (end - start) % per_step  # From the epoch before.
    buffer = shuffle_buffer(stream.examples)
    dataset = shuffling.shuffled(dataset, buffer, per_step, in_first_step, seed)
    return dataset.map(lambda *record: (*record, epoch))


def _in_file_order(
    stream: TrainingInput, seed: tf.Tensor, start: int, end: int
) -> tf.data.Dataset:
    """Examples `start` to `end` of all files, these in random order.

    Of files that belong to several hosts each one reads its part; no other
    files are opened.
    """
    order = tf.argsort(tf.random.stateless_uniform([len(stream.examples.files)], seed))
    paths = tf.gather(tf.constant(stream.examples.files), order)
    counts = tf.constant(stream.examples.examples_per_file, tf.int64)
    ends = tf.cumsum(tf.gather(counts, order))
    firsts = ends - tf.gather(counts, order)
    opened = (ends > start) & (firsts < end)
    parts = tf.data.Dataset.from_tensor_slices(
        tuple(tf.boolean_mask(column, opened) for column in (paths, firsts, ends))
    )

    def part(path, first, last):
        dataset = copied_records(stream, path).skip(tf.maximum(start - first, 0))
        # To the end of the file where it is ours, so that more than is known shows.
        return dataset.take(tf.where(last > end, end - tf.maximum(first, start), -1))

    return parts.flat_map(part)


def shuffle_buffer(examples: RecordSet) -> int:
    """How many examples are held in memory to be shuffled: fewer of large photos."""
    size = tf.io.gfile.stat(examples.files[0]).length
    mean = size / max(examples.examples_per_file[0], 1)
    return min(SHUFFLE_BUFFER, max(int(SHUFFLE_BYTES / max(mean, 1)), 1))


def copied_records(stream: TrainingInput, path: tf.Tensor) -> tf.data.Dataset:
    """(path, position, record, copy) of one file, in the file's order."""
    dataset = numbered_records(path, stream.examples.skipped)
    if stream.kind == "pseudo_labeled":
        return dataset.flat_map(_repeated)
    return dataset.map(lambda *record: (*record, tf.constant(0, tf.int64)))


def numbered_records(
    path: tf.Tensor | str, skipped: Sequence[BadRecord] = ()
) -> tf.data.Dataset:
    """(path, position, record) of a file, without the records to skip.

    These are told by position, so that they go before anything is counted,
    shuffled or divided: the stream is that of files which never held them.
    """
    dataset = tf.data.TFRecordDataset(path, buffer_size=8 << 20)
    if not skipped:
        return dataset.enumerate().map(lambda position, record: (path, position, record))
    here = tf.equal(tf.constant([bad.file for bad in skipped]), path)
    positions = tf.constant([bad.position for bad in skipped], tf.int64)
    to_the_end = tf.constant([bad.rest_of_file for bad in skipped])
    end = tf.reduce_min(tf.where(here & to_the_end, positions, tf.int64.max))
    gone = tf.boolean_mask(positions, here)
    dataset = dataset.take(end).enumerate()
    dataset = dataset.filter(lambda position, _: tf.reduce_all(position != gone))
    return dataset.map(lambda position, record: (path, position, record))


def _repeated(
    path: tf.Tensor, position: tf.Tensor, serialized: tf.Tensor
) -> tf.data.Dataset:
    """A balanced record as often as its `copies` says, each numbered."""
    features = tf.io.parse_single_example(
        serialized, {records.COPIES: tf.io.FixedLenFeature([], tf.int64, 1)}
    )
    return tf.data.Dataset.range(features[records.COPIES]).map(
        lambda copy: (path, position, serialized, copy)
    )
