"""Tests of whether two results differ by more than chance. numpy only.

n is the number of examples, K of the numbers that an example adds to a score, R of resamples. All p
values are two-sided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minibert.io.errors import InputError
from minibert.workbench.scores.metrics import Floats

_BLOCK = 4_000_000  # resampled weights in memory at once, 8 bytes each


@dataclass(frozen=True)
class Difference:
    """Second minus first: the value, its confidence interval, and its p value."""

    value: float
    low: float
    high: float
    p: float


def mcnemar(first_alone: int, second_alone: int) -> float:
    """The p value for two classifiers that are right equally often on the same examples.

    McNemar 1947: only the examples that one of them alone has right count; if neither is better,
    each falls to either side like a coin. The binomial sum is exact, unlike the chi-squared
    approximation, which is poor for fewer than 25 such examples.

    Args:
        first_alone, second_alone: how many examples only this classifier has right.
    """
    if min(first_alone, second_alone) < 0:
        raise InputError(f"{first_alone} and {second_alone} are not both counts.")
    flips, fewer = first_alone + second_alone, min(first_alone, second_alone)
    chosen = np.arange(1, fewer + 1)
    # log of "flips choose i" for i = 0..fewer, each from the one before
    ways = np.concatenate([[0.0], np.cumsum(np.log((flips - chosen + 1) / chosen))])
    return min(1.0, 2 * float(np.exp(ways - flips * math.log(2)).sum()))


def paired_bootstrap(
    metric: Callable[[NDArray[Any]], NDArray[Any]],
    first: ArrayLike,
    second: ArrayLike,
    *,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Difference:
    """The difference of a score of two systems on the same examples, by resampling these.

    Both systems see the same resampled examples, so that a hard resample is hard for both (Koehn
    2004). The interval is that of the percentiles (Efron & Tibshirani 1993, section 13.3); p is the
    share of resampled differences as far from the observed one as that is from 0 (Berg-Kirkpatrick
    et al. 2012, section 2), the observed one included, so that it is never 0.

    A score is a function of sums over examples. So a resample is a weight for each example, and
    examples that add the same numbers can share a weight: resampling classifiers draws the counts
    of a few kinds of example.

    Args:
        metric: sums (..., K) -> scores (...), such as accuracy, F1, squared error or Pearson's
            correlation; correlations of ranks are not such functions.
        first, second: (n, K), what each example adds to the sums of either system.
        seed: the resamples are a function of it alone.
    """
    left, right = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if left.shape != right.shape or left.ndim != 2 or len(left) == 0:
        raise InputError(f"Both systems must have the same shape (n, K), not {left.shape} and {right.shape}.")
    kinds, counts = np.unique(np.hstack([left, right]), axis=0, return_counts=True)
    examples, width = left.shape

    def differences(weights: NDArray[Any]) -> Floats:
        sums = weights @ kinds  # (..., 2K)
        return np.asarray(metric(sums[..., width:]) - metric(sums[..., :width]))

    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(kinds))
    drawn = np.concatenate(
        [
            differences(generator.multinomial(examples, counts / examples, size=min(rows, resamples - start)))
            for start in range(0, resamples, rows)
        ]
    )  # (R,)
    value = float(differences(counts))
    low, high = np.quantile(drawn, [0.5 - confidence / 2, 0.5 + confidence / 2])
    # Differences that are equal but for rounding are as far, or ties in small data would be lost.
    far = np.abs(drawn - value) >= abs(value) - 1e-12
    return Difference(value, float(low), float(high), float((far.sum() + 1) / (resamples + 1)))


def paired_t(first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95) -> Difference:
    """The difference of the means of paired values (Student 1908).

    Args:
        first, second: (n,), n 2 or more, the values of a pair at the same place.

    Returns:
        The difference of means. Where all pairs differ by the same amount there is no spread: p is
        1 if that amount is 0, otherwise interval and p are NaN.
    """
    gains = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    value, low, high = mean_interval(gains.tolist(), confidence=confidence)
    error = float(gains.std(ddof=1)) / math.sqrt(len(gains))
    if error < 1e-12:
        if abs(value) < 1e-12:
            return Difference(0.0, 0.0, 0.0, 1.0)
        return Difference(value, math.nan, math.nan, math.nan)
    return Difference(value, low, high, 1 - t_within(abs(value) / error, len(gains) - 1))


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high): the mean of 2 values or more and its confidence interval."""
    if len(values) < 2:
        raise InputError(f"An interval needs 2 values or more, not {len(values)}.")
    mean = float(np.mean(values))
    half = t_quantile(0.5 + confidence / 2, len(values) - 1) * float(np.std(values, ddof=1))
    half /= math.sqrt(len(values))
    return mean, mean - half, mean + half


def t_within(t: float, freedom: int) -> float:
    """The probability that Student's t lies between -t and t.

    Abramowitz & Stegun 1964, equations 26.7.3 and 26.7.4: exact sums for whole degrees of freedom.
    """
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for step in range(1 + odd, freedom, 2):
        total += term
        term *= cosine**2 * step / (step + 1)
    return (2 / math.pi) * (angle + sine * total) if odd else sine * total


def t_quantile(share: float, freedom: int) -> float:
    """The quantile of Student's t at `share`, from 0.5 to below 1, by bisection."""
    low, high = 0.0, 1.0
    while t_within(high, freedom) < 2 * share - 1:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, freedom) < 2 * share - 1 else (low, middle)
    return high


def holm(values: Sequence[float]) -> list[float]:
    """p values of several tests, corrected for the chance of any false positive among them.

    Holm 1979: the smallest of m is multiplied by m, the next by m - 1, and so on; each is at least
    the one before it, and at most 1.
    """
    corrected = [0.0] * len(values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, values[place] * (len(values) - rank)))
        corrected[place] = largest
    return corrected
