"""AlexNet's errors and flips, which ImageNet-C and ImageNet-P are measured by.

Numbers of the benchmarks' authors (Hendrycks & Dietterich, arXiv 1903.12261).
"""

from collections.abc import Mapping

import numpy as np

from data.errors import InputError

CLEAN_ERROR = 0.4348
# Top-1 errors under ImageNet-C's corruptions, averaged over the five severities.
ERRORS = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
EXTRA_ERRORS = {
    "speckle_noise": 0.845388,
    "gaussian_blur": 0.787108,
    "spatter": 0.717512,
    "saturate": 0.658248,
}
# Flip probabilities under ImageNet-P's perturbations.
FLIPS = {
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
EXTRA_FLIPS = {
    "spatter": 0.05053,
    "speckle_noise": 0.18649,
    "gaussian_blur": 0.02775,
    "shear": 0.10658,
}


def relative(
    values: Mapping[str, float], counted: Mapping[str, float], extra: Mapping[str, float]
) -> tuple[float, dict[str, float], dict[str, float]]:
    """Values divided by AlexNet's, in percent: 100 is as bad as AlexNet.

    Args:
        values: By corruption or perturbation: all that are counted, and any extra ones.
        counted: AlexNet's of those in the mean.
        extra: AlexNet's of those that are in no mean.

    Returns:
        The mean, the counted ones by name, and the extra ones by name.

    Raises:
        InputError: A counted one is missing, or one is unknown.
    """
    missing = [name for name in counted if name not in values]
    unknown = [name for name in values if name not in counted and name not in extra]
    if missing or unknown:
        raise InputError(
            f"Corruptions: expected {', '.join(counted)}; missing: "
            f"{', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}."
        )
    ratios, extra_ratios = (
        {name: 100 * values[name] / of[name] for name in of if name in values}
        for of in (counted, extra)
    )
    return float(np.mean(list(ratios.values()))), ratios, extra_ratios
