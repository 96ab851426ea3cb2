"""SVHN's own files: `train_32x32.mat`, `extra_32x32.mat`, `test_32x32.mat`.

Netzer et al.; format 2, cropped digits of 32x32 pixels, from
http://ufldl.stanford.edu/housenumbers.
"""

import io
import os
import signal
import subprocess
import sys

import numpy as np
import tensorflow as tf

from data.errors import InputError
from data.sources.arrays import ArraySource

SPLITS = ("train", "dev", "test", "extra")
DEV_IMAGES = 4_000  # Of the training images, as the published code holds out.
_LOAD = "import io, sys, scipy.io; scipy.io.loadmat(io.BytesIO(sys.stdin.buffer.read()))"


def svhn(rest: str) -> ArraySource:
    """One split of SVHN.

    `dev` is 4,000 of the 73,257 training images, `train` the others: the first ones of
    an order that NumPy shuffles with seed 0, as in the published `proc_svhn.py`. `extra`
    are the 531,131 easier ones, `test` the 26,032 for the result.

    Args:
        rest: `DIR:train`, `DIR:dev`, `DIR:test` or `DIR:extra`.

    Raises:
        InputError: There is no such split or file, or the file is no such one.
    """
    directory, _, split = rest.rpartition(":")
    if not directory or split not in SPLITS:
        raise InputError(
            f"svhn:{rest}: expected svhn:DIR:SPLIT with a split among "
            f"{', '.join(SPLITS)}; received {split!r}."
        )
    stem = "train" if split == "dev" else split
    pixels, labels = _read(os.path.join(directory, f"{stem}_32x32.mat"))
    if stem == "train":
        if len(labels) <= DEV_IMAGES:
            raise InputError(
                f"svhn:{rest}: expected more than the {DEV_IMAGES:,} images that are held "
                f"out as dev; received {len(labels):,} in train_32x32.mat."
            )
        order = np.random.RandomState(0).permutation(len(labels))
        dev, train = order[:DEV_IMAGES], order[DEV_IMAGES:]
        chosen = dev if split == "dev" else train
        pixels, labels = pixels[chosen], labels[chosen]
    return ArraySource(pixels, labels, [str(digit) for digit in range(10)], f"svhn/{split}")


def _check(path: str, encoded: bytes) -> None:
    """Reads it in a process of its own: damaged bytes can crash scipy's native code."""
    child = subprocess.run(
        [sys.executable, "-c", _LOAD], input=encoded, capture_output=True, check=False
    )
    if not child.returncode:
        return
    if child.returncode < 0:
        reason = f"scipy's reader crashed: {signal.Signals(-child.returncode).name}"
    else:
        reason = child.stderr.decode("utf-8", "backslashreplace").strip().split("\n")[-1]
    raise InputError(
        f"{path}: expected a whole MATLAB file; received a damaged one, or none "
        f"({reason}). Get it again."
    )


def _read(path: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 `[N, 32, 32, 3]` and labels 0 to 9; the files say 10 for a zero."""
    import scipy.io

    if not tf.io.gfile.exists(path):
        raise InputError(
            f"{path}: expected SVHN's file of cropped digits (format 2); there is none. "
            "Get it from http://ufldl.stanford.edu/housenumbers."
        )
    with tf.io.gfile.GFile(path, "rb") as file:
        encoded = file.read()
    _check(path, encoded)
    content = scipy.io.loadmat(io.BytesIO(encoded))
    pixels, labels = content.get("X"), content.get("y")
    if pixels is None or labels is None or pixels.shape[:3] != (32, 32, 3):
        found = {k: v.shape for k, v in content.items() if isinstance(v, np.ndarray)}
        raise InputError(
            f"{path}: expected X of 32x32x3xN and y of N, as in format 2; received "
            f"{', '.join(f'{name} of {shape}' for name, shape in found.items())}."
        )
    labels = labels.reshape(-1).astype(np.int64)
    if pixels.dtype != np.uint8 or labels.min() < 1 or labels.max() > 10:
        raise InputError(
            f"{path}: expected X of bytes and y of 1 to 10; received X of {pixels.dtype} "
            f"and y of {labels.min()} to {labels.max()}."
        )
    labels %= 10
    if pixels.shape[3] != len(labels):
        raise InputError(
            f"{path}: expected as many labels as images; received {pixels.shape[3]:,} "
            f"images and {len(labels):,} labels."
        )
    return np.transpose(pixels, (3, 0, 1, 2)), labels
