"""Temperature scaling: confidences that are as often right as they say.

One number T, fitted on labeled images (Guo, Pleiss, Sun, Weinberger, "On Calibration
of Modern Neural Networks", arXiv 1706.04599, 2017). It changes no prediction, only
how confident it is: without it 0.3 means something else for every network.
"""

import numpy as np
from scipy import optimize

from data.errors import InputError

NUM_BINS = 15  # As in Guo et al.
LOWEST, HIGHEST = 0.05, 20.0  # Temperatures that are searched.
_DIGITS = 6  # Of a fitted temperature: what the minimum can resolve.
# float32 holds no smaller probability; log 0 would make the likelihood infinite.
_SMALLEST = float(np.finfo(np.float32).tiny)


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """q = p^(1/T) / Σ p^(1/T), float32 `[N, C]`, for probabilities `[N, C]`.

    It equals softmax(z / T) of the logits z: p = exp(z) / Z, so that p^(1/T) is
    exp(z / T) but for the factor Z^(-1/T), which all classes of an image share.
    Probabilities of 0 count as the smallest that float32 holds, 1e-38.
    """
    return np.exp(_log_softmax(_logs(probabilities) / temperature)).astype(np.float32)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The T with the smallest mean negative log-likelihood of the labels.

        NLL(T) = -1/N Σ_n log q_n[y_n],   q = p^(1/T) / Σ p^(1/T)

    With b = 1/T this is -b·log p[y] + log Σ exp(b·log p): linear plus a log-sum-exp,
    so convex in b, with one minimum. Probabilities serve as well as logits, see
    `tempered`.

    Args:
        probabilities: float `[N, C]`, of images that the model was not trained on.
        labels: int `[N]`, the true classes.

    Raises:
        InputError: No images, images of one class, or no minimum between 0.05 and 20.
    """
    _check_validation(labels)
    logs = _logs(probabilities)
    found = optimize.minimize_scalar(
        lambda log_temperature: _mean_nll(logs / np.exp(log_temperature), labels),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-8},
    )
    temperature = float(f"{np.exp(found.x):.{_DIGITS}g}")
    _check_inside(temperature, probabilities, labels)
    return temperature


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of the labels."""
    return _mean_nll(_logs(probabilities), labels)


def reliability_bins(probabilities: np.ndarray, labels: np.ndarray) -> list[dict]:
    """Images by confidence: bin m of 15 holds those in ((m-1)/15, m/15].

    Args:
        probabilities: float `[N, C]`.
        labels: int `[N]`, the true classes.

    Returns:
        Of each bin `count`, `mean_confidence` and `accuracy`; these two None where
        it is empty.
    """
    confidences = probabilities.max(-1).astype(np.float64)
    right = probabilities.argmax(-1) == labels
    of_image = np.clip(np.ceil(confidences * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    count, confidence, accuracy = (
        np.bincount(of_image, weights, NUM_BINS) for weights in (None, confidences, right)
    )
    return [
        {
            "count": int(n),
            "mean_confidence": float(sum_confidence / n) if n else None,
            "accuracy": float(sum_right / n) if n else None,
        }
        for n, sum_confidence, sum_right in zip(count, confidence, accuracy, strict=True)
    ]


def expected_calibration_error(bins: list[dict]) -> float:
    """ECE = Σ_m n_m/N · |accuracy_m - mean confidence_m|, of `reliability_bins`."""
    images = sum(row["count"] for row in bins)
    gaps = (
        row["count"] * abs(row["accuracy"] - row["mean_confidence"])
        for row in bins
        if row["count"]
    )
    return sum(gaps) / images


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    """`cross_entropy`, `expected_calibration_error` and `bins` of predictions."""
    bins = reliability_bins(probabilities, labels)
    return {
        "cross_entropy": cross_entropy(probabilities, labels),
        "expected_calibration_error": expected_calibration_error(bins),
        "bins": bins,
    }


def _logs(probabilities: np.ndarray) -> np.ndarray:
    """float64 `[N, C]`, finite."""
    return np.log(np.maximum(probabilities, _SMALLEST, dtype=np.float64))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)  # Else the sum may underflow to 0.
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _mean_nll(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(-_log_softmax(logits)[np.arange(len(labels)), labels].mean())


def _check_validation(labels: np.ndarray) -> None:
    if not len(labels):
        raise InputError(
            "`validation_data`: expected labeled images to fit the temperature on; "
            "received none."
        )
    if (labels == labels[0]).all():
        raise InputError(
            "`validation_data`: expected images of several classes to fit the temperature "
            f"on; received {len(labels):,} images, all of class {int(labels[0])}. How "
            "confident the teacher may be on one class says nothing of the others."
        )


def _check_inside(
    temperature: float, probabilities: np.ndarray, labels: np.ndarray
) -> None:
    """Refuses a temperature at a bound, where the likelihood has no minimum."""
    accuracy = float((probabilities.argmax(-1) == labels).mean())
    # With all of them right the likelihood grows until float64 ends, above the bound.
    if accuracy == 1 or temperature < LOWEST * 1.001:
        raise InputError(
            f"`calibrate`: expected a temperature above {LOWEST} to fit the validation "
            "data best; none does: the likelihood still grows there. The teacher is right "
            f"on {accuracy:.1%} of the {len(labels):,} images. Where it is right on all of "
            "them no confidence is too high: give more or harder images, none that it was "
            "trained on, or label without --calibrate."
        )
    if temperature > HIGHEST / 1.001:
        raise InputError(
            f"`calibrate`: expected a temperature below {HIGHEST:g} to fit the validation "
            "data best; none does: its labels fit equal probabilities better. The teacher "
            f"is right on {accuracy:.1%} of the {len(labels):,} images. Labels of other "
            "classes or of another --label_offset look like this, and a teacher that "
            "learned nothing."
        )
