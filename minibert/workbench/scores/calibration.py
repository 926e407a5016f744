"""Calibration: whether predictions made with 80% confidence are right 80% of the time. numpy only.

Guo et al. 2017, section 2. A model that is sure of its errors can have a good accuracy all the
same, and its probabilities are then of no use to whoever has to decide by them.
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
    """The predictions whose confidence lies above `low` and up to `high` (the first from 0 on).

    `confidence` and `accuracy` are means over them; None where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def reliability(confidences: ArrayLike, right: ArrayLike, bins: int = BINS) -> tuple[Bin, ...]:
    """The reliability table: predictions sorted into bins of equal width by their confidence.

    Args:
        confidences: (n,) the probability of each predicted class, from 0 to 1.
        right: (n,) whether each prediction is the label.
        bins: how many.

    Raises:
        InputError: no predictions, arguments of different lengths, or a confidence outside 0..1.
    """
    sure, hit = np.asarray(confidences, np.float64), np.asarray(right, bool)
    if sure.shape != hit.shape or sure.ndim != 1 or not len(sure):
        raise InputError(
            f"There are confidences of shape {sure.shape} for outcomes of shape {hit.shape}.",
        )
    if not ((sure >= 0) & (sure <= 1)).all():
        raise InputError(
            f"Confidences run from {sure.min()} to {sure.max()}, and are probabilities.",
            key="confidences",
        )
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)  # (n,)
    table = []
    for number in range(bins):
        inside = which == number  # (n,)
        count = int(inside.sum())
        table.append(
            Bin(
                float(edges[number]),
                float(edges[number + 1]),
                count,
                float(sure[inside].mean()) if count else None,
                float(hit[inside].mean()) if count else None,
            )
        )
    return tuple(table)


def expected_calibration_error(table: Sequence[Bin]) -> float:
    """The mean gap between confidence and accuracy over the bins, each weighed by its count.

    Guo et al. 2017, equation 3.
    """
    total = sum(each.count for each in table)
    gaps = (
        each.count * abs(each.accuracy - each.confidence)
        for each in table
        if each.accuracy is not None and each.confidence is not None
    )
    return sum(gaps) / total
