"""Finds ids that occur more than once in an index, in flat memory and without a shuffle.

The range of hashes is divided so that one part of them fits into memory; for each
part the column of hashes is read from every shard.
"""

import numpy as np

from data.id_hashes import hash_ids
from noisy_student.labeling.predictions import read_index

HASHES_AT_ONCE = 2**26  # 512 MB.
_NAMED = 3


def parts(predictions: int) -> list[tuple[int, int]]:
    """(number, of how many): the parts to search, one after the other or side by side."""
    count = -(-predictions // HASHES_AT_ONCE) or 1
    return [(number, count) for number in range(count)]


def duplicate_ids(part: tuple[int, int], paths: list[str], predictions: int) -> list[str]:
    """Lines of text: how many ids of a part occur again, and some of them.

    Args:
        part: One of `parts`.
        paths: All shards of predictions.
        predictions: How many they hold.
    """
    hashes = _hashes_of(part, paths, predictions)
    hashes.sort()
    again = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if not len(again):
        return []
    return [
        f"{len(again):,} ids occur more than once, such as {name}"
        for name in _places(again[:_NAMED], paths)
    ]


def _hashes_of(part: tuple[int, int], paths: list[str], predictions: int) -> np.ndarray:
    number, count = part
    first, last = (2**64 * number // count, 2**64 * (number + 1) // count - 1)
    # Filled in place: to join pieces at the end would take twice the memory.
    found, end = np.empty(predictions // count + 2**20, np.uint64), 0
    for path in paths:
        hashes = read_index(path, ["id_hash"]).id_hashes
        hashes = hashes[(hashes >= np.uint64(first)) & (hashes <= np.uint64(last))]
        if end + len(hashes) > len(found):  # More of the hashes here than chance gives.
            found.resize(end + len(hashes) + len(found) // 4, refcheck=False)
        found[end : end + len(hashes)] = hashes
        end += len(hashes)
    return found[:end]


def _places(hashes: np.ndarray, paths: list[str]) -> list[str]:
    """`'id' in FILE and FILE` for each of some hashes."""
    places: dict[bytes, list[str]] = {}
    for path in paths:
        if not np.isin(read_index(path, ["id_hash"]).id_hashes, hashes).any():
            continue
        ids = read_index(path, ["id"]).ids
        rows = np.flatnonzero(np.isin(hash_ids(ids), hashes))
        for row in rows:
            places.setdefault(ids[row], []).append(path)
    return [
        f"{id_.decode()!r} in {' and '.join(dict.fromkeys(files))}"
        for id_, files in places.items()
        if len(files) > 1
    ]
