"""Accuracy on adversarial images: FGSM, and PGD of ten steps (paper, section 4.3)."""

from collections.abc import Mapping, Sequence

import numpy as np

from data import encoded_images
from data.errors import InputError
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

EPSILONS = (2.0, 4.0, 8.0, 16.0)  # Of 255, as in the paper.
STEPS = {"fgsm": 1, "pgd": 10}


class Adversaries(Benchmark):
    """Top-1 under an attack; the parts are the ε.

    Args:
        name: `fgsm` or `pgd`.
        data: What it is run on.
        images: A labeled set.
        epsilons: The most a value may change, of 255.

    Raises:
        InputError: No ε is given, one twice, or one outside 0 to 255.
    """

    def __init__(
        self,
        name: str,
        data: BenchmarkData,
        images: Part,
        epsilons: Sequence[float] = EPSILONS,
    ):
        outside = [epsilon for epsilon in epsilons if not 0 <= epsilon <= 255]
        if not epsilons or outside or len(set(epsilons)) < len(epsilons):
            raise InputError(
                "`epsilons`: expected different numbers from 0 to 255; received "
                f"{', '.join(f'{epsilon:g}' for epsilon in epsilons) or 'none'}."
            )
        self.name, self.data, self._images = name, data, images
        self._epsilons = {f"{epsilon:g}": epsilon for epsilon in sorted(epsilons)}
        self.parts = tuple(self._epsilons)
        self.settings = {"steps": STEPS[name]}
        if name == "pgd":
            self.settings["step_size"] = "2.5 epsilon / steps"

    def run(self, part: str, model: EvaluatedModel, title: str) -> Table:
        predictor = model.attacked(self._epsilons[part], STEPS[self.name])
        images = self._images.open()
        batches = encoded_images.cropped_batches(
            images, model.info.image_size, model.info.crop, predictor.batch_size
        )
        progress = Progress(title, self._images.count)
        with images.explained():
            table = outcomes.collect(predictor, batches, self._images.count, progress)
        progress.finish(f"top-1 {np.mean(is_right(table)):.4f}")
        return table

    def scores(self, tables: Mapping[str, Table]) -> Table:
        """`top_1` by ε, such as `epsilon_2`."""
        return outcomes.by_id(
            {f"epsilon_{part}": (t["id"], is_right(t)) for part, t in tables.items()}
        )

    def results(self, done: Finished) -> dict:
        """`top_1` (0 to 1) by ε."""
        return {**means(done.scores), "images": len(done.scores["id"])}

    def draw(self, done: Finished, path: str) -> None:
        shares = {
            f"ε = {part}": float(np.mean(done.scores[f"epsilon_{part}"]))
            for part in self.parts
        }
        plots.shares(shares, f"top-1 under {self.name} (%)", path)
