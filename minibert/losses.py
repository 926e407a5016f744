"""Losses as sums and counts, so that they add up over batches before anyone divides.

A mean of means is not the mean where batches have unequal numbers of labels. So each loss here is a
pair: the sum over the labels that count, and how many they are. The training loop adds up both over
an accumulated batch, and over all processes, and divides once. A label of -100 never counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from minibert.io.errors import InputError

IGNORED = -100  # the label that never counts, as in torch.nn.functional.cross_entropy

LossTerm = tuple[Tensor, float]  # sum, count
LossTerms = dict[str, LossTerm]


def mean(terms: Mapping[str, LossTerm]) -> Tensor | None:
    """The loss: the sum over its terms of sum / count. A term in which nothing counts adds 0."""
    if not terms:
        return None
    means = [total / (count or 1) for total, count in terms.values()]
    return torch.stack(means).sum()  # ()


def count(labels: Tensor) -> int:
    """How many labels count."""
    return int((labels != IGNORED).sum())


def check_labels(
    name: str, labels: Tensor, shape: tuple[int, ...], classes: int, real: Tensor | None = None
) -> None:
    """Refuses class labels that do not fit the logits, before a GPU would end the process.

    Args:
        name: of the argument, for the message.
        labels: class numbers, or -100.
        shape: the shape that the labels should have.
        classes: C.
        real: (B, S), where labels may count: -100 is wanted elsewhere.

    Raises:
        InputError: another shape, not integers, a class that does not exist, a label at padding.
    """
    if tuple(labels.shape) != shape or labels.is_floating_point():
        raise InputError(
            f"{name} has shape {tuple(labels.shape)} and {labels.dtype}, but it must be {shape} "
            "integers.",
            key=name,
        )
    counts = labels != IGNORED  # as labels
    wrong = counts & ((labels < 0) | (labels >= classes))  # as labels
    if bool(wrong.any()):
        place = [int(index) for index in wrong.nonzero()[0]]
        raise InputError(
            f"{name}{place} is {int(labels[tuple(place)])}, but there are {classes} classes.",
            key=name,
        )
    if real is not None and bool((counts & ~real).any()):
        raise InputError(
            f"{name} holds something other than {IGNORED} at padding.",
            key=name,
            hint=f"Fill the labels of padded columns with {IGNORED}; collate does.",
        )


class ClassLoss:
    """Cross-entropy of one class for each row.

    Args:
        weights: (C,) what a label of each class counts; without them 1. The mean is then that of
            torch.nn.CrossEntropyLoss(weight=...): sum of weight * loss over sum of weights.
    """

    def __init__(self, weights: Tensor | None = None):
        self.weights = weights

    def __call__(self, logits: Tensor, labels: Tensor) -> LossTerm:
        """logits (M, C), labels (M,) -> the sum () and what the labels count."""
        labels, logits = labels.long(), precise(logits)  # (M,), (M, C)
        weights = None if self.weights is None else self.weights.to(logits)  # (C,)
        loss = F.cross_entropy(logits, labels, weights, ignore_index=IGNORED, reduction="sum")  # ()
        return loss, self.count(labels)

    def count(self, labels: Tensor) -> float:
        """What the labels (M,) count together."""
        if self.weights is None:
            return count(labels)
        return float(self.weights.cpu()[labels[labels != IGNORED].cpu()].sum())


cross_entropy = ClassLoss()


def squared_error(logits: Tensor, labels: Tensor) -> LossTerm:
    """(x - y)^2 of logits (B, C) and numbers (B, C)."""
    return F.mse_loss(precise(logits), labels, reduction="sum"), labels.numel()  # ()


def yes_or_no(logits: Tensor, labels: Tensor) -> LossTerm:
    """Binary cross-entropy of logits (B, C) with labels (B, C), each 1 if its class applies."""
    loss = F.binary_cross_entropy_with_logits(precise(logits), labels, reduction="sum")  # ()
    return loss, labels.numel()


def precise(logits: Tensor) -> Tensor:
    """At least float32: a softmax over thousands of classes is a long sum."""
    return logits if logits.dtype == torch.float64 else logits.float()
