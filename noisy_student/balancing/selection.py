"""Which pseudo-labeled images of a class are kept, and how often.

By rule `top_k` (paper §2): of the images with enough confidence the K most
confident, ties broken by a hash of the id. A class with only n < K of them keeps
all, each K // n times, and the K % n with the smallest hashes once more.
"""

import dataclasses

import numpy as np

from noisy_student.config import SelectionConfig
from noisy_student.labeling.predictions import Index

HASH_BITS = 63
ALL_HASHES = np.int64(2**HASH_BITS - 1)  # A bound above all hashes but one in 2^63.
_ONE = int(np.float32(1).view(np.int32))


@dataclasses.dataclass(frozen=True)
class Rule:
    """What decides about an image beside the predictions of all others.

    Attributes:
        settings: Thresholds and numbers.
        images_per_class: K.
        num_classes: C.
        seed: Of every hash.
        excluded: uint64, sorted `[D]`: `data.id_hashes.hash_ids` of images to leave out.
    """

    settings: SelectionConfig
    images_per_class: int
    num_classes: int
    seed: int
    excluded: np.ndarray

    def eligible(self, index: Index) -> np.ndarray:
        """Rows of an index that pass the filter: int64 `[M]`.

        Confidences from `min_confidence` (inclusive) to `max_confidence` (exclusive),
        images drawn for `pool_fraction`, and none that is excluded.
        """
        passing = np.ones(len(index.labels), bool)
        if self.thresholded:
            # Sums of imported ones may be a little more than 1.
            passing &= index.confidences >= np.float32(self.settings.min_confidence)
            at_most_1 = np.minimum(index.confidences, np.float32(1))
            passing &= at_most_1 < np.float32(self.settings.max_confidence)
        if self.settings.pool_fraction < 1:
            drawn = mixed(index.id_hashes, self.seed, purpose="pool")
            passing &= drawn < self.settings.pool_fraction * 2.0**HASH_BITS
        if len(self.excluded):
            places = np.searchsorted(self.excluded, index.id_hashes)
            places = np.minimum(places, len(self.excluded) - 1)
            passing &= self.excluded[places] != index.id_hashes
        return np.flatnonzero(passing)

    @property
    def thresholded(self) -> bool:
        """Whether confidences are compared with the thresholds at all."""
        settings = self.settings
        return settings.filter == "threshold" and settings.selection != "unchanged"

    @property
    def needs_hashes(self) -> bool:
        """Whether the filter looks at ids."""
        return self.settings.pool_fraction < 1 or len(self.excluded) > 0

    def examples_of(self, images: np.ndarray) -> np.ndarray:
        """How many examples so many images of a class give: int64 `[C]`.

        K, or as many as `max_copies` of each image allow.
        """
        most = images * (self.settings.max_copies or np.int64(2**31))
        return np.minimum(self.images_per_class, most)

    def hashes(self, index: Index, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
        """int64 `[M]`: what decides between equal confidences, copies and lots."""
        return mixed(index.id_hashes[rows], self.seed)

    def ranks(self, confidences: np.ndarray) -> np.ndarray:
        """int64 `[N]`, 0 for a confidence of 1: the same order, the other way round.

        The bits of a positive float, taken for an integer, are in the float's order.
        Rule `uniform` knows no order.
        """
        if self.settings.selection == "uniform":
            return np.zeros(len(confidences), np.int64)
        return _ONE - np.minimum(confidences, 1).view(np.int32).astype(np.int64)

    def confidences(self, ranks: np.ndarray) -> np.ndarray:
        """float32 `[N]`: those of ranks from 0."""
        return (_ONE - ranks).astype(np.int32).view(np.float32)

    @property
    def rank_bits(self) -> int:
        """Enough for the rank of every eligible image.

        Images whose rank is `2**rank_bits` or more would not be found: it changes
        with `ranks`, and so do `confidences`, its inverse, and `Selection.copies_of`.
        """
        lowest = self.settings.min_confidence if self.thresholded else 0.0
        return max(int(self.ranks(np.array([lowest], np.float32))[0]).bit_length(), 1)


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is kept of every class; arrays `[C]`.

    An image is kept, `copies` times, if its confidence is above `confidence`, or is
    equal and its hash below `hash_below`. Those of them with a hash below
    `extra_below` occur once more.

    Attributes:
        eligible: int64, images that pass the filter.
        confidence: float32.
        hash_below: int64, from 0 to 2^63 - 1.
        copies: int64.
        extra_below: int64; 0: no image occurs once more.
    """

    eligible: np.ndarray
    confidence: np.ndarray
    hash_below: np.ndarray
    copies: np.ndarray
    extra_below: np.ndarray

    def copies_of(
        self, labels: np.ndarray, confidences: np.ndarray, hashes: np.ndarray
    ) -> np.ndarray:
        """How often images occur: int64 `[N]`, 0 if not at all.

        Args:
            labels: int `[N]`.
            confidences: float32 `[N]`, of images that pass the filter.
            hashes: int64 `[N]`, see `mixed`.
        """
        confidences = np.minimum(confidences, np.float32(1))
        limit = self.confidence[labels]
        kept = confidences > limit
        kept |= (confidences == limit) & (hashes < self.hash_below[labels])
        copies = self.copies[labels] + (hashes < self.extra_below[labels])
        return np.where(kept, copies, 0)

    def to_json(self) -> dict:
        """Lists by name, for people to look at."""
        return {key: value.tolist() for key, value in vars(self).items()}


def mixed(id_hashes: np.ndarray, seed: int, purpose: str = "order") -> np.ndarray:
    """int64 `[N]`, from 0 to 2^63 - 1: other draws for every seed and purpose.

    SplitMix64's function of `hash + (2·seed + 1 + purpose)·0x9E3779B97F4A7C15`, without
    its last bit (Steele, Lea, Flood, 2014: Fast splittable pseudorandom number
    generators).

    Args:
        id_hashes: uint64 `[N]`, see `data.id_hashes.hash_ids`.
        seed: From 0.
        purpose: `order` (0) for ties, copies and lots, or `pool` (1).
    """
    step = 2 * seed + 1 + ("order", "pool").index(purpose)
    step = step * 0x9E3779B97F4A7C15 % 2**64
    z = id_hashes + np.uint64(step)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(1)).view(np.int64)


def unbalanced(eligible: np.ndarray) -> Selection:
    """Every image that passes the filter, once (`balance=none`)."""
    shape = len(eligible)
    return Selection(
        eligible=eligible,
        confidence=np.full(shape, -1, np.float32),
        hash_below=np.full(shape, ALL_HASHES),
        copies=np.ones(shape, np.int64),
        extra_below=np.zeros(shape, np.int64),
    )
