"""Logistic regression on features, by L-BFGS in double precision, to the minimum."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from minibert.io.errors import TrainingError


def fit_logistic(
    linear: nn.Linear,
    class_loss: Callable[[Tensor, Tensor], tuple[Tensor, float]],
    features: Tensor,
    labels: Tensor,
    *,
    c: float = 1.0,
    tolerance: float = 1e-7,
    most_steps: int = 5000,
) -> list[tuple[float, float, float]]:
    """Fits a linear layer: the objective of scikit-learn's LogisticRegression with its C = c.

    It is the smallest sum of losses + |W|^2 / (2 c), without a penalty on the biases (Liu & Nocedal
    1989, algorithm 2.1; scikit-learn takes other steps to the same minimum). For two classes
    scikit-learn has a single vector w, the difference of the two here, which at the minimum are
    w / 2 and -w / 2: the penalty then counts twice, to be |w|^2 / (2 c) as well.

    Args:
        class_loss: logits (examples, C) and labels -> the sum of losses, and the sum of weights.
        features, labels: (examples, D) and (examples,).
        tolerance: stop when no slope of the objective, divided by the number of examples, is
            larger.

    Returns:
        Of each step the loss and the largest slope where it began, and its seconds.

    Raises:
        TrainingError: the loss is not finite, or the minimum is not reached in `most_steps`.
    """
    linear.double()
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    # One place of BERT's vectors can be ten times as large as all others, and L-BFGS then takes
    # thousands of steps. It works on centred features of similar spread instead; the objective is
    # still that of the features as they are, since W x + b = (W s) ((x - m) / s) + (b + W m).
    features, size = features.double(), len(labels)  # (examples, D)
    centre = features.mean(dim=0)  # (D,)
    spread = (features.var(dim=0, correction=0) + 1 / (c * size)).sqrt()  # (D,)
    features = (features - centre) / spread  # (examples, D)
    penalty_weight = (2 if len(linear.bias) == 2 else 1) / (2 * c)

    def objective() -> Tensor:
        total, _ = class_loss(linear(features), labels)  # ()
        penalty = penalty_weight * (linear.weight / spread).square().sum()  # ()
        return (total + penalty) / size  # ()

    steps = []
    for loss, slope, seconds in _descent(linear, objective, most_steps):
        steps.append((loss, slope, seconds))
        if not math.isfinite(loss + slope):
            raise TrainingError(f"Step {len(steps)}: the loss is {loss}.", key="loss")
        if slope <= tolerance:
            break
    else:
        raise TrainingError(
            f"Logistic regression found no minimum in {most_steps} steps: its slope is still {slope:.1e}.", key="slope"
        )
    with torch.no_grad():
        linear.weight.div_(spread)  # (C, D)
        linear.bias.sub_(linear.weight @ centre)  # (C,)
    linear.float()
    return steps


def _descent(
    linear: nn.Linear, objective: Callable[[], Tensor], most_steps: int
) -> Iterator[tuple[float, float, float]]:
    """The steps of L-BFGS: loss and largest slope where each begins, and its seconds."""
    # torch's own rules for stopping are off: they end on small changes, far from a flat minimum.
    optimizer = torch.optim.LBFGS(
        linear.parameters(),
        max_iter=1,
        max_eval=25,
        history_size=20,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    evaluations: list[tuple[float, float]] = []  # of one step

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective()  # ()
        loss.backward()
        slopes = [part.grad.abs().max() for part in linear.parameters() if part.grad is not None]
        evaluations.append((loss.item(), max(slopes).item()))
        return loss

    for _ in range(most_steps):
        evaluations.clear()
        started = time.perf_counter()
        optimizer.step(closure)
        yield *evaluations[0], time.perf_counter() - started
