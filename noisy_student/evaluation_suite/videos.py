"""Frames of a video file, as ImageNet-P has them."""

from collections.abc import Iterator

import numpy as np

from data.errors import InputError


def frames(path: str) -> Iterator[np.ndarray]:
    """All frames in order, uint8 RGB `[H, W, 3]`.

    Decoded by OpenCV, as the benchmark's authors do. Of local files only.

    Raises:
        InputError: OpenCV is missing, or the file holds no frame that can be read.
    """
    try:
        import cv2
    except ImportError as error:
        raise InputError(
            f"`imagenet_p`: expected OpenCV to read videos; {error}. Run pip install "
            "opencv-python-headless."
        ) from error
    video = cv2.VideoCapture(path)
    count = 0
    try:
        while True:
            there, frame = video.read()
            if not there:
                break
            count += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        video.release()
    if not count:
        raise InputError(
            f"`imagenet_p`: expected a video with frames; {path} holds none that can be "
            "read. Get the file again: a benchmark counts all of them."
        )
