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
from noisy_student.evaluation import alexnet

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
        probabilities: Flip probabilities, 0 to 1, by perturbation: all of
            `alexnet.FLIPS`, and any of `alexnet.EXTRA_FLIPS`.

    Returns:
        In percent: `mfr`, and by perturbation, the extra ones apart, `fr` and `extra_fr`.

    Raises:
        InputError: A perturbation is missing or unknown.
    """
    mfr, rates, extra = alexnet.relative(probabilities, alexnet.FLIPS, alexnet.EXTRA_FLIPS)
    return {"mfr": mfr, "fr": rates, "extra_fr": extra}


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
