"""A number for each text, or pair of texts: ratings, similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minibert.workbench.data.corpora import Corpus
from minibert.workbench.kinds.classes import Prediction, Texts
from minibert.workbench.kinds.evaluation import Measured, Report
from minibert.workbench.kinds.kind import Asked, Bags, ErrorRow, Score
from minibert.workbench.scores import metrics


class Numbers(Texts):
    problem_type = "regression"
    metrics = ("pearson", "spearman", "mse", "loss")
    named = False
    numeric = True

    def head_for(self, corpus: Corpus) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": self.problem_type}

    def describe_labels(self, corpus: Corpus) -> str:
        numbers = np.array([example.target for example in corpus])
        return f"labels are numbers from {numbers.min():g} to {numbers.max():g}, mean {numbers.mean():.4g}"

    def report(self, measured: Measured) -> Report:
        labels = torch.tensor(
            [float(example.target) for example in measured.corpus], dtype=torch.float64
        )  # (examples,)
        predictions = torch.stack(list(measured.logits))[:, 0].double()  # (examples,)
        truth, predicted = labels.numpy(), predictions.numpy()
        result: dict[str, Any] = {"examples": len(truth), "loss": {"value": measured.loss}}
        for name in self.metrics[:-1]:
            result[name] = measured.resampled(partial(_score, name), truth, predicted)
        losses = (labels - predictions).square()  # (examples,)
        rows = measured.rows_of(losses.tolist(), truth.tolist(), predicted.tolist(), [None] * len(truth))
        return measured.report(self.problem_type, result, rows)

    def guesses(self, train: Corpus, final: Corpus, bags: Bags) -> dict[str, list[dict[str, float]]]:
        """The mean of the training labels."""
        mean = float(np.mean([example.target for example in train]))
        return {"mean": [{"label": float(example.target), "prediction": mean} for example in final]}

    def scores_of(self, labels: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Without the correlation where all predictions are one number: it has none."""
        found = super().scores_of(labels, rows)
        constant = len({row["prediction"] for row in rows}) == 1
        return {name: value for name, value in found.items() if name != "pearson" or not constant}

    def outcomes(self, labels: Sequence[str], rows: Sequence[ErrorRow]) -> dict[str, Score]:
        truth = np.array([row["label"] for row in rows], np.float64)  # (n,)
        predicted = np.array([row["prediction"] for row in rows], np.float64)  # (n,)
        # Pearson's correlation does not depend on the origin, but its rounding error does.
        x, y = truth - truth.mean(), predicted - truth.mean()
        added = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)  # (n, 6)
        return {"pearson": Score(_pearson, added), "mse": Score.mean((x - y) ** 2)}

    def predictions(self, asked: Asked) -> list[Prediction]:
        return [
            Prediction(example.texts[0], logits[0].item(), None)
            for example, logits in zip(asked.corpus, asked.logits, strict=True)
        ]


def _pearson(sums: NDArray[Any]) -> NDArray[Any]:
    """The correlation of x and y, of the sums of 1, x, y, xx, yy and xy; 0 if one is constant."""
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = (xx - x * x / count) * (yy - y * y / count)
    return np.where(spread > 0, (xy - x * y / count) / np.sqrt(np.where(spread > 0, spread, 1)), 0)


def _score(name: str, truth: Any, predicted: Any) -> float:
    return metrics.regression_scores(truth, predicted)[name]
