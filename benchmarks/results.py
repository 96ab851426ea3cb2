"""What a benchmark found: as Markdown tables, as JSON, and in the pages that show it."""

import statistics
from collections.abc import Mapping, Sequence

from absl import flags

from data import files
from noisy_student.tables import markdown_table as markdown
from noisy_student.tables import mean_and_spread

__all__ = ["markdown", "mean_and_spread", "min_and_median", "replace_marked", "settings"]
__all__ += ["write"]

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def min_and_median(turns: Mapping[str, Mapping[str, Sequence[float]]]) -> dict:
    """`min` and `median` of the times of each contestant, by name and kind of time."""
    return {
        name: {
            key: {"min": min(times), "median": statistics.median(times)}
            for key, times in row.items()
        }
        for name, row in turns.items()
    }


def settings(*given: flags.FlagHolder) -> dict:
    """Values of flags by name, for `write`."""
    return {flag.name: flag.value for flag in given}


def write(path: str, settings: dict, **found) -> None:
    """Writes settings and what was found with them as JSON.

    Args:
        path: Of the file; empty: nothing is written.
        settings: What a reader needs to measure again.
        **found: Numbers by name.
    """
    if path:
        files.write_json(path, {"settings": settings, **found})


def replace_marked(path: str, text: str, name: str = "") -> None:
    """Puts the text between two markers of a page, in place of what is there.

    Args:
        path: Of the page.
        text: What was measured.
        name: Of the markers, on a page with several: `<!-- measured NAME -->`.
    """
    begin, end = (
        mark.replace(" -->", f" {name} -->") if name else mark for mark in (BEGIN, END)
    )
    with open(path) as file:
        before, rest = file.read().split(begin)
    with open(path, "w") as file:
        file.write(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")
