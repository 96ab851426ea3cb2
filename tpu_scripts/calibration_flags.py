"""The flags that say whether, and on which images, a teacher is calibrated."""

import os
from collections.abc import Sequence

from absl import flags

from data.errors import InputError
from data.records import RecordSet
from tpu_scripts import record_flags

flags.disclaim_key_flags()


def define() -> None:
    """Defines --calibrate and --validation_data."""
    flags.DEFINE_bool(
        "calibrate",
        False,
        "Label with p^(1/T), T fitted on --validation_data: confidences of all teachers "
        "mean the same.",
    )
    flags.DEFINE_string(
        "validation_data",
        "",
        "Labeled data set that the teacher was not trained on, for --calibrate.",
    )


def validation(output_dir: str, class_names: Sequence[str]) -> RecordSet | None:
    """The record set to fit the temperature on, or None."""
    calibrate, dataset = flags.FLAGS.calibrate, flags.FLAGS.validation_data
    if calibrate != bool(dataset):
        raise InputError(
            "`validation_data`: expected together with --calibrate, and only then; "
            f"received {dataset!r} with --calibrate={str(calibrate).lower()}."
        )
    if not calibrate:
        return None
    several = (flags.FLAGS.num_workers or 1) > 1
    if several and not dataset.startswith("tfrecord:"):
        raise InputError(
            "`validation_data`: expected TFRecord files, tfrecord:GLOB, with several "
            f"workers; received {dataset!r}, which every worker would write anew. Run "
            "tpu_scripts.prepare_data first."
        )
    # Not where the unlabeled images go: each directory has its list of bad files.
    directory = os.path.join(output_dir, "validation")
    return record_flags.prepare("validation_data", dataset, directory, class_names)
