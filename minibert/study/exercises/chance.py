"""Checks of chapter 13: a bootstrap interval, and McNemar's test of two classifiers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minibert.io.seeds import mixed_seed
from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

Mistakes = frozenset[str]
Z = 1.959964  # of the normal distribution: 2.5% are above

BOOTSTRAP_MISTAKES = {
    "5 and 95": "the percentiles are 5 and 95, which hold 90%",
    "one-sided": "the percentiles are 0 and 95",
    "extremes": "the smallest and the largest mean are taken",
    "of single values": "percentiles are taken of the examples' own values, 0 or 1, not of the mean of each resample",
    "wrong axis": "the mean runs over the resamples (dim=0) instead of the examples of one resample",
    "standard deviation": "the interval is the mean and 1.96 standard deviations of the means, not their percentiles",
    "of the examples": "the interval is the mean and 1.96 standard deviations of the examples, without the root of n",
    "normal": "the interval is the normal approximation, with the standard error, and not from the resamples",
    "mirrored": "the interval is mirrored at the observed mean (the basic bootstrap), not that of the percentiles",
    "swapped": "high and low are swapped",
    "width": "the distance from low to high is returned in place of high",
}
MCNEMAR_MISTAKES = {
    "one-sided": "the p value is one-sided: a difference in the other direction would have counted as well",
    "ties counted": "examples that both have right, or both wrong, are counted as if they said something",
    "both right counted": "examples that both have right are counted",
    "larger count": "the sum runs up to the larger of the two counts, which is more than a tail",
    "second count": "the sum runs up to the second one's count even where that is the larger one",
    "strict": "only outcomes more extreme than the observed one are counted, without itself",
    "mid p": "the observed outcome is counted half (the mid-p value)",
    "point": "only the probability of exactly this outcome is taken, without the more extreme ones",
    "not capped": "twice the tail can exceed 1, and is not capped",
    "chi-squared": "the chi-squared approximation is used instead of the exact sum",
    "corrected": "the chi-squared approximation with Edwards' correction is used instead of the exact sum",
    "unpaired": "the two accuracies are compared as if they came from different examples",
    "1 - p": "1 - p is returned",
}


def bootstrap_interval(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (right (n,), drawn (R, n)) -> (low, high): the 95% percentile interval of the accuracy.

    `right` holds 1.0 and 0.0. Each row of `drawn` holds the numbers of the examples of one resample.
    """
    return judge(mine, bootstrap_interval_task())


def bootstrap_interval_task() -> Task:
    """What `bootstrap_interval` tries, and the mistakes that it knows."""
    generator = torch.Generator().manual_seed(mixed_seed("bootstrap interval"))
    cases = []
    for n, share, what in ((50, 0.7, "50 examples"), (400, 0.9, "400 examples")):
        right = (torch.rand(n, generator=generator) < share).float()  # (n,)
        # With 401 resamples the percentiles 2.5 and 97.5 fall on the 11th and the 391st mean, by any definition.
        drawn = torch.randint(n, (401, n), generator=generator)  # (R, n)
        cases.append(Case(f"{what} and 401 resamples", (right, drawn), "Look at the means and at the percentiles."))
    return Task(_bootstrap_interval, cases, BOOTSTRAP_MISTAKES)


def _bootstrap_interval(right: Tensor, drawn: Tensor, mistakes: Mistakes) -> list[float]:
    right = right.double()
    means = right[drawn].mean(dim=0 if "wrong axis" in mistakes else 1)  # (R,)
    means = right[drawn].flatten() if "of single values" in mistakes else means
    ends = (0.05, 0.95) if "5 and 95" in mistakes else (0.0, 0.95) if "one-sided" in mistakes else (0.025, 0.975)
    ends = (0.0, 1.0) if "extremes" in mistakes else ends
    low, high = means.quantile(torch.tensor(ends).double()).tolist()
    mean = right.mean().item()
    spreads = {
        "standard deviation": means.std().item(),
        "of the examples": right.std().item(),
        "normal": math.sqrt(mean * (1 - mean) / len(right)),
    }
    for name, spread in spreads.items():
        if name in mistakes:
            low, high = mean - Z * spread, mean + Z * spread
    if "mirrored" in mistakes:
        low, high = 2 * mean - high, 2 * mean - low
    if "swapped" in mistakes:
        low, high = high, low
    return [low, high - low if "width" in mistakes else high]


def mcnemar(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (first (n,), second (n,), both bool) -> p: McNemar's exact test, two-sided.

    True where a classifier is right. If neither is better, the examples that only one of them has right fall to either
    side like a coin; p is the probability of an outcome at least as uneven.
    """
    return judge(mine, mcnemar_task())


def mcnemar_task() -> Task:
    """What `mcnemar` tries, and the mistakes that it knows."""

    def outcomes(both: int, first: int, second: int, neither: int) -> tuple[Tensor, Tensor]:
        rows = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * neither
        table = torch.tensor(rows)  # (n, 2)
        return table[:, 0], table[:, 1]  # (n,) each

    cases = [
        Case("12 examples that one alone has right, and 3 the other", outcomes(40, 12, 3, 9), "Look at the sum."),
        Case("4 that one alone has right, and 9 the other", outcomes(20, 4, 9, 11), "Look at which side is the tail."),
        Case("5 on either side", outcomes(30, 5, 5, 2), "No outcome is more even, so p is 1."),
    ]
    return Task(_mcnemar, cases, MCNEMAR_MISTAKES)


def _mcnemar(first: Tensor, second: Tensor, mistakes: Mistakes) -> float:
    alone, other = int((first & ~second).sum()), int((second & ~first).sum())
    if mistakes & {"ties counted", "both right counted"}:
        both, ties = int((first & second).sum()), int((first == second).sum())
        more = ties if "ties counted" in mistakes else 2 * both
        alone, other = alone + more // 2, other + more - more // 2
    n, fewer = alone + other, min(alone, other)
    fewer = max(alone, other) if "larger count" in mistakes else other if "second count" in mistakes else fewer

    def ways(most: int) -> float:
        return sum(math.comb(n, k) for k in range(most + 1)) / 2**n

    tail = ways(fewer - 1) if "strict" in mistakes else ways(fewer)
    if "point" in mistakes:
        tail = ways(fewer) - ways(fewer - 1)
    if "mid p" in mistakes:
        tail = (ways(fewer) + ways(fewer - 1)) / 2
    p = tail if "one-sided" in mistakes else 2 * tail
    for name, correction in (("chi-squared", 0), ("corrected", 1)):
        if name in mistakes:
            p = math.erfc(math.sqrt(max(0, abs(alone - other) - correction) ** 2 / n / 2))
    if "unpaired" in mistakes:
        shares = [float(each.double().mean()) for each in (first, second)]
        pooled = sum(shares) / 2
        error = math.sqrt(2 * pooled * (1 - pooled) / len(first))
        p = math.erfc(abs(shares[0] - shares[1]) / error / math.sqrt(2))
    p = p if "not capped" in mistakes else min(1.0, p)
    return 1 - p if "1 - p" in mistakes else p
