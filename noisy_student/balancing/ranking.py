"""The most confident K of every class, and the order of those that tie (`selection.py`).

First the K-th highest confidence is looked for; then, among the images that have it,
or among those of a class with too few, the last hash that counts.
"""

import dataclasses

import numpy as np

from noisy_student.balancing.order_statistics import Search
from noisy_student.balancing.selection import ALL_HASHES, HASH_BITS, Rule, Selection


@dataclasses.dataclass(frozen=True)
class RankSearch:
    """How far the search for the K-th highest confidence of each class is.

    Attributes:
        eligible: int64 `[C]`, images that pass the filter; 0 before the first level.
        search: For ranks (`Rule.ranks`), 0 being a confidence of 1.
    """

    eligible: np.ndarray
    search: Search

    @classmethod
    def start(cls, rule: Rule) -> "RankSearch":
        wanted = np.full(rule.num_classes, rule.images_per_class)
        none = np.zeros(rule.num_classes, np.int64)
        return cls(none, Search.start(wanted, rule.rank_bits))

    def narrowed(self, counts: np.ndarray) -> "RankSearch":
        eligible = self.eligible
        if not eligible.any():  # The first level sees every image.
            eligible = counts.reshape(len(eligible), -1).sum(1)
        return RankSearch(eligible, self.search.narrowed(counts))


@dataclasses.dataclass(frozen=True)
class Ties:
    """The search for the last hash, among images of equal standing.

    Attributes:
        eligible: int64 `[C]`.
        by_rank: bool `[C]`: there are enough images to choose by confidence.
        last_rank: int64 `[C]`, of the last images chosen by confidence.
        search: Among those of that rank; without `by_rank` among all of the class.
    """

    eligible: np.ndarray
    by_rank: np.ndarray
    last_rank: np.ndarray
    search: Search

    def tied(self, labels: np.ndarray, ranks: np.ndarray) -> np.ndarray:
        """Rows of images among which the last hash is looked for: int64 `[M]`."""
        same = ~self.by_rank[labels] | (ranks == self.last_rank[labels])
        return np.flatnonzero(same & (self.search.wanted[labels] > 0))

    def narrowed(self, counts: np.ndarray) -> "Ties":
        return dataclasses.replace(self, search=self.search.narrowed(counts))


def ties_of(found: RankSearch, rule: Rule) -> Ties:
    """The search that follows a finished search by confidence.

    Classes with K images or more look for the last hash among those of the K-th
    confidence; classes with fewer, for the last hash that occurs once more.
    """
    ranks, by_rank = found.search, found.search.wanted > 0
    all_ties = ranks.wanted == ranks.within
    examples = rule.examples_of(found.eligible)
    once_more = examples % np.maximum(found.eligible, 1)
    wanted = np.where(by_rank, np.where(all_ties, 0, ranks.wanted), once_more)
    return Ties(found.eligible, by_rank, ranks.low, Search.start(wanted, HASH_BITS))


def finished(
    ties: Ties, rule: Rule, candidates: tuple[np.ndarray, np.ndarray]
) -> Selection:
    """What is kept, once both searches have come to their end.

    Args:
        ties: The search for the last hash.
        rule: What decides.
        candidates: int `[N]` classes and int64 `[N]` hashes left to choose from.
    """
    last_hash = ties.search.finished(*candidates)
    examples = rule.examples_of(ties.eligible)
    all_copies = examples // np.maximum(ties.eligible, 1)
    below = last_hash + 1  # 0: no hash was looked for.
    selection = Selection(
        eligible=ties.eligible,
        confidence=np.where(
            ties.by_rank, rule.confidences(ties.last_rank), np.float32(-1)
        ).astype(np.float32),
        hash_below=np.where(ties.by_rank & (below > 0), below, ALL_HASHES),
        copies=np.where(ties.by_rank, 1, all_copies),
        extra_below=np.where(ties.by_rank, 0, below),
    )
    if rule.settings.selection != "uniform":
        return selection
    # By hash alone: confidences say nothing, and what is drawn occurs "once more".
    drawn = np.where(below > 0, below, ALL_HASHES)
    return dataclasses.replace(
        selection,
        confidence=np.full(rule.num_classes, -1, np.float32),
        hash_below=np.full(rule.num_classes, ALL_HASHES),
        copies=np.where(ties.by_rank, 0, all_copies),
        extra_below=np.where(ties.by_rank, drawn, below),
    )
