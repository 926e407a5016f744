"""Checks of the chapter on claims: intervals, entropy of attention, importance of heads, leave-one-out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minibert.io.seeds import mixed_seed
from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

BOOTSTRAP = {
    "first only": "the first score alone is resampled, without the second",
    "second less first": "the first is taken away from the second",
    "magnitudes": "the differences are made positive",
    "second in order": "the second score keeps its order, so that pairs are torn apart",
    "over items": "the quantiles are those of the items and not of the means",
    "over the wrong axis": "the means are taken over the resamples and not over the items",
    "sums": "each resample is summed and not averaged",
    "90%": "the ends are the 5% and 95% quantiles, which makes a 90% interval",
    "least and most": "the ends are the smallest and the largest mean",
    "normal": "the ends are the mean plus and minus 1.96 standard deviations of the resampled means",
    "mean of resamples": "the middle is the mean of the resamples and not that of the data",
}
ENTROPY = {
    "bits": "the logarithm is to base 2",
    "sign": "the minus sign is missing",
    "share of the most": "the entropies are divided by that of equal weights, the logarithm of S",
    "padded queries": "queries of padding count in the mean",
    "queries summed": "the entropies of the queries are summed and not averaged",
    "not a number": "0 times the logarithm of 0 is left as not a number",
    "without weights": "the logarithms are summed without their weights",
    "of the mean": "it is the entropy of the mean pattern and not the mean entropy",
    "over heads": "the heads are averaged, too",
    "by row": "each sentence is averaged first, so that short ones count as much as long ones",
}
IMPORTANCE = {
    "no magnitude": "the gradients keep their signs",
    "magnitude last": "the magnitude is taken after the mean, so that signs cancel",
    "gates of zero": "the gradient is taken at gates of 0 instead of 1",
    "summed": "the examples are summed and not averaged",
    "squared": "the gradients are squared",
    "accumulated": "the gradient is not set to zero between examples",
    "last example": "only the last example counts",
    "loss": "the loss takes the place of its gradient",
    "normalised": "the scores are divided by their sum",
}
LEAVE_ONE_OUT = {
    "sign": "it is the number without the piece less the number with it",
    "no difference": "it is the number without the piece, and not what is lost",
    "accumulated": "pieces that were taken away stay away",
    "deleted": "the piece is removed, which moves all behind it, instead of masked",
    "special pieces": "[CLS] and [SEP] are masked, too",
    "one too far": "the piece behind is masked",
    "kept alone": "all other pieces are masked instead of the one",
    "magnitudes": "the differences are made positive",
    "relative": "the differences are divided by the number of the whole text",
}
CLS, SEP, MASK = 1, 2, 3


def bootstrap_difference(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (first, second, drawn) -> (difference, low, high): a 95% interval of a paired difference.

    first and second (n,) are the scores of two methods on the same n items, and the difference is the mean of first
    less second. drawn (R, n) holds R resamples of the items' numbers. low and high are the 2.5% and 97.5% quantiles, as
    `torch.quantile` has them, of the R differences.
    """
    return judge(mine, _bootstrap_task())


