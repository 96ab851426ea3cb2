"""Soft labels in records: a teacher's probabilities for one image, in three formats.

For C classes a record holds

* `float32`: `probabilities`, C floats, as the published code writes them;
* `float16`: `probabilities/float16`, bytes: C half floats, little-endian;
* `top_K`, such as `top_10`: `top/classes`, the K most probable classes as int64,
  ascending; `top/probabilities`, bytes: their K probabilities and, last, that of
  all other classes together, as half floats.

Read back, float32 is what was stored, to the bit. The other two are divided by
their sum; the other classes of top_K share what is left evenly:

    p_c = r / (C - K)   for c not among the K, r: the last half float

A half float has an error of 1/2048 of its value at most, of 3e-8 below 6e-5. The
remainder is stored instead of taken as 1 - Σ p: next to a probability of 0.9999,
whose half float is 1, it would be lost.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from data import records
from data.errors import InputError
from data.records import BadRecord, RecordSet

HALF, TOP_CLASSES = "probabilities/float16", "top/classes"
TOP = "top/probabilities"
_HALF_FLOAT = np.dtype("<f2")


@dataclasses.dataclass(frozen=True)
class LabelFormat:
    """How soft labels are stored.

    Attributes:
        name: `float32`, `float16` or `top_K`.
        top: K, the number of classes that have a probability of their own; 0: all.
    """

    name: str
    top: int = 0


FLOAT32, FLOAT16 = LabelFormat("float32"), LabelFormat("float16")


def parse_format(name: str, num_classes: int | None = None) -> LabelFormat:
    """The format of a name.

    Args:
        name: `float32`, `float16` or such as `top_10`.
        num_classes: Which K may not exceed; None: not known yet.

    Raises:
        InputError: It names no format, or more classes than there are.
    """
    for known in (FLOAT32, FLOAT16):
        if name == known.name:
            return known
    match = re.fullmatch(r"top_([1-9]\d{0,8})", name)
    if not match:
        raise InputError(
            "`label_format`: expected float32, float16 or top_K with a number K from 1 on, "
            f"such as top_10; received {name!r}."
        )
    top = int(match[1])
    if num_classes is not None and top > num_classes:
        raise InputError(
            f"`label_format`: expected a K of at most {num_classes}, the number of "
            f"classes; received {name!r}. To keep all of them take float16."
        )
    return LabelFormat(name, top)


def encode(probabilities: np.ndarray, label_format: LabelFormat) -> Any:
    """The features of soft labels, for `records.write_shard`.

    Args:
        probabilities: float `[C]`, or `[N, C]` for a batch.
        label_format: How to store them.

    Returns:
        A dict, or N of them.

    Raises:
        InputError: Some are NaN or infinite.
    """
    rows = np.atleast_2d(np.asarray(probabilities, np.float32))
    _check_finite(rows)
    if label_format == FLOAT32:
        encoded = [{records.PROBABILITIES: row} for row in rows]
    elif label_format == FLOAT16:
        halves = rows.astype(_HALF_FLOAT)
        encoded = [{HALF: row.tobytes()} for row in halves]
    else:
        encoded = _encode_top(rows, label_format.top)
    return encoded[0] if np.ndim(probabilities) == 1 else encoded


def decode(
    feature: Mapping[str, tf.train.Feature], label_format: LabelFormat, num_classes: int
) -> np.ndarray:
    """Probabilities float32 `[C]` from the features of a parsed `tf.train.Example`.

    Args:
        feature: `example.features.feature`.
        label_format: Of the record.
        num_classes: C.
    """
    if label_format == FLOAT32:
        return np.array(feature[records.PROBABILITIES].float_list.value, np.float32)
    if label_format == FLOAT16:
        stored = _halves(feature[HALF])
    else:
        values = _halves(feature[TOP])
        rest = values[-1] / np.float32(max(num_classes - label_format.top, 1))
        stored = np.full(num_classes, rest, np.float32)
        stored[list(feature[TOP_CLASSES].int64_list.value)] = values[:-1]
    return stored / stored.sum()


def features(label_format: LabelFormat, num_classes: int) -> dict:
    """What `tf.io.parse_single_example` is to read of a record."""
    if label_format == FLOAT32:
        return {records.PROBABILITIES: tf.io.FixedLenFeature([num_classes], tf.float32)}
    if label_format == FLOAT16:
        return {HALF: tf.io.FixedLenFeature([], tf.string)}
    return {
        TOP_CLASSES: tf.io.FixedLenFeature([label_format.top], tf.int64),
        TOP: tf.io.FixedLenFeature([], tf.string),
    }


def decode_tensor(parsed: dict, label_format: LabelFormat, num_classes: int) -> tf.Tensor:
    """`decode` of what `features` read, in a tf.data pipeline.

    Args:
        parsed: Tensors by key.
        label_format: Of the record.
        num_classes: C, the static length of what is returned.

    Raises:
        tf.errors.InvalidArgumentError: A record is of another length, or names a
            class that there is not.
    """
    if label_format == FLOAT32:
        return parsed[records.PROBABILITIES]
    with tf.device("/CPU:0"):  # On a GPU a class that there is not would pass.
        if label_format == FLOAT16:
            stored = _half_tensor(parsed[HALF], num_classes)
        else:
            values = _half_tensor(parsed[TOP], label_format.top + 1)
            rest = values[-1] / max(num_classes - label_format.top, 1)
            stored = tf.tensor_scatter_nd_update(
                tf.fill([num_classes], rest), parsed[TOP_CLASSES][:, None], values[:-1]
            )
        return stored / tf.reduce_sum(stored)


def format_in(feature: Mapping[str, tf.train.Feature]) -> LabelFormat | None:
    """The format of a parsed example; None where it has no soft label."""
    if records.PROBABILITIES in feature:
        return FLOAT32
    if HALF in feature:
        return FLOAT16
    top = len(feature[TOP_CLASSES].int64_list.value) if TOP_CLASSES in feature else 0
    return LabelFormat(f"top_{top}", top) if top else None


def format_of(path: str, skipped: Iterable[BadRecord] = ()) -> LabelFormat | None:
    """The format of a shard, from its first record that has a soft label.

    Args:
        path: The shard.
        skipped: Records to pass over.

    Returns:
        None where no record has one.

    Raises:
        InputError: The file cannot be read.
    """
    for _, example in records.numbered_examples(path, skipped):
        found = format_in(example.features.feature)
        if found:
            return found
    return None


def format_of_set(examples: RecordSet) -> LabelFormat:
    """The one format of a pseudo-labeled set, which its first record tells."""
    for path in examples.files:
        # What cannot be read is named once it is read for its own sake.
        with contextlib.suppress(InputError):
            found = format_of(path, examples.skipped)
            if found:
                return found
    return FLOAT32


def format_problem(
    feature: Mapping[str, tf.train.Feature], label_format: LabelFormat
) -> str | None:
    """Says of a parsed example that its soft label has another format, if it has."""
    found = format_in(feature)
    if found in (None, label_format):
        return None
    return (
        f"`label_format`: expected soft labels as {label_format.name}, like the first of "
        f"the set; received {found.name}."
    )


def problem(
    feature: Mapping[str, tf.train.Feature], label_format: LabelFormat, num_classes: int
) -> str | None:
    """What is wrong with a soft label whose features are there; None if nothing is."""
    if label_format == FLOAT16:
        return _size_problem(feature, HALF, num_classes)
    if label_format.top:
        return _size_problem(feature, TOP, label_format.top + 1) or _class_problem(
            feature, num_classes
        )
    return None


def _check_finite(rows: np.ndarray) -> None:
    bad = len(rows) - int(np.isfinite(rows).all(-1).sum())
    if bad:
        raise InputError(
            f"Soft labels: expected finite probabilities; received NaN or infinity for "
            f"{bad} of {len(rows)} images. The teacher's weights, or its precision, do not "
            "hold these images: evaluate it first, or label in float32."
        )


def _encode_top(rows: np.ndarray, top: int) -> list[dict]:
    """Of classes as probable as the K-th the first ones are kept."""
    count, num_classes = rows.shape
    last = np.partition(rows, num_classes - top, axis=-1)[:, [num_classes - top]]
    above, level = rows > last, rows == last
    wanted = top - above.sum(-1, keepdims=True)
    kept = above | (level & (level.cumsum(-1) <= wanted))
    classes = np.nonzero(kept)[1].reshape(count, top)
    rest = np.where(kept, 0, rows).sum(-1, keepdims=True)
    values = np.concatenate([rows[kept].reshape(count, top), rest], axis=-1)
    values = values.astype(_HALF_FLOAT)
    return [{TOP_CLASSES: classes[row], TOP: values[row].tobytes()} for row in range(count)]


def _halves(feature: tf.train.Feature) -> np.ndarray:
    stored = np.frombuffer(feature.bytes_list.value[0], _HALF_FLOAT)
    return stored.astype(np.float32)


def _half_tensor(serialized: tf.Tensor, count: int) -> tf.Tensor:
    stored = tf.io.decode_raw(serialized, tf.float16, little_endian=True)
    return tf.cast(tf.reshape(stored, [count]), tf.float32)


def _size_problem(
    feature: Mapping[str, tf.train.Feature], key: str, count: int
) -> str | None:
    size = len(feature[key].bytes_list.value[0])
    if size == count * _HALF_FLOAT.itemsize:
        return None
    expected = count * _HALF_FLOAT.itemsize
    return (
        f"`{key}`: expected {count} half floats, {expected} bytes; received {size} bytes."
    )


def _class_problem(feature: Mapping[str, tf.train.Feature], num_classes: int) -> str | None:
    classes = np.array(feature[TOP_CLASSES].int64_list.value, np.int64)
    if classes.min() >= 0 and classes.max() < num_classes and (np.diff(classes) > 0).all():
        return None
    return (
        f"`{TOP_CLASSES}`: expected different classes from 0 to {num_classes - 1}, "
        f"ascending; received {classes.tolist()[:10]}."
    )
