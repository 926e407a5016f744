"""Losses: of masked words, of spans, and how they add up over batches of unequal size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from minibert.data import mixed_seed
from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

Mistakes = frozenset[str]
IGNORED = -100

MASKED_LM_LOSS = {
    "all positions": "the sum is divided by the number of all positions instead of those with a label",
    "per row": "the sum is divided by the number of rows",
    "sum": "the sum is not divided at all",
    "mean of means": "the mean of each row is taken first, and then the mean of these",
    "class 0": "-100 is taken as class 0, and counts",
    "class 0 ignored": "labels of 0 are left out, too",
    "softmax twice": "softmax is taken twice, since the logits were made probabilities before cross-entropy",
    "softmax over positions": "the softmax runs over the positions instead of the vocabulary",
    "no logarithm": "the logarithm is missing",
    "no minus": "the sign is wrong",
    "0 by 0": "0 is divided by 0 where nothing has a label",
}
SPAN_LOSS = {
    "padding": "the softmax runs through padded columns",
    "padding zero": "the logits of padding are set to 0 instead of minus infinity",
    "start only": "only the start counts",
    "end only": "only the end counts",
    "sum of both": "start and end are added, and not halved",
    "swapped": "the positions of start and end are the wrong way round",
    "softmax over both": "the softmax runs over start and end instead of the columns",
    "softmax twice": "softmax is taken twice, since the logits were made probabilities before cross-entropy",
    "all rows": "the sum is divided by the number of all rows, those with -100 included",
    "not divided": "the sum over the rows is not divided",
    "column 0": "-100 is taken as column 0, and counts",
}
ADD_LOSSES = {
    "mean of means": "each batch is divided by its own count, and then the mean of these is taken",
    "sum": "the sums are not divided",
    "per batch": "the sums are divided by the number of batches",
    "one pot": "the terms' sums and counts are added to each other before the division",
    "mean of terms": "the mean of the terms is taken instead of their sum",
    "first batch": "only the first batch counts",
    "last batch": "only the last batch counts",
    "0 by 0": "0 is divided by 0 where a term has no labels",
}


def masked_lm_loss(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (logits, labels) -> mean cross-entropy over the labels that are not -100; 0 if there are none.

    logits are (B, S, V), labels (B, S).
    """
    generator = torch.Generator().manual_seed(mixed_seed("masked words"))
    logits = 3 * torch.randn(3, 4, 7, generator=generator)  # (B, S, V)
    full = torch.tensor([[1, 2, 6, 3]])  # (1, S)
    some = torch.tensor([[-100, 5, -100, -100], [3, -100, 2, 6], [-100, -100, -100, 1]])  # (B, S)
    zero = torch.tensor([[-100, 0, 4, -100], [3, -100, 0, 0], [-100, 1, -100, 5]])  # (B, S)
    cases = [
        Case("one row in which every position has a label", (logits[:1], full), "Look at softmax and logarithm."),
        Case("two rows in which every position has a label", (logits[:2], full.expand(2, 4)), "Look at the mean."),
        Case("labels of -100", (logits, some), "Look at which labels count, in the sum and in the number."),
        Case("nothing to predict", (logits, torch.full_like(some, IGNORED)), "The loss is 0, not 0 / 0."),
        Case("class 0 among the labels", (logits, zero), "Class 0 is a class like the others."),
    ]

    def truth(logits: Tensor, labels: Tensor, mistakes: Mistakes) -> Tensor:
        counts = labels != IGNORED  # (B, S)
        if "class 0 ignored" in mistakes:
            counts = counts & (labels != 0)  # (B, S)
        if "class 0" in mistakes:
            counts = torch.ones_like(counts)  # (B, S)
        loss = _surprise(logits.double(), labels, mistakes, 1 if "softmax over positions" in mistakes else -1) * counts
        number = int(counts.sum())
        number = {"all positions": labels.numel(), "per row": len(labels), "sum": 1}.get(_first(mistakes), number)
        if "mean of means" in mistakes:
            rows = counts.any(dim=1)  # (B,)
            loss, number = loss[rows].sum(dim=1) / counts[rows].sum(dim=1), int(rows.sum())  # (B,), B
        return loss.sum() / (number if number or "0 by 0" in mistakes else 1)  # ()

    return judge(mine, Task(truth, cases, MASKED_LM_LOSS, gradients=(0,)))


