"""A table as files: Markdown to read, JSON to compute with, a picture to look at."""

import os
import statistics

from matplotlib.figure import Figure

from data import files
from noisy_student.pictures import save_figure
from noisy_student.recipes import Table
from noisy_student.reproduction import measured_tables, row_files
from noisy_student.reproduction.measured_tables import NOT_RUN
from noisy_student.tables import markdown_table, mean_and_spread

_TOP_1 = "test_top_1"


def write(table: Table, results_dir: str) -> str:
    """Writes `table_NAME.md`, `.json` and `.png` of what rows have; returns the Markdown.

    Args:
        table: At a scale.
        results_dir: With the rows' files.
    """
    found = {row.row: row_files.read(results_dir, row) for row in table.rows}
    content = measured_tables.as_json(table, found)
    stem = os.path.join(results_dir, f"table_{table.name}")
    files.write_json(f"{stem}.json", content)
    text = as_markdown(content)
    with files.atomic_open(f"{stem}.md") as file:
        file.write(f"{text}\n")
    _draw(content, f"{stem}.png")
    return text


def as_markdown(content: dict) -> str:
    """Rows and claims as Markdown; `content` is of `measured_tables.as_json`."""
    metrics = content["metrics"]
    rows = [
        [
            f"`{row['row']}` {row['summary']}",
            _paper(row),
            *(_measured(row["measured"][metric]) for metric in metrics),
        ]
        for row in content["rows"]
    ]
    header = ["row", "paper, ImageNet", *map(_title, metrics)]
    claims = [
        [
            claim["text"],
            f"`{claim['better']}` over `{claim['worse']}`",
            _points(claim["mean"]),
            ", ".join(map(_points, claim["differences"].values())),
            _interval(claim["interval"]),
            claim["verdict"],
        ]
        for claim in content["claims"]
    ]
    claim_header = ["the paper's claim", "here", "points", "each seed", "95 %", "verdict"]
    parts = [f"### {content['title']}", markdown_table(header, rows)]
    if claims:
        parts.append(markdown_table(claim_header, claims))
    return "\n\n".join(parts)


def _title(metric: str) -> str:
    return "top-1" if metric == _TOP_1 else metric.removeprefix("benchmarks/")


def _paper(row: dict) -> str:
    return " / ".join(
        ("?" if each["value"] is None else f"{each['value']:g}")
        + ("" if each["metric"] == "top_1" else f" {each['metric']}")
        for each in row["paper"]
    )


def _measured(by_seed: dict[str, float]) -> str:
    """Mean and deviation, and in brackets each seed."""
    if not by_seed:
        return NOT_RUN
    values = list(by_seed.values())
    if len(values) == 1:
        return f"{values[0]:.2f} (1 seed)"
    each = ", ".join(f"{value:.2f}" for value in values)
    return f"{mean_and_spread(values, 2)} ({each})"


def _points(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"


def _interval(interval: list[float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:+.2f}, {interval[1]:+.2f}]"


def _draw(content: dict, path: str) -> None:
    """Panels with the rows side by side: the paper's top-1, and each metric of here."""
    rows, metrics = content["rows"], content["metrics"]
    printed = [
        (each["value"], at)
        for at, row in enumerate(rows)
        for each in row["paper"]
        if each["value"] is not None and each["metric"] == "top_1"
    ]
    titles = [f"here, {_title(metric)}, %" for metric in metrics]
    if printed:
        titles.insert(0, "paper, ImageNet top-1, %")
    size = (3 + 4 * len(titles), 1.2 + 0.34 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    if printed:
        panels[0].plot(*zip(*printed, strict=True), "o", color="#7f7f7f")
    for at, row in enumerate(rows):
        for axes, metric in zip(panels[-len(metrics) :], metrics, strict=True):
            values = list(row["measured"][metric].values())
            axes.plot(values, [at] * len(values), "|", color="#1f77b4", markersize=10)
            if values:
                axes.plot(statistics.mean(values), at, "o", color="#1f77b4")
    panels[0].set_yticks(range(len(rows)), [row["row"] for row in rows])
    panels[0].invert_yaxis()
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{content['title']}: a bar a seed, a dot the mean")
    save_figure(figure, path)
