"""Stability, as ImageNet-P counts it (Hendrycks & Dietterich, 1903.12261).

A sequence shows one image under a perturbation that grows from frame to frame. For
noise, each frame is compared with the first one, for all others with the one before:

    FP(p) = mean over sequences of the share of frames whose class is another
    FR(p) = FP(p) / FP_AlexNet(p)
    mFR   = 100 · mean of FR over ten perturbations

The top-5 distance of two frames counts how far the five most probable classes of the
one have moved among those of the other. With σ(i) the rank in the second frame of the
class that has rank i in the first, from 1:

    d = Σ_{i=1..5} |min(i, 6) - min(σ(i), 6)|
"""

from collections.abc import Mapping

import numpy as np

from data.errors import InputError

# Flip probabilities of AlexNet.
ALEXNET = {
    "gaussian_noise": 0.23653,
    "shot_noise": 0.30062,
    "motion_blur": 0.09297,
    "zoom_blur": 0.05942,
    "snow": 0.11928,
    "brightness": 0.04889,
    "translate": 0.11007,
    "rotate": 0.13104,
    "tilt": 0.07050,
    "scale": 0.23531,
}
ALEXNET_EXTRA = {
    "spatter": 0.05053,
    "speckle_noise": 0.18649,
    "gaussian_blur": 0.02775,
    "shear": 0.10658,
}
NOISE = ("gaussian_noise", "shot_noise", "speckle_noise")  # Frames have no order.
_TOP = 5


def flip_probability(classes: np.ndarray, perturbation: str) -> float:
    """The share of frames of another class than the one they are compared with.

    Args:
        classes: int `[N, T]`, the predicted class of each frame of N sequences.
        perturbation: Decides what frames are compared with.

    Raises:
        InputError: There is no sequence, or none of two frames.
    """
    _check_frames(classes)
    return float((classes[:, 1:] != _compared(classes, perturbation)).mean())


def top_5_distance(probabilities: np.ndarray, perturbation: str) -> float:
    """The mean top-5 distance of frames, 0 to 15; not normalized.

    Args:
        probabilities: float `[N, T, C]`, of six classes or more. Of equal ones the
            first class comes first.
        perturbation: Decides what frames are compared with.

    Raises:
        InputError: There is no sequence, or none of two frames.
    """
    _check_frames(probabilities)
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    ranks = np.argsort(order, axis=-1, kind="stable")  # From 0, by class.
    best = _compared(order, perturbation)[..., :_TOP]
    moved = np.minimum(np.take_along_axis(ranks[:, 1:], best, -1), _TOP)
    return float(np.abs(moved - np.arange(_TOP)).sum(-1).mean())


def flip_rates(probabilities: Mapping[str, float]) -> dict:
    """What is reported of ImageNet-P.

    Args:
        probabilities: Flip probabilities, 0 to 1, by perturbation: all of `ALEXNET`,
            and any of `ALEXNET_EXTRA`.

    Returns:
        In percent: `mfr`, and by perturbation, the extra ones apart, `fr` and `extra_fr`.

    Raises:
        InputError: A perturbation is missing or unknown.
    """
    known = ALEXNET | ALEXNET_EXTRA
    missing = [name for name in ALEXNET if name not in probabilities]
    unknown = [name for name in probabilities if name not in known]
    if missing or unknown:
        raise InputError(
            f"Perturbations: expected the {len(ALEXNET)} of ImageNet-P; missing: "
            f"{', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}."
        )
    rates = {name: 100 * value / known[name] for name, value in probabilities.items()}
    return {
        "mfr": float(np.mean([rates[name] for name in ALEXNET])),
        "fr": {name: rates[name] for name in ALEXNET},
        "extra_fr": {name: rates[name] for name in ALEXNET_EXTRA if name in rates},
    }


def _compared(frames: np.ndarray, perturbation: str) -> np.ndarray:
    """What the second frame and all after it are compared with."""
    if perturbation in NOISE:
        return np.broadcast_to(frames[:, :1], frames[:, 1:].shape)
    return frames[:, :-1]


def _check_frames(frames: np.ndarray) -> None:
    if not frames.shape[0] or frames.shape[1] < 2:
        raise InputError(
            "Frames: expected one sequence or more of two frames or more; received "
            f"{frames.shape[0]} of {frames.shape[1]}."
        )
