"""What is wrong with a record, in words; and sets without their bad records.

The tf.data pipelines check in graph, at next to no cost, and fail with
TensorFlow's errors, which name neither file nor record. `explained` then reads
the records again in Python and says which one it was and what it lacks.
"""

import concurrent.futures
import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import tensorflow as tf
from google.protobuf.message import DecodeError

from data import crops, records, soft_labels
from data.errors import InputError, reason_of
from data.records import BadRecord, RecordSet
from data.soft_labels import FLOAT32, LabelFormat
from data.untuned import untuned

# What a bad record makes of a tf.data pipeline. The last one comes from Python:
# TensorFlow quotes the bytes of what is no tf.train.Example in its message.
PIPELINE_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    UnicodeDecodeError,
)
_TYPES = {"bytes_list": tf.string, "int64_list": tf.int64, "float_list": tf.float32}
_CHECKS_AHEAD = 64
_NAMED = 5  # Bad records that a report names.
_REWRITE = "Write the file again (delete it and rerun the stage that made it)"


@dataclasses.dataclass(frozen=True)
class Contract:
    """What the records of a set must hold.

    Attributes:
        kind: `labeled`, `pseudo_labeled` or `unlabeled`, see `data.records`.
        num_classes: Labels lie below it and as many probabilities are stored;
            None: any label.
        label_offset: Subtracted from true labels.
        label_format: Of all soft labels of the set.
    """

    kind: str
    num_classes: int | None = None
    label_offset: int = 0
    label_format: LabelFormat = FLOAT32

    def features(self) -> list[tuple[str, str, int | None, bool]]:
        """Key, kind of list, number of values, whether it must be there."""
        rows: list[tuple[str, str, int | None, bool]] = [
            (records.IMAGE, "bytes_list", 1, True),
            (records.ID, "bytes_list", 1, False),
        ]
        if self.kind != "pseudo_labeled":
            needed = self.kind == "labeled"
            return [*rows, (records.TRUE_LABEL, "int64_list", 1, needed)]
        return [
            *rows,
            (records.LABEL, "int64_list", 1, True),
            *self._soft_label(),
            (records.COPIES, "int64_list", 1, False),
        ]

    def _soft_label(self) -> list[tuple[str, str, int | None, bool]]:
        if self.label_format == FLOAT32:
            return [(records.PROBABILITIES, "float_list", self.num_classes, True)]
        if not self.label_format.top:
            return [(soft_labels.HALF, "bytes_list", 1, True)]
        return [
            (soft_labels.TOP_CLASSES, "int64_list", self.label_format.top, True),
            (soft_labels.TOP, "bytes_list", 1, True),
        ]


def contract_of(examples: RecordSet, kind: str) -> Contract:
    """What the records of a set must hold, read as `kind` (see `Contract`)."""
    if kind != "pseudo_labeled":
        return Contract(kind, examples.num_classes, examples.label_offset)
    label_format = soft_labels.format_of_set(examples)
    return Contract(kind, examples.num_classes, label_format=label_format)


def problem(
    serialized: bytes, contract: Contract, decode: bool = True
) -> tuple[str, str] | None:
    """What is wrong with a record and what to do about it; None if nothing is.

    Args:
        serialized: The record.
        contract: What it must hold.
        decode: Whether to try the image too, which takes most of the time.
    """
    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except DecodeError:
        size = len(serialized)
        text = f"expected a serialized tf.train.Example; received {size} other bytes."
        return text, _REWRITE
    other = contract.kind == "pseudo_labeled" and soft_labels.format_problem(
        features, contract.label_format
    )
    if other:
        return other, "Label and balance the whole set with one --label_format"
    for key, kind, length, needed in contract.features():
        text = _feature_problem(features, key, kind, length, needed)
        if text:
            return f"`{key}`: {text}", "Mend what wrote these files"
    text = contract.kind == "pseudo_labeled" and soft_labels.problem(
        features,
        contract.label_format,
        contract.num_classes,  # type: ignore[arg-type]  # Known of pseudo-labels.
    )
    if text:
        return text, "Mend what wrote these files"
    return (
        _id_problem(features)
        or _label_problem(features, contract)
        or _parser_problem(serialized, contract)
        or (_image_problem(features[records.IMAGE].bytes_list.value[0]) if decode else None)
    )


