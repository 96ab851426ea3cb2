"""tf.data pipelines: training batches with noise, evaluation batches without.

Training reads records in a seeded order of its own for every epoch, each
epoch keyed by its number; starting at step n reads past earlier records
without decoding them. All noise is drawn from (seed, epoch, record id, copy),
so a run started again sees exactly what an unbroken one would have seen.

An epoch: files in random order -> this host's part -> copies -> random order
with copies apart -> decoding and noise -> batches.

Training batches are dicts:
    image uint8 `[B, S, S, 3]`; label int32 `[B]` but for unlabeled sets; for
    pseudo-labeled ones probabilities float32 `[B, C]`; for unlabeled ones
    teacher_image float32 `[B, T, T, 3]`, not clipped.
Evaluation batches are dicts:
    image float32 `[B, S, S, 3]`, label int32 `[B]` (-1 unknown), id `[B]`.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from data import augmentation as aug
from data import bad_records, images, records, shuffling, soft_labels
from data.errors import InputError
from data.records import BadRecord, RecordSet
from data.untuned import untuned

SHUFFLE_BUFFER = 16384  # Records, as in the published code.
SHUFFLE_BYTES = 2**29  # About; four times as much is in memory for moments.
BATCHES_AHEAD = 2  # Of large images two are much.


@dataclasses.dataclass(frozen=True)
class HostShare:
    """This host's part of the input: host `index` of `count`.

    `replicas` of this host each take one batch a step.
    """

    index: int = 0
    count: int = 1
    replicas: int = 1


@dataclasses.dataclass(frozen=True)
class TeacherView:
    """Without noise, at the teacher's image size in pixels and with its crop."""

    image_size: int
    crop: str


@dataclasses.dataclass(frozen=True)
class InputNoise:
    """Noise on images that are not trained on, drawn from seed and record id."""

    augmentation: aug.Augmentation
    seed: int


@dataclasses.dataclass(frozen=True)
class TrainingInput:
    """What one training stream of examples is made from.

    Attributes:
        examples: The records.
        image_size: Side of the images in pixels.
        augmentation: The input noise.
        seed: Together with epoch, record id and copy decides every draw.
        kind: What the records hold, see `data.records`: true labels (`labeled`),
            stored ones (`pseudo_labeled`), or none, for a teacher that labels
            them as training runs (`unlabeled`).
        teacher_view: How that teacher sees the images.
    """

    examples: RecordSet
    image_size: int
    augmentation: aug.Augmentation
    seed: int
    kind: str = "labeled"
    teacher_view: TeacherView | None = None


def training_batches(
    stream: TrainingInput,
    batch_size: int,
    start_example: int = 0,
    share: HostShare = HostShare(),
) -> tf.data.Dataset:
    """An endless stream of augmented batches.

    Args:
        stream: What to read.
        batch_size: Examples in a batch, which one replica takes.
        start_example: How many examples of this host's stream to pass over.
        share: Which part of the records is this host's.

    Raises:
        InputError: This host has no example. While batches are read: TensorFlow's
            errors, see `explained_training`.
    """
    ordered = _undecoded(stream, batch_size, start_example, share)
    return augmented_batches(stream, ordered, batch_size)


