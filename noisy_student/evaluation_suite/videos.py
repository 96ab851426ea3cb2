"""Frames of a video file, as ImageNet-P has them."""

from collections.abc import Iterator

import numpy as np

from data.errors import InputError


def check_installed() -> None:
    """Refuses to go on without OpenCV, before anything is run."""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"`imagenet_p`: expected OpenCV to read videos; {error}. Run pip install "
            "opencv-python-headless."
        ) from error


def frames(path: str) -> Iterator[np.ndarray]:
    """All frames in order, uint8 RGB `[H, W, 3]`.

    Decoded by OpenCV, as the benchmark's authors do. Of local files only.

    Raises:
        InputError: A frame cannot be read, or there is none.
    """
    import cv2

    video = cv2.VideoCapture(path)
    count, promised = 0, int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    try:
        while True:
            there, frame = video.read()
            if not there:
                break
            count += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        video.release()
    if not count or count < promised:
        raise InputError(
            f"`imagenet_p`: expected a video all of whose frames can be read; of {path} "
            f"{count} of {max(promised, 0)} could. Get the file again: a benchmark counts "
            "all of them."
        )
