"""The published code's choice of images: thresholds in steps of 0.01, and lots.

`filter_unlabel.py` of github.com/google-research/noisystudent; the lots are drawn by
hash here, with a seed.
"""

import numpy as np

from noisy_student.balancing.selection import ALL_HASHES, HASH_BITS, Rule, Selection

_EDGES = np.arange(101) / 100  # The last bin has no upper end.


def num_bins(rule: Rule) -> int:
    return rule.num_classes * len(_EDGES)


def bins_of(labels: np.ndarray, confidences: np.ndarray) -> np.ndarray:
    """int64 `[N]`: class · 101 + bin of each image."""
    bins = np.searchsorted(_EDGES, confidences.astype(np.float64), "right") - 1
    return labels.astype(np.int64) * len(_EDGES) + bins


def reference_selection(counts: np.ndarray, rule: Rule) -> Selection:
    """Thresholds and expected copies of the published code (`filter_unlabel.py`).

    Bins of 0.01 from the top down until there are K images, or down to the smallest
    confidence. Of the n images from there on each occurs K / n times: the whole part
    always, and once more with the fraction's probability, here by its hash.

    Args:
        counts: int64 `[C · 101]`, of eligible images by class and bin.
        rule: What decides.
    """
    counts = counts.reshape(rule.num_classes, -1)
    above = counts[:, ::-1].cumsum(1)[:, ::-1]  # At or above each edge.
    enough = (above >= rule.images_per_class).sum(1) - 1  # The highest such edge.
    # As float32, which confidences are compared in: else equal ones would be lost.
    lowest = float(np.float32(rule.settings.min_confidence)) if rule.thresholded else 0.0
    threshold = np.maximum(np.where(enough >= 0, _EDGES[enough], lowest), lowest)
    eligible = above[:, 0]
    total = np.where(enough >= 0, above[np.arange(len(above)), enough], eligible)
    examples = rule.examples_of(total)
    share = examples / np.maximum(total, 1)
    rounded = threshold.astype(np.float32)  # To the next float32 that is not below.
    rounded = np.where(rounded < threshold, np.nextafter(rounded, np.float32(2)), rounded)
    copies = share.astype(np.int64)
    return Selection(
        eligible=eligible,
        confidence=rounded,
        hash_below=np.full(rule.num_classes, ALL_HASHES),
        copies=copies,
        extra_below=((share - copies) * 2.0**HASH_BITS).astype(np.int64),
    )
