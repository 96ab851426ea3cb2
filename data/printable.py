"""Names of strangers, shown: in a terminal, and in a spreadsheet."""

import csv
import re
from collections.abc import Iterable, Sequence
from typing import IO

# What a terminal obeys or shows in another order, and what is no Unicode: names of files
# may hold it. Line ends, tabs and the carriage return of progress lines stay.
_OBEYED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff]"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


def printable(text: str) -> str:
    """The text with escapes, such as `\\x1b`, for what a terminal would obey."""
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class PrintableStream:
    """A stream whose text goes through `printable`; the rest is the stream's own."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(printable(text))

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def write_csv(file: IO[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes rows that a spreadsheet takes for text and numbers, never for formulas.

    A text that begins with = + - @, a tab, a carriage return or an apostrophe has an
    apostrophe before it: who reads the file by program takes one off.
    """
    plain = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        cells = [_cell(value) for value in row]
        # Python 3.11's writer does not quote a carriage return by itself.
        returns = any("\r" in str(cell) for cell in cells)
        (quoted if returns else plain).writerow(cells)


def _cell(value: object) -> object:
    formula = isinstance(value, str) and value.startswith(_FORMULA)
    return f"'{value}" if formula else value
