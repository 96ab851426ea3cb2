"""Perceptual hashes: 64 bits that a photo keeps when it is resized or saved again.

pHash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions",
2010), in the form of the library imagehash: g is the image's luminance, resized to
N x N with N = 32, and its DCT-II

    C[u, v] = 2/N Σ_y Σ_x g[y, x] cos(π (2y + 1) u / 2N) cos(π (2x + 1) v / 2N).

Of the 64 lowest frequencies, u, v < 8, bit 63 - (8u + v) says whether C[u, v] is above
their median. So half of the bits are set, and distances between hashes are even.
Mirrored, turned and cropped images have other hashes.
"""

import numpy as np
import scipy.fft
import tensorflow as tf
from PIL import Image

from data import crops

SIDE = 32  # N, in pixels.
_FREQUENCIES = 8  # In each direction.
_NOISE = 1.0  # Grey levels by which saving a photo again changes a coefficient.
_FEWEST_CLEAR_BITS = 48


def thumbnail(encoded: bytes) -> np.ndarray:
    """uint8 `[32, 32]`: luminance (Rec. 601) of an image file, resized by Lanczos.

    Raises:
        tf.errors.InvalidArgumentError: It is no image that can be decoded.
    """
    with tf.device("/CPU:0"):
        pixels = crops.decode(tf.constant(encoded)).numpy()
    image = Image.fromarray(pixels).convert("L")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def perceptual_hashes(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of some thumbnails, and which of them say something.

    A bit says something where its coefficient differs from the median by a grey level;
    else it is noise. A hash says something where 48 of its bits do: photos have 56 and
    more, while plain sky, gradients and flat images have fewer and often share hashes.

    Args:
        thumbnails: uint8 `[N, 32, 32]`.

    Returns:
        uint64 `[N]` and bool `[N]`.
    """
    # SciPy's sums have a factor of 2 for each direction.
    levels = thumbnails.astype(np.float64) / (2 * SIDE)
    coefficients = scipy.fft.dctn(levels, type=2, axes=(1, 2))
    lowest = coefficients[:, :_FREQUENCIES, :_FREQUENCIES]
    lowest = lowest.reshape(len(lowest), -1)  # [N, 64]
    above = lowest - np.median(lowest, axis=1, keepdims=True)
    hashes = np.packbits(above > 0, axis=1).view(">u8")[:, 0].astype(np.uint64)
    clear = (np.abs(above) >= _NOISE).sum(axis=1)
    return hashes, clear >= _FEWEST_CLEAR_BITS
