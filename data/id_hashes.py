"""Ids of images as numbers, for tables too large for strings."""

import hashlib
from collections.abc import Iterable

import numpy as np


def hash_ids(ids: Iterable[bytes]) -> np.ndarray:
    """uint64 `[N]`, the first 8 bytes of BLAKE2b of each id."""
    digests = b"".join(hashlib.blake2b(id_, digest_size=8).digest() for id_ in ids)
    return np.frombuffer(digests, "<u8")
