"""A sheet of the images on which a model is most surely wrong."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from data import crops
from data.encoded_images import EncodedImages
from noisy_student import pictures
from noisy_student.evaluation_suite.outcomes import Table

_COLUMNS, _ROWS = 6, 4
_CELL, _TEXT, _MARGIN = 150, 34, 12


def draw(
    images: EncodedImages,
    table: Table,
    wrong: np.ndarray,
    class_names: Sequence[str],
    path: str,
) -> None:
    """Writes a PNG of up to 24 images, the most confident mistakes first; none: no file.

    Args:
        images: Those of the table; read once more.
        table: Rows of `outcomes.of_batch`.
        wrong: bool `[N]`, which of them are mistakes.
        class_names: By label.
        path: Of the PNG.
    """
    mistakes = np.flatnonzero(wrong)
    order = np.argsort(-table["confidence"][mistakes], kind="stable")
    chosen = mistakes[order][: _COLUMNS * _ROWS]
    if not len(chosen):
        return
    found = _read(images, chosen)
    rows = -(-len(chosen) // _COLUMNS)
    step = _CELL + _MARGIN
    size = (_COLUMNS * step + _MARGIN, rows * (step + _TEXT) + _MARGIN)
    sheet = Image.new("RGB", size, pictures.PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, row in enumerate(chosen):
        left = _MARGIN + place % _COLUMNS * step
        top = _MARGIN + place // _COLUMNS * (step + _TEXT)
        sheet.paste(pictures.fitted(found[row], _CELL), (left, top + _TEXT))
        label, predicted = (class_names[table[k][row]] for k in ("label", "predicted"))
        share = f"{table['confidence'][row]:.0%}"
        text = f"{_short(label)} taken for\n{_short(predicted)}, {share}"
        pen.multiline_text((left, top), text, "black", pictures.font(12))
    pictures.write_png(sheet, path)


def _read(images: EncodedImages, chosen: np.ndarray) -> dict[int, np.ndarray]:
    """Pixels by place in the set."""
    wanted, found = set(chosen.tolist()), {}
    for at, encoded in images.read().map(lambda row: row["encoded"]).enumerate():
        if int(at) in wanted:
            found[int(at)] = crops.decode(encoded).numpy()
            if len(found) == len(wanted):
                break
    return found


def _short(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:11]}…"
