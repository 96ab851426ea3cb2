"""Bootstrap intervals: how far a mean over these images is from that over others.

Images are drawn with replacement, as many as there are, 2,000 times; the interval holds
the middle 95 % of what comes out (Efron's percentile interval). Draws are seeded. It
says what other test images would change, not what other training seeds would.
"""

from collections.abc import Callable, Iterator

import numpy as np

RESAMPLES = 2000
_SEED = 0
_CELLS = 20_000_000  # Of the counts that are in memory at once.


def resampled_means(values: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Means of each column in each resample, float `[R, M]`.

    Args:
        values: float `[N, M]`; NaN where an image has no such number.
        resamples: R.
    """
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    found = []
    for counts in _counts(len(values), resamples):
        with np.errstate(invalid="ignore"):  # A resample may have none of them.
            found.append((counts @ filled) / (counts @ there.astype(np.float64)))
    return np.concatenate(found)


def resampled(
    function: Callable[[np.ndarray], float], count: int, resamples: int = 400
) -> np.ndarray:
    """What a function of the drawn rows' numbers gives in each resample, `[R]`."""
    generator = np.random.default_rng(_SEED)
    return np.array(
        [function(generator.integers(0, count, count)) for _ in range(resamples)]
    )


def interval(found: np.ndarray) -> list[float]:
    """The two ends of the middle 95 % of what resamples gave, `[R]`."""
    return np.nanpercentile(found, [2.5, 97.5]).tolist()


def basic_interval(value: float, found: np.ndarray) -> list[float]:
    """The same, mirrored at the value: [2 v - q97.5, 2 v - q2.5].

    For what resampling moves to one side, such as an ECE, which grows with noise: that
    of resamples lies above the images' own about as far as this above the truth.
    """
    low, high = interval(found)
    return [2 * value - high, 2 * value - low]


def _counts(images: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each image was drawn, float64 `[r, N]`, r rows at a time."""
    generator = np.random.default_rng(_SEED)
    step = max(_CELLS // images, 1)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        shares = np.full(images, 1 / images)
        yield generator.multinomial(images, shares, rows).astype(np.float64)
