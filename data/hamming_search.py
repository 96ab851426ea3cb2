"""The nearest of many 64-bit hashes in Hamming distance, without comparing with all.

Two hashes that differ in at most d bits are equal in one of d + 1 bands of bits: each
differing bit spoils one band at most. So a query is compared only with the hashes that
share a band with it: of M random ones about M (d + 1) / 2^(64 / (d + 1)).
"""

import itertools

import numpy as np

_BITS = 64


class HammingSearch:
    """Finds the nearest of some hashes.

    Args:
        hashes: uint64 `[M]`.
        max_distance: Largest number of different bits, 0 to 15.
    """

    def __init__(self, hashes: np.ndarray, max_distance: int):
        self._max_distance = max_distance
        # Of equal hashes the first stands for all: the others are no nearer.
        self._hashes, self._rows = np.unique(hashes, return_index=True)
        self._bands = []
        for mask in _masks(max_distance + 1):
            order = np.argsort(self._hashes & mask, kind="stable")
            self._bands.append((mask, order, self._hashes[order] & mask))

    def nearest(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest hash of each query; of equally near ones, the first.

        Args:
            queries: uint64 `[N]`.

        Returns:
            int64 `[N]`, the hash's place in `hashes`, -1 where none is within
            `max_distance`; and int64 `[N]`, the distance, -1 there too.
        """
        pairs = [self._sharing(queries, *band) for band in self._bands]
        query = np.concatenate([pair[0] for pair in pairs])
        found = np.concatenate([pair[1] for pair in pairs])
        distance = np.bitwise_count(queries[query] ^ self._hashes[found])
        near = np.flatnonzero(distance <= self._max_distance)
        query, distance = query[near], distance[near].astype(np.int64)
        rows = self._rows[found[near]]
        order = np.lexsort((rows, distance, query))
        query, first = np.unique(query[order], return_index=True)
        nearest = np.full((2, len(queries)), -1, np.int64)
        nearest[:, query] = rows[order][first], distance[order][first]
        return nearest[0], nearest[1]

    @staticmethod
    def _sharing(
        queries: np.ndarray, mask: np.uint64, order: np.ndarray, keys: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows of queries, and of the hashes that are equal to them under a mask."""
        start = np.searchsorted(keys, queries & mask, "left")
        counts = np.searchsorted(keys, queries & mask, "right") - start
        query = np.repeat(np.arange(len(queries)), counts)
        within = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
        return query, order[np.repeat(start, counts) + within]


def _masks(count: int) -> list[np.uint64]:
    """`count` bands that share the bits among them evenly."""
    edges = [_BITS * band // count for band in range(count + 1)]
    return [np.uint64((1 << high) - (1 << low)) for low, high in itertools.pairwise(edges)]
