"""Checks of chapter 12: the mean over real tokens, and standardised features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minibert.io.seeds import mixed_seed
from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

Mistakes = frozenset[str]

MEAN_POOL_MISTAKES = {
    "padding counted": "the mean takes padding for tokens",
    "padding in the sum": "padding is in the sum, although the division is by the number of real tokens",
    "divided by columns": "the sum of the real tokens is divided by the number of columns S",
    "divided by the batch": "the sum is divided by the number of real tokens in the whole batch",
    "not divided": "the sum is not divided",
    "mask inverted": "the mask is inverted, so that only padding is read",
    "no [CLS]": "the first real token, [CLS], is left out",
    "no [SEP]": "the last real token, [SEP], is left out",
    "normalised": "each vector is scaled to length 1, which is a step of its own",
    "maximum": "the maximum is taken instead of the mean",
    "only [CLS]": "the vector of the first column is taken instead of a mean",
    "over dimensions": "the mean runs over the D numbers of each token instead of over the tokens",
}
STANDARDISE_MISTAKES = {
    "own statistics": "the test set is standardised by its own mean and deviation",
    "statistics of both": "mean and deviation are those of training and test set together",
    "statistics of test": "mean and deviation of the test set are used for both",
    "sample": "the deviation is that of a sample (divided by n - 1), not of the population (divided by n)",
    "variance": "the features are divided by the variance instead of its root",
    "not centred": "the mean is not subtracted",
    "not scaled": "the features are not divided by the deviation",
    "scaled first": "the mean is subtracted after the division, so that it is in other units",
    "test untouched": "the test set is left as it is",
    "by row": "each example is standardised by its own numbers (dim=1), instead of each feature over the examples",
    "one for all": "one mean and one deviation is used for all features",
    "division by zero": "a feature that is constant in training is divided by its deviation of 0",
    "min-max": "features are moved to the range 0..1 instead",
}


def mean_pool(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (hidden (B, S, D), mask (B, S) bool) -> (B, D): the mean over the real tokens of each row."""
    return judge(mine, mean_pool_task())


def mean_pool_task() -> Task:
    """What `mean_pool` tries, and the mistakes that it knows."""
    generator = torch.Generator().manual_seed(mixed_seed("mean pool"))
    hidden = torch.randn(3, 6, 4, generator=generator) + 0.5  # (B, S, D)
    right = torch.arange(6) < torch.tensor([[6], [4], [3]])  # (B, S)
    cases = [
        Case("a batch without padding", (hidden, torch.ones_like(right)), "Look at the axis and at what is counted."),
        Case("padding on the right", (hidden, right), "Look at how padding is left out of the sum and of the count."),
        Case("padding on the left", (hidden, right.flip(1)), "Look at whether columns are counted or the mask is."),
    ]
    return Task(_mean_pool, cases, MEAN_POOL_MISTAKES, gradients=[0])


def _mean_pool(hidden: Tensor, mask: Tensor, mistakes: Mistakes) -> Tensor:
    hidden, counted, columns = hidden.double(), mask.clone(), torch.arange(mask.shape[1])
    first = mask.int().argmax(dim=1)  # (B,)
    if "only [CLS]" in mistakes:
        return hidden[:, 0]  # (B, D)
    if "padding counted" in mistakes:
        counted = torch.ones_like(mask)  # (B, S)
    if "mask inverted" in mistakes:
        counted = ~mask
    if "no [CLS]" in mistakes:
        counted = counted & (columns != first[:, None])  # (B, S)
    if "no [SEP]" in mistakes:
        counted = counted & (columns != (first + mask.sum(dim=1) - 1)[:, None])  # (B, S)
    if "maximum" in mistakes:
        return hidden.masked_fill(~counted[..., None], -torch.inf).amax(dim=1)  # (B, D)
    if "over dimensions" in mistakes:
        return (hidden * counted[..., None]).mean(dim=2)  # (B, S)
    summed = torch.ones_like(mask) if "padding in the sum" in mistakes else counted  # (B, S)
    total, count = (hidden * summed[..., None]).sum(dim=1), counted.sum(dim=1, keepdim=True)  # (B, D), (B, 1)
    if "divided by columns" in mistakes:
        count = torch.full_like(count, mask.shape[1])  # (B, 1)
    if "divided by the batch" in mistakes:
        count = count.sum()  # ()
    vectors = total if "not divided" in mistakes else total / count  # (B, D)
    return vectors / vectors.norm(dim=1, keepdim=True) if "normalised" in mistakes else vectors


def standardise(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (train (n, D), test (m, D)) -> both, with the training set's mean 0 and deviation 1.

    The deviation divides by n, as scikit-learn's StandardScaler does. A feature that is constant in the training set
    is centred and otherwise left as it is.
    """
    return judge(mine, standardise_task())


def standardise_task() -> Task:
    """What `standardise` tries, and the mistakes that it knows."""
    generator = torch.Generator().manual_seed(mixed_seed("standardise"))
    scales = torch.tensor([1.0, 5.0, 0.3])  # (D,)
    train, test = (torch.randn(n, 3, generator=generator) * scales + 2 * scales + n / 4 for n in (7, 5))  # (n, D) each
    constant = train.clone()
    constant[:, 1] = 2.5
    cases = [
        Case("features that all vary", (train, test), "Look at the axis, and at which set the statistics come from."),
        Case("a feature that is constant in training", (constant, test), "Look at what it is divided by."),
    ]
    return Task(_standardise, cases, STANDARDISE_MISTAKES)


def _standardise(train: Tensor, test: Tensor, mistakes: Mistakes) -> list[Tensor]:
    train, test = train.double(), test.double()

    def fitted(rows: Tensor) -> tuple[Tensor, Tensor]:
        axes = [0, 1] if "one for all" in mistakes else [1] if "by row" in mistakes else [0]
        centre = rows.mean(axes, keepdim=True)  # (1, D)
        spread = rows.var(axes, correction=int("sample" in mistakes), keepdim=True)  # (1, D)
        spread = spread if "variance" in mistakes else spread.sqrt()
        if "min-max" in mistakes:
            centre, spread = rows.amin(0, keepdim=True), rows.amax(0, keepdim=True) - rows.amin(0, keepdim=True)
        if "division by zero" not in mistakes:
            spread = torch.where(spread == 0, 1.0, spread)
        zero, one = torch.zeros_like(centre), torch.ones_like(spread)
        return zero if "not centred" in mistakes else centre, one if "not scaled" in mistakes else spread

    together = torch.cat([train, test])  # (n + m, D)
    of_train = test if "statistics of test" in mistakes else together if "statistics of both" in mistakes else train
    of_test = test if mistakes & {"own statistics", "by row"} else of_train
    results: list[Tensor] = []
    for rows, source in ((train, train if "by row" in mistakes else of_train), (test, of_test)):
        centre, spread = fitted(source)
        scaled = rows / spread - centre if "scaled first" in mistakes else (rows - centre) / spread
        results.append(test if "test untouched" in mistakes and len(results) == 1 else scaled)
    return results
