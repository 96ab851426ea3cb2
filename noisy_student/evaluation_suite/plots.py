"""Pictures of results: errors by corruption, reliability diagrams, models side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from noisy_student.pictures import save_figure


def errors_by_corruption(
    models: Mapping[str, Mapping[str, Sequence[float | None]]], title: str, path: str
) -> None:
    """A panel a corruption, error against severity, a line a model.

    Args:
        models: By name of the model, by corruption, top-1 errors 0 to 1 of the
            severities 1 to 5; None where one is missing.
        title: Above it.
        path: Of the PNG.
    """
    names = list(next(iter(models.values())))
    columns = min(5, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.3 * columns, 2.1 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for plot, name in zip(axes.flat, names, strict=False):
        for model, errors in models.items():
            values = [np.nan if e is None else 100 * e for e in errors[name]]
            plot.plot(range(1, 6), values, marker="o", ms=3, label=model)
        plot.set_title(name.replace("_", " "), fontsize="small")
        plot.grid(alpha=0.3)
    for plot in axes.flat[len(names) :]:
        plot.set_axis_off()
    axes[0, 0].set(ylim=(0, 100), xticks=range(1, 6))
    figure.supxlabel("severity")
    figure.supylabel("top-1 error (%)")
    figure.suptitle(title)
    if len(models) > 1:
        handles = axes[0, 0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower right", ncols=len(models))
    save_figure(figure, path)


def reliability(models: Mapping[str, Sequence[dict]], path: str) -> None:
    """Accuracy against confidence, a point a bin, a line a model.

    Args:
        models: By name of the model the bins of `calibration.equal_mass_bins`.
        path: Of the PNG.
    """
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="k", ls=":")
    for model, bins in models.items():
        confidences = [row["mean_confidence"] for row in bins]
        accuracies = [row["accuracy"] for row in bins]
        axes.plot(confidences, accuracies, marker="o", ms=4, label=model, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set(xlabel="confidence", ylabel="accuracy")
    axes.grid(alpha=0.3)
    if len(models) > 1:
        axes.legend(fontsize="small")
    save_figure(figure, path)


def shares(values: Mapping[str, float], axis: str, path: str) -> None:
    """Bars of shares, 0 to 1, by name; `axis` says what of."""
    figure = Figure(figsize=(1.5 + 0.8 * len(values), 3), layout="constrained")
    axes = figure.subplots()
    percents = [100 * value for value in values.values()]
    bars = axes.bar([name.replace("_", " ") for name in values], percents)
    axes.bar_label(bars, fmt="%.1f")
    axes.set_ylabel(axis)
    axes.set_ylim(0, 105 if max(percents) > 50 else None)
    if len(values) > 5:
        axes.tick_params(axis="x", rotation=60)
    save_figure(figure, path)


def intervals(rows: Sequence[dict], models: Sequence[str], path: str) -> None:
    """Models side by side: each number with its interval.

    Args:
        rows: `label`, and by model `value`, `low` and `high`.
        models: Names in order.
        path: Of the PNG.
    """
    height = 1.2 + 0.22 * len(rows) * (len(models) + 0.6)
    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots()
    for number, model in enumerate(models):
        places = np.arange(len(rows)) * (len(models) + 0.8) + number
        values, low, high = (
            np.array([row[key][model] for row in rows]) for key in ("value", "low", "high")
        )
        axes.errorbar(
            values,
            places,
            xerr=np.maximum([values - low, high - values], 0),  # Of rounding.
            fmt="o",
            ms=4,
            label=model,
        )
    middle = np.arange(len(rows)) * (len(models) + 0.8) + (len(models) - 1) / 2
    axes.set_yticks(middle, [row["label"] for row in rows], fontsize="small")
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis="x")
    axes.legend(fontsize="small")
    save_figure(figure, path)
