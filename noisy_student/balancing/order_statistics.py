"""The m-th smallest value of every class, found by radix selection over shards.

Each level counts, per class, the values that share the digits found so far by
their next digit. The counts of shards add up in any order, so that the result is
exact, the same for every division of the work, and takes memory for the counts
alone, whatever the number of values.
"""

import dataclasses

import numpy as np

_MOST_COUNTERS = 2**20  # 8 MB, which Beam sends from step to step.
_MOST_BITS = 12


@dataclasses.dataclass(frozen=True)
class Search:
    """What is known of the m-th smallest value of every class.

    It lies in `[low, low + 2**shift)`, and is the `wanted`-th smallest there.

    Attributes:
        low: int64 `[C]`.
        wanted: int64 `[C]`, from 1; 0 for classes in which nothing is looked for.
        within: int64 `[C]`, how many values lie there; of a class in which there
            are too few, all of them.
        shift: 0 once the values are known.
        digit_bits: Bits of the next digit.
    """

    low: np.ndarray
    wanted: np.ndarray
    within: np.ndarray
    shift: int
    digit_bits: int

    @classmethod
    def start(cls, wanted: np.ndarray, bits: int) -> "Search":
        """Nothing is known of values from 0 to below `2**bits` (at most 63).

        Args:
            wanted: int64 `[C]`, m of every class, from 1; 0: nothing to find.
            bits: Of the values.
        """
        none = np.zeros(len(wanted), np.int64)
        most = max((_MOST_COUNTERS // len(wanted)).bit_length() - 1, 1)
        most = min(most, _MOST_BITS)
        digit_bits = -(-bits // -(-bits // most))  # As few levels, all alike.
        return cls(none, np.asarray(wanted, np.int64), none, bits, digit_bits)

    @property
    def levels(self) -> int:
        """How many digits are still to find."""
        return -(-self.shift // self.digit_bits) if self.shift else 0

    @property
    def counters(self) -> int:
        return len(self.low) << self.digit_bits

    def candidates(self, classes: np.ndarray, values: np.ndarray) -> np.ndarray:
        """bool `[N]`: which of the values may be the one looked for."""
        low = self.low[classes]
        near = (values >= low) & ((values - low) >> self.shift == 0)
        return near & (self.wanted[classes] > 0)

    def count(self, classes: np.ndarray, values: np.ndarray) -> tuple:
        """Counts of the candidates' next digits: those that are not 0.

        Args:
            classes: int `[N]`.
            values: int64 `[N]`.

        Returns:
            Positions, int64 `[M]`, of counters, and counts, int64 `[M]`.
        """
        rows = np.flatnonzero(self.candidates(classes, values))
        classes, values = classes[rows].astype(np.int64), values[rows]
        digits = (values - self.low[classes]) >> self._next_shift
        counts = np.bincount((classes << self.digit_bits) + digits)
        positions = np.flatnonzero(counts)
        return positions, counts[positions]

    def narrowed(self, counts: np.ndarray) -> "Search":
        """The search one digit further.

        Args:
            counts: int64 `[counters]`, summed over all shards.
        """
        counts = counts.reshape(len(self.low), -1)
        cumulative = counts.cumsum(1)
        found = (self.wanted > 0) & (cumulative[:, -1] >= self.wanted)
        digits = (cumulative < self.wanted[:, None]).sum(1) * found
        rows = np.arange(len(digits))
        below = cumulative[rows, digits] - counts[rows, digits]
        return dataclasses.replace(
            self,
            low=self.low + (digits << self._next_shift),
            wanted=np.where(found, self.wanted - below, 0),
            within=np.where(found, counts[rows, digits], cumulative[:, -1]),
            shift=self._next_shift,
            digit_bits=min(self.digit_bits, self._next_shift),
        )

    @property
    def _next_shift(self) -> int:
        return self.shift - self.digit_bits

    def finished(self, classes: np.ndarray, values: np.ndarray) -> np.ndarray:
        """int64 `[C]`: the values looked for; -1 where there are none.

        Args:
            classes: int `[N]`, of all candidates.
            values: int64 `[N]`, theirs.
        """
        order = np.lexsort((values, classes))
        classes, values = classes[order], values[order]
        firsts = np.searchsorted(classes, np.arange(len(self.low)))
        sought = np.flatnonzero(self.wanted)
        result = np.full(len(self.low), -1)
        result[sought] = values[firsts[sought] + self.wanted[sought] - 1]
        return result
