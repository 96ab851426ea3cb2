"""Sources that fit in memory: scikit-learn's digits, and MNIST-format files."""

import gzip
import io
import math
import os
import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from data import images
from data.errors import InputError
from data.records import Record
from data.sources.base import Source

_MOST_PACKED = 1040  # Bytes that a byte of a gzip file can stand for.


class ArraySource(Source):
    """uint8 images in memory, stored as PNG.

    Args:
        pixels: uint8 `[N, H, W]` or `[N, H, W, 3]`.
        labels: Integers `[N]`.
        class_names: By label.
        prefix: Of the ids.
        first: The number of the first image, in its id.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str],
        prefix: str,
        first: int = 0,
    ):
        self.class_names = tuple(class_names)
        self.labels = np.asarray(labels, np.int64)
        self._pixels, self._prefix, self._first = pixels, prefix, first

    def read(self, indices: Sequence[int] | np.ndarray) -> Iterator[Record]:
        for index in indices:
            yield Record(
                id=f"{self._prefix}/{self._first + index:06d}",
                image=images.encode_png(self._pixels[index]),
                label=int(self.labels[index]),
            )


def digits(split: str) -> ArraySource:
    """8x8 grey images; 1,000 pool, 297 validation, 500 test, fixed for ever."""
    import sklearn.datasets

    splits = {
        "pool": slice(0, 1000),
        "validation": slice(1000, 1297),
        "test": slice(1297, 1797),
    }
    if split not in splits:
        raise InputError(
            f"Unknown split of digits: expected one of {', '.join(splits)}; "
            f"received {split!r}."
        )
    digits = sklearn.datasets.load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    chosen = np.random.default_rng(1797).permutation(len(pixels))[splits[split]]
    names = [str(digit) for digit in range(10)]
    return ArraySource(pixels[chosen], digits.target[chosen], names, f"digits/{split}")


def idx(rest: str) -> ArraySource:
    """`train-images-idx3-ubyte[.gz]` and its siblings (`t10k-…` for test).

    Args:
        rest: `DIR`, `DIR:train` or `DIR:test`, then perhaps a part in the notation of
            TensorFlow Datasets: `DIR:train[5000:]`. Ids stay those of the whole.
    """
    match = re.fullmatch(r"(.+?)(?::(train|test))?(?:\[(\d*):(\d*)\])?", rest)
    assert match is not None  # `.+?` takes all that the rest does not.
    directory, split = match[1], match[2] or "train"
    stem = {"train": "train", "test": "t10k"}[split]
    pixels = _read_idx(directory, f"{stem}-images", 3)
    labels = _read_idx(directory, f"{stem}-labels", 1)
    if len(pixels) != len(labels):
        raise InputError(
            f"idx:{rest}: expected as many labels as images; received {len(pixels)} "
            f"images and {len(labels)} labels."
        )
    if not len(labels):
        raise InputError(f"idx:{rest}: expected at least one image; received none.")
    names = [str(label) for label in range(int(labels.max()) + 1)]
    part = slice(int(match[3] or 0), int(match[4] or len(labels)))
    if not len(labels[part]) or part.stop > len(labels):
        raise InputError(
            f"idx:{rest}: expected a part of the {len(labels):,} images; received "
            f"[{part.start}:{part.stop}]."
        )
    return ArraySource(pixels[part], labels[part], names, split, part.start)


def _read_idx(directory: str, stem: str, rank: int) -> np.ndarray:
    """An IDX file of unsigned bytes: magic, sizes (big-endian), values."""
    names = [f"{stem}{dot}idx{rank}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    paths = [os.path.join(directory, name) for name in names]
    path = next((path for path in paths if tf.io.gfile.exists(path)), None)
    if path is None:
        raise InputError(
            f"idx:{directory}: expected a file {names[0]} or {names[1]}; found none."
        )
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read()
    try:
        content = _unpacked(content, 4 + 4 * rank) if path.endswith(".gz") else content
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path}: expected a whole gzip file; received a damaged gzip file ({error}). "
            "Download it again."
        ) from error
    header = 4 + 4 * rank
    if len(content) < header or content[:4] != bytes([0, 0, 8, rank]):
        raise InputError(
            f"{path}: expected an IDX file of unsigned bytes with {rank} dimensions; "
            f"received a file whose first bytes are {content[:4].hex()!r}. Take the "
            "original file."
        )
    shape = _shape(content[:header])
    values = np.frombuffer(content[header:], np.uint8)
    if values.size != math.prod(shape):
        raise InputError(
            f"{path}: expected {math.prod(shape)} values from its header; received "
            f"{values.size}. The file is truncated or damaged."
        )
    return values.reshape(shape)


def _shape(header: bytes) -> list[int]:
    return np.frombuffer(header[4:], ">u4").tolist()


def _unpacked(content: bytes, header: int) -> bytes:
    """What a gzip file holds, up to a byte more than its IDX header says."""
    with gzip.open(io.BytesIO(content)) as file:
        found = file.read(header)
        if len(found) < header:
            return found
        wanted = math.prod(_shape(found))
        if wanted > _MOST_PACKED * len(content):  # Deflate packs no better.
            return found
        rest = file.read(wanted + 1)
        return found + rest
