"""Measures a model: accuracy, robustness, adversarial images, calibration.

    python -m tpu_scripts.evaluate --model=runs/digits/generation_2/student \\
        --on=test,calibration,corruptions,stability,fgsm,pgd --data=digits:test
    python -m tpu_scripts.evaluate --model=models/b7 --on=imagenet,imagenet_a,imagenet_c \\
        --imagenet=folder:imagenet/val --imagenet_c=folder:imagenet-c

Each benchmark leaves a JSON file, a picture, and a row an image in `evaluation/` of the
model, or in --output_dir; run again, it goes on with what is missing. With --compare,
several models side by side, with 95 % intervals of their differences to the first:

    python -m tpu_scripts.evaluate --on=test,corruptions,fgsm --data=digits:test \\
        --compare=runs/digits/generation_1/control,runs/digits/generation_2/student \\
        --output_dir=runs/digits/comparison
"""

import os
import sys
import tempfile

from absl import flags

from data.errors import InputError
from noisy_student.evaluation.evaluation import BATCH_SIZE
from noisy_student.evaluation_suite import comparison, suite, summary
from noisy_student.evaluation_suite.evaluated_model import EvaluatedModel
from noisy_student.tables import format_table
from tpu_scripts import benchmark_flags, setting_flags, strategy_flags

_MODEL = flags.DEFINE_string("model", "", "Directory of a trained model.")
_COMPARE = flags.DEFINE_list("compare", [], "Models; the first is compared with.")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", "", "Where results go; empty: `evaluation` in the model's directory."
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", BATCH_SIZE, "Images a step, over all replicas.", lower_bound=1
)
benchmark_flags.define()
strategy_flags.define()


def main() -> None:
    directories = _directories()
    names = benchmark_flags.chosen()
    strategy = strategy_flags.create_strategy()  # Before any other use of TensorFlow.
    models = [EvaluatedModel(path, strategy, _BATCH_SIZE.value) for path in directories]
    _check_same_classes(models)
    results = {path: os.path.join(path, "evaluation") for path in directories}
    if _MODEL.value and _OUTPUT_DIR.value:
        results[_MODEL.value] = _OUTPUT_DIR.value
    with tempfile.TemporaryDirectory() as scratch:
        benchmarks = benchmark_flags.open_benchmarks(models[0].info, scratch)
        for model in models:
            directory = results[model.directory]
            reports = [suite.run(b, model, directory, sys.argv) for b in benchmarks]
            print(f"{model.directory}: see {directory}/")
            print(format_table(summary.as_table(reports)))
    if _COMPARE.value:
        names_of = comparison.short_names(directories)
        compared = [comparison.Compared(names_of[p], results[p]) for p in directories]
        report = comparison.compare(compared, names, _OUTPUT_DIR.value)
        print(format_table(comparison.as_table(report)))


def _directories() -> list[str]:
    if bool(_MODEL.value) == bool(_COMPARE.value):
        raise InputError(
            "`model`: expected either --model or --compare; received "
            + ("both." if _MODEL.value else "neither.")
        )
    if _COMPARE.value and not _OUTPUT_DIR.value:
        raise InputError("`output_dir`: expected one for --compare; received none.")
    return [_MODEL.value] if _MODEL.value else [path.rstrip("/") for path in _COMPARE.value]


def _check_same_classes(models: list[EvaluatedModel]) -> None:
    for model in models[1:]:
        if model.info.class_names != models[0].info.class_names:
            raise InputError(
                "`compare`: expected models of the same classes; those of "
                f"{model.directory} are not those of {models[0].directory}."
            )


if __name__ == "__main__":
    setting_flags.run(main)