def _feature_problem(
    features: Mapping[str, tf.train.Feature],
    key: str,
    kind: str,
    length: int | None,
    needed: bool,
) -> str | None:
    found = features[key].WhichOneof("kind") if key in features else None
    if found is None:
        there = ", ".join(sorted(features)) or "no feature at all"
        return f"expected this feature; received {there}." if needed else None
    if found != kind:
        return f"expected {kind[:-5]} values; received {found[:-5]} values."
    count = len(getattr(features[key], kind).value)
    if count != length:
        return f"expected {length} value(s); received {count}."
    return None


def _id_problem(features: Mapping[str, tf.train.Feature]) -> tuple[str, str] | None:
    value = features[records.ID].bytes_list.value
    try:
        _ = value and value[0].decode()
    except UnicodeDecodeError:
        text = f"`{records.ID}`: expected UTF-8; received {value[0][:80]!r}."
        return text, "Mend what wrote these files"
    return None


def _parser_problem(serialized: bytes, contract: Contract) -> tuple[str, str] | None:
    """TensorFlow's own parser refuses what protobuf reads, such as a doubled field."""
    features = contract.features()
    try:
        with tf.device("/CPU:0"):
            # Of any length, which was looked at before. `tf.io.parse_single_example` takes
            # 0.8 ms a record.
            tf.raw_ops.ParseSingleExample(
                serialized=serialized,
                dense_defaults=[],
                num_sparse=len(features),
                sparse_keys=[key for key, *_ in features],
                sparse_types=[_TYPES[kind] for _, kind, *_ in features],
                dense_keys=[],
                dense_shapes=[],
            )
    # The message may quote bytes that are no text.
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
        return "expected a tf.train.Example that TensorFlow's parser reads.", _REWRITE
    return None


def _label_problem(
    features: Mapping[str, tf.train.Feature], contract: Contract
) -> tuple[str, str] | None:
    if contract.kind == "unlabeled":
        return None  # The truth, where known, is for reports alone.
    key = records.LABEL if contract.kind == "pseudo_labeled" else records.TRUE_LABEL
    stored = features[key].int64_list.value[0]
    first, classes = contract.label_offset, contract.num_classes
    last = None if classes is None else first + classes - 1
    if stored >= first and (last is None or stored <= last):
        return None
    expected = f"{first} or more" if last is None else f"{first} to {last}"
    known = "" if last is None else f"{classes} classes, "
    text = f"expected {expected} ({known}`label_offset` {first}); received {stored}."
    remedy = "Pass the --label_offset of these files, or complete class_names.json"
    return f"`{key}`: {text}", remedy


def _image_problem(encoded: bytes) -> tuple[str, str] | None:
    try:
        with tf.device("/CPU:0"):
            crops.decode(tf.constant(encoded))
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        reason = reason_of(getattr(error, "message", None) or str(error)).splitlines()[0]
        text = f"expected a JPEG, PNG, GIF or BMP file; received {len(encoded)} bytes"
        return f"`{records.IMAGE}`: {text}: {reason.rstrip('.')}.", "Mend the image"
    return None


def examine(
    path: str, contract: Contract, decode: bool = True
) -> Iterator[tuple[tf.train.Example | None, BadRecord | None]]:
    """Each record of a file: the example, or what is wrong with it.

    Of a truncated or damaged file the readable beginning is examined; one
    `BadRecord` stands for the rest.
    """

    def examined(numbered):
        position, serialized = numbered
        if isinstance(serialized, BadRecord):
            return None, serialized
        bad = check(path, position, serialized, contract, decode)
        return (None, bad) if bad else (tf.train.Example.FromString(serialized), None)

    found = enumerate(_serialized_records(path))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        while ahead := list(itertools.islice(found, _CHECKS_AHEAD)):
            yield from pool.map(examined, ahead)