def augmented_batches(
    stream: TrainingInput, ordered: tf.data.Dataset, batch_size: int
) -> tf.data.Dataset:
    """Batches of (path, position, record, copy, epoch), decoded and with noise."""
    label_format = None
    if stream.kind == "pseudo_labeled":
        label_format = soft_labels.format_of_set(stream.examples)
    dataset = ordered.map(
        lambda *raw: _training_example(stream, label_format, *raw),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    dataset = dataset.batch(batch_size, drop_remainder=True)
    return untuned(dataset.prefetch(BATCHES_AHEAD))


@contextlib.contextmanager
def explained_training(
    stream: TrainingInput,
    batch_size: int,
    start_example: int,
    count: int,
    share: HostShare = HostShare(),
):
    """Makes errors of `training_batches` an `InputError` that names the record.

    Args:
        stream: What is read.
        batch_size: Examples in a batch.
        start_example: The first example of this host's stream that is read here.
        count: How many are read here at most.
        share: Which part of the records is this host's.
    """

    def find():
        contract = bad_records.contract_of(stream.examples, stream.kind)
        raw = _undecoded(stream, batch_size, start_example, share).take(count)
        try:
            for path, position, serialized, *_ in raw.as_numpy_iterator():
                bad = bad_records.check(path.decode(), int(position), serialized, contract)
                if bad:
                    return bad
        except tf.errors.FailedPreconditionError as error:
            raise _other_number(stream.examples, error) from error
        except bad_records.PIPELINE_ERRORS:  # Not even the reading works.
            examples = stream.examples
            return bad_records.find_first(
                examples.files, contract, examples.skipped, decode=False
            )
        return None

    with bad_records.explained(find):
        yield


def named_examples(
    stream: TrainingInput,
    batch_size: int,
    start_example: int,
    count: int,
    share: HostShare = HostShare(),
) -> list[dict]:
    """Which examples `training_batches` reads, without decoding them.

    Args:
        stream: What is read.
        batch_size: Examples in a batch.
        start_example: The first example of this host's stream to name.
        count: How many to name.
        share: Which part of the records is this host's.

    Returns:
        For each: `id`, `file`, `position` in it, `copy` and `epoch`, from 0.
    """
    raw = _undecoded(stream, batch_size, start_example, share).take(count)
    found = []
    for path, position, serialized, copy, epoch in raw.as_numpy_iterator():
        path, position = path.decode(), int(position)
        example = tf.train.Example.FromString(serialized)
        id_ = records.example_id(example, path, position)
        place = {"id": id_, "file": path, "position": position}
        found.append({**place, "copy": int(copy), "epoch": int(epoch)})
    return found


def evaluation_batches(
    paths,
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

    def image(encoded, identity):
        if noise is None:
            return aug.clean(encoded, image_size, crop)
        seed = _noise_seed(identity, noise.seed)
        return aug.augmented(encoded, image_size, noise.augmentation, seed)

    def parse(path, position, serialized):
        features = tf.io.parse_single_example(
            serialized,
            {
                records.IMAGE: tf.io.FixedLenFeature([], tf.string),
                records.ID: tf.io.FixedLenFeature([], tf.string, ""),
                records.TRUE_LABEL: tf.io.FixedLenFeature([], tf.int64, -1),
            },
        )
        stored = features[records.TRUE_LABEL]
        label = tf.where(stored < 0, stored, stored - label_offset)
        if num_classes is not None:
            label = _checked_label(label, num_classes)
        identity = _record_id(features[records.ID], path, position)
        place = {"path": path, "position": position} if by_file else {}
        return {
            "image": image(features[records.IMAGE], identity),
            "label": tf.cast(label, tf.int32),
            "id": identity,
            **place,
        }

    read = functools.partial(_numbered_records, skipped=skipped)
    if by_file:
        read = functools.partial(_filled_records, batch_size=batch_size, skipped=skipped)
    dataset = tf.data.Dataset.from_tensor_slices(list(paths)).flat_map(read)
    if by_file:
        dataset = dataset.prefetch(batch_size)  # The next file is opened in good time.
    dataset = dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return untuned(dataset.batch(batch_size).prefetch(BATCHES_AHEAD))


def explained_evaluation(examples: RecordSet, kind: str, paths=None):
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


def _undecoded(stream: TrainingInput, batch_size, start_example, share) -> tf.data.Dataset:
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


def _other_number(examples: RecordSet, error) -> InputError:
    reason = error.message.split("}} ")[-1].split(" [Op:")[0]
    return InputError(
        f"{examples.files[:1]} and the other {len(examples.files) - 1} files of the set: "
        f"expected the {examples.num_examples} examples on record; received another "
        f"number ({reason}) The files were changed: delete them and rerun the stage that "
        "made them."
    )


def _epoch(stream: TrainingInput, epoch, batch_size, share) -> tf.data.Dataset:
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


def _in_file_order(stream: TrainingInput, seed, start, end) -> tf.data.Dataset:
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


def copied_records(stream: TrainingInput, path) -> tf.data.Dataset:
    """(path, position, record, copy) of one file, in the file's order."""
    dataset = _numbered_records(path, stream.examples.skipped)
    if stream.kind == "pseudo_labeled":
        return dataset.flat_map(_copies)
    return dataset.map(lambda *record: (*record, tf.constant(0, tf.int64)))


def _numbered_records(path, skipped: Sequence[BadRecord] = ()) -> tf.data.Dataset:
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


def _filled_records(path, batch_size: int, skipped) -> tf.data.Dataset:
    """`_numbered_records`, then blank ones up to a whole batch: one at least.

    One stream over all files then has its batches' ends where files end, and decodes
    the next file's records while the last batch of this one is used.
    """
    pixel = images.encode_png(np.zeros((1, 1, 3), np.uint8))
    blank = records.serialize({records.IMAGE: pixel})
    blanks = tf.data.Dataset.from_tensors((path, tf.constant(-1, tf.int64), blank))
    dataset = _numbered_records(path, skipped).concatenate(blanks.repeat(batch_size))
    return dataset.batch(batch_size, drop_remainder=True).unbatch()


def _copies(path, position, serialized) -> tf.data.Dataset:
    """A balanced record as often as its `copies` says, each numbered."""
    features = tf.io.parse_single_example(
        serialized, {records.COPIES: tf.io.FixedLenFeature([], tf.int64, 1)}
    )
    return tf.data.Dataset.range(features[records.COPIES]).map(
        lambda copy: (path, position, serialized, copy)
    )


def _training_example(stream, label_format, path, position, serialized, copy, epoch):
    read = _training_features(stream, label_format)
    features = tf.io.parse_single_example(serialized, read)
    identity = _record_id(features[records.ID], path, position)
    seed = _noise_seed(identity, stream.seed, copy, epoch)
    encoded = features[records.IMAGE]
    image = aug.augmented(encoded, stream.image_size, stream.augmentation, seed)
    if stream.kind == "unlabeled":
        view = stream.teacher_view
        clean = aug.clean(encoded, view.image_size, view.crop)
        return {"image": image, "teacher_image": clean}
    num_classes = stream.examples.num_classes
    if stream.kind == "pseudo_labeled":
        return {
            "image": image,
            "label": _checked_label(features[records.LABEL], num_classes),
            "probabilities": soft_labels.decode_tensor(features, label_format, num_classes),
        }
    label = features[records.TRUE_LABEL] - stream.examples.label_offset
    return {"image": image, "label": _checked_label(label, num_classes)}


def _training_features(stream: TrainingInput, label_format) -> dict:
    """What is read of a record; `label_format` is that of pseudo-labeled ones."""
    features = {
        records.IMAGE: tf.io.FixedLenFeature([], tf.string),
        records.ID: tf.io.FixedLenFeature([], tf.string, ""),
    }
    if stream.kind == "labeled":
        features[records.TRUE_LABEL] = tf.io.FixedLenFeature([], tf.int64)
    if stream.kind == "pseudo_labeled":
        features[records.LABEL] = tf.io.FixedLenFeature([], tf.int64)
        features |= soft_labels.features(label_format, stream.examples.num_classes)
    return features


def _checked_label(label, num_classes: int) -> tf.Tensor:
    """The label as int32; one outside the classes is an error, not a silent loss."""
    # A look-up costs next to nothing, an assertion 18 microseconds a record.
    with tf.device("/CPU:0"):  # On a GPU it would return 0.
        return tf.gather(tf.range(num_classes), label)


def _noise_seed(identity, seed, copy=0, epoch=-1) -> tf.Tensor:
    """What the noise of one image is drawn from: int64 `[2]`; epoch -1: no training."""
    return tf.stack(
        [
            tf.strings.to_hash_bucket_fast(identity, 2**62) + copy,
            tf.cast(seed, tf.int64) * 2**32 + epoch,
        ]
    )


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
