"""Training batches made by tf.data service workers instead of in this process.

The dispatcher deals out *pieces*: parts of an epoch, numbered through all
epochs, each to one worker. A worker reads its piece, shuffles it, decodes,
augments and makes batches, going on into its next piece without a break. So

* no (epoch, record, copy) is seen twice, by however many workers and hosts;
* all are seen, but for what a worker that dies was holding: the piece it was
  reading and the batches it had ready;
* noise is that of `pipeline`, bit for bit; order and composition of batches are
  not repeatable, and epochs overlap by the pieces being worked on.

Workers run a graph, not Python. They read the files themselves, by the paths
this process has.
"""

import dataclasses
import math
import os

import tensorflow as tf

from data import files, pipeline, record_order, shuffling
from data.records import RecordSet
from data.streams import HostShare, TrainingInput
from data.untuned import BATCHES_AHEAD, untuned

# At least: fewer would lose more with a worker and make more epochs overlap.
PIECES = 16


@dataclasses.dataclass(frozen=True)
class Cut:
    """How an epoch is cut into pieces.

    A file has `strides` parts, every strides-th example each; a piece has
    `parts_per_piece` of the `parts` of all files.
    """

    strides: int
    parts: int
    parts_per_piece: int

    @property
    def pieces(self) -> int:
        """How many an epoch has."""
        return math.ceil(self.parts / self.parts_per_piece)


def cut(examples: RecordSet) -> Cut:
    """Pieces that the shuffle buffer holds, made of whole files where these suffice.

    A file in n parts is read n times an epoch (and decoded once).
    """
    strides = math.ceil(PIECES / len(examples.files))
    parts = strides * len(examples.files)
    examples_per_part = math.ceil(examples.num_examples / parts)
    fitting = record_order.SHUFFLE_BUFFER // examples_per_part
    return Cut(strides, parts, max(1, min(parts // PIECES, fitting)))


def training_batches(
    address: str,
    stream: TrainingInput,
    batch_size: int,
    start_example: int = 0,
    share: HostShare = HostShare(),
) -> tf.data.Dataset:
    """`pipeline.training_batches` from the workers of a tf.data service.

    Args:
        address: The dispatcher, `grpc://HOST:PORT`.
        stream: What to read.
        batch_size: Examples in a batch.
        start_example: How many examples of this host's stream to pass over, to
            within a piece.
        share: Which of the pieces are this host's.
    """
    stream = dataclasses.replace(stream, examples=_absolute(stream.examples))
    pieces = cut(stream.examples).pieces
    first = start_example * pieces // stream.examples.num_examples
    # Not Dataset.counter: it cannot be dealt out, each worker would count for itself.
    units = tf.data.Dataset.range(
        share.index + share.count * first, tf.int64.max, share.count
    )
    per_step = batch_size * share.replicas
    dataset = units.flat_map(lambda unit: _piece(stream, unit, per_step))
    dataset = pipeline.augmented_batches(stream, dataset, batch_size)
    dynamic = tf.data.experimental.service.ShardingPolicy.DYNAMIC
    distribute = tf.data.experimental.service.distribute(dynamic, address)
    return untuned(dataset.apply(distribute).prefetch(BATCHES_AHEAD))


def _piece(stream: TrainingInput, unit: tf.Tensor, per_step: int) -> tf.data.Dataset:
    """(path, position, record, copy, epoch) of piece number `unit`, shuffled."""
    made = cut(stream.examples)
    epoch, rank = unit // made.pieces, unit % made.pieces
    seed = tf.cast(stream.seed, tf.int64)
    dealt = tf.argsort(
        tf.random.stateless_uniform([made.parts], tf.stack([seed, epoch])), stable=True
    )
    start = tf.cast(rank, tf.int32) * made.parts_per_piece
    parts = dealt[start : start + made.parts_per_piece]
    paths = tf.constant(stream.examples.files)

    def part(number):
        dataset = record_order.copied_records(stream, paths[number // made.strides])
        if made.strides == 1:
            return dataset
        index = tf.cast(number % made.strides, tf.int64)
        return dataset.shard(made.strides, index)

    dataset = tf.data.Dataset.from_tensor_slices(parts).flat_map(part)
    # As if a batch began with the piece, which is not known here.
    buffer = record_order.shuffle_buffer(stream.examples)
    order = tf.stack([seed, unit])
    dataset = shuffling.shuffled(dataset, buffer, per_step, 0, order)
    return dataset.map(lambda *record: (*record, epoch))


def _absolute(examples: RecordSet) -> RecordSet:
    """The same files by names that hold in a worker's current directory too."""

    def absolute(path):
        return os.path.abspath(path) if files.is_local(path) else path

    return dataclasses.replace(
        examples,
        files=tuple(map(absolute, examples.files)),
        skipped=tuple(
            dataclasses.replace(bad, file=absolute(bad.file)) for bad in examples.skipped
        ),
    )