def check(
    path: str, position: int, serialized: bytes, contract: Contract, decode: bool = True
) -> BadRecord | None:
    """The `BadRecord` that a record is, or None."""
    found = problem(serialized, contract, decode)
    if found is None:
        return None
    with contextlib.suppress(DecodeError, InputError):  # No example, or no UTF-8.
        example = tf.train.Example.FromString(serialized)
        return BadRecord(path, position, records.example_id(example, "", 0), *found)
    return BadRecord(path, position, "", *found)


def _serialized_records(path: str) -> Iterator[bytes | BadRecord]:
    count = 0
    try:
        for serialized in untuned(tf.data.TFRecordDataset(path)).as_numpy_iterator():
            yield serialized
            count += 1
    except tf.errors.DataLossError as error:
        reason = reason_of(error.message)
        text = f"expected a whole TFRecord; received a cut or damaged one ({reason})."
        yield BadRecord(path, count, "", text, _REWRITE, rest_of_file=True)


def find_first(
    paths: Iterable[str],
    contract: Contract,
    skipped: Iterable[BadRecord] = (),
    decode: bool = True,
) -> BadRecord | None:
    """The first `BadRecord` of some files that is not in `skipped`, or None."""
    known = {(bad.file, bad.position) for bad in skipped}
    for path in paths:
        for _, bad in examine(path, contract, decode):
            if bad and bad.rest_of_file and (path, bad.position) in known:
                break
            if bad and (path, bad.position) not in known:
                return bad
    return None


def without_bad(examples: RecordSet, kind: str) -> RecordSet:
    """The set with its bad records on the list of those to skip."""
    skipped, counts = [], []
    contract = contract_of(examples, kind)
    for path in examples.files:
        counts.append(0)
        for example, bad in examine(path, contract):
            if bad:
                skipped.append(bad)
            else:
                counts[-1] += _stored_copies(example) if kind == "pseudo_labeled" else 1
    if skipped and not sum(counts):
        raise all_bad(skipped)
    return dataclasses.replace(
        examples, examples_per_file=tuple(counts), skipped=tuple(skipped)
    )


def _stored_copies(example: tf.train.Example) -> int:
    value = example.features.feature[records.COPIES].int64_list.value
    return value[0] if value else 1


def all_bad(skipped: Sequence[BadRecord]) -> InputError:
    """The error for a set in which no record is good."""
    return InputError(
        f"{skipped[0].file}: expected at least one good record; all {len(skipped)} are "
        f"bad. The first: {skipped[0].name}: {skipped[0].problem} {skipped[0].remedy}."
    )


@contextlib.contextmanager
def explained(
    find: Callable[[], BadRecord | None], paths: Iterable[str] = ()
) -> Iterator[None]:
    """Makes of a pipeline's error an `InputError` that names the bad record.

    Args:
        find: Looks for it, once a pipeline has failed. Where it finds none the
            error stays what it was.
        paths: Files that are read; the error names those that are gone.
    """
    try:
        yield
    except tf.errors.NotFoundError as error:
        gone = [path for path in paths if not tf.io.gfile.exists(path)]
        if not gone:  # Where a worker looks for them, perhaps.
            raise
        raise InputError(
            f"{gone[0]}: expected a file that stays while it is read; it is gone, and "
            f"{len(gone) - 1} more of its set. Put it back, or run the stage again that "
            "made it; then this command goes on from what it has finished."
        ) from error
    except PIPELINE_ERRORS as error:
        bad = find()
        if bad is None:
            raise
        raise as_error(bad) from error


def as_error(bad: BadRecord) -> InputError:
    """The error that names a bad record, where it lies and what to do."""
    return InputError(
        f"Bad record in {bad.file}, {bad.place}: {bad.problem} {bad.remedy}, or pass "
        "--skip_bad_records to go on without such records."
    )


def report(skipped: Sequence[BadRecord]) -> dict:
    """What was skipped, for a manifest: `count`, and the `first` few in words."""
    first = [f"{bad.name}: {bad.problem}" for bad in skipped[:_NAMED]]
    return {"count": len(skipped), "first": first}


def print_note(skipped: dict) -> None:
    """Says in a line what `report` holds; nothing where nothing was skipped."""
    if skipped["count"]:
        print(f"{skipped['count']} bad record(s) skipped, such as {skipped['first'][0]}")
