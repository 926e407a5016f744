"""The history of a run: every step and every epoch, and which epoch was the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from minibert.io.errors import TrainingError


@dataclass(frozen=True)
class StepRecord:
    """One line of log.csv. `loss` is the mean over the labels of the whole accumulated batch."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    gradient_norm: float  # before clipping
    tokens: int
    tokens_per_second: float
    skipped: bool  # no update: the fp16 gradients overflowed, or the loss was not finite
    terms: dict[str, float] = field(default_factory=dict)  # of the loss, by name


@dataclass(frozen=True)
class EpochRecord:
    """One epoch. `loss` is the mean over all its labels, measured while the weights moved."""

    epoch: int
    loss: float
    seconds: float  # without its evaluation
    tokens: int
    metrics: dict[str, float]  # on validation
    best: bool  # better than all epochs before


@dataclass(frozen=True)
class Watched:
    """The validation metric that chooses the epoch, and its direction."""

    name: str
    higher_is_better: bool


@dataclass
class History:
    """The steps and epochs of a run so far, over all its sessions."""

    steps: list[StepRecord] = field(default_factory=list)
    epochs: list[EpochRecord] = field(default_factory=list)
    seconds: float = 0.0  # of training and its evaluations
    epoch_started: float = 0.0  # `seconds` when the current epoch began
    best_epoch: int | None = None  # None: no epoch had a score that is a number
    best_value: float | None = None
    best_loss: float = math.inf
    epochs_without_gain: int = 0
    stopped_early: bool = False

    @property
    def skipped_steps(self) -> int:
        return sum(step.skipped for step in self.steps)

    def is_best(self, epoch: int, metrics: Mapping[str, float], watched: Watched) -> bool:
        """Compares an epoch with the best so far, and remembers it if it is better.

        Of two epochs with the same score the one with the lower "loss" wins, then the earlier one.
        NaN is never better.

        Raises:
            TrainingError: the watched metric was not measured.
        """
        if watched.name not in metrics:
            raise TrainingError(
                f"{watched.name!r} chooses the epoch, but only {', '.join(metrics)} are measured.", key="watch"
            )
        value, loss = metrics[watched.name], metrics.get("loss", math.inf)
        sign = 1 if watched.higher_is_better else -1
        # A small validation split gives many epochs the same accuracy; its loss still differs.
        better = self.best_value is None or (sign * value, -loss) > (sign * self.best_value, -self.best_loss)
        if math.isnan(value) or not better:
            self.epochs_without_gain += 1
            return False
        self.best_epoch, self.best_value, self.best_loss = epoch, value, loss
        self.epochs_without_gain = 0
        return True
