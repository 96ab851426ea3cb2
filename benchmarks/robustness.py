"""Does the student beat the control on corrupted and adversarial images? Over seeds.

    python -m benchmarks.robustness --work_dirs=runs/digits_seeds/seed_0,… \\
        --data=digits:test --name=digits --output=docs/results/robustness

Runs every benchmark on a user's own data on the teacher, the control and the students
of each finished run, one run a seed; compares all of a run with its control; and writes
means and spreads over the seeds: NAME's table of OUTPUT.md, OUTPUT_NAME.json and
OUTPUT_NAME.png. Run again, it goes on where it stopped.
"""

import os
import statistics
import tempfile

from absl import flags

from benchmarks import results
from data.errors import InputError
from noisy_student import tables
from noisy_student.evaluation.evaluation import BATCH_SIZE
from noisy_student.evaluation_suite import comparison, plots, registry, suite
from noisy_student.evaluation_suite.comparison import Compared
from noisy_student.evaluation_suite.evaluated_model import EvaluatedModel
from noisy_student.stages import layout
from tpu_scripts import record_flags, setting_flags, strategy_flags

_WORK_DIRS = flags.DEFINE_list("work_dirs", None, "Finished runs.", required=True)
_DATA = flags.DEFINE_string("data", None, "Labeled test set.", required=True)
_NAME = flags.DEFINE_string("name", None, "Of the data, for files.", required=True)
_OUTPUT = flags.DEFINE_string("output", "", "Path without ending; empty: print only.")
setting_flags.define(registry.BenchmarkOptions)
record_flags.define()
strategy_flags.define()

# By what is shown: benchmark and metric.
_SHOWN = {
    "top-1": ("test", "top_1"),
    "error under corruptions": ("corruptions", "error"),
    "error relative to the control's": ("corruptions", "relative_error"),
    "flips, moved, turned, brightened": ("stability", "flip_rate"),
    "top-1, FGSM, ε = 2": ("fgsm", "epsilon_2"),
    "top-1, FGSM, ε = 4": ("fgsm", "epsilon_4"),
    "top-1, FGSM, ε = 8": ("fgsm", "epsilon_8"),
    "top-1, FGSM, ε = 16": ("fgsm", "epsilon_16"),
    "top-1, PGD, ε = 2": ("pgd", "epsilon_2"),
    "top-1, PGD, ε = 16": ("pgd", "epsilon_16"),
    "ECE": ("calibration", "ece"),
    "NLL, nats": ("calibration", "nll"),
    "Brier score": ("calibration", "brier"),
}


def main():
    strategy = strategy_flags.create_strategy()
    reports, errors = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for work_dir in _WORK_DIRS.value:
            report, of_models = evaluated(work_dir, strategy, scratch)
            reports.append(report)
            errors.append(of_models)
    markdown = as_markdown(reports)
    print(markdown)
    if _OUTPUT.value:
        path = f"{_OUTPUT.value}_{_NAME.value}"
        given = results.settings(_DATA, _NAME, flags.FLAGS["sample"], flags.FLAGS["seed"])
        seeds = [report["rows"] for report in reports]
        results.write(f"{path}.json", given, errors=errors, seeds=seeds)
        tables.replace_marked(f"{_OUTPUT.value}.md", markdown, _NAME.value)
        plots.errors_by_corruption(
            mean_errors(errors),
            f"{_NAME.value}, mean of {len(errors)} seeds",
            f"{path}.png",
        )


def evaluated(work_dir, strategy, scratch) -> tuple[dict, dict]:
    """The comparison of a run's models with its control, and their errors by corruption."""
    models = {
        name: EvaluatedModel(os.path.join(work_dir, path), strategy, BATCH_SIZE)
        for name, path in paths_of(work_dir).items()
    }
    info = models["control"].info
    options = setting_flags.override(registry.BenchmarkOptions())
    records = record_flags.prepare("data", _DATA.value, scratch, info.class_names)
    compared, errors = [], {}
    for name, model in models.items():
        directory = os.path.join(model.directory, "evaluation")
        for benchmark in registry.OWN:
            opened = registry.open_own(benchmark, _DATA.value, records, options)
            report = suite.run(opened, model, directory, ["benchmarks.robustness"])
            if benchmark == "corruptions":
                errors[name] = report["results"]["errors"]
        compared.append(Compared(name, directory))
    output = os.path.join(work_dir, "comparison")
    return comparison.compare(compared, registry.OWN, output), errors


def paths_of(work_dir: str) -> dict[str, str]:
    """The control, which all are compared with, the teacher, and the students there are."""
    paths = {"control": layout.CONTROL, "teacher": layout.TEACHER}
    for generation in range(1, 1000):
        path = layout.student(generation)
        if not os.path.exists(os.path.join(work_dir, path, "model.json")):
            break
        paths[f"student {generation}"] = path
    if len(paths) == 2:
        raise InputError(f"`work_dirs`: expected finished runs; received {work_dir}.")
    return paths


def as_markdown(reports: list[dict]) -> str:
    """A row a number; the gain is the last student's over the control, by seed."""
    names = list(reports[0]["models"])
    last = names[-1]
    lines = []
    for label, (benchmark, metric) in _SHOWN.items():
        rows = [row_of(report, benchmark, metric) for report in reports]
        verdicts = [row["difference"][last]["verdict"] for row in rows]
        scale = comparison.scale_of(metric)
        values = [{n: scale * row["value"][n] for n in names} for row in rows]
        digits = 3 if metric in ("nll", "brier") else 1
        lines.append(_line(label, values, digits, ", ".join(verdicts)))
        if metric == "error":
            lines.append(_line("its rise over the clean error", _rises(reports), 1, ""))
    header = ["%", *names, f"{last} - control, each seed", "alone, each seed"]
    return tables.markdown_table(header, lines)


def _line(label, values: list[dict[str, float]], digits: int, verdicts: str) -> list[str]:
    """Mean and spread of each model; the last one's difference to the first by seed."""
    names = list(values[0])
    cells = [tables.mean_and_spread([row[n] for row in values], digits) for n in names]
    gains = [f"{row[names[-1]] - row[names[0]]:+.{digits}f}" for row in values]
    return [label, *cells, ", ".join(gains), verdicts]


def _rises(reports: list[dict]) -> list[dict[str, float]]:
    """How many points corruption adds to each model's error, by seed."""
    pairs = [
        (row_of(report, "corruptions", "error"), row_of(report, "test", "top_1"))
        for report in reports
    ]
    return [
        {name: 100 * (e["value"][name] + t["value"][name] - 1) for name in e["value"]}
        for e, t in pairs
    ]


def row_of(report: dict, benchmark: str, metric: str) -> dict:
    wanted = (benchmark, metric)
    return next(r for r in report["rows"] if (r["benchmark"], r["metric"]) == wanted)


def mean_errors(seeds: list[dict]) -> dict[str, dict[str, list[float]]]:
    """By model and corruption, the errors of severities 1 to 5, averaged over seeds."""
    return {
        model: {
            corruption: [
                statistics.mean(seed[model][corruption][at] for seed in seeds)
                for at in range(5)
            ]
            for corruption in corruptions
        }
        for model, corruptions in seeds[0].items()
    }


if __name__ == "__main__":
    setting_flags.run(main)
