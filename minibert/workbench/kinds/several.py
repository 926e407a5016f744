"""Any number of labels for each text: the subjects of a report, the emotions of a comment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from minibert.workbench.data.corpora import Corpus
from minibert.workbench.kinds.classes import Prediction, Texts
from minibert.workbench.kinds.evaluation import Measured, Report
from minibert.workbench.kinds.kind import Asked, Bags, ErrorRow, Score, memberships, ranked
from minibert.workbench.scores import metrics
from minibert.workbench.scores.baselines import NaiveBayes

_BETWEEN = ", "  # the labels of one text in errors.csv


class Several(Texts):
    problem_type = "multi_label_classification"
    metrics = ("micro_f1", "macro_f1", "subset_accuracy", "loss")
    fewest_classes = 1

    def report(self, measured: Measured) -> Report:
        labels = torch.tensor([example.target for example in measured.corpus])  # (examples, C)
        logits = torch.stack(list(measured.logits))  # (examples, C)
        losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=-1)
        chances = logits.sigmoid()  # (examples, C)
        truth, predicted = labels.numpy(), (chances > 0.5).numpy()  # (examples, C) each
        result: dict[str, Any] = {"examples": len(truth), "loss": {"value": measured.loss}}
        for name in self.metrics[:-1]:
            result[name] = measured.resampled(partial(_score, name), truth, predicted)

        joined = partial(_joined, measured.names)
        scores = [
            metrics.class_scores(truth[:, number].astype(int), predicted[:, number].astype(int), 2)
            for number in range(truth.shape[1])
        ]
        result["classes"] = {name: score.of(1) for name, score in zip(measured.names, scores, strict=True)}
        rows = measured.rows_of(
            losses.tolist(),
            list(map(joined, truth)),
            list(map(joined, predicted)),
            torch.maximum(chances, 1 - chances).amin(dim=-1).tolist(),  # the least certain decision
        )
        return measured.report(self.problem_type, result, rows)

    def guesses(self, train: Corpus, final: Corpus, bags: Bags) -> dict[str, list[dict[str, str]]]:
        """The labels whose prediction for every training text gives the highest micro F1, and naive
        Bayes on WordPieces, for each label on its own."""
        names, (seen, asked, vocab_size) = final.label_names or (), bags()
        labels, truth = (np.array([example.target for example in each], bool) for each in (train, final))  # (n, C)
        counts = labels.sum(axis=0)  # (C,)
        order = np.argsort(-counts, kind="stable")
        right = counts[order].cumsum()
        best = (2 * right / (len(labels) * np.arange(1, len(names) + 1) + counts.sum())).argmax()
        guesses = {
            "frequent_labels": np.tile(np.isin(np.arange(len(names)), order[: best + 1]), (len(truth), 1)),
            "naive_bayes": np.stack(
                [NaiveBayes(seen, holds.astype(int), 2, vocab_size).predict(asked) for holds in labels.T], axis=1
            ),
        }
        return {
            name: [
                {"label": _joined(names, there), "prediction": _joined(names, chosen)}
                for there, chosen in zip(truth, guess, strict=True)
            ]
            for name, guess in guesses.items()
        }

    def outcomes(self, labels: Sequence[str], rows: Sequence[ErrorRow]) -> dict[str, Score]:
        if any(_BETWEEN in name for name in labels):
            return {}
        there, predicted = (
            memberships([row[key].split(_BETWEEN) if row[key] else [] for row in rows], labels)
            for key in ("label", "prediction")
        )  # (n, C) each
        counts = [(there & predicted).sum(1), predicted.sum(1), there.sum(1)]  # (n,) each
        return {"micro_f1": Score.f1(np.stack(counts, axis=1))}

    def predictions(self, asked: Asked) -> list[Prediction]:
        found = []
        for example, logits in zip(asked.corpus, asked.logits, strict=True):
            chances = ranked(asked.names, logits.sigmoid().tolist())  # of C labels
            chosen = [name for name, chance in chances if chance > 0.5]
            least_certain = min(max(chance, 1 - chance) for _, chance in chances)
            found.append(Prediction(example.texts[0], chosen, least_certain, dict(chances)))
        return found


def _joined(names: Sequence[str], holds: np.ndarray) -> str:
    return _BETWEEN.join(name for name, on in zip(names, holds, strict=True) if on)


def _score(name: str, truth: Any, predicted: Any) -> float:
    return metrics.multilabel_scores(truth, predicted)[name]
