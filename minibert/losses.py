"""Losses as sums and counts, so that they add up over batches before anyone divides.

A mean of means is not the mean where batches have unequal numbers of labels. So each loss here is a
pair: the sum over the labels that count, and how many they are. The training loop adds up both, and
divides once. A label of -100 never counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from minibert.io.checks import IGNORED, check_labels, require
from minibert.io.device import on_host, to_device

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
    return int((on_host(labels) != IGNORED).sum())


class ClassLoss:
    """Cross-entropy of one class for each row.

    With `weights` (C,) a label counts as much as its class, as in torch.nn.CrossEntropyLoss(weight=...).
    """

    def __init__(self, weights: Tensor | None = None):
        self.weights = weights

    def __call__(self, logits: Tensor, labels: Tensor) -> LossTerm:
        """logits (M, C), labels (M,) -> the sum () and what the labels count."""
        logits = precise(logits)  # (M, C)
        weights = None if self.weights is None else to_device(self.weights, logits.device).to(logits)  # (C,)
        loss = F.cross_entropy(logits, labels.long(), weights, ignore_index=IGNORED, reduction="sum")  # ()
        return loss, self.count(labels)

    def count(self, labels: Tensor) -> float:
        """What the labels (M,) count."""
        if self.weights is None:
            return count(labels)
        labels = on_host(labels)  # (M,)
        return float(on_host(self.weights)[labels[labels != IGNORED]].sum())


cross_entropy = ClassLoss()


def one_class(name: str, logits: Tensor, labels: Tensor, loss: ClassLoss = cross_entropy) -> LossTerm:
    """Cross-entropy of logits (B, C) with checked classes (B,)."""
    check_labels(name, labels, tuple(logits.shape[:1]), logits.shape[1])
    return loss(logits, labels)


def squared_error(name: str, logits: Tensor, labels: Tensor) -> LossTerm:
    """(x - y)^2 of logits (B, C) and numbers (B, C), or (B,) where C is 1."""
    numbers = _like(name, logits, labels)  # (B, C)
    squares = F.mse_loss(precise(logits), numbers, reduction="none")  # (B, C)
    return (squares * (numbers != IGNORED)).sum(), count(labels)  # ()


def yes_or_no(name: str, logits: Tensor, labels: Tensor) -> LossTerm:
    """Binary cross-entropy of logits (B, C) with labels (B, C), 1 where a class applies."""
    numbers = _like(name, logits, labels)  # (B, C)
    counts = (numbers != IGNORED).to(numbers.dtype)  # (B, C)
    loss = F.binary_cross_entropy_with_logits(precise(logits), numbers, counts, reduction="sum")  # ()
    return loss, count(labels)


def half_of_a_span(name: str, logits: Tensor, positions: Tensor, mask: Tensor) -> LossTerm:
    """Cross-entropy over columns (B, S), halved, since start and end share the loss of a span.

    Positions (B,) beyond S, and -100, do not count; the others must be real in the mask (B, S).
    """
    positions = inside(on_host(positions), logits.shape[1])  # (B,)
    check_labels(name, positions, tuple(logits.shape[:1]), logits.shape[1])
    rows = (positions != IGNORED).nonzero().squeeze(1)  # (rows that count,)
    chosen = positions[rows].long()  # (rows that count,)
    real = on_host(mask)[rows].gather(1, chosen[:, None])  # (rows that count, 1)
    require(bool(real.all()), name, "holds a padded column.", f"Use {IGNORED} for a row without an answer.")
    counted = logits.index_select(0, to_device(rows, logits.device))  # (rows that count, S)
    total, labels = cross_entropy(counted, to_device(chosen, logits.device))
    return total / 2, labels


def inside(positions: Tensor, columns: int) -> Tensor:
    """(B,) the positions, -100 for those beyond the columns: an answer that was cut off."""
    return positions.masked_fill(positions >= columns, IGNORED)


def _like(name: str, logits: Tensor, labels: Tensor) -> Tensor:
    """Labels that are numbers, as (B, C)."""
    found, wanted = tuple(labels.shape), tuple(logits.shape)
    require(wanted in (found, (*found, 1)), name, f"has shape {found}, but the logits have {wanted}.")
    return labels.view(logits.shape).to(precise(logits).dtype)  # (B, C)


def precise(logits: Tensor) -> Tensor:
    """At least float32: a softmax over thousands of classes is a long sum."""
    return logits if logits.dtype == torch.float64 else logits.float()
