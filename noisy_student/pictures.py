"""What pictures for people are drawn with: paper, letters, images at a size."""

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageFont

from data import files

PAPER = "#e6ebf2"  # Neither white nor the grey of empty pixels.


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Letters of so many pixels."""
    return ImageFont.load_default(size)


def fitted(pixels: np.ndarray, side: int) -> Image.Image:
    """An image whose longer side is at most `side` pixels.

    Larger ones shrink; smaller ones are enlarged by a whole factor with nearest
    neighbour: every pixel stays a square.

    Args:
        pixels: uint8 `[H, W, 3]`.
        side: In pixels.
    """
    image = Image.fromarray(pixels)
    longer = max(image.size)
    if longer <= side:
        return _resized(image, side // longer, Image.Resampling.NEAREST)
    return _resized(image, side / longer, Image.Resampling.LANCZOS)


def write_png(picture: Image.Image, path: str) -> None:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    with files.atomic_open(path, "wb") as file:
        file.write(buffer.getvalue())


def save_figure(figure: Figure, path: str) -> None:
    """A plot as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    with files.atomic_open(path, "wb") as file:
        file.write(buffer.getvalue())


def _resized(image: Image.Image, factor: float, method: Image.Resampling) -> Image.Image:
    width, height = (max(round(length * factor), 1) for length in image.size)
    return image.resize((width, height), method)
