"""Faults on purpose: mistakes of published examples, made again to measure what they cost.

Each runs, prints a good number, and is wrong. `minibert train --fault NAME` makes one, warns
about it, and records it in run.json; without it nothing here is used. The names are in
`settings.FAULTS`. `python -m tests.programs.damage` measures each beside the correct version.

double-softmax: a softmax before the cross-entropy, which applies one itself. Two examples have it,
    the frozen probes on IMDB and on ChnSentiCorp. The loss then reads probabilities as logits: it
    can never fall below log(1 + (C - 1) / e), 0.3133 for two classes, and where the model is
    confidently wrong (logits 6 apart) its gradient is 277 times smaller than the correct one. The
    fault is in the training loss; validation and test are measured without it.
sorted-validation: validation is the last part of a sorted training file. The example that
    fine-tunes on IMDB cuts off train[95%:]; IMDB is sorted by class, so all 1,250 of these reviews
    are positive. Accuracy on them is the recall of one class, and a model that leans to that class
    wins.
last-epoch: the test split is measured with the weights of the last epoch, not of the best. The same
    example does so: its validation loss doubled from the second epoch to the third, which it then
    tests.
batch-means: loss and accuracy are means of the means of batches. The same example once more: the
    last batches of its three splits hold 6, 2 and 8 reviews, each of which counts for 3 to 16 times
    as much as any other.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from minibert.heads import ClassLoss
from minibert.io.errors import ConfigError
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.kinds.evaluation import Report
from minibert.workbench.runs.settings import FAULTS, Settings


def require_sense(settings: Settings, one_class: bool) -> None:
    """Raises ConfigError for a fault that this run cannot have.

    Args:
        one_class: whether each text has one class.
    """
    for fault in settings.faults:
        reason = _why_not(fault, settings, one_class)
        if reason is not None:
            raise ConfigError(f"The fault {fault} {reason}.", key="faults", hint=f"Leave --fault {fault} out.")


def _why_not(fault: str, settings: Settings, one_class: bool) -> str | None:
    if fault in ("double-softmax", "batch-means") and not one_class:
        return "needs data with one class for each text"
    if fault in ("double-softmax", "last-epoch") and settings.probe == "logistic":
        return "needs a model that is trained in steps, unlike the logistic probe"
    if fault == "sorted-validation" and settings.validation is not None:
        return f"cuts validation off the training data, but validation is {settings.validation}"
    return None


def warn(faults: Iterable[str]) -> None:
    """One warning for each fault of a run."""
    for fault in faults:
        warnings.warn(f"A FAULT ON PURPOSE, {fault}: {FAULTS[fault]}.", stacklevel=3)


class DoubleSoftmax(ClassLoss):
    """Cross-entropy of probabilities taken for logits; see the module."""

    def __call__(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """logits (B, C), labels (B,) -> the faulty sum () and what the labels count."""
        precise = logits if logits.dtype == torch.float64 else logits.float()  # (B, C)
        return super().__call__(precise.softmax(dim=-1), labels)


def cut_off_the_end(corpus: Corpus, fraction: float, whole: Corpus) -> tuple[Corpus, Corpus]:
    """Splits off the last `fraction` of the examples, without shuffling.

    Args:
        corpus: the examples to split, in any order.
        whole: the corpus that they come from, in the order of the file, which is restored first.
    """
    places = {id(example): place for place, example in enumerate(whole)}
    ordered = sorted(corpus, key=lambda example: places[id(example)])
    count = min(max(1, round(len(ordered) * fraction)), len(ordered) - 1)
    first, last = tuple(ordered[:-count]), tuple(ordered[-count:])
    return replace(corpus, examples=first), replace(corpus, examples=last)


def batch_means(report: Report, corpus: Corpus, batches: Sequence[Sequence[int]]) -> Report:
    """A report whose loss and accuracy are means of batch means, which have no interval.

    Args:
        corpus: what was measured.
        batches: the rows of it that each batch held.
    """
    rows = {row["guid"]: row for row in report.rows}
    losses, accuracies = [], []
    for batch in batches:
        found = [rows[corpus[number].guid] for number in batch]
        losses.append(sum(row["loss"] for row in found) / len(found))
        accuracies.append(sum(row["label"] == row["prediction"] for row in found) / len(found))
    faulty = {"loss": {"value": sum(losses) / len(losses)}, "accuracy": {"value": sum(accuracies) / len(accuracies)}}
    return replace(report, metrics={**report.metrics, **faulty})
