"""AdamW, the parameters that decay and those that do not, and learning rate schedules.

Nothing here is about BERT. AdamW: Loshchilov & Hutter 2019, algorithm 2. Linear warm-up and decay:
Devlin et al. 2019, appendix A.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from minibert.io.errors import TrainingError

Group = dict[str, Any]


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    weight_decay: float,
    rate_of: Callable[[str], float] = lambda name: 1.0,
) -> list[Group]:
    """Sorts parameters into those that weight decay pulls towards zero and those it leaves alone.

    Matrices and embedding tables decay. Vectors, which are biases and the gains of layer norms, do
    not: they are few, and zero is not where they start from. Frozen parameters are left out.

    Args:
        named_parameters: what `model.named_parameters()` gives.
        weight_decay: the share of the learning rate by which a decaying weight shrinks in a step.
        rate_of: the name of a parameter -> its learning rate, as a share of the run's.

    Returns:
        The groups "decay" and "no decay" of each share, the largest share first, without an empty
        one. The parameters stay with their names, so that the optimizer's state can be told apart
        by name, never by position.

    Raises:
        TrainingError: every parameter is frozen.
    """
    trained = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
    if not trained:
        raise TrainingError("There is nothing to train: every parameter is frozen.")
    groups: list[Group] = []
    for share in sorted({rate_of(name) for name, _ in trained}, reverse=True):
        alike = [(name, parameter) for name, parameter in trained if rate_of(name) == share]
        suffix = "" if share == 1 else f", rate x {share:.4g}"
        groups += [
            {
                "name": f"decay{suffix}",
                "params": [(name, parameter) for name, parameter in alike if parameter.ndim >= 2],
                "weight_decay": weight_decay,
                "rate": share,
            },
            {
                "name": f"no decay{suffix}",
                "params": [(name, parameter) for name, parameter in alike if parameter.ndim < 2],
                "weight_decay": 0.0,
                "rate": share,
            },
        ]
    return [group for group in groups if group["params"]]


def describe_groups(groups: Sequence[Group]) -> str:
    """One line a group: its name, weight decay, tensors and numbers, for the log of a run."""
    return "\n".join(
        f"{group['name']}: weight decay {group['weight_decay']:g}, {len(group['params'])} tensors, "
        f"{sum(parameter.numel() for _, parameter in group['params']):,} numbers"
        for group in groups
    )


def build_optimizer(
    groups: Sequence[Group],
    *,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    """AdamW over the groups that `parameter_groups` gave.

    Args:
        groups: named parameter groups, each with its own weight decay, and share of the rate.
        learning_rate: the peak learning rate; a `Schedule` scales it.
        betas: decay rates of the running means of the gradient and of its square.
        eps: added to the root of the mean square. Google's BERT has 1e-6.

    Raises:
        TrainingError: a learning rate that is not a positive, finite number.
    """
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise TrainingError(
            f"The learning rate is {learning_rate}, but must be a positive number.",
            key="learning_rate",
            hint="Fine-tuning BERT commonly takes 2e-5 to 1e-4.",
        )
    # One kernel for the whole update: on a CPU several times faster than a loop over operations.
    devices = {parameter.device.type for group in groups for _, parameter in group["params"]}
    fused = True if devices <= {"cpu", "cuda"} else None
    # NOTE(paper): Google's BERT code leaves out Adam's bias correction, so its first steps are
    # larger (Zhang et al. 2021, section 4). AdamW has it, as transformers has.
    # The groups are copied, since the optimizer writes its settings into them.
    copies = [{**group, "lr": learning_rate * group.get("rate", 1.0)} for group in groups]
    return torch.optim.AdamW(copies, lr=learning_rate, betas=betas, eps=eps, fused=fused)


def linear(update: int, warmup: int, total: int, epochs: int = 1) -> float:
    """Up from 0 to 1 over `warmup` updates, then down in a straight line to 0 at `total`."""
    if update < warmup:
        return update / warmup
    return max(0.0, (total - update) / max(1, total - warmup))


def cosine(update: int, warmup: int, total: int, epochs: int = 1) -> float:
    """Up from 0 to 1 over `warmup` updates, then down along half a cosine to 0 at `total`."""
    if update < warmup:
        return update / warmup
    progress = min(1.0, (update - warmup) / max(1, total - warmup))
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def constant(update: int, warmup: int, total: int, epochs: int = 1) -> float:
    """Up from 0 to 1 over `warmup` updates, then 1."""
    return update / warmup if update < warmup else 1.0


def exponential(update: int, warmup: int, total: int, epochs: int = 1) -> float:
    """Up from 0 to 1 over `warmup` updates, then 0.95 to the number of epochs gone by."""
    return update / warmup if update < warmup else 0.95 ** (update * epochs // max(1, total))


SCHEDULES: dict[str, Callable[[int, int, int, int], float]] = {
    "linear": linear,
    "cosine": cosine,
    "constant": constant,
    "exponential": exponential,
}


class Schedule:
    """Sets each group's learning rate to its peak times a factor of the updates made so far.

    The whole state is one integer, `updates`. With a warm-up the first update has learning rate 0,
    as in transformers.

    Args:
        optimizer: its learning rates at this moment are the peaks.
        name: "linear", "cosine", "constant" or "exponential".
        warmup: updates over which the rate rises.
        total: updates of the whole run.
        epochs: of the whole run, all with the same number of updates; for "exponential".

    Raises:
        TrainingError: an unknown name, or a warm-up longer than the run.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        name: str,
        *,
        warmup: int,
        total: int,
        epochs: int = 1,
    ):
        if name not in SCHEDULES:
            raise TrainingError(
                f"There is no schedule {name!r}; there are {', '.join(SCHEDULES)}.",
                key="schedule",
            )
        if not 0 <= warmup <= total:
            raise TrainingError(
                f"The warm-up of {warmup} updates does not fit a run of {total}.",
                key="warmup",
            )
        self.name, self.warmup, self.total, self.epochs = name, warmup, total, epochs
        self.updates = 0
        self._optimizer = optimizer
        self._peaks = [group["lr"] for group in optimizer.param_groups]
        self._set_learning_rates()

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update (of the first group)."""
        return float(self._optimizer.param_groups[0]["lr"])

    @property
    def peaks(self) -> list[float]:
        """Each group's learning rate where the factor is 1."""
        return list(self._peaks)

    def step(self) -> None:
        """To be called after every update that was made, and after no other."""
        self.go_to(self.updates + 1)

    def go_to(self, updates: int) -> None:
        """Puts the schedule where it stands after so many updates."""
        self.updates = updates
        self._set_learning_rates()

    def _set_learning_rates(self) -> None:
        factor = SCHEDULES[self.name](self.updates, self.warmup, self.total, self.epochs)
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor


def trained_parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The parameters that an optimizer updates, in its own order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
