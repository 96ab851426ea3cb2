"""The flags that say how records are read."""

from collections.abc import Sequence

from absl import flags

from data.errors import InputError
from data.records import RecordSet
from noisy_student.preparation.preparation import prepare_set

# They belong to the script that asks for them: --helpshort.
flags.disclaim_key_flags()


def define() -> None:
    """Defines --label_offset and --skip_bad_records."""
    flags.DEFINE_integer(
        "label_offset", 0, "Subtracted from labels in TFRecord files (1 for ImageNet's)."
    )
    flags.DEFINE_bool(
        "skip_bad_records", False, "Leave bad records of TFRecord files out, counted."
    )


def prepare(
    argument: str,
    dataset: str,
    directory: str,
    class_names: Sequence[str] | None = None,
    labeled: bool = True,
) -> RecordSet:
    """`prepare_set` of the data set that `argument` names, with what the flags say."""
    return prepare_set(
        dataset,
        directory,
        class_names=class_names,
        label_offset=flags.FLAGS.label_offset,
        labeled=labeled,
        skip_bad_records=flags.FLAGS.skip_bad_records,
        write=_writes_shards(),
        argument=argument,
    )


def check_written(argument: str, reason: str) -> None:
    """Refuses a set that several workers would each write as TFRecord files.

    Args:
        argument: The flag that names it; one without a value passes.
        reason: Why there are several workers, such as `--num_workers=3`.
    """
    dataset = flags.FLAGS[argument].value
    if dataset and not dataset.startswith("tfrecord:"):
        raise InputError(
            f"`{argument}`: expected TFRecord files, tfrecord:GLOB, with {reason}; "
            f"received {dataset!r}, which every worker would write anew as TFRecord files. "
            "Run tpu_scripts.prepare_data first, and pass what it writes."
        )


def _writes_shards() -> bool:
    """Not in a dry run, where a script has one, but for --measure."""
    planned = "dry_run" in flags.FLAGS and flags.FLAGS.dry_run
    return not planned or flags.FLAGS.measure
