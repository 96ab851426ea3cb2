"""The corruptions of ImageNet-C on a user's own test images.

Each image at its own size, under 15 corruptions at 5 severities. AlexNet's errors on it
are not known: another model, the teacher or the control, takes its place
(`comparison`).
"""

import collections
import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from data import augmentation, corruptions, encoded_images
from data.untuned import BATCHES_AHEAD, untuned
from noisy_student.evaluation_suite import outcomes, plots
from noisy_student.evaluation_suite.benchmark import Benchmark, BenchmarkData, Finished
from noisy_student.evaluation_suite.corrupted_shards import CorruptedShards
from noisy_student.evaluation_suite.evaluated_model import EvaluatedModel
from noisy_student.evaluation_suite.generated import Generated
from noisy_student.evaluation_suite.imagenet_data import Part
from noisy_student.evaluation_suite.labeled import is_right
from noisy_student.evaluation_suite.outcomes import Table
from noisy_student.stages.progress import Progress

_SIGNATURE = {
    "image": tf.TensorSpec([None, None, 3], tf.uint8),
    "label": tf.TensorSpec([], tf.int32),
    "id": tf.TensorSpec([], tf.string),
    "severity": tf.TensorSpec([], tf.int32),
}


class OwnCorruptions(Benchmark):
    """Errors by corruption and severity; the parts are the corruptions.

    Args:
        data: What it is run on.
        images: A labeled set.
        seed: Of every draw, with the image's id.
        shorter_side: Larger images are shrunk to it before they are corrupted; 0: none.
        workers: Processes that corrupt images; it changes no result.
        keep_in: Directory for the corrupted images, so that the next model finds them;
            empty: they are made anew for each.
    """

    name = "corruptions"
    parts = corruptions.NAMES

    def __init__(
        self,
        data: BenchmarkData,
        images: Part,
        seed: int = 0,
        shorter_side: int = 0,
        workers: int = 1,
        keep_in: str = "",
    ):
        corruptions.check_installed()
        self.data, self._images = data, images
        self.settings = {"seed": seed, "corruption_shorter_side": shorter_side}
        self._seed, self._shorter_side, self._workers = seed, shorter_side, workers
        identity = {"data_fingerprint": data.fingerprint, **self.settings}
        self._kept = CorruptedShards(keep_in, identity) if keep_in else None

    def run(self, part: str, model: EvaluatedModel, title: str) -> Table:
        severities = len(corruptions.SEVERITIES)
        count = self._images.count * severities
        if self._kept is None:
            rows = Generated(lambda: self.corrupted(part), _SIGNATURE)
            dataset, errors = rows.dataset, rows.errors
        else:
            dataset = self._kept.dataset(part, self.corrupted(part), count)
            errors = contextlib.nullcontext
        size, crop = model.info.image_size, model.info.crop

        def cropped(row):
            image = augmentation.clean_pixels(row["image"], size, crop)
            return {**row, "image": image}

        batches = dataset.map(cropped, num_parallel_calls=tf.data.AUTOTUNE)
        batches = batches.batch(model.predictor.batch_size).prefetch(BATCHES_AHEAD)
        progress = Progress(title, count)
        with errors():
            table = outcomes.collect(
                model.predictor,
                untuned(batches),
                count,
                progress,
                rows_per_image=severities,
            )
        progress.finish(f"error {np.mean(~is_right(table)):.4f}")
        return table

    def corrupted(self, corruption: str) -> Iterator[dict]:
        """Dicts of `image` uint8 `[H, W, 3]`, `label`, `id` and `severity`, in order."""
        images, waiting = self._images.open(), collections.deque()  # type: ignore[var-annotated]

        def tracked():
            with images.explained():
                for row in encoded_images.decoded(images).as_numpy_iterator():
                    waiting.append((row["id"], row["label"]))
                    yield row["id"].decode("utf-8", "backslashreplace"), row["image"]

        found = corruptions.corrupted_in_order(
            tracked(), corruption, self._seed, self._shorter_side, self._workers
        )
        for number, pixels in enumerate(found):
            severity = corruptions.SEVERITIES[number % len(corruptions.SEVERITIES)]
            id_, label = waiting[0]
            yield {"image": pixels, "label": label, "id": id_, "severity": severity}
            if severity == corruptions.SEVERITIES[-1]:
                waiting.popleft()

    def scores(self, tables: Mapping[str, Table]) -> Table:
        """Errors, 0 to 1, by corruption, and `error`, their mean."""
        scores = outcomes.by_id(
            {part: (table["id"], ~is_right(table)) for part, table in tables.items()}
        )
        scores["error"] = np.mean([scores[part] for part in tables], axis=0)
        return scores

    def results(self, done: Finished) -> dict:
        """`error`, `top_1` (0 to 1), and `errors` by corruption and severity."""
        error = float(np.mean(done.scores["error"]))
        return {
            "error": error,
            "top_1": 1 - error,
            "errors": errors_of(done.tables),
            "images": len(done.scores["id"]),
        }

    def draw(self, done: Finished, path: str) -> None:
        plots.errors_by_corruption({"": errors_of(done.tables)}, self.name, path)


def errors_of(tables: Mapping[str, Table]) -> dict[str, list[float]]:
    """Top-1 errors of severities 1 to 5, by corruption."""
    return {
        part: [
            float(np.mean(~is_right(table)[table["severity"] == severity]))
            for severity in corruptions.SEVERITIES
        ]
        for part, table in tables.items()
    }
