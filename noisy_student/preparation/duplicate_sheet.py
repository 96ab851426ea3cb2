"""A picture of some duplicates: unlabeled image left, evaluation image right.

So that a person can see whether the hashes are right about them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from data import crops
from data.records import Record, RecordSet
from noisy_student import pictures
from noisy_student.preparation.evaluation_images import EvaluationImages, stored_images
from noisy_student.preparation.image_hashes import PERCEPTUAL
from noisy_student.stages.shards import shards_by_name

PAIRS = 16
_COLUMNS = 4
_CELL, _GAP, _MARGIN, _FONT = 224, 4, 24, 16  # Pixels.
_LINES = 3  # Of text under a pair.


def choose(duplicates: list[dict]) -> list[dict]:
    """Up to `PAIRS` of them, the most distant first: those are the doubtful ones.

    Args:
        duplicates: Rows of the table.
    """
    by_bytes_last = sorted(duplicates, key=lambda row: row["kind"] != PERCEPTUAL)
    doubtful = sorted(by_bytes_last, key=lambda row: row["distance"], reverse=True)
    return doubtful[:PAIRS]


def write_sheet(
    pairs: list[dict],
    unlabeled: RecordSet,
    evaluation: Sequence[EvaluationImages],
    path: str,
) -> None:
    """Draws the pairs as a PNG.

    Args:
        pairs: Rows of the table, each with its `shard`.
        unlabeled: Where the left images are.
        evaluation: Where the right images are.
        path: Of the picture.
    """
    left = _unlabeled_images(pairs, unlabeled)
    right = _evaluation_images(pairs, evaluation)
    blocks = [
        _block(pair, left[pair["id"]], right[pair["evaluation_set"], pair["evaluation_id"]])
        for pair in pairs
    ]
    rows = -(-len(blocks) // _COLUMNS)
    width, height = (length + _MARGIN for length in blocks[0].size)
    size = (min(len(blocks), _COLUMNS) * width + _MARGIN, rows * height + _MARGIN)
    canvas = Image.new("RGB", size, pictures.PAPER)
    for number, block in enumerate(blocks):
        row, column = divmod(number, _COLUMNS)
        canvas.paste(block, (_MARGIN + column * width, _MARGIN + row * height))
    pictures.write_png(canvas, path)


def _unlabeled_images(pairs: list[dict], unlabeled: RecordSet) -> dict[str, bytes]:
    paths, found = shards_by_name(unlabeled), {}
    for shard in sorted({pair["shard"] for pair in pairs}):
        wanted = {pair["id"] for pair in pairs if pair["shard"] == shard}
        found.update(_pick(stored_images(unlabeled, paths[shard]), wanted))
    return found


def _evaluation_images(
    pairs: list[dict], evaluation: Sequence[EvaluationImages]
) -> dict[tuple[str, str], bytes]:
    found = {}
    for images in evaluation:
        of_set = [pair for pair in pairs if pair["evaluation_set"] == images.name]
        wanted = {pair["evaluation_id"] for pair in of_set}
        picked = _pick(images.read([]), wanted)
        found.update({(images.name, id_): image for id_, image in picked.items()})
    return found


def _pick(images: Iterator[Record], wanted: set[str]) -> dict[str, bytes]:
    """Files by id; reads no further than needed."""
    found: dict[str, bytes] = {}
    while len(found) < len(wanted):
        image = next(images)
        if image.id in wanted:
            found[image.id] = image.image
    return found


def _block(pair: dict, left: bytes, right: bytes) -> Image.Image:
    """Two images beside each other, and below them how they are alike, and their ids."""
    width = 2 * _CELL + _GAP
    step = round(1.4 * _FONT)
    block = Image.new("RGB", (width, _CELL + _GAP + _LINES * step), pictures.PAPER)
    for place, encoded in enumerate((left, right)):
        image = pictures.fitted(_pixels(encoded), _CELL)
        across, down = ((_CELL - length) // 2 for length in image.size)
        block.paste(image, (place * (_CELL + _GAP) + across, down))
    how = "same bytes"
    if pair["kind"] == PERCEPTUAL:
        how = f"{pair['distance']} of 64 bits differ"
    lines = (how, pair["id"], f"{pair['evaluation_set']}: {pair['evaluation_id']}")
    draw = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        top = _CELL + _GAP + number * step
        draw.text((0, top), _shortened(line, width), "black", pictures.font(_FONT))
    return block


def _pixels(encoded: bytes) -> np.ndarray:
    with tf.device("/CPU:0"):
        return crops.decode(tf.constant(encoded)).numpy()


def _shortened(line: str, width: int) -> str:
    """The end of a line that is too long: names differ there."""
    while pictures.font(_FONT).getlength(line) > width:
        line = "…" + line[2:]
    return line
