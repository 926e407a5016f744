"""Whether two sides did the same: outputs and first losses, within the tests' own bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor

from tests.conftest import BOUNDS


class Disagreement(Exception):
    """Two variants of a case gave different answers: their times say nothing."""


def require(what: str, error: float, bound: float) -> str:
    """A line that says how large an error is. A NaN is larger than any bound.

    Raises:
        Disagreement: it is larger than the bound.
    """
    line = f"{what} {error:.1e} (at most {bound:.1e})"
    if not error <= bound:
        raise Disagreement(line)
    return line


def _largest(errors: Iterable[float]) -> float:
    """The largest, or NaN if one of them is: Python's max may pass a NaN over."""
    return torch.tensor(list(errors), dtype=torch.float64).max().item()


def same_logits(outputs: dict[str, Tensor], truth: Tensor | None = None) -> str:
    """Compares numbers (rows, C) of all variants with those of the first, the reference.

    Args:
        truth: the logits in fp32, for variants in bf16: none may be further from it, on average,
            than 1.5 times the reference. Without it, each must equal the reference as fp32 does.
    """
    reference, *others = (found.double() for found in outputs.values())  # (rows, C) each
    if truth is None:
        error = _largest((found - reference).abs().max().item() for found in others)
        return require("largest difference of logits", error, BOUNDS["official model fp32"])
    own = (reference - truth).abs().mean().item()
    error = _largest((found - truth).abs().mean().item() for found in others)
    bound = BOUNDS["model bf16 ratio"] * own
    return require("mean error of logits against fp32", error, bound)


Answers = Sequence[tuple[str, float]]  # the label and the probability of each text


def same_answers(outputs: dict[str, Answers], in_bf16: Sequence[str]) -> str:
    """Compares (label, probability) of each text with those of the first variant.

    Where two labels are as likely as each other, either may come out on top: then the
    probabilities agree though the labels do not. So labels may differ for one text in a hundred.
    """
    reference = next(iter(outputs.values()))
    errors = {}
    for name, found in outputs.items():
        pairs = list(zip(reference, found, strict=True))
        bound = "module bf16" if name in in_bf16 else "official model fp32"
        error = _largest(abs(one[1] - two[1]) for one, two in pairs)
        errors[bound] = _largest([error, errors.get(bound, 0.0)])
        swapped = sum(one[0] != two[0] for one, two in pairs) / len(pairs)
        require(f"{name}: share of other labels", swapped, 0.01)
    what = "largest difference of probabilities"
    return ", ".join(
        require(f"{what}, {bound.split()[-1]}", error, BOUNDS[bound])
        for bound, error in errors.items()
    )


def same_first_step(
    theirs: Callable[[], Any], ours: Callable[[], Any], batch: dict[str, Any], dtype: str
) -> str:
    """Compares loss and gradients of two models on one batch, dropout off.

    Dropout is random, so it cannot be compared number by number: it is switched off here, and then
    shown to be on in both models.

    Args:
        theirs, ours: make a new model each.
        dtype: "fp32", or "bf16": under autocast, where the gradients of minibert may be no further
            from those in fp32 than 1.5 times transformers' own.
    """
    for make in (theirs, ours):
        _require_dropout(make().train(), batch)
    loss, gradients = _without_dropout(theirs(), batch, dtype)
    our_loss, our_gradients = _without_dropout(ours(), batch, dtype)
    error = abs(loss - our_loss) / abs(loss)
    if dtype == "fp32":
        bounds = BOUNDS["official model fp32"], BOUNDS["gradient fp32"]
        distance = _distance(gradients, our_gradients)
    else:
        _, truth = _without_dropout(theirs(), batch, "fp32")
        own = _distance(truth, gradients)
        bounds = BOUNDS["module bf16"], BOUNDS["model bf16 ratio"] * own
        distance = _distance(truth, our_gradients)
    return ", ".join(
        [
            require("relative difference of the first loss", error, bounds[0]),
            require("relative error of the gradient", distance, bounds[1]),
        ]
    )


def _without_dropout(
    model: Any, batch: dict[str, Any], dtype: str
) -> tuple[float, dict[str, Tensor]]:
    """The loss, and the gradient of each parameter under its official name."""
    model.eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        loss = model(**batch).loss
    loss.backward()
    if isinstance(model, transformers.PreTrainedModel):
        named = dict(model.named_parameters())
        return loss.item(), {name: one.grad for name, one in named.items() if one.grad is not None}
    for parameter in model.parameters():  # gradients in the place of weights, to get their names
        parameter.data = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return loss.item(), model.official_state_dict()


def _distance(truth: dict[str, Tensor], found: dict[str, Tensor]) -> float:
    """The norm of the difference over the norm, over all parameters."""
    difference = sum((truth[name] - found[name]).double().pow(2).sum().item() for name in truth)
    return math.sqrt(difference / sum(one.double().pow(2).sum().item() for one in truth.values()))


def _require_dropout(model: Any, batch: dict[str, Any]) -> None:
    with torch.no_grad():
        losses = {model(**batch).loss.item() for _ in range(2)}
    if len(losses) == 1:
        raise Disagreement(f"{type(model).__module__} trains without dropout")
