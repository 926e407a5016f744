"""Calibration: whether predictions with 80% confidence are right 80% of the time. numpy only.

Guo et al. 2017, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from minibert.io.errors import InputError

BINS = 10


@dataclass(frozen=True)
class Bin:
    """The predictions with a confidence above `low` (from 0 in the first bin) and up to `high`.

    `confidence` and `accuracy` are means over them; None in an empty bin.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def reliability(confidences: ArrayLike, right: ArrayLike, bins: int = BINS) -> tuple[Bin, ...]:
    """The reliability table: predictions in bins of equal width by their confidence.

    Args:
        confidences: (n,) the probability of each predicted class.
        right: (n,) whether each prediction is the label.

    Raises:
        InputError: no predictions, arguments of different lengths, or a confidence outside 0..1.
    """
    sure, hit = np.asarray(confidences, np.float64), np.asarray(right, bool)
    if sure.shape != hit.shape or sure.ndim != 1 or not len(sure):
        raise InputError(f"Confidences have shape {sure.shape} and outcomes {hit.shape}, not both (n,).")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise InputError(
            f"Confidences must be between 0 and 1, not between {sure.min()} and {sure.max()}.", key="confidences"
        )
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)  # (n,)
    masks = [which == number for number in range(bins)]  # (n,) each
    return tuple(
        Bin(
            float(low),
            float(high),
            int(inside.sum()),
            float(sure[inside].mean()) if inside.any() else None,
            float(hit[inside].mean()) if inside.any() else None,
        )
        for low, high, inside in zip(edges, edges[1:], masks, strict=False)
    )


def expected_calibration_error(table: Sequence[Bin]) -> float:
    """The mean distance between confidence and accuracy of the bins, weighted by their counts.

    Guo et al. 2017, equation 3.
    """
    total = sum(each.count for each in table)
    gaps = (
        each.count * abs(each.accuracy - each.confidence)
        for each in table
        if each.accuracy is not None and each.confidence is not None
    )
    return sum(gaps) / total