def entropy_of_attention(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (pattern, mask) -> (N,): the mean entropy of each head's rows, in nats.

    pattern is (B, N, S, S), rows ask and columns are asked, with zeros at padding. mask is (B, S) bool, True = a real
    token. The mean is over all real queries of the batch.
    """
    return judge(mine, _entropy_task())


def head_importance(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (loss, examples, heads) -> (heads,): the mean magnitude of the gradient of the gates.

    loss(example, gates) is a number, where gates (heads,) multiply what each head hands on.
    """
    return judge(mine, _importance_task())


def leave_one_out(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (number, ids, cls, sep, mask) -> (S,): what is lost if a piece is masked.

    number(ids) is what the model says of ids (S,). cls, sep and mask are the ids of [CLS], [SEP] and [MASK]; the first
    two are never masked, and score 0.
    """
    return judge(mine, _leave_one_out_task())


def _bootstrap_task() -> Task:
    generator = torch.Generator().manual_seed(mixed_seed("bootstrap difference"))
    first = torch.rand(12, generator=generator)  # (n,)
    second = (first + 0.3 * torch.randn(12, generator=generator) - 0.1).clamp(0, 1)  # (n,)
    drawn = torch.randint(12, (200, 12), generator=generator)  # (R, n)
    once = torch.arange(12).expand(3, -1)  # (3, n)
    cases = [
        Case("resamples that are the data itself", (first, second, once), "Look at the difference and its mean."),
        Case("a second score of zeros", (first, 0 * second, drawn), "Look at axis and quantiles."),
        Case("two scores", (first, second, drawn), "Look at whether both are resampled with the same numbers."),
    ]
    return Task(_interval, cases, BOOTSTRAP)


def _interval(first: Tensor, second: Tensor, drawn: Tensor, mistakes: frozenset[str]) -> tuple[Any, Any, Any]:
    first, second = first.double(), second.double()  # (n,) each
    first, second = (second, first) if "second less first" in mistakes else (first, second)
    if "first only" in mistakes:
        second = torch.zeros_like(second)  # (n,)
    second_drawn = second.expand(drawn.shape) if "second in order" in mistakes else second[drawn]  # (R, n)
    differences = first[drawn] - second_drawn  # (R, n)
    whole = first - second  # (n,)
    if "magnitudes" in mistakes:
        differences, whole = differences.abs(), whole.abs()  # (R, n), (n,)
    axis = 0 if "over the wrong axis" in mistakes else 1
    means = differences.sum(dim=axis) if "sums" in mistakes else differences.mean(dim=axis)  # (R,)
    middle = means.mean() if "mean of resamples" in mistakes else whole.sum() if "sums" in mistakes else whole.mean()
    if "normal" in mistakes:
        return middle, middle - 1.96 * means.std(), middle + 1.96 * means.std()
    values = whole if "over items" in mistakes else means  # (n,) or (R,)
    if "least and most" in mistakes:
        return middle, values.min(), values.max()
    tail = 0.05 if "90%" in mistakes else 0.025
    return middle, values.quantile(tail), values.quantile(1 - tail)


def _entropy_task() -> Task:
    generator = torch.Generator().manual_seed(mixed_seed("entropy of attention"))
    scores = 1.5 * torch.randn(2, 3, 5, 5, generator=generator)  # (B, N, S, S)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])  # (B, S)
    full = torch.ones(1, 5, dtype=torch.bool)  # (1, S)
    pattern = scores.softmax(dim=-1)  # (B, N, S, S)
    padded = scores.masked_fill(~mask[:, None, None, :], -math.inf).softmax(dim=-1)  # (B, N, S, S)
    padded = padded * mask[:, None, :, None]  # (B, N, S, S)
    even = torch.full((1, 2, 5, 5), 0.2)  # (1, N, S, S)
    cases = [
        Case("weights that are all equal", (even, full), "Look at the logarithm."),
        Case("one sentence", (pattern[:1], full), "Look at axes and weights."),
        Case("a row with a single weight", (torch.eye(5).expand(1, 3, 5, 5), full), "Look at the weights of 0."),
        Case("two sentences, one of them with padding", (padded, mask), "Look at which queries are averaged."),
    ]
    return Task(_entropy, cases, ENTROPY)


def _entropy(pattern: Tensor, mask: Tensor, mistakes: frozenset[str]) -> Tensor:
    """(N,)"""
    pattern = pattern.double()  # (B, N, S, S)

    def terms(weights: Tensor) -> Tensor:
        logarithms = weights.log2() if "bits" in mistakes else weights.log()  # as weights (...)
        products = logarithms if "without weights" in mistakes else weights * logarithms  # as weights (...)
        if "not a number" not in mistakes:
            products = products.masked_fill(weights == 0, 0.0)  # as weights (...)
        return products if "sign" in mistakes else -products  # as weights (...)

    real = torch.ones_like(mask) if "padded queries" in mistakes else mask  # (B, S)
    counted = real[:, None, :].double()  # (B, 1, S)
    if "of the mean" in mistakes:
        mean = (pattern * counted[..., None]).sum(dim=(0, 2)) / counted.sum()  # (N, S)
        return terms(mean).sum(dim=-1)  # (N,)
    entropies = terms(pattern).sum(dim=-1)  # (B, N, S)
    entropies = entropies.masked_fill(~real[:, None, :], 0.0)  # (B, N, S)
    if "by row" in mistakes:
        result = (entropies.sum(dim=2) / counted.sum(dim=2)).mean(dim=0)  # (N,)
    else:
        result = entropies.sum(dim=(0, 2)) / (1 if "queries summed" in mistakes else counted.sum())  # (N,)
    if "share of the most" in mistakes:
        result = result / math.log(pattern.shape[-1])  # (N,)
    return result.mean() if "over heads" in mistakes else result  # (N,) or ()


def _importance_task() -> Task:
    generator = torch.Generator().manual_seed(mixed_seed("head importance"))
    heads = 4
    examples = list(torch.randn(5, heads, generator=generator))  # (heads,) each

    def linear(example: Tensor, gates: Tensor) -> Tensor:
        return (example * gates).sum()  # ()

    def curved(example: Tensor, gates: Tensor) -> Tensor:
        return ((example * gates).sum() + (example[0] * gates[1]) ** 2).exp().add(1).log()  # ()

    cases = [
        Case("one example and a linear loss", (linear, examples[:1], heads), "Look at the gradient and its magnitude."),
        Case("several examples and a linear loss", (linear, examples, heads), "Look at the mean over examples."),
        Case("several examples and a curved loss", (curved, examples, heads), "Look at where the gradient is taken."),
    ]
    return Task(_importance, cases, IMPORTANCE)


def _importance(
    loss: Callable[[Any, Tensor], Tensor], examples: list[Any], heads: int, mistakes: frozenset[str]
) -> Tensor:
    """(heads,)"""
    found, carried = [], torch.zeros(heads)  # (heads,)
    for example in examples:
        gates = torch.full((heads,), 0.0 if "gates of zero" in mistakes else 1.0, requires_grad=True)  # (heads,)
        value = loss(example, gates)  # ()
        [gradient] = torch.autograd.grad(value, gates)  # (heads,)
        if "loss" in mistakes:
            gradient = value.detach().expand(heads)  # (heads,)
        if "accumulated" in mistakes:
            carried = carried + gradient  # (heads,)
            gradient = carried
        found.append(gradient.square() if "squared" in mistakes else gradient)
    gradients = torch.stack(found[-1:] if "last example" in mistakes else found)  # (examples, heads)
    if not {"no magnitude", "magnitude last"} & mistakes:
        gradients = gradients.abs()  # (examples, heads)
    scores = gradients.sum(dim=0) if "summed" in mistakes else gradients.mean(dim=0)  # (heads,)
    scores = scores.abs() if "magnitude last" in mistakes else scores  # (heads,)
    return scores / scores.sum() if "normalised" in mistakes else scores  # (heads,)


def _leave_one_out_task() -> Task:
    generator = torch.Generator().manual_seed(mixed_seed("leave one out"))
    values, places = torch.randn(20, generator=generator), torch.rand(12, generator=generator)  # (ids,), (columns,)

    def bag(ids: Tensor) -> Tensor:
        return values[ids].sum()  # ()

    def ordered(ids: Tensor) -> Tensor:
        found = values[ids] * (1 + places[: len(ids)])  # (S,)
        return 1 + found.sum() + (found[:-1] * found[1:]).sum()  # ()

    short = torch.tensor([CLS, 7, SEP])  # (S,)
    text, pair = torch.tensor([CLS, 7, 5, 9, SEP]), torch.tensor([CLS, 8, 6, SEP, 11, 7, 12, SEP])  # (S,) each
    special = (CLS, SEP, MASK)
    cases = [
        Case("a text of one piece", (bag, short, *special), "Look at what is taken from what."),
        Case("a text whose pieces are a sum", (bag, text, *special), "Look at which piece is masked."),
        Case("a text whose order matters", (ordered, text, *special), "Look at what else changes with the piece."),
        Case("a pair of texts", (ordered, pair, *special), "Look at the [SEP] in the middle."),
    ]
    return Task(_without_each, cases, LEAVE_ONE_OUT)


def _without_each(
    number: Callable[[Tensor], Tensor], ids: Tensor, cls: int, sep: int, mask: int, mistakes: frozenset[str]
) -> Tensor:
    """(S,)"""
    whole, scores = float(number(ids)), torch.zeros(len(ids), dtype=torch.float64)  # (S,)
    special = (ids == cls) | (ids == sep)  # (S,)
    now = ids.clone()  # (S,)
    for column in range(len(ids)):
        if special[column] and "special pieces" not in mistakes:
            continue
        now = now if "accumulated" in mistakes else ids.clone()  # (S,)
        at = (column + 1) % len(ids) if "one too far" in mistakes else column
        if "kept alone" in mistakes:
            kept = special | (torch.arange(len(ids)) == at)  # (S,)
            now = torch.where(kept, ids, mask)  # (S,)
        else:
            now[at] = mask
        given = torch.cat([now[:at], now[at + 1 :]]) if "deleted" in mistakes else now  # (S,) or (S - 1,)
        lost = whole - float(number(given))
        lost = whole - lost if "no difference" in mistakes else -lost if "sign" in mistakes else lost
        lost = lost / whole if "relative" in mistakes else lost
        scores[column] = abs(lost) if "magnitudes" in mistakes else lost
    return scores
