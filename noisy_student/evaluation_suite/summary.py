"""Results in short, for a terminal."""

from collections.abc import Sequence

from noisy_student.tables import count, percent

_SHARES = ("top_1", "top_5", "error", "flip_rate", "ece")
_NUMBERS = ("nll", "brier", "mce", "relative_mce", "mfr")


def as_table(reports: Sequence[dict]) -> list[list[str]]:
    """A row a number: benchmark, metric, value, 95 % interval, images; the header first."""
    rows = [["benchmark", "metric", "value", "95 % interval", "images", ""]]
    for report in reports:
        results = report["results"]
        images = count(results.get("images", results.get("videos")))
        note = "partial" if report["missing"] else ""
        for name, value in results.items():
            part = name.split("/")[-1]
            share = part in _SHARES or part.startswith("epsilon_")
            if share or part in _NUMBERS:
                low, high = report["intervals"].get(name, (None, None))
                shown = percent if share else _number
                interval = "" if low is None else f"{shown(low)} to {shown(high)}"
                row = [report["benchmark"], name, shown(value), interval, images, note]
                rows.append(row)
    return rows


def _number(value: float) -> str:
    return f"{value:.3f}"
