"""A finished run for people: a table for the terminal and an HTML page."""

import io
import json
import os

import jinja2
import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from data import files
from noisy_student.labeling.predictions import read_index
from noisy_student.labeling.teacher_calibration import read_calibration
from noisy_student.stages import layout
from noisy_student.stages.manifest import read_manifest
from noisy_student.tables import count, percent
from noisy_student.training.history import read_history

REPORT, PICTURE = "report/index.html", "report/accuracy.png"
_COLORS = {"teacher": "#7f7f7f", "control": "#ff7f0e", "student": "#1f77b4"}


def table(summary: dict) -> list[list[str]]:
    """The run as rows of text, the header first."""
    rows = [
        [
            "generation",
            "test top-1",
            "control",
            "pool accuracy",
            "kept",
            "dropped",
            "with copies",
            "kept accuracy",
        ]
    ]
    for outcome in summary["generations"]:
        labels = outcome.get("pseudo_labels", {})
        control = outcome.get("control", {})
        rows.append(
            [
                f"{outcome['generation']} ({outcome['role']})",
                percent(outcome["test_top_1"]),
                percent(control.get("test_top_1")),
                percent(labels.get("pool_accuracy")),
                count(labels.get("kept")),
                count(labels.get("dropped")),
                count(labels.get("examples")),
                percent(labels.get("accuracy")),
            ]
        )
    return rows


def write_report(work_dir: str, summary: dict) -> None:
    """Writes `report/index.html` (one file, no network) and a PNG of its first plot."""
    plots = [
        (_plot_accuracy(summary), "Test top-1 of each generation."),
        (_plot_curves(work_dir, summary), "Labeled loss and accuracy during training."),
    ]
    if not summary["config"]["online_teacher"]:
        plots += _label_plots(work_dir, summary)
    picture = os.path.join(work_dir, PICTURE)
    with files.atomic_open(picture, "wb") as file:
        plots[0][0].savefig(file, format="png", dpi=150)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("noisy_student.report", ""), autoescape=True
    )
    page = environment.get_template("report.html").render(
        summary=summary,
        has_control=any("control" in row for row in summary["generations"]),
        table=table(summary),
        figures=[{"svg": _svg(plot), "caption": caption} for plot, caption in plots],
        config=json.dumps(summary["config"], indent=2),
    )
    path = os.path.join(work_dir, REPORT)
    with files.atomic_open(path) as file:
        file.write(page)


def _label_plots(work_dir: str, summary: dict) -> list[tuple]:
    """Figures of the stored pseudo-labels, which an online teacher does not leave."""
    plots = [
        (
            _plot_confidences(work_dir, summary),
            "How confident the teacher of each generation is on the unlabeled images; "
            "left of the line they are dropped.",
        ),
        (
            _plot_classes(summary),
            "Pseudo-labeled images kept of each class, and examples with copies.",
        ),
    ]
    calibrations = _calibrations(work_dir, summary)
    if calibrations:
        plots.append(
            (
                _plot_reliability(calibrations),
                "How often each teacher is right at each confidence, on validation data: "
                "as it is (left), and at the temperature T that its labels have. Error: "
                "expected calibration error. Larger points stand for more images.",
            )
        )
    return plots


def _plot_accuracy(summary):
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    bars = []
    for outcome in summary["generations"]:
        name = f"{outcome['role']}\ngeneration {outcome['generation']}"
        if outcome["generation"] == 1 and "control" in outcome:
            top_1 = outcome["control"]["test_top_1"]
            bars.append(("control\nlabels alone", top_1, "control"))
        bars.append((name, outcome["test_top_1"], outcome["role"]))
    names, values, roles = zip(*bars, strict=True)
    percents = [100 * value for value in values]
    drawn = axes.bar(names, percents, color=[_COLORS[role] for role in roles])
    axes.bar_label(drawn, fmt="%.1f")
    axes.set_ylim(0, 105)
    axes.set_ylabel("test top-1 (%)")
    return figure


def _plot_curves(work_dir, summary):
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for name in _models(summary):
        history = read_history(os.path.join(work_dir, name))
        steps = [row["step"] for row in history]
        for plot, key in zip(axes, ("labeled_loss", "labeled_accuracy"), strict=True):
            plot.plot(steps, [row[key] for row in history], label=name)
            plot.set_xlabel("step")
            plot.set_ylabel(key.replace("_", " ") + " (noised images)")
    axes[0].legend(fontsize="small")
    return figure


