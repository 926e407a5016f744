"""Any number of labels for each text: the subjects of a report, the emotions of a comment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from minibert.workbench.kinds.classes import Prediction, Texts
from minibert.workbench.kinds.evaluation import Measured, Report
from minibert.workbench.kinds.kind import Asked, ErrorRow, Score, f1_of_sums, memberships
from minibert.workbench.scores import metrics

_BETWEEN = ", "  # the labels of one text in errors.csv


class Several(Texts):
    problem_type = "multi_label_classification"
    metrics = ("micro_f1", "macro_f1", "subset_accuracy", "loss")

    def report(self, measured: Measured) -> Report:
        labels = torch.tensor([example.target for example in measured.corpus])  # (examples, C)
        logits = torch.stack(list(measured.logits))  # (examples, C)
        losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=-1)
        chances = logits.sigmoid()  # (examples, C)
        predictions = chances > 0.5  # (examples, C)
        truth, predicted = labels.numpy(), predictions.numpy()
        result: dict[str, Any] = {"examples": len(truth), "loss": {"value": measured.loss}}
        for name in ("micro_f1", "macro_f1", "subset_accuracy"):
            result[name] = measured.resampled(partial(_score, name), truth, predicted)
        sureness = torch.maximum(chances, 1 - chances).amin(dim=-1)  # (examples,)

        def joined(holds: np.ndarray) -> str:
            return _BETWEEN.join(name for name, on in zip(measured.names, holds, strict=True) if on)

        rows = [
            measured.row(number, value, joined(label), joined(guess), chance)
            for number, (value, label, guess, chance) in enumerate(
                zip(losses.tolist(), truth, predicted, sureness.tolist(), strict=True)
            )
        ]
        return measured.report(self.problem_type, result, rows)

    def outcomes(self, labels: Sequence[str], rows: Sequence[ErrorRow]) -> dict[str, Score]:
        if any(_BETWEEN in name for name in labels):
            return {}
        there, predicted = (
            memberships([row[key].split(_BETWEEN) if row[key] else [] for row in rows], labels)
            for key in ("label", "prediction")
        )  # (n, C) each
        counts = [(there & predicted).sum(1), predicted.sum(1), there.sum(1)]  # (n,) each
        return {"micro_f1": Score(f1_of_sums, np.stack(counts, axis=1))}

    def predictions(self, asked: Asked) -> list[Prediction]:
        found = []
        for example, logits in zip(asked.corpus, asked.logits, strict=True):
            chances = logits.sigmoid().tolist()  # (C,)
            pairs = zip(asked.names, chances, strict=True)
            ranked = dict(sorted(pairs, key=lambda item: -item[1]))
            chosen = [name for name, chance in ranked.items() if chance > 0.5]
            least_sure = min(max(chance, 1 - chance) for chance in chances)
            found.append(Prediction(example.texts[0], chosen, least_sure, ranked))
        return found


def _score(name: str, truth: Any, predicted: Any) -> float:
    return metrics.multilabel_scores(truth, predicted)[name]
