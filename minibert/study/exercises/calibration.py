"""Checks of chapter 13: examples ranked by their loss, and the expected calibration error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minibert.io.seeds import mixed_seed
from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

Mistakes = frozenset[str]
EDGE = 0.02  # how far from every edge of a bin a confidence has to be, so that rounding cannot move it

RANK_MISTAKES = {
    "lowest first": "the lowest loss comes first",
    "losses": "the losses are returned, not the numbers of their examples (sort instead of argsort)",
    "ranks": "the rank of each example is returned instead of the examples in order (argsort of an argsort)",
    "loss of the prediction": "the loss is that of the predicted class instead of the label",
    "probabilities": "the softmax is taken twice: cross-entropy expects logits and got probabilities",
    "no softmax": "the logit of the label is taken for its log-probability, without the softmax",
    "softmax over examples": "the softmax runs over the examples (dim=0) instead of the classes",
    "errors only": "only wrongly classified examples are listed",
    "wrong ones first": "all wrong ones come before all right ones, by how confident they are",
    "margin": "the order is that of the distance to the largest other logit, not of the loss",
    "entropy": "the order is that of the entropy of the probabilities, which ignores the label",
}
ECE_MISTAKES = {
    "true class": "confidence is the probability of the label instead of the predicted class",
    "unweighted": "bins count alike, however many examples they hold",
    "empty bins counted": "the mean runs over all bins, empty ones included, without weights",
    "largest": "the largest gap of a bin is taken (the maximum calibration error) instead of the mean",
    "signed": "gaps keep their sign, so that too high and too low cancel",
    "no bins": "the gap is computed for each example alone, without bins",
    "one bin": "the gap is computed once, between mean confidence and accuracy over everything",
    "by index": "bins are consecutive examples as they come, not ranges of confidence",
    "equal counts": "bins hold equally many examples, sorted by confidence, instead of equal ranges",
    "middle": "a bin's confidence is the middle of its range instead of the mean of its examples",
    "from chance": "the bins divide the range from 1/C to 1 instead of 0 to 1",
    "squared": "gaps are squared",
    "one is lost": "a confidence of exactly 1 falls into no bin",
}


def rank_by_loss(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (logits (n, C), labels (n,)) -> (n,): the numbers of the examples, the highest loss first."""
    return judge(mine, rank_by_loss_task())


def rank_by_loss_task() -> Task:
    """What `rank_by_loss` tries, and the mistakes that it knows."""
    generator = torch.Generator().manual_seed(mixed_seed("rank by loss"))
    logits = 2 * torch.randn(12, 3, generator=generator) + torch.linspace(0, 3, 12)[:, None]  # (n, C)
    labels = torch.randint(3, (12,), generator=generator)  # (n,)
    cases = [
        Case("four examples of two classes", (logits[:4, :2], torch.tensor([0, 1, 1, 0])), "Look at what is sorted."),
        Case("twelve examples of three classes", (logits, labels), "Look at the loss of each example."),
    ]
    return Task(_rank, cases, RANK_MISTAKES)


def _rank(logits: Tensor, labels: Tensor, mistakes: Mistakes) -> Tensor:
    logits = logits.double()
    if "probabilities" in mistakes:
        logits = logits.softmax(dim=1)  # (n, C)
    scores = logits.log_softmax(dim=0 if "softmax over examples" in mistakes else 1)  # (n, C)
    scores = logits if "no softmax" in mistakes else scores
    right = logits.argmax(dim=1) == labels  # (n,)
    target = logits.argmax(dim=1) if "loss of the prediction" in mistakes else labels  # (n,)
    loss = -scores.gather(1, target[:, None]).squeeze(1)  # (n,)
    if "margin" in mistakes:
        others = logits.scatter(1, target[:, None], -torch.inf).amax(dim=1)  # (n,)
        loss = others - logits.gather(1, target[:, None]).squeeze(1)  # (n,)
    if "entropy" in mistakes:
        loss = -(scores.exp() * scores).sum(dim=1)  # (n,)
    if "wrong ones first" in mistakes:
        confidence = logits.softmax(dim=1).amax(dim=1)  # (n,)
        loss = torch.where(right, -confidence, confidence)  # (n,)
    order = loss.argsort(descending="lowest first" not in mistakes)  # (n,)
    if "losses" in mistakes:
        return loss[order]  # (n,)
    if "errors only" in mistakes:
        order = order[~right[order]]  # (wrong ones,)
    return order.argsort() if "ranks" in mistakes else order


