"""One class for each text, or pair of texts: sentiment, topics, entailment, acceptability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from minibert.heads import BertForSequenceClassification
from minibert.io.tables import printable, shorten
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.kinds.evaluation import Measured, Report, share
from minibert.workbench.kinds.kind import Asked, Bags, ErrorRow, Kind, Score, memberships, ranked
from minibert.workbench.scores import metrics
from minibert.workbench.scores.baselines import NaiveBayes, class_labels
from minibert.workbench.scores.calibration import expected_calibration_error, reliability


@dataclass(frozen=True)
class Prediction:
    """What a sequence classifier predicts for one text.

    Attributes:
        text: the text.
        label: the most likely class; for several labels a list of those above one half; for
            regression the number.
        probability: of the label; of the least certain decision for several labels; None for
            regression.
        probabilities: label -> probability, the most likely first; empty for regression.
    """

    text: str
    label: str | list[str] | float
    probability: float | None
    probabilities: dict[str, float] = field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        """The prediction as cells of a table, the same for every text."""
        if isinstance(self.label, float):
            return {"prediction": self.label}
        chances = {f"probability_{name}": self.probabilities[name] for name in sorted(self.probabilities)}
        return {"prediction": self.label, "probability": self.probability, **chances}

    def __str__(self) -> str:
        if isinstance(self.label, float):
            return f"{self.label:<12.4f}  {shorten(self.text)}"
        label = self.label if isinstance(self.label, str) else ", ".join(self.label) or "(none)"
        return f"{printable(label):<12}  {self.probability:.3f}  {shorten(self.text)}"


class Texts(Kind):
    """What the kinds for a text, or a pair of texts, have in common."""

    head = BertForSequenceClassification
    named = True

    def claims(self, model: Any) -> bool:
        """By the config; without a problem_type there, one output is a number, more are classes."""
        one_number = model.config.num_labels == 1
        implied = "regression" if one_number else "single_label_classification"
        return (model.config.problem_type or implied) == self.problem_type

    def head_for(self, corpus: Corpus) -> dict[str, Any]:
        return {"labels": corpus.label_names, "problem_type": self.problem_type}


class Classes(Texts):
    problem_type = "single_label_classification"
    metrics = ("accuracy", "macro_f1", "weighted_f1", "matthews", "loss")
    one_class = True
    calibrated = True

    def report(self, measured: Measured) -> Report:
        """The loss is the plain mean, with class weights or without, so that runs compare."""
        names = measured.names
        labels = torch.tensor([example.target for example in measured.corpus])  # (examples,)
        logits = torch.stack(list(measured.logits))  # (examples, C)
        losses = F.cross_entropy(logits, labels, reduction="none")  # (examples,)
        chances, predictions = logits.softmax(dim=-1).max(dim=-1)  # (examples,), (examples,)
        truth, predicted = labels.numpy(), predictions.numpy()
        count, right = len(names), truth == predicted
        scores = metrics.class_scores(truth, predicted, count)

        def resampled(metric: Any) -> dict[str, float]:
            return measured.resampled(metric, truth, predicted)

        result = {
            "examples": len(truth),
            "loss": {"value": losses.double().mean().item()},
            "accuracy": share(int(right.sum()), len(truth)),
            "macro_f1": resampled(lambda a, b: metrics.class_scores(a, b, count).macro_f1),
            "weighted_f1": resampled(lambda a, b: metrics.class_scores(a, b, count).weighted_f1),
            "matthews": resampled(lambda a, b: metrics.matthews(a, b, count)),
            "expected_calibration_error": _calibration_error(chances.tolist(), right.tolist()),
            "classes": {name: scores.of(number) for number, name in enumerate(names)},
        }
        rows = measured.rows_of(
            losses.tolist(), [names[label] for label in truth], [names[guess] for guess in predicted], chances.tolist()
        )
        confusion = metrics.confusion_matrix(truth, predicted, count)
        return measured.report(self.problem_type, result, rows, confusion)

    def guesses(self, train: Corpus, final: Corpus, bags: Bags) -> dict[str, list[dict[str, str]]]:
        """The majority class of the training labels, and naive Bayes on WordPieces."""
        names = final.label_names or ()
        labels, (seen, asked, vocab_size) = class_labels(train), bags()
        majority = np.bincount(labels, minlength=len(names)).argmax()
        guesses = {
            "majority": np.full(len(final), majority),
            "naive_bayes": NaiveBayes(seen, labels, len(names), vocab_size).predict(asked),
        }
        truth = class_labels(final)
        return {
            name: [{"label": names[a], "prediction": names[b]} for a, b in zip(truth, guess, strict=True)]
            for name, guess in guesses.items()
        }

    def outcomes(self, labels: Sequence[str], rows: Sequence[ErrorRow]) -> dict[str, Score]:
        there = memberships([[row["label"]] for row in rows], labels)  # (n, C)
        predicted = memberships([[row["prediction"]] for row in rows], labels)  # (n, C)
        right = (there & predicted).sum(axis=1)  # (n,)
        return {
            "accuracy": Score.mean(right),
            "macro_f1": Score(_macro_f1, np.hstack([there & predicted, predicted, there])),
            "matthews": Score(_matthews, np.hstack([right[:, None], there, predicted])),
        }

    def predictions(self, asked: Asked) -> list[Prediction]:
        found = []
        for example, logits in zip(asked.corpus, asked.logits, strict=True):
            chances = ranked(asked.names, logits.softmax(dim=-1).tolist())  # of C classes
            found.append(Prediction(example.texts[0], *chances[0], dict(chances)))
        return found


def _calibration_error(chances: Sequence[float], right: Sequence[bool]) -> float:
    """NaN where a logit is not a number."""
    if not all(map(math.isfinite, chances)):
        return math.nan
    return expected_calibration_error(reliability(chances, right))


def _macro_f1(sums: NDArray[Any]) -> NDArray[Any]:
    """Mean F1 over the classes that occur.

    Args:
        sums: (..., 3C), for each class the numbers right, predicted, and in the labels.
    """
    right, predicted, there = np.split(sums, 3, axis=-1)  # (..., C) each
    occurs = predicted + there > 0
    scores = 2 * right / np.maximum(1, predicted + there)
    return scores.sum(axis=-1) / np.maximum(1, occurs.sum(axis=-1))


def _matthews(sums: NDArray[Any]) -> NDArray[Any]:
    """Matthews correlation, of (..., 1 + 2C): right, then by class in the labels, predicted."""
    there, predicted = np.split(sums[..., 1:], 2, axis=-1)  # (..., C) each
    return metrics.matthews_of_counts(sums[..., 0], there, predicted)
