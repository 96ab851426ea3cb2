"""The largest number of images that a compiler finds room for, in few compiles."""

from collections.abc import Callable

# 1, 2, 3, 4, 6, 8, 12, …: steps of a half or a third.
LADDER = sorted({k * 2**n for k in (2, 3) for n in range(13)} | {1})
_LIMIT_MIB = 15.48 * 1024  # What v3 and v5e leave of their 16 GiB.


def search(compiled: Callable[[int], dict], begin: tuple[int, int]) -> dict[int, dict]:
    """Compiles until a rung of the ladder is accepted and the next one refused.

    Two compiles, a line through their peaks, one at the number of images that the line
    allows, and from there by halves of what lies between.

    Args:
        compiled: Takes a number of images; returns `fits` and, if so, `peak_mib`.
        begin: Two numbers of images.

    Returns:
        What `compiled` returned, by number of images.
    """
    found = {}
    for rows in begin:
        found[rows] = compiled(rows)
    if all(each["fits"] for each in found.values()):
        rows = _on_line({rows: each["peak_mib"] for rows, each in found.items()})
        found[rows] = compiled(rows)
    while (between := _between(*bounds(found))) != []:
        rows = between[len(between) // 2]
        found[rows] = compiled(rows)
    return found


def bounds(found: dict[int, dict]) -> tuple[int, int | None]:
    """The most images that were accepted, or 0, and the fewest refused, or None."""
    accepted = [rows for rows, each in found.items() if each["fits"]]
    refused = [rows for rows, each in found.items() if not each["fits"]]
    return max(accepted, default=0), min(refused, default=None)


def _between(accepted: int, refused: int | None) -> list[int]:
    beyond = LADDER[-1] + 1 if refused is None else refused
    return [rung for rung in LADDER if accepted < rung < beyond]


def _on_line(peaks: dict[int, float]) -> int:
    """The rung below where a line through two peaks meets the limit."""
    (few, low), (many, high) = sorted(peaks.items())
    slope = max((high - low) / (many - few), 1e-3)
    rows = few + (_LIMIT_MIB - low) / slope
    return max(rung for rung in LADDER if rung <= max(rows, 1))