def calibration_error(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (probabilities (n, C), labels (n,), bins) -> the expected calibration error.

    The confidence is the probability of the predicted class. Bins of equal width divide 0..1; a confidence of exactly 1
    is in the last one. The error is the mean over the bins of |accuracy - mean confidence|, weighted by their counts.
    """
    return judge(mine, calibration_error_task())


def calibration_error_task() -> Task:
    """What `calibration_error` tries, and the mistakes that it knows."""
    generator = torch.Generator().manual_seed(mixed_seed("calibration error"))
    probabilities = (2.5 * torch.randn(200, 3, generator=generator)).softmax(dim=1)  # (n, C)
    inside = probabilities.amax(dim=1) * 10 % 1  # (n,)
    probabilities = probabilities[(inside > 10 * EDGE) & (inside < 1 - 10 * EDGE)][:60]  # (60, C)
    drawn = torch.multinomial(probabilities.sqrt(), 1, generator=generator).squeeze(1)  # (60,)
    certain = torch.cat([probabilities, torch.eye(3)])  # (63, C)
    labels = torch.cat([drawn, torch.tensor([0, 1, 0])])  # (63,)
    cases = [
        Case("one bin for everything", (probabilities, drawn, 1), "Look at confidence, accuracy and their distance."),
        Case("ten bins", (probabilities, drawn, 10), "Look at how examples get into bins, and at the weights."),
        Case("some predictions of exactly 1", (certain, labels, 10), "Look at the last bin: it includes 1."),
    ]
    return Task(_calibration_error, cases, ECE_MISTAKES)


def _calibration_error(probabilities: Tensor, labels: Tensor, bins: int, mistakes: Mistakes) -> float:
    probabilities = probabilities.double()
    confidence, predicted = probabilities.max(dim=1)  # (n,) each
    if "true class" in mistakes:
        confidence = probabilities.gather(1, labels[:, None]).squeeze(1)  # (n,)
    right, count = (predicted == labels).double(), len(labels)  # (n,)
    if "no bins" in mistakes:
        return float((confidence - right).abs().mean())
    bins = 1 if "one bin" in mistakes else bins
    low = 1 / probabilities.shape[1] if "from chance" in mistakes else 0.0
    number = ((confidence - low) / (1 - low) * bins).floor().long()  # (n,)
    number = number if "one is lost" in mistakes else number.clamp(0, bins - 1)  # (n,)
    if "by index" in mistakes:
        number = torch.arange(count) * bins // count  # (n,)
    if "equal counts" in mistakes:
        number = confidence.argsort(stable=True).argsort() * bins // count  # (n,)
    gaps, weights = [], []
    for each in range(bins):
        inside = number == each  # (n,)
        if inside.any():
            middle = low + (each + 0.5) / bins * (1 - low)
            sure = middle if "middle" in mistakes else float(confidence[inside].mean())
            gaps.append(float(right[inside].mean()) - sure)
            weights.append(int(inside.sum()) / count)
    gaps = gaps if "signed" in mistakes else [abs(gap) for gap in gaps]
    gaps = [gap**2 for gap in gaps] if "squared" in mistakes else gaps
    if "largest" in mistakes:
        return max(gaps)
    if mistakes & {"unweighted", "empty bins counted"}:
        return sum(gaps) / (bins if "empty bins counted" in mistakes else len(gaps))
    return sum(gap * weight for gap, weight in zip(gaps, weights, strict=True))
