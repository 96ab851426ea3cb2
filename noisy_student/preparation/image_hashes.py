"""What images are compared by: a digest of the file, and a perceptual hash.

Made by a pool of threads, in the order of the images.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from data import perceptual_hash
from data.hamming_search import HammingSearch
from data.records import Record
from noisy_student.config import DEDUP_BY

BYTES, PERCEPTUAL = DEDUP_BY
MAX_DISTANCE = 4  # Bits of 64.
_AHEAD = 64  # Image files in memory.
_BATCH = 256  # Thumbnails that are transformed at once.


@dataclasses.dataclass(frozen=True)
class Hashes:
    """Of `N` images.

    Attributes:
        ids: Their names.
        digests: SHA-256 of their files, 32 bytes each.
        perceptual: uint64 `[N]`; zeros where not asked for.
        clear: bool `[N]`, whether `perceptual` says anything.
    """

    ids: list[str]
    digests: list[bytes]
    perceptual: np.ndarray
    clear: np.ndarray


class Hasher:
    """Makes hashes.

    Args:
        pool: Of threads.
        by: `bytes`, or `perceptual`, which decodes every image.
    """

    def __init__(self, pool: concurrent.futures.Executor, by: str):
        self._pool, self._perceptual = pool, by == PERCEPTUAL

    def batches(self, images: Iterable[Record]) -> Iterator[Hashes]:
        """The hashes of the images, in order, some at a time."""
        rows = []
        for row in self._rows(images):
            rows.append(row)
            if len(rows) == _BATCH:
                yield self._hashes(rows)
                rows = []
        if rows:
            yield self._hashes(rows)

    def _rows(self, images):
        # A window moves over the images, so that no thread waits for a batch to end.
        waiting: collections.deque[concurrent.futures.Future] = collections.deque()
        for image in images:
            waiting.append(self._pool.submit(self._row, image))
            if len(waiting) == _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _row(self, image: Record) -> tuple[str, bytes, np.ndarray | None]:
        thumbnail = perceptual_hash.thumbnail(image.image) if self._perceptual else None
        return image.id, hashlib.sha256(image.image).digest(), thumbnail

    def _hashes(self, rows: list[tuple]) -> Hashes:
        ids, digests, thumbnails = map(list, zip(*rows, strict=True))
        if self._perceptual:
            found = perceptual_hash.perceptual_hashes(np.stack(thumbnails))
        else:
            found = np.zeros(len(ids), np.uint64), np.zeros(len(ids), bool)
        return Hashes(ids, digests, *found)


@dataclasses.dataclass(frozen=True)
class Match:
    """An image that is in a set.

    Attributes:
        row: Of the image, among those that were looked for.
        id: The set's image.
        kind: `bytes` or `perceptual`.
        distance: Different bits of the perceptual hashes; 0 of equal bytes.
    """

    row: int
    id: str
    kind: str
    distance: int


class KnownImages:
    """A set's images, to look others up in."""

    def __init__(self, hashes: Hashes):
        rows = reversed(range(len(hashes.ids)))  # Of equal files the first counts.
        self._ids, self._by_digest = hashes.ids, {hashes.digests[r]: r for r in rows}
        self._clear = np.flatnonzero(hashes.clear)
        self._search = HammingSearch(hashes.perceptual[self._clear], MAX_DISTANCE)

    def matches(self, hashes: Hashes) -> list[Match]:
        """For each image that is in the set, the image that it is.

        Equal bytes come before equal hashes; hashes that say nothing never match.
        """
        nearest, distances = self._search.nearest(hashes.perceptual)
        found = []
        for row, digest in enumerate(hashes.digests):
            if digest in self._by_digest:
                id_ = self._ids[self._by_digest[digest]]
                found.append(Match(row, id_, BYTES, 0))
            elif hashes.clear[row] and nearest[row] >= 0:
                id_ = self._ids[self._clear[nearest[row]]]
                found.append(Match(row, id_, PERCEPTUAL, int(distances[row])))
        return found
