"""A trained teacher labels unlabeled images.

    python -m tpu_scripts.label --model=runs/hand/generation_0/teacher \\
        --unlabeled_data=tfrecord:runs/hand/data/unlabeled \\
        --output_dir=runs/hand/generation_1/predictions
"""

import os

from absl import flags

from noisy_student import labeling, model_files
from noisy_student.manifest import read_manifest
from noisy_student.preparation import prepare_set
from tpu_scripts import setting_flags, strategy_flags

_MODEL = flags.DEFINE_string(
    "model", None, "Directory of the teacher, as training writes it.", required=True
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
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Where predictions go.", required=True
)
strategy_flags.define()


def main():
    strategy = strategy_flags.create_strategy()  # Before any other use of TensorFlow.
    info = model_files.load_info(_MODEL.value)
    unlabeled = prepare_set(
        _UNLABELED.value,
        os.path.join(_OUTPUT_DIR.value, "data"),
        class_names=info.class_names,
        label_offset=_LABEL_OFFSET.value,
        skip_bad_records=_SKIP_BAD_RECORDS.value,
        labeled=False,
    )
    labeling.label(
        _MODEL.value,
        unlabeled,
        _OUTPUT_DIR.value,
        strategy,
        _BATCH_SIZE.value,
    )
    results = read_manifest(_OUTPUT_DIR.value)["results"]
    print(f"{results['images']:,} images, mean confidence {results['mean_confidence']:.3f}")


if __name__ == "__main__":
    setting_flags.run(main)