def span_loss(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (logits, start, end, mask) -> loss: half the mean loss of the start, half that of the end.

    logits are (B, S, 2), start and end (B,) columns or -100, the mask (B, S) is bool, True = a real token.
    """
    generator = torch.Generator().manual_seed(mixed_seed("spans"))
    logits = 3 * torch.randn(3, 6, 2, generator=generator)  # (B, S, 2)
    everything = torch.ones(3, 6, dtype=torch.bool)  # (B, S)
    mask = torch.arange(6) < torch.tensor([[6], [3], [4]])  # (B, S)
    start, end, some = torch.tensor([[1, 0, 2], [4, 2, 3], [1, -100, 2]])  # (B,) each
    some_end = torch.tensor([4, -100, 3])  # (B,)
    cases = [
        Case("one row without padding", (logits[:1], start[:1], end[:1], everything[:1]), "Look at start and end."),
        Case("rows without padding", (logits, start, end, everything), "Look at the mean over the rows."),
        Case("padding", (logits, start, end, mask), "Look at the mask."),
        Case("a row without an answer", (logits, some, some_end, everything), "Its positions are -100."),
        Case("padding, and a row without an answer", (logits, some, some_end, mask)),
    ]

    def truth(logits: Tensor, start: Tensor, end: Tensor, mask: Tensor, mistakes: Mistakes) -> Tensor:
        logits = logits.double()  # (B, S, 2)
        if "padding" not in mistakes:
            logits = logits.masked_fill(
                ~mask[:, :, None], 0.0 if "padding zero" in mistakes else -math.inf
            )  # (B, S, 2)
        if "swapped" in mistakes:
            start, end = end, start
        halves = []
        for which, positions in enumerate((start, end)):
            counts = torch.ones_like(positions) if "column 0" in mistakes else positions != IGNORED  # (B,)
            scores = logits[:, :, which]  # (B, S)
            columns = positions.clamp(min=0)  # (B,)
            loss = _surprise(scores, positions, mistakes, -1)  # (B,)
            if "softmax over both" in mistakes:
                loss = -logits.log_softmax(-1)[torch.arange(len(scores)), columns, which]  # (B,)
            number = int(counts.sum())
            number = {"all rows": len(scores), "not divided": 1}.get(_first(mistakes), number)
            halves.append(loss[counts.bool()].sum() / number)
        if "start only" in mistakes or "end only" in mistakes:
            return halves["end only" in mistakes]
        return sum(halves) / (1 if "sum of both" in mistakes else 2)  # type: ignore[return-value]

    return judge(mine, Task(truth, cases, SPAN_LOSS, gradients=(0,)))


def add_losses(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (batches) -> loss, from one dict for each batch: the name of a term -> (sum, count).

    The loss is the sum over the terms of the mean over all labels of all batches. A term without labels adds 0.
    """
    words = [{"masked_lm": (12.0, 5)}, {"masked_lm": (30.0, 7)}, {"masked_lm": (2.5, 1)}]
    both = [{**batch, "next_sentence": (float(i + 1), i + 2)} for i, batch in enumerate(words)]
    none = [{**batch, "next_sentence": (0.0, 0)} for batch in words]
    some = [both[0], none[1], both[2]]
    cases = [
        Case("one batch of one term", (words[:1],), "Look at the division."),
        Case("three batches of one term", (words,), "Add sums and counts first, and divide once."),
        Case("one batch of two terms", (both[:1],), "Each term has a mean of its own."),
        Case("three batches of two terms", (both,), "Each term has a sum and a count of its own."),
        Case("a batch without labels for one term", (some,), "It adds nothing to sum and count."),
        Case("no labels at all for one term", (none,), "Such a term adds 0."),
    ]

    def truth(batches: Sequence[Mapping[str, tuple[float, int]]], mistakes: Mistakes) -> float:
        if "first batch" in mistakes or "last batch" in mistakes:
            batches = [batches[0 if "first batch" in mistakes else -1]]

        def divide(total: float, count: float) -> float:
            return total / count if count else math.nan if "0 by 0" in mistakes else 0.0

        pairs = [[batch[name] for batch in batches] for name in batches[0]]
        if "one pot" in mistakes:
            pairs = [[pair for term in pairs for pair in term]]
        means = []
        for term in pairs:
            total, count = sum(pair[0] for pair in term), sum(pair[1] for pair in term)
            number = {"sum": 1, "per batch": len(batches)}.get(_first(mistakes), count)
            mean = divide(total, number)
            if "mean of means" in mistakes:
                mean = sum(divide(*pair) for pair in term) / len(term)
            means.append(mean)
        return sum(means) / (len(means) if "mean of terms" in mistakes else 1)

    return judge(mine, Task(truth, cases, ADD_LOSSES))


def _first(mistakes: Mistakes) -> str:
    """The mistake about the division, of which there can be one."""
    return next(
        iter(sorted(mistakes & {"all positions", "per row", "sum", "all rows", "not divided", "per batch"})), ""
    )


def _surprise(logits: Tensor, labels: Tensor, mistakes: Mistakes, dim: int) -> Tensor:
    """Minus the logarithm of the label's probability, for every label; -100 is read as 0."""
    if "softmax twice" in mistakes:
        logits = logits.softmax(dim)
    logarithms = logits.softmax(dim) if "no logarithm" in mistakes else logits.log_softmax(dim)
    chosen = logarithms.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return chosen if "no minus" in mistakes else -chosen
