"""Runs of a probe: it is trained and evaluated on cached features instead of texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from minibert.fast.precision import Precision, choose_precision
from minibert.io.source import Source
from minibert.study.logistic import fit_logistic
from minibert.training import Batch, evaluate
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.kinds.evaluation import Report
from minibert.workbench.runs.folders import write_log
from minibert.workbench.runs.history import EpochRecord, History, StepRecord
from minibert.workbench.runs.settings import Settings
from minibert.workbench.scores.baselines import class_labels
from minibert.workbench.tasks.evaluate import score
from minibert.workbench.tasks.features import extract_features
from minibert.workbench.tasks.probes import LinearProbe, ProbedModel, feature_batches
from minibert.workbench.tasks.unequal_classes import rows_of_epoch


@dataclass(frozen=True)
class Probing:
    """What a run needs to train a probe and to evaluate it.

    Attributes:
        precision: of the probe: fp32, since its matrices are small. The features are extracted in
            the precision of the run.
        corpora, features, labels: of each split; features (examples, D), labels (examples,).
    """

    settings: Settings
    model: ProbedModel
    precision: Precision
    corpora: Mapping[str, Corpus]
    features: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]

    @classmethod
    def of(
        cls,
        settings: Settings,
        source: Source,
        model: ProbedModel,
        corpora: Mapping[str, Corpus],
        precision: Precision,
        progress: bool,
    ) -> Self:
        """Extracts the features of every split, or reads them from the cache."""
        features = {
            name: extract_features(
                source,
                corpus,
                layer=settings.layer,
                pooling=settings.pooling,
                max_length=settings.max_length,
                device=str(precision.device),
                precision=precision.name,
                progress=progress,
            )
            for name, corpus in corpora.items()
        }
        return cls(
            settings,
            model,
            choose_precision("fp32", precision.device),
            corpora,
            {name: torch.from_numpy(rows) for name, rows in features.items()},
            {name: torch.from_numpy(class_labels(corpus)) for name, corpus in corpora.items()},
        )

    @property
    def probe(self) -> LinearProbe:
        return self.model.probe

    def batches_of_epoch(self, epoch: int) -> list[Batch]:
        """The training features in an order of this epoch."""
        return feature_batches(
            self.features["train"],
            self.labels["train"],
            rows_of_epoch(self.corpora["train"], self.settings, epoch),
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
            epoch=epoch,
        )

    def fit(self, measure: Callable[[], dict[str, float]], folder: Path) -> History:
        """Logistic regression on all training features; rates, batches and epochs play no part."""
        rows = rows_of_epoch(self.corpora["train"], self.settings, 0) or slice(None)
        labels = self.labels["train"][rows].to(self.precision.device)
        steps = fit_logistic(
            self.probe.linear, self.probe.class_loss, self.features["train"][rows].to(self.precision.device), labels
        )
        history = history_of(steps, len(labels), measure())
        write_log(folder, history.steps)
        return history

    def measure(self, split: str, lengths: Sequence[int], intervals: bool) -> Report:
        """The report of the probe as it is now; `lengths` are tokens of the split's texts."""
        result = evaluate(
            self.probe,
            feature_batches(self.features[split], self.labels[split], batch_size=4096, shuffle=False),
            self.precision.device,
        )
        return score(self.model, self.corpora[split], result, split, lengths, intervals=intervals)


def history_of(steps: Sequence[tuple[float, float, float]], size: int, metrics: dict[str, float]) -> History:
    """The steps of a logistic regression on `size` examples as a run of one epoch."""
    records = [
        StepRecord(number, 1, loss, 1.0, slope, size, size / max(seconds, 1e-9), skipped=False)
        for number, (loss, slope, seconds) in enumerate(steps, start=1)
    ]
    seconds = sum(seconds for *_, seconds in steps)
    history = History(steps=records, best_epoch=1, seconds=seconds)
    history.epochs.append(EpochRecord(1, steps[-1][0], seconds, len(steps) * size, metrics, best=True))
    return history
