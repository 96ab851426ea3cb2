"""Top-1 and top-5 accuracy of a trained model on a labeled data set.

    python -m tpu_scripts.evaluate --model=runs/digits/generation_2/student \\
        --data=digits:test
"""

import os
import tempfile

from absl import flags

from data import files
from noisy_student.evaluation.evaluation import BATCH_SIZE, accuracy_on
from noisy_student.models import model_files
from noisy_student.models.inference import Predictor
from tpu_scripts import record_flags, setting_flags, strategy_flags

_MODEL = flags.DEFINE_string("model", None, "Directory of a trained model.", required=True)
_DATA = flags.DEFINE_string("data", "digits:test", "Labeled data set.")
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", BATCH_SIZE, "Images a step, over all replicas.", lower_bound=1
)
record_flags.define()
_OUTPUT = flags.DEFINE_string("output", "", "JSON file for the result; empty: none.")
strategy_flags.define()


def main() -> None:
    strategy = strategy_flags.create_strategy()  # Before any other use of TensorFlow.
    model, info = model_files.load_model(_MODEL.value)
    predictor = Predictor(model, strategy, _BATCH_SIZE.value)
    with tempfile.TemporaryDirectory() as directory:
        records = record_flags.prepare(
            "data", _DATA.value, os.path.join(directory, "data"), info.class_names
        )
        result = accuracy_on(predictor, records, info, _DATA.value)
    print(f"top-1 {result['top_1']:.4f}  top-5 {result['top_5']:.4f}")
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, result)


if __name__ == "__main__":
    setting_flags.run(main)
