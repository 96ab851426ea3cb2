"""What a benchmark found, as JSON."""

import statistics
from collections.abc import Mapping, Sequence

from absl import flags

from data import files


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
