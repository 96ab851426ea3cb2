"""Errors under corruptions, as ImageNet-C counts them (Hendrycks & Dietterich, 1903.12261).

With err(c) the top-1 error under corruption c, averaged over its five severities:

    CE(c)          = err(c) / err_AlexNet(c)
    mCE            = 100 · mean of CE over 15 corruptions
    relative CE(c) = (err(c) - err) / (err_AlexNet(c) - err_AlexNet)

where err is that without corruption. Four more corruptions are for validation, and in
no mean.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from data.errors import InputError
from noisy_student.evaluation import alexnet

SEVERITIES = (1, 2, 3, 4, 5)


def corruption_errors(
    errors: Mapping[str, Sequence[float]], clean_error: float | None = None
) -> dict:
    """What is reported of ImageNet-C.

    Args:
        errors: Top-1 errors, 0 to 1, of the severities 1 to 5, by corruption: all of
            `alexnet.ERRORS`, and any of `alexnet.EXTRA_ERRORS`.
        clean_error: Top-1 error without corruption; None: nothing relative to it.

    Returns:
        `top_1`, 0 to 1, the plain mean over the 15 corruptions and their severities; in
        percent `mce` and `relative_mce`, and by corruption, the extra ones apart, `ce`
        and `extra_ce`.

    Raises:
        InputError: A corruption or severity is missing, unknown, or no error.
    """
    for name, values in errors.items():
        if len(values) != len(SEVERITIES) or not all(0 <= value <= 1 for value in values):
            raise InputError(
                f"Errors under {name}: expected {len(SEVERITIES)} numbers from 0 to 1, of "
                f"severities 1 to 5; received {list(values)}."
            )
    means = {name: float(np.mean(values)) for name, values in errors.items()}
    mce, ce, extra = alexnet.relative(means, alexnet.ERRORS, alexnet.EXTRA_ERRORS)
    top_1 = 1 - float(np.mean([means[name] for name in ce]))
    report = {"mce": mce, "top_1": top_1, "ce": ce, "extra_ce": extra}
    if clean_error is not None:
        rises = [
            (means[name] - clean_error) / (error - alexnet.CLEAN_ERROR)
            for name, error in alexnet.ERRORS.items()
        ]
        report["relative_mce"] = 100 * float(np.mean(rises))
    return report