def _plot_confidences(work_dir, summary):
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    edges = np.linspace(0, 1, 51)
    for outcome in summary["generations"][1:]:
        directory = _predictions(work_dir, outcome)
        counts = np.zeros(len(edges) - 1, np.int64)
        for shard in read_manifest(directory)["shards"]:
            confidences = read_index(os.path.join(directory, shard)).confidences
            counts += np.histogram(confidences, edges)[0]
        label = f"teacher of generation {outcome['generation']}"
        axes.stairs(counts, edges, label=label)
    axes.axvline(summary["config"]["selection"]["min_confidence"], color="k", ls=":")
    axes.set_xlabel("confidence")
    axes.set_ylabel("unlabeled images")
    axes.legend(fontsize="small")
    return figure


def _calibrations(work_dir: str, summary: dict) -> dict[int, dict]:
    """What was fitted, by generation; empty for labels that were not calibrated."""
    found = {
        outcome["generation"]: read_calibration(_predictions(work_dir, outcome))
        for outcome in summary["generations"][1:]
    }
    return {generation: record for generation, record in found.items() if record}


def _plot_reliability(calibrations: dict[int, dict]) -> plt.Figure:
    """Accuracy against confidence; a point's area is its share of the images."""
    figure, axes = plt.subplots(
        len(calibrations),
        2,
        figsize=(8, 3.9 * len(calibrations)),
        layout="constrained",
        squeeze=False,
    )
    for row, (generation, record) in zip(axes, calibrations.items(), strict=True):
        temperatures = {"before": 1.0, "after": record["temperature"]}
        for plot, (when, temperature) in zip(row, temperatures.items(), strict=True):
            _draw_bins(plot, record[when]["bins"])
            error = record[when]["expected_calibration_error"]
            plot.set_title(
                f"teacher of generation {generation}, T = {temperature:.3g}: "
                f"error {percent(error)}",
                fontsize="medium",
            )
    return figure


def _draw_bins(plot: plt.Axes, bins: list[dict]) -> None:
    edges = np.linspace(0, 1, len(bins) + 1)
    full = [row for row in bins if row["count"]]
    confidences, accuracies, counts = (
        np.array([row[key] for row in full])
        for key in ("mean_confidence", "accuracy", "count")
    )
    heights = [row["accuracy"] or 0.0 for row in bins]
    plot.bar(edges[:-1], heights, edges[1], align="edge", color="#9ecae1", ec="white")
    areas = 300 * counts / counts.sum() + 6
    plot.scatter(confidences, accuracies, areas, "#1f77b4", zorder=3, clip_on=False)
    plot.plot([0, 1], [0, 1], color="k", ls=":")
    plot.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    plot.set(xlabel="confidence", ylabel="accuracy")


def _predictions(work_dir: str, outcome: dict) -> str:
    return os.path.join(work_dir, layout.predictions(outcome["generation"]))


def _plot_classes(summary):
    students = summary["generations"][1:]
    figure, axes = plt.subplots(
        len(students), 1, figsize=(9, 2.6 * len(students)), layout="constrained"
    )
    names = summary["class_names"]
    for plot, outcome in zip(np.atleast_1d(axes), students, strict=True):
        labels = outcome["pseudo_labels"]
        places = np.arange(len(names))
        plot.bar(places, labels["examples_per_class"], color="#9ecae1", label="copies")
        plot.bar(places, labels["kept_per_class"], color="#1f77b4", label="kept")
        plot.set_ylabel(f"generation {outcome['generation']}")
        if len(names) <= 40:
            plot.set_xticks(places, names, rotation=90 if len(names) > 12 else 0)
        plot.legend(fontsize="small", loc="lower right")
    return figure


def _models(summary: dict) -> list[str]:
    """Directories of all trained models, each once."""
    names = []
    for outcome in summary["generations"]:
        names.append(outcome["model"])
        if "control" in outcome:
            names.append(outcome["control"]["model"])
    return list(dict.fromkeys(names))


def _svg(figure: plt.Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    plt.close(figure)
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]
