"""How often the class flips as an image moves, turns or brightens a little.

ImageNet-P's measure (Hendrycks & Dietterich, arXiv 1903.12261) on a user's own images:
sequences of nine frames, each compared with the one before. Frame k of 0 to 8 has

    translate:   moved sideways by (k - 4) / 112 of the side (2 of 224 pixels a step)
    rotate:      turned by 2 (k - 4) degrees
    brightness:  all values + 8 (k - 4), cut off at 0 and 255

of what the evaluation crop gives, bilinearly, with the edge's values beyond the edge.
"""

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from data import encoded_images
from data.untuned import BATCHES_AHEAD, untuned
from noisy_student.evaluation import flip_rate
from noisy_student.evaluation_suite import outcomes, plots
from noisy_student.evaluation_suite.benchmark import (
    Benchmark,
    BenchmarkData,
    Finished,
    means,
)
from noisy_student.evaluation_suite.evaluated_model import EvaluatedModel
from noisy_student.evaluation_suite.imagenet_data import Part
from noisy_student.evaluation_suite.labeled import is_right
from noisy_student.evaluation_suite.outcomes import Table
from noisy_student.stages.progress import Progress

FRAMES = 9
PERTURBATIONS = ("translate", "rotate", "brightness")


class Stability(Benchmark):
    """Flip probabilities; the parts are the perturbations.

    Args:
        data: What it is run on.
        images: A labeled set.
    """

    name = "stability"
    parts = PERTURBATIONS

    def __init__(self, data: BenchmarkData, images: Part):
        self.data, self._images = data, images
        self.settings = {"frames": FRAMES}

    def run(self, part: str, model: EvaluatedModel, title: str) -> Table:
        images, batch_size = self._images.open(), model.predictor.batch_size
        batches = encoded_images.cropped_batches(
            images, model.info.image_size, model.info.crop, batch_size
        ).unbatch()

        def spread(row):
            repeated = {
                name: tf.repeat(row[name][None], FRAMES, 0) for name in ("label", "id")
            }
            frames = {"image": sequence(row["image"], part), "frame": tf.range(FRAMES)}
            return tf.data.Dataset.from_tensor_slices({**frames, **repeated})

        batches = batches.flat_map(spread).batch(batch_size).prefetch(BATCHES_AHEAD)
        count = self._images.count * FRAMES
        progress = Progress(title, count, unit="frames")
        with images.explained():
            table = outcomes.collect(
                model.predictor, untuned(batches), count, progress, rows_per_image=FRAMES
            )
        progress.finish(f"flip probability {flips(table, part).mean():.4f}")
        return table

    def scores(self, tables: Mapping[str, Table]) -> Table:
        """Flip probabilities, 0 to 1, by perturbation, and their mean `flip_rate`."""
        scores = outcomes.by_id(
            {part: (t["id"][::FRAMES], flips(t, part)) for part, t in tables.items()}
        )
        scores["flip_rate"] = np.mean([scores[part] for part in tables], axis=0)
        return scores

    def results(self, done: Finished) -> dict:
        top_1 = np.mean([np.mean(is_right(table)) for table in done.tables.values()])
        return {
            **means(done.scores),
            "top_1": float(top_1),
            "images": len(done.scores["id"]),
        }

    def draw(self, done: Finished, path: str) -> None:
        shares = {part: float(np.mean(done.scores[part])) for part in self.parts}
        plots.shares(shares, "flip probability (%)", path)


def sequence(image: tf.Tensor, perturbation: str) -> tf.Tensor:
    """Frames float32 `[9, S, S, 3]` of an image `[S, S, 3]`; see the module's docstring."""
    steps = tf.range(FRAMES, dtype=tf.float32) - FRAMES // 2
    side = image.shape[0]
    frames = tf.repeat(tf.cast(image, tf.float32)[None], FRAMES, 0)
    if perturbation == "brightness":
        return tf.clip_by_value(frames + 8.0 * steps[:, None, None, None], 0.0, 255.0)
    zero, one = tf.zeros_like(steps), tf.ones_like(steps)
    if perturbation == "translate":
        rows = [one, zero, side / 112 * steps, zero, one, zero, zero, zero]
    else:
        angles, middle = steps * (2.0 * math.pi / 180), (side - 1) / 2
        cos, sin = tf.cos(angles), tf.sin(angles)
        # Around the middle: x' = c + R (x - c).
        right = middle - (cos * middle - sin * middle)
        down = middle - (sin * middle + cos * middle)
        rows = [cos, -sin, right, sin, cos, down, zero, zero]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=frames,
        transforms=tf.stack(rows, -1),
        output_shape=[side, side],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def flips(table: Table, perturbation: str) -> np.ndarray:
    """The share of an image's frames whose class is another than before, `[N]`."""
    classes = table["predicted"].reshape(-1, FRAMES)
    return np.array(
        [flip_rate.flip_probability(row[None], perturbation) for row in classes]
    )
