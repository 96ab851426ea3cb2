"""Small photos that need no download: parts of scikit-learn's two pictures."""

import io

from PIL import Image
from sklearn.datasets import load_sample_images

_COLUMNS, _ROWS = 4, 3


def pictures() -> list[Image.Image]:
    """24 different ones of 160 x 142 pixels."""
    return [
        Image.fromarray(pixels[row * 142 : row * 142 + 142, left : left + 160])
        for pixels in load_sample_images().images
        for row in range(_ROWS)
        for left in range(0, 160 * _COLUMNS, 160)
    ]


def jpeg(picture: Image.Image, quality=90, scale=1.0) -> bytes:
    """The picture as a JPEG file, resized before if asked for."""
    size = tuple(round(length * scale) for length in picture.size)
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
