"""AdamW, the parameters that decay and those that do not, and learning rate schedules.

Nothing here is about BERT. AdamW: Loshchilov & Hutter 2019, algorithm 2. Linear warm-up and decay:
Devlin et al. 2019, appendix A.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from minibert.io.errors import TrainingError

Group = dict[str, Any]


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]], *,
    weight_decay: float, rate_of: Callable[[str], float] = lambda name: 1.0,
) -> list[Group]:  # fmt: skip
    """Splits parameters into those that weight decay pulls towards zero and those it leaves alone.

    Matrices and embedding tables decay. Vectors, which are biases and the gains of layer norms, do not: they are few,
    and a gain starts from one instead of zero. Frozen parameters are left out; TrainingError if that is all of them.

    Args:
        weight_decay: the fraction of the learning rate by which a decaying weight shrinks per step.
        rate_of: name of a parameter -> its learning rate as a fraction of the run's.

    Returns:
        The groups "decay" and "no decay" of each learning rate, the highest rate first, without empty groups.
        Parameters keep their names, so that a checkpoint can store the optimizer's state by name, not by position.
    """
    trained = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
    if not trained:
        raise TrainingError("There is nothing to train: every parameter is frozen.")
    groups: list[Group] = []
    for rate in sorted({rate_of(name) for name, _ in trained}, reverse=True):
        suffix = "" if rate == 1 else f", rate x {rate:.4g}"
        members = [(name, parameter) for name, parameter in trained if rate_of(name) == rate]
        matrices = [member for member in members if member[1].ndim >= 2]
        vectors = [member for member in members if member[1].ndim < 2]
        for kind, params, decay in (("decay", matrices, weight_decay), ("no decay", vectors, 0.0)):
            groups.append({"name": kind + suffix, "params": params, "weight_decay": decay, "rate": rate})
    return [group for group in groups if group["params"]]


def build_optimizer(
    groups: Sequence[Group], *, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> torch.optim.AdamW:
    """AdamW over the groups of `parameter_groups`. TrainingError for a learning rate that is not positive and finite.

    Args:
        learning_rate: the peak learning rate; a `Schedule` scales it.
        betas: decay rates of the running means of the gradient and of its square.
        eps: added to the root of the mean square. Google's BERT uses 1e-6.
    """
    if not 0 < learning_rate < math.inf:
        hint = "Fine-tuning BERT commonly takes 2e-5 to 1e-4."
        message = f"The learning rate is {learning_rate}, but it must be a positive number."
        raise TrainingError(message, key="learning_rate", hint=hint)
    # One kernel for the whole update, on a CPU several times faster than a loop over operations.
    devices = {parameter.device.type for group in groups for _, parameter in group["params"]}
    fused = True if devices <= {"cpu", "cuda"} else None
    # NOTE(paper): Google's BERT code leaves out Adam's bias correction, so its first steps are larger (Zhang et al.
    # 2021, section 4). AdamW has it, as in transformers.
    # The groups are copied, since the optimizer writes its settings into them.
    copies = [{**group, "lr": learning_rate * group["rate"]} for group in groups]
    return torch.optim.AdamW(copies, lr=learning_rate, betas=betas, eps=eps, fused=fused)


def linear(update: int, warmup: int, total: int, epochs: int) -> float:
    """In a straight line from 1 to 0 at `total`."""
    return max(0.0, (total - update) / max(1, total - warmup))


def cosine(update: int, warmup: int, total: int, epochs: int) -> float:
    """Along half a cosine from 1 to 0 at `total`."""
    progress = min(1.0, (update - warmup) / max(1, total - warmup))
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def constant(update: int, warmup: int, total: int, epochs: int) -> float:
    """Always 1."""
    return 1.0


def exponential(update: int, warmup: int, total: int, epochs: int) -> float:
    """0.95 to the power of the number of finished epochs, the warm-up's included."""
    return 0.95 ** (update * epochs // max(1, total))


# What follows the warm-up, in which every schedule rises from 0 to 1 in a straight line.
SCHEDULES = {"linear": linear, "cosine": cosine, "constant": constant, "exponential": exponential}


class Schedule:
    """Sets the learning rate of each group to its peak times a factor that depends on the updates.

    The whole state is one integer, `updates`. With a warm-up the first update has learning rate 0, as in transformers.
    TrainingError for an unknown name, or a warm-up longer than the run.

    Args:
        optimizer: its current learning rates are the peaks, so build the schedule first and restore the optimizer's
            state afterwards.
        name: a key of `SCHEDULES`.
        warmup: updates over which the rate rises.
        total: updates of the whole run.
        epochs: of the whole run, all with the same number of updates; for "exponential".
    """

    def __init__(self, optimizer: torch.optim.Optimizer, name: str, *, warmup: int, total: int, epochs: int = 1):
        if name not in SCHEDULES:
            raise TrainingError(f"There is no schedule {name!r}. Choose one of {', '.join(SCHEDULES)}.", key="schedule")
        if not 0 <= warmup <= total:
            raise TrainingError(f"The warm-up of {warmup} updates does not fit a run of {total}.", key="warmup")
        self.name, self.warmup, self.total, self.epochs = name, warmup, total, epochs
        self._optimizer = optimizer
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        self.go_to(0)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update (of the first group)."""
        return float(self._optimizer.param_groups[0]["lr"])

    def step(self) -> None:
        """To be called after each update that was made, and only then."""
        self.go_to(self.updates + 1)

    def go_to(self, updates: int) -> None:
        """Sets the schedule to its state after a number of updates."""
        self.updates = updates
        if updates < self.warmup:
            factor = updates / self.warmup
        else:
            factor = SCHEDULES[self.name](updates, self.warmup, self.total, self.epochs)
        for group, peak in zip(self._optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
