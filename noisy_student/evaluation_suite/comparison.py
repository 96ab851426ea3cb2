"""Models side by side on the same images, with what chance alone would explain.

Each image counts for all models at once: the interval of a difference is that of the
mean of the images' differences, far narrower than two intervals laid side by side. See
`bootstrap` for what it does and does not say.

Of `corruptions` also the relative error: 100 · mean_c err(c) / err_first(c), where the
first model, a teacher or a control, stands in for AlexNet.
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from data import files
from data.errors import InputError
from noisy_student.evaluation_suite import bootstrap, outcomes, plots, suite
from noisy_student.evaluation_suite.calibration import ece_of
from noisy_student.evaluation_suite.outcomes import Table

JSON, PICTURE = "comparison.json", "comparison.png"
RELATIVE = "relative_error"
_LEFT_OUT = ("confidence",)  # A mean that is neither good nor bad.
_HIGHER_IS_BETTER = ("top_1", "top_5", "epsilon_")


@dataclasses.dataclass(frozen=True)
class Compared:
    """A model whose results are compared.

    Attributes:
        name: Short, for tables.
        results: Directory that `suite.run` wrote to.
    """

    name: str
    results: str


def short_names(directories: Sequence[str]) -> dict[str, str]:
    """A name for each: `generation_1/student`, or the whole path where two share it."""
    short = ["/".join(path.rstrip("/").split("/")[-2:]) for path in directories]
    names = short if len(set(short)) == len(directories) else directories
    return dict(zip(directories, names, strict=True))


def compare(models: Sequence[Compared], benchmarks: Sequence[str], output: str) -> dict:
    """Compares the others with the first one, and writes JSON and pictures.

    Args:
        models: Two or more.
        benchmarks: Names, run on each of them before.
        output: Directory of the comparison.

    Returns:
        The content of the JSON file: `models`, `rows`. A row has `benchmark`, `metric`,
        `higher_is_better`, and by model `value`, `low`, `high` (95 %), and of all but the
        first `difference`, each with `value`, `low`, `high` and `verdict`: `better`,
        `worse`, or `open` where the interval holds 0.

    Raises:
        InputError: They were not run on the same images, or with other settings.
    """
    names = [model.name for model in models]
    if len(models) < 2 or len(set(names)) < len(names):
        raise InputError(
            f"`compare`: expected two or more models of different names; received "
            f"{', '.join(names)}."
        )
    rows = []
    for benchmark in benchmarks:
        _check_same(models, benchmark)
        tables = [_scores(model, benchmark) for model in models]
        rows += _rows(benchmark, names, tables)
    report = {"models": {m.name: m.results for m in models}, "rows": rows}
    files.write_json(os.path.join(output, JSON), report)
    _draw(models, benchmarks, rows, output)
    return report


def as_table(report: dict) -> list[list[str]]:
    """Rows of text, the header first: numbers, and differences with their interval."""
    names = list(report["models"])
    header = ["benchmark", "metric", *names]
    header += [f"{name} - {names[0]}" for name in names[1:]]
    lines = [header]
    for row in report["rows"]:
        scale = scale_of(row["metric"])
        cells = [f"{scale * row['value'][name]:.2f}" for name in names]
        for name in names[1:]:
            d = row["difference"][name]
            low, high = (scale * d[key] for key in ("low", "high"))
            cells.append(
                f"{scale * d['value']:+.2f} [{low:+.2f}, {high:+.2f}] {d['verdict']}"
            )
        lines.append([row["benchmark"], row["metric"], *cells])
    return lines


def scale_of(metric: str) -> float:
    """Shares are shown in percent; likelihoods and what is in percent already, as it is."""
    return 1 if metric in ("nll", "brier", "mce", "mfr", RELATIVE) else 100


def _rows(benchmark: str, names: Sequence[str], tables: Sequence[Table]) -> list[dict]:
    metrics = [m for m in tables[0] if m != "id" and m not in _LEFT_OUT]
    drawn = [bootstrap.resampled_means(outcomes.matrix(t, metrics)) for t in tables]
    rows = []
    for at, metric in enumerate(metrics):
        values = [float(np.nanmean(table[metric])) for table in tables]
        rows.append(_row(benchmark, metric, names, values, [d[:, at] for d in drawn]))
    if benchmark == "calibration":
        values = [ece_of(t["confidence"], t["top_1"]) for t in tables]
        resampled = [suite.resampled_ece(table) for table in tables]
        rows.append(_row(benchmark, "ece", names, values, resampled))
    if benchmark == "corruptions":
        counted = [at for at, metric in enumerate(metrics) if metric != "error"]
        first = drawn[0][:, counted]
        if (first > 0).all():  # A first model without errors is no measure.
            means = [outcomes.matrix(t, metrics)[:, counted].mean(0) for t in tables]
            values = [float(100 * np.mean(mean / means[0])) for mean in means]
            resampled = [100 * np.mean(d[:, counted] / first, -1) for d in drawn]
            rows.append(_row(benchmark, RELATIVE, names, values, resampled))
    return rows


def _row(
    benchmark: str,
    metric: str,
    names: Sequence[str],
    values: Sequence[float],
    resampled: Sequence[np.ndarray],
) -> dict:
    higher = metric.split("/")[-1].startswith(_HIGHER_IS_BETTER)
    bounds = [_bounds(metric, v, r) for v, r in zip(values, resampled, strict=True)]
    row: dict = {
        "benchmark": benchmark,
        "metric": metric,
        "higher_is_better": higher,
        "value": dict(zip(names, values, strict=True)),
        "low": {name: low for name, (low, _) in zip(names, bounds, strict=True)},
        "high": {name: high for name, (_, high) in zip(names, bounds, strict=True)},
        "difference": {},
    }
    for name, value, found in zip(names[1:], values[1:], resampled[1:], strict=True):
        low, high = _bounds(metric, value - values[0], found - resampled[0])
        verdict = (
            "open" if low <= 0 <= high else "better" if (low > 0) == higher else "worse"
        )
        row["difference"][name] = {
            "value": value - values[0],
            "low": low,
            "high": high,
            "verdict": verdict,
        }
    return row


def _bounds(metric: str, value: float, resampled: np.ndarray) -> list[float]:
    if metric == "ece":  # See there: its resamples lie too high.
        return bootstrap.basic_interval(value, resampled)
    return bootstrap.interval(resampled)


def _check_same(models: Sequence[Compared], benchmark: str) -> None:
    """Refuses to compare what was measured on different images, or differently."""
    reports = [_report(model, benchmark) for model in models]
    for model, report in zip(models[1:], reports[1:], strict=True):
        for key in ("data", "settings", "missing"):
            first, other = reports[0][key], report[key]
            if key == "data":
                first, other = first["fingerprint"], other["fingerprint"]
            if first != other:
                raise InputError(
                    f"`compare`: expected {benchmark} of all models on the same images "
                    f"with the same settings; {models[0].name} has {key} {first}, "
                    f"{model.name} has {other}. Evaluate both with the same flags."
                )


def _report(model: Compared, benchmark: str) -> dict:
    return files.read_json(os.path.join(model.results, f"{benchmark}.json"))


def _scores(model: Compared, benchmark: str) -> Table:
    return outcomes.read(os.path.join(model.results, benchmark, suite.SCORES))


def _draw(
    models: Sequence[Compared], benchmarks: Sequence[str], rows: list[dict], output: str
) -> None:
    shown = [
        {**{k: _scaled(row[k]) for k in ("value", "low", "high")}, "label": _label(row)}
        for row in rows
        if scale_of(row["metric"]) == 100 and row["benchmark"] != "imagenet_c"
    ]
    names = [model.name for model in models]
    if shown:
        plots.intervals(shown, names, os.path.join(output, PICTURE))
    for benchmark in benchmarks:
        reports = {model.name: _report(model, benchmark) for model in models}
        found = {name: report["results"] for name, report in reports.items()}
        path = os.path.join(output, f"{benchmark}.png")
        if all("errors" in result for result in found.values()):
            errors = {name: result["errors"] for name, result in found.items()}
            plots.errors_by_corruption(errors, benchmark, path)
        elif all("bins" in result for result in found.values()):
            bins = {name: result["bins"] for name, result in found.items()}
            plots.reliability(bins, path)


def _scaled(values: dict[str, float]) -> dict[str, float]:
    return {name: 100 * value for name, value in values.items()}


def _label(row: dict) -> str:
    return f"{row['benchmark']}: {row['metric']} (%)"
