"""Training batches: records in order -> decoding and noise -> batches.

All noise is drawn from (seed, epoch, record id, copy), so a run started again sees exactly
what an unbroken one would have seen.

Batches are dicts:
    image uint8 `[B, S, S, 3]`, float32 without augmentation; label int32 `[B]` but for
    unlabeled sets; for pseudo-labeled ones probabilities float32 `[B, C]`; for unlabeled
    ones teacher_image float32 `[B, T, T, 3]`, not clipped.
"""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from data import augmentation as aug
from data import bad_records, records, soft_labels
from data.example_tensors import checked_label, noise_seed, record_id
from data.record_order import other_number, undecoded
from data.soft_labels import LabelFormat
from data.streams import HostShare, TrainingInput
from data.untuned import BATCHES_AHEAD, untuned


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
    ordered = undecoded(stream, batch_size, start_example, share)
    return augmented_batches(stream, ordered, batch_size)


def augmented_batches(
    stream: TrainingInput, ordered: tf.data.Dataset, batch_size: int
) -> tf.data.Dataset:
    """Batches of (path, position, record, copy, epoch), decoded and with noise."""
    label_format = None
    if stream.kind == "pseudo_labeled":
        label_format = soft_labels.format_of_set(stream.examples)
    dataset = ordered.map(
        lambda *raw: training_example(stream, label_format, *raw),
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
) -> Iterator[None]:
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
        raw = undecoded(stream, batch_size, start_example, share).take(count)
        try:
            for path, position, serialized, *_ in raw.as_numpy_iterator():
                bad = bad_records.check(path.decode(), int(position), serialized, contract)
                if bad:
                    return bad
        except tf.errors.FailedPreconditionError as error:
            raise other_number(stream.examples, error) from error
        except bad_records.PIPELINE_ERRORS:  # Not even the reading works.
            examples = stream.examples
            return bad_records.find_first(
                examples.files, contract, examples.skipped, decode=False
            )
        return None

    with bad_records.explained(find, stream.examples.files):
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
    raw = undecoded(stream, batch_size, start_example, share).take(count)
    found = []
    for path, position, serialized, copy, epoch in raw.as_numpy_iterator():
        path, position = path.decode(), int(position)
        example = tf.train.Example.FromString(serialized)
        id_ = records.example_id(example, path, position)
        place = {"id": id_, "file": path, "position": position}
        found.append({**place, "copy": int(copy), "epoch": int(epoch)})
    return found


def training_example(
    stream: TrainingInput,
    label_format: LabelFormat | None,
    path: tf.Tensor,
    position: tf.Tensor,
    serialized: tf.Tensor,
    copy: tf.Tensor,
    epoch: tf.Tensor,
) -> dict:
    """One record, in graph: decoded, with noise; what batches hold, without B."""
    read = _training_features(stream, label_format)
    features = tf.io.parse_single_example(serialized, read)
    identity = record_id(features[records.ID], path, position)
    seed = noise_seed(identity, stream.seed, copy, epoch)
    encoded = features[records.IMAGE]
    image = aug.augmented(encoded, stream.image_size, stream.augmentation, seed)
    if stream.kind == "unlabeled":
        view = stream.teacher_view
        assert view is not None
        clean = aug.clean(encoded, view.image_size, view.crop)
        return {"image": image, "teacher_image": clean}
    num_classes = stream.examples.num_classes
    if stream.kind == "pseudo_labeled":
        assert label_format is not None
        return {
            "image": image,
            "label": checked_label(features[records.LABEL], num_classes),
            "probabilities": soft_labels.decode_tensor(features, label_format, num_classes),
        }
    label = features[records.TRUE_LABEL] - stream.examples.label_offset
    return {"image": image, "label": checked_label(label, num_classes)}


def _training_features(stream: TrainingInput, label_format: LabelFormat | None) -> dict:
    """What is read of a record; `label_format` is that of pseudo-labeled ones."""
    features = {
        records.IMAGE: tf.io.FixedLenFeature([], tf.string),
        records.ID: tf.io.FixedLenFeature([], tf.string, ""),
    }
    if stream.kind == "labeled":
        features[records.TRUE_LABEL] = tf.io.FixedLenFeature([], tf.int64)
    if label_format:
        features[records.LABEL] = tf.io.FixedLenFeature([], tf.int64)
        features |= soft_labels.features(label_format, stream.examples.num_classes)
    return features
