"""One class for each text, or pair of texts: sentiment, topics, entailment, acceptability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from minibert.heads import BertForSequenceClassification, ModelWithHead
from minibert.io.tables import printable, shorten
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.kinds.evaluation import Measured, Report, with_interval
from minibert.workbench.kinds.kind import Asked, ErrorRow, Kind, Score, class_names, memberships
from minibert.workbench.scores import metrics
from minibert.workbench.scores.calibration import expected_calibration_error, reliability
from minibert.workbench.tasks.probes import ProbedModel


@dataclass(frozen=True)
class Prediction:
    """What a sequence classifier says of one text.

    Attributes:
        text: the text.
        label: the likeliest class; for several labels a list of those above one half; for
            regression the number.
        probability: of the label; of the least sure decision for several labels; None for
            regression.
        probabilities: label -> probability, the likeliest first; empty for regression.
    """

    text: str
    label: str | list[str] | float
    probability: float | None
    probabilities: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        if isinstance(self.label, float):
            return f"{self.label:<12.4f}  {shorten(self.text)}"
        label = self.label if isinstance(self.label, str) else ", ".join(self.label) or "(none)"
        return f"{printable(label):<12}  {self.probability:.3f}  {shorten(self.text)}"


class Texts(Kind):
    """What the kinds for a text, or a pair of texts, have in common."""

    head = BertForSequenceClassification

    def claims(self, model: Any) -> bool:
        """By the config; where that says nothing, one output is a number, several are classes."""
        one_number = model.config.num_labels == 1
        meant = "regression" if one_number else "single_label_classification"
        stored = model.config.problem_type or meant
        return isinstance(model, (self.head, ProbedModel)) and stored == self.problem_type

    def names_of(self, model: Any) -> tuple[str, ...]:
        return class_names(model)

    def fresh(
        self, source: str | Path, corpus: Corpus, *, revision: str | None, seed: int
    ) -> ModelWithHead:
        names = corpus.label_names
        return self.head.from_pretrained(
            source,
            revision=revision,
            labels=names,
            num_labels=1 if names is None else None,
            problem_type=self.problem_type,
            generator=torch.Generator().manual_seed(seed),
        )


class Classes(Texts):
    problem_type = "single_label_classification"
    metrics = ("accuracy", "macro_f1", "weighted_f1", "matthews", "loss")
    one_class = True

    def report(self, measured: Measured) -> Report:
        """The loss is the plain mean, whatever class weights the training had: runs compare."""
        names = measured.names
        labels = torch.tensor([example.target for example in measured.corpus])  # (examples,)
        logits = torch.stack(list(measured.logits))  # (examples, C)
        losses = F.cross_entropy(logits, labels, reduction="none")  # (examples,)
        chances, predictions = logits.softmax(dim=-1).max(dim=-1)  # (examples,), (examples,)
        truth, predicted = labels.numpy(), predictions.numpy()
        count = len(names)
        right = int((truth == predicted).sum())
        scores = metrics.class_scores(truth, predicted, count)

        def resampled(metric: Any) -> dict[str, float]:
            return measured.resampled(metric, truth, predicted)

        error = math.nan  # where a logit is no number
        if chances.isfinite().all():
            bins = reliability(chances.tolist(), (truth == predicted).tolist())
            error = expected_calibration_error(bins)
        result = {
            "examples": len(truth),
            "loss": {"value": losses.double().mean().item()},
            "accuracy": with_interval(
                right / len(truth), metrics.wilson_interval(right, len(truth))
            ),
            "macro_f1": resampled(lambda a, b: metrics.class_scores(a, b, count).macro_f1),
            "weighted_f1": resampled(lambda a, b: metrics.class_scores(a, b, count).weighted_f1),
            "matthews": resampled(lambda a, b: metrics.matthews(a, b, count)),
            "expected_calibration_error": error,
            "classes": {
                name: {
                    "precision": float(scores.precision[number]),
                    "recall": float(scores.recall[number]),
                    "f1": float(scores.f1[number]),
                    "support": int(scores.support[number]),
                }
                for number, name in enumerate(names)
            },
        }
        rows = [
            measured.row(number, value, names[label], names[guess], chance)
            for number, (value, label, guess, chance) in enumerate(
                zip(losses.tolist(), truth, predicted, chances.tolist(), strict=True)
            )
        ]
        confusion = metrics.confusion_matrix(truth, predicted, count)
        return measured.report(self.problem_type, result, rows, confusion)

    def outcomes(self, labels: Sequence[str], rows: Sequence[ErrorRow]) -> dict[str, Score]:
        there = memberships([[row["label"]] for row in rows], labels)  # (n, C)
        predicted = memberships([[row["prediction"]] for row in rows], labels)  # (n, C)
        right = (there & predicted).sum(axis=1, keepdims=True)  # (n, 1)
        return {
            "accuracy": Score(lambda sums: sums[..., 0] / len(rows), right),
            "macro_f1": Score(_macro_f1, np.hstack([there & predicted, predicted, there])),
            "matthews": Score(_matthews, np.hstack([right, there, predicted])),
        }

    def predictions(self, asked: Asked) -> list[Prediction]:
        found = []
        for example, logits in zip(asked.corpus, asked.logits, strict=True):
            chances = logits.softmax(dim=-1).tolist()  # (C,)
            pairs = zip(asked.names, chances, strict=True)
            ranked = dict(sorted(pairs, key=lambda item: -item[1]))
            best, chance = next(iter(ranked.items()))
            found.append(Prediction(example.texts[0], best, chance, ranked))
        return found


def _macro_f1(sums: NDArray[Any]) -> NDArray[Any]:
    """Mean F1 over the classes that occur, of what is right, predicted, there in each (..., 3C)."""
    right, predicted, there = np.split(sums, 3, axis=-1)  # (..., C) each
    occurs = predicted + there > 0
    scores = 2 * right / np.maximum(1, predicted + there)
    return scores.sum(axis=-1) / np.maximum(1, occurs.sum(axis=-1))


def _matthews(sums: NDArray[Any]) -> NDArray[Any]:
    """Matthews correlation of what is right (..., 1), and there, predicted in each (..., C)."""
    there, predicted = np.split(sums[..., 1:], 2, axis=-1)  # (..., C) each
    return metrics.matthews_of_counts(sums[..., 0], there, predicted)
