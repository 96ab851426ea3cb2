"""Errors under corruptions, as ImageNet-C counts them (Hendrycks & Dietterich, 1903.12261).

With err(c) the top-1 error under corruption c, averaged over its five severities:

    CE(c)          = err(c) / err_AlexNet(c)
    mCE            = 100 · mean of CE over 15 corruptions
    relative CE(c) = (err(c) - err) / (err_AlexNet(c) - err_AlexNet)

where err is that without corruption. Four more corruptions are for validation, and in
no mean. AlexNet's errors are those of the benchmark's authors.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from data.errors import InputError

SEVERITIES = (1, 2, 3, 4, 5)
# Top-1 errors of AlexNet, averaged over the severities.
ALEXNET = {
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
ALEXNET_EXTRA = {
    "speckle_noise": 0.845388,
    "gaussian_blur": 0.787108,
    "spatter": 0.717512,
    "saturate": 0.658248,
}
ALEXNET_CLEAN = 0.4348


def corruption_errors(
    errors: Mapping[str, Sequence[float]], clean_error: float | None = None
) -> dict:
    """What is reported of ImageNet-C.

    Args:
        errors: Top-1 errors, 0 to 1, of the severities 1 to 5, by corruption: all of
            `ALEXNET`, and any of `ALEXNET_EXTRA`.
        clean_error: Top-1 error without corruption; None: nothing relative to it.

    Returns:
        In percent: `mce`; `relative_mce`; `top_1`, the plain mean over the 15
        corruptions and their severities; and by corruption, the extra ones apart,
        `ce` and `extra_ce`.

    Raises:
        InputError: A corruption or severity is missing, unknown, or no error.
    """
    known = ALEXNET | ALEXNET_EXTRA
    missing = [name for name in ALEXNET if name not in errors]
    unknown = [name for name in errors if name not in known]
    if missing or unknown:
        raise InputError(
            f"Corruptions: expected the {len(ALEXNET)} of ImageNet-C; missing: "
            f"{', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}."
        )
    for name, values in errors.items():
        if len(values) != len(SEVERITIES) or not all(0 <= value <= 1 for value in values):
            raise InputError(
                f"Errors under {name}: expected {len(SEVERITIES)} numbers from 0 to 1, of "
                f"severities 1 to 5; received {list(values)}."
            )
    means = {name: float(np.mean(values)) for name, values in errors.items()}
    ratios = {name: 100 * mean / known[name] for name, mean in means.items()}
    report = {
        "mce": float(np.mean([ratios[name] for name in ALEXNET])),
        "top_1": 100 * (1 - float(np.mean([means[name] for name in ALEXNET]))),
        "ce": {name: ratios[name] for name in ALEXNET},
        "extra_ce": {name: ratios[name] for name in ALEXNET_EXTRA if name in ratios},
    }
    if clean_error is not None:
        relative = [
            (means[name] - clean_error) / (ALEXNET[name] - ALEXNET_CLEAN)
            for name in ALEXNET
        ]
        report["relative_mce"] = 100 * float(np.mean(relative))
    return report
