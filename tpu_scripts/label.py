"""A trained teacher labels unlabeled images.

    python -m tpu_scripts.label --model=runs/hand/generation_0/teacher \\
        --unlabeled_data=tfrecord:runs/hand/data/unlabeled \\
        --output_dir=runs/hand/generation_1/predictions

With --noised_teacher, labels are made under noise, as the paper tried (table 6): the
teacher's own, or what --augmentation and the flags beside it say. With
--import_predictions and --class_names, predictions made elsewhere are taken instead.
"""

import os

from absl import flags

from data.augmentation import Augmentation
from data.errors import InputError
from noisy_student import config, labeling, model_files
from noisy_student.imported_predictions import import_predictions
from noisy_student.manifest import read_manifest, training_record
from noisy_student.preparation import prepare_set
from tpu_scripts import augmentation_flags, import_flags, setting_flags, strategy_flags

_MODEL = flags.DEFINE_string(
    "model", "", "Directory of the teacher, as training writes it."
)
_UNLABELED = flags.DEFINE_string(
    "unlabeled_data", None, "Unlabeled data set.", required=True
)
_LABEL_OFFSET = flags.DEFINE_integer(
    "label_offset", 0, "Subtracted from true labels, where TFRecord files hold them."
)
_SKIP_BAD_RECORDS = flags.DEFINE_bool(
    "skip_bad_records", False, "Leave bad records of TFRecord files out, counted."
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", labeling.BATCH_SIZE, "Images a step, over all replicas.", lower_bound=1
)
_LABEL_FORMAT = flags.DEFINE_string(
    "label_format", "float32", "Of stored probabilities: float32, float16 or top_K."
)
_NOISED_TEACHER = flags.DEFINE_bool(
    "noised_teacher", False, "Label with the noise of training on; the method has none."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise, with --noised_teacher.")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Where predictions go.", required=True
)
augmentation_flags.define()
import_flags.define()
strategy_flags.define()


def main():
    output_dir, label_format = _OUTPUT_DIR.value, _LABEL_FORMAT.value
    if import_flags.importing():
        source, names = flags.FLAGS.import_predictions, import_flags.class_names()
        import_predictions(source, _unlabeled(names), names, output_dir, label_format)
    else:
        strategy = strategy_flags.create_strategy()  # Before other use of TensorFlow.
        info = model_files.load_info(_MODEL.value)
        options = labeling.LabelingOptions(_BATCH_SIZE.value, _noise(info), label_format)
        unlabeled = _unlabeled(info.class_names)
        labeling.label(_MODEL.value, unlabeled, output_dir, strategy, options)
    results = read_manifest(_OUTPUT_DIR.value)["results"]
    print(f"{results['images']:,} images, mean confidence {results['mean_confidence']:.3f}")


def _unlabeled(class_names):
    return prepare_set(
        _UNLABELED.value,
        os.path.join(_OUTPUT_DIR.value, "data"),
        class_names=class_names,
        label_offset=_LABEL_OFFSET.value,
        skip_bad_records=_SKIP_BAD_RECORDS.value,
        labeled=False,
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
