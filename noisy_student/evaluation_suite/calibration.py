"""Whether a model is as often right as it is sure: ECE, NLL, Brier score.

    ECE   = Σ_m n_m/N · |accuracy_m - mean confidence_m|, 15 bins of equally many images
    NLL   = mean of -log p[y]
    Brier = mean of Σ_c (p_c - [c = y])², 0 to 2

Bins of equal mass (Nixon et al., arXiv 1904.01685): those of equal width are nearly all
empty where a model is sure of most images.
"""

from collections.abc import Mapping

import numpy as np

from noisy_student.evaluation_suite import outcomes, plots
from noisy_student.evaluation_suite.benchmark import BenchmarkData, Finished, means
from noisy_student.evaluation_suite.imagenet_data import Part
from noisy_student.evaluation_suite.labeled import LabeledBenchmark, is_right
from noisy_student.evaluation_suite.outcomes import Table
from noisy_student.labeling.calibration import NUM_BINS, expected_calibration_error

_SMALLEST = float(np.finfo(np.float32).tiny)


class Calibration(LabeledBenchmark):
    """Calibration on a labeled set that the model was not trained on."""

    def __init__(self, data: BenchmarkData, images: Part):
        super().__init__("calibration", data, {"calibration": images})
        self.settings = {"bins": NUM_BINS, "binning": "equal mass"}

    def scores(self, tables: Mapping[str, Table]) -> Table:
        """`nll` and `brier`, and of what ECE is made: `confidence` and `top_1`."""
        (table,) = tables.values()
        likelihood = np.maximum(table["label_probability"].astype(np.float64), _SMALLEST)
        columns = {
            "nll": -np.log(likelihood),
            "brier": table["brier"],
            "confidence": table["confidence"],
            "top_1": is_right(table),
        }
        return outcomes.by_id(
            {name: (table["id"], values) for name, values in columns.items()}
        )

    def results(self, done: Finished) -> dict:
        bins = equal_mass_bins(done.scores["confidence"], done.scores["top_1"])
        return {
            "ece": expected_calibration_error(bins),
            **means(done.scores),
            "images": len(done.scores["id"]),
            "bins": bins,
        }

    def draw(self, done: Finished, path: str) -> None:
        bins = equal_mass_bins(done.scores["confidence"], done.scores["top_1"])
        plots.reliability({"": bins}, path)


def equal_mass_bins(confidences: np.ndarray, right: np.ndarray) -> list[dict]:
    """Images in 15 bins of equally many, or one more, by confidence from low to high.

    Args:
        confidences: float `[N]`; of equal ones the first come first.
        right: 0 or 1, `[N]`.

    Returns:
        Of each bin `count`, `mean_confidence` and `accuracy`; fewer bins where there
        are fewer images.
    """
    order = np.argsort(confidences, kind="stable")
    parts = np.array_split(order, min(NUM_BINS, len(order)))
    return [
        {
            "count": len(part),
            "mean_confidence": float(np.mean(confidences[part], dtype=np.float64)),
            "accuracy": float(np.mean(right[part], dtype=np.float64)),
        }
        for part in parts
    ]


def ece_of(confidences: np.ndarray, right: np.ndarray) -> float:
    return expected_calibration_error(equal_mass_bins(confidences, right))
