"""Tables as text, and numbers as they stand in them."""

import os
import statistics
from collections.abc import Iterable, Sequence

from data import files
from data.errors import InputError


def format_table(rows: list[list[str]]) -> str:
    """Columns of equal width, for a terminal."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(lines)


def percent(share: float | None) -> str:
    """`12.3 %` of a share, 0 to 1; empty where it is not known."""
    return "" if share is None else f"{100 * share:.1f} %"


def count(number: int | None) -> str:
    """`1,234`; empty where it is not known."""
    return "" if number is None else f"{number:,}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a row may have fewer cells than the header."""
    rule = "|---" * len(header) + "|"
    return "\n".join([_line(header), rule, *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def mean_and_spread(values: Sequence[float], digits: int) -> str:
    """`92.5 ± 0.9`: mean and standard deviation; of one value no deviation."""
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(values):.{digits}f}"


def check_marked(path: str, names: Iterable[str]) -> None:
    """Refuses a page without the places for these texts, see `replace_marked`.

    Raises:
        InputError: There is no such page, or a marker is not there exactly once.
    """
    if not os.path.isfile(path):
        raise InputError(f"`page`: expected a Markdown file; there is no {path}.")
    with open(path) as file:
        page = file.read()
    for name in names:
        for mark in _marks(name):
            if page.count(mark) != 1:
                raise InputError(
                    f"`page`: expected {mark} once in {path}; received it "
                    f"{page.count(mark)} times."
                )


def replace_marked(path: str, text: str, name: str = "") -> None:
    """Puts the text between two markers of a page, in place of what is there.

    Args:
        path: Of the page.
        text: What was measured.
        name: Of the markers, on a page with several: `<!-- measured NAME -->`.
    """
    begin, end = _marks(name)
    with open(path) as file:
        before, rest = file.read().split(begin)
    with files.atomic_open(path) as file:
        file.write(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def _marks(name: str) -> tuple[str, str]:
    name = f" {name}" if name else ""
    return f"<!-- measured{name} -->", f"<!-- /measured{name} -->"
