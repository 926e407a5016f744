"""Checks of chapter 12: a confusion matrix, and macro F1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

Mistakes = frozenset[str]

CONFUSION_MISTAKES = {
    "transposed": "rows are predictions and columns labels",
    "counts": "the counts are not normalised",
    "by column": "each column sums to 1 instead of each row",
    "by total": "the whole matrix sums to 1 instead of each row",
    "by maximum": "each row is divided by its largest number instead of its sum",
    "overwritten": "a cell is set to 1, or counted only once, however many examples fall into it",
    "only right": "only right predictions are counted",
    "smaller": "the matrix has no rows and columns beyond the largest class that occurs",
    "division by zero": "the row of a class without examples is divided by 0",
    "rounded": "the shares are rounded to two digits",
}
MACRO_F1_MISTAKES = {
    "micro": "all decisions are counted together (micro F1), which is the accuracy",
    "weighted": "classes are weighted by how many examples they have",
    "of the means": "one F1 is computed from the mean precision and the mean recall",
    "arithmetic": "precision and recall are combined by their arithmetic mean",
    "geometric": "precision and recall are combined by the root of their product",
    "no factor 2": "the factor 2 is missing from F1",
    "precision": "the mean of the precisions is taken",
    "recall": "the mean of the recalls is taken",
    "absent counted": "a class that is neither label nor prediction of any example counts as 0",
    "never predicted skipped": "a class that is never predicted is left out instead of counting as 0",
    "never a label skipped": "a class that is predicted but never a label is left out instead of counting as 0",
    "last class only": "only the last class is scored",
}


def confusion_matrix(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (labels (n,), predictions (n,), classes) -> shares (C, C).

    Row i, column j: the share of the examples with label i that are predicted as j. A class without examples has a row
    of zeros.
    """
    return judge(mine, confusion_matrix_task())


def confusion_matrix_task() -> Task:
    """What `confusion_matrix` tries, and the mistakes that it knows."""
    labels, predictions = (torch.tensor(x) for x in ([0, 0, 0, 1, 1, 2, 2, 2, 2, 2], [0, 1, 1, 1, 1, 0, 1, 2, 2, 2]))
    absent = torch.where(labels == 1, 0, labels)  # (n,)
    cases = [
        Case("three classes that all occur", (labels, predictions, 3), "Look at rows, columns and what each sums to."),
        Case("a class without examples", (absent, predictions, 3), "Look at what its row is divided by."),
        Case("a last class that never occurs", (labels, predictions, 4), "Look at the size of the matrix."),
    ]
    return Task(_confusion_matrix, cases, CONFUSION_MISTAKES)


def _confusion_matrix(labels: Tensor, predictions: Tensor, classes: int, mistakes: Mistakes) -> Tensor:
    if "transposed" in mistakes:
        labels, predictions = predictions, labels
    if "smaller" in mistakes:
        classes = int(max(labels.max(), predictions.max())) + 1
    matrix = torch.zeros(classes, classes, dtype=torch.double)  # (C, C)
    matrix.index_put_((labels, predictions), torch.tensor(1.0).double(), accumulate="overwritten" not in mistakes)
    if "only right" in mistakes:
        matrix = matrix.diag().diag()  # (C, C)
    if "counts" in mistakes:
        return matrix
    total = matrix.sum(dim=1, keepdim=True)  # (C, 1)
    total = matrix.sum(dim=0, keepdim=True) if "by column" in mistakes else total  # (1, C)
    total = matrix.sum() if "by total" in mistakes else total
    total = matrix.amax(dim=1, keepdim=True) if "by maximum" in mistakes else total  # (C, 1)
    if "only right" in mistakes:
        total = torch.bincount(labels, minlength=classes)[:, None]  # (C, 1)
    shares = matrix / (total if "division by zero" in mistakes else total.clamp(min=1))  # (C, C)
    return shares.mul(100).round().div(100) if "rounded" in mistakes else shares


def macro_f1(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (labels (n,), predictions (n,), classes) -> the mean F1 of the classes that occur.

    A class occurs if it is the label or the prediction of an example; its F1 is 0 if it is never right.
    """
    return judge(mine, macro_f1_task())


def macro_f1_task() -> Task:
    """What `macro_f1` tries, and the mistakes that it knows."""
    labels, predictions = (
        torch.tensor(x) for x in ([0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2], [0, 0, 0, 0, 0, 1, 1, 0, 2, 2, 1])
    )
    never = torch.where(predictions == 2, 0, predictions)  # (n,)
    cases = [
        Case("three classes that all occur", (labels, predictions, 3), "Look at F1 and at what is averaged."),
        Case(
            "a class that is never predicted",
            (labels, never, 3),
            "Its precision is 0 divided by 0; its F1 counts as 0.",
        ),
        Case("a fourth class that never occurs", (labels, predictions, 4), "Look at which classes are averaged."),
        Case(
            "a class that is predicted but never a label",
            (torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 2, 1, 1]), 3),
            "Look at which classes are averaged.",
        ),
    ]
    return Task(_macro_f1, cases, MACRO_F1_MISTAKES)


def _macro_f1(labels: Tensor, predictions: Tensor, classes: int, mistakes: Mistakes) -> float:
    right = torch.bincount(labels[labels == predictions], minlength=classes).double()  # (C,)
    support, guessed = (torch.bincount(x, minlength=classes).double() for x in (labels, predictions))  # (C,) each
    occurs = torch.ones(classes, dtype=torch.bool) if "absent counted" in mistakes else support + guessed > 0
    if "never predicted skipped" in mistakes:
        occurs = occurs & (guessed > 0)
    if "never a label skipped" in mistakes:
        occurs = occurs & (support > 0)
    precision, recall = right / guessed.clamp(min=1), right / support.clamp(min=1)  # (C,) each
    if "micro" in mistakes:
        return float(right.sum() / support.sum())
    if "of the means" in mistakes:
        precision, recall = precision[occurs].mean(), recall[occurs].mean()  # () each
        occurs, support = torch.tensor(True), torch.tensor(1.0)
    f1 = (2 - ("no factor 2" in mistakes)) * precision * recall / (precision + recall).clamp(min=1e-12)
    f1 = (precision + recall) / 2 if "arithmetic" in mistakes else f1
    f1 = (precision * recall).sqrt() if "geometric" in mistakes else f1
    f1 = precision if "precision" in mistakes else recall if "recall" in mistakes else f1
    if "last class only" in mistakes:
        return float(f1.flatten()[-1])
    if "weighted" in mistakes:
        return float((f1 * support).sum() / support.sum())
    return float(f1[occurs].mean())
