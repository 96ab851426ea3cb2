"""ImageNet-C's corruptions on anyone's images, seeded (Hendrycks & Dietterich, 1903.12261).

The corruptions are those of imagecorruptions-imaug, with the authors' strengths for
photos of 224 pixels. The package takes no image with a side below 32 pixels, so smaller
ones are enlarged to it first.

Every draw is a function of seed, image id, corruption and severity: neither the order
nor the number of workers changes an image. The package draws from NumPy's global state,
so that only one image at a time can be corrupted in a process: workers are processes.
Nothing here imports TensorFlow, and each of them starts in a second.
"""

import collections
import hashlib
from collections.abc import Iterable, Iterator

import loky
import numpy as np
from PIL import Image

from data.errors import InputError

NAMES = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 32  # Pixels of a side that the package takes.
_BYTES_AHEAD = 2**31  # Of photos of that many, fewer wait.
_IDLE = 300  # Seconds that a worker waits: glass_blur is compiled in each anew.
_AHEAD = 4  # Images a worker that wait to be corrupted, or to be taken.
_OWN_GENERATOR = ("impulse_noise", "glass_blur")  # Take a seed, and no global state.


def check_installed() -> None:
    """Refuses to go on without the package, before a model is loaded."""
    try:
        import imagecorruptions  # noqa: F401
    except ImportError as error:
        raise InputError(
            "`on`: expected the package imagecorruptions-imaug for corruptions; "
            f"{error}. Run pip install --no-deps -r requirements-corruptions.txt."
        ) from error


def corrupted(
    pixels: np.ndarray, name: str, severity: int, seed: int, image_id: str
) -> np.ndarray:
    """One image under one corruption.

    Args:
        pixels: uint8 `[H, W, 3]`.
        name: One of `NAMES`.
        severity: 1 to 5.
        seed: With id, name and severity it decides every draw.
        image_id: Names the image in its set.

    Returns:
        uint8, of the same sides; at least 32 pixels.
    """
    import imagecorruptions

    drawn = _seed_of(f"{seed}/{name}/{severity}/{image_id}")
    own = {"seed": drawn} if name in _OWN_GENERATOR else {}
    before = np.random.get_state()
    np.random.seed(drawn)
    try:
        return imagecorruptions.corrupt(
            enlarged(pixels), severity=severity, corruption_name=name, **own
        )
    finally:
        np.random.set_state(before)


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """The image, bicubically enlarged so that no side is below 32 pixels."""
    height, width = pixels.shape[:2]
    if min(height, width) >= SMALLEST:
        return pixels
    factor = SMALLEST / min(height, width)
    size = (max(round(width * factor), SMALLEST), max(round(height * factor), SMALLEST))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def shrunk(pixels: np.ndarray, shorter_side: int) -> np.ndarray:
    """The image with a shorter side of at most so many pixels; 0: as it is."""
    shorter = min(pixels.shape[:2])
    if not shorter_side or shorter <= shorter_side:
        return pixels
    height, width = (round(side * shorter_side / shorter) for side in pixels.shape[:2])
    return np.asarray(
        Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    )


def corrupted_in_order(
    images: Iterable[tuple[str, np.ndarray]],
    name: str,
    seed: int,
    shorter_side: int = 0,
    workers: int = 1,
) -> Iterator[np.ndarray]:
    """The images at each severity, made by several processes.

    Args:
        images: Id and uint8 `[H, W, 3]` of each; a few are read ahead.
        name: One of `NAMES`.
        seed: See `corrupted`.
        shorter_side: Larger images are shrunk to it first; 0: none is.
        workers: Processes; they stay for the next call.

    Yields:
        uint8 `[H, W, 3]`: all severities of the first image, then of the second, …
    """
    # Started anew, not forked: TensorFlow's threads would not survive that.
    executor = loky.get_reusable_executor(max_workers=workers, timeout=_IDLE)
    waiting: collections.deque = collections.deque()
    for image_id, pixels in images:
        waiting.append(
            executor.submit(_at_severities, pixels, name, seed, image_id, shorter_side)
        )
        ahead = min(_AHEAD * workers, _BYTES_AHEAD // (pixels.nbytes * len(SEVERITIES)))
        while len(waiting) > ahead:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


def _at_severities(pixels, name, seed, image_id, shorter_side):
    import cv2

    cv2.setNumThreads(1)  # Else each process would take every core.
    pixels = shrunk(pixels, shorter_side)
    return [corrupted(pixels, name, severity, seed, image_id) for severity in SEVERITIES]


def _seed_of(text: str) -> int:
    """32 bits, as NumPy's global state takes them."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
