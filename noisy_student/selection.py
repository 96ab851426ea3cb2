"""Which pseudo-labeled images of a class are kept, and how often.

Of the images with enough confidence the K most confident, ties broken by a
hash of the id. A class with only n < K of them keeps all, each K // n times,
and the K % n with the smallest hashes once more.
"""

import dataclasses
import hashlib

import apache_beam as beam
import numpy as np


@dataclasses.dataclass(frozen=True)
class ClassSelection:
    """Which images of a class are kept, and how often.

    An image is kept if (confidence, hash) ranks no lower than (`confidence`,
    `id_hash`): a higher confidence first, then the smaller hash.

    Attributes:
        eligible: Images of this class with enough confidence.
        kept: How many of them are kept.
        confidence: Of the last image kept.
        id_hash: Of the last image kept.
        copies: How often each kept image occurs.
        extra_hash: Images with a hash up to this occur once more; -1: none.
    """

    eligible: int
    kept: int
    confidence: float
    id_hash: int
    copies: int
    extra_hash: int


def id_hashes(ids, seed: int) -> np.ndarray:
    """uint64 `[N]` hashes of byte-string ids, different for every seed."""
    key = str(seed).encode()
    digests = b"".join(hashlib.blake2b(id_, digest_size=8, key=key).digest() for id_ in ids)
    return np.frombuffer(digests, "<u8")


class RankImages(beam.CombineFn):
    """Merges (confidences, hashes) of one class, keeping the best `limit`.

    The accumulator is (number seen, confidences, hashes); it never holds more
    than twice `limit` images, and merges exactly in any order.
    """

    def __init__(self, limit: int):
        self._limit = limit

    def create_accumulator(self):
        return 0, np.zeros(0, np.float32), np.zeros(0, np.uint64)

    def add_input(self, accumulator, images):
        confidences, hashes = images
        return self.merge_accumulators(
            [accumulator, (len(confidences), confidences, hashes)]
        )

    def merge_accumulators(self, accumulators):
        counts, confidences, hashes = zip(*accumulators, strict=True)
        confidences, hashes = np.concatenate(confidences), np.concatenate(hashes)
        if len(confidences) > self._limit:
            best = np.lexsort((hashes, -confidences))[: self._limit]
            confidences, hashes = confidences[best], hashes[best]
        return sum(counts), confidences, hashes

    def extract_output(self, accumulator) -> ClassSelection:
        eligible, confidences, hashes = accumulator
        kept = len(confidences)
        last = np.lexsort((hashes, -confidences))[-1]
        copies, extra = divmod(self._limit, kept)
        return ClassSelection(
            eligible=eligible,
            kept=kept,
            confidence=float(confidences[last]),
            id_hash=int(hashes[last]),
            copies=copies,
            extra_hash=int(np.sort(hashes)[extra - 1]) if extra else -1,
        )


def copies_of(selection: ClassSelection, confidences, hashes) -> np.ndarray:
    """How often each image of a class occurs: int64 `[N]`, 0 if dropped."""
    limit = np.float32(selection.confidence)
    kept = (confidences > limit) | (
        (confidences == limit) & (hashes <= np.uint64(selection.id_hash))
    )
    copies = np.full(len(hashes), selection.copies)
    if selection.extra_hash >= 0:
        copies += hashes <= np.uint64(selection.extra_hash)
    return np.where(kept, copies, 0)
