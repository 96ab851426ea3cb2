"""A trained teacher labels unlabeled images.

    python -m tpu_scripts.label --model=runs/hand/generation_0/teacher \\
        --unlabeled_data=tfrecord:runs/hand/data/unlabeled \\
        --output_dir=runs/hand/generation_1/predictions

Several processes that share the files label faster: each runs this with
--num_workers=N and a --worker_index of its own, 0 to N - 1. With --noised_teacher,
labels are made under noise, as the paper tried (table 6): the teacher's own, or what
--augmentation and the flags beside it say. With --calibrate, confidences are made to be
as often right as they say, measured on --validation_data.
"""

import dataclasses
import os

from absl import flags

from data.augmentation import Augmentation
from data.errors import InputError
from noisy_student import config, labeling, model_files
from noisy_student.manifest import is_complete, read_manifest, training_record
from tpu_scripts import (
    augmentation_flags,
    calibration_flags,
    record_flags,
    setting_flags,
    strategy_flags,
)

_MODEL = flags.DEFINE_string(
    "model", None, "Directory of the teacher, as training writes it.", required=True
)
_UNLABELED = flags.DEFINE_string(
    "unlabeled_data", None, "Unlabeled data set.", required=True
)
_NOISED_TEACHER = flags.DEFINE_bool(
    "noised_teacher", False, "Label with the noise of training on; the method has none."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise, with --noised_teacher.")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Where predictions go.", required=True
)
setting_flags.define(labeling.LabelingOptions)
augmentation_flags.define()
calibration_flags.define()
record_flags.define()
strategy_flags.define()


def main():
    options = setting_flags.override(labeling.LabelingOptions())
    _check_prepared(options)
    strategy = strategy_flags.create_strategy()  # Before any other use of TensorFlow.
    info = model_files.load_info(_MODEL.value)
    noise = _noise(info)
    holdout = calibration_flags.holdout(_OUTPUT_DIR.value, info.class_names)
    directory = os.path.join(_OUTPUT_DIR.value, "data")
    unlabeled = record_flags.prepare(
        _UNLABELED.value, directory, info.class_names, labeled=False
    )
    options = dataclasses.replace(options, noise=noise, holdout=holdout)
    labeling.label(_MODEL.value, unlabeled, _OUTPUT_DIR.value, strategy, options)
    if is_complete(_OUTPUT_DIR.value):
        done = read_manifest(_OUTPUT_DIR.value)["results"]
        print(f"{done['images']:,} images, mean confidence {done['mean_confidence']:.3f}")


def _check_prepared(options) -> None:
    if options.num_workers > 1 and not _UNLABELED.value.startswith("tfrecord:"):
        raise InputError(
            "`unlabeled_data`: expected TFRecord files, tfrecord:GLOB, with --num_workers="
            f"{options.num_workers}; received {_UNLABELED.value!r}, which every worker "
            "would write anew as TFRecord files. Run tpu_scripts.prepare_data first, and "
            "pass the unlabeled/ that it writes."
        )


def _noise(info) -> labeling.TeacherNoise | None:
    if not _NOISED_TEACHER.value:
        if given := augmentation_flags.given():
            raise InputError(
                f"`{given[0]}`: expected together with --noised_teacher alone; a teacher "
                "labels without noise."
            )
        return None
    record = training_record(_MODEL.value, info.weights_sha256)
    if not record and not flags.FLAGS.augmentation:
        raise InputError(
            "`noised_teacher`: expected a teacher whose training is on record beside it, "
            f"or --augmentation to name the noise; received neither with {_MODEL.value}."
        )
    default = record and config.from_dict(Augmentation, record["identity"]["augmentation"])
    return labeling.TeacherNoise(augmentation_flags.augmentation(default), _SEED.value)


if __name__ == "__main__":
    setting_flags.run(main)
