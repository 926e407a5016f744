"""Whether two sides did the same: outputs and first losses, within the tests' own bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from tests.conftest import BOUNDS
from tests.programs.benchmarks.material import without_dropout


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
    return ", ".join(require(f"{what}, {bound.split()[-1]}", error, BOUNDS[bound]) for bound, error in errors.items())


Step = tuple[float, dict[str, Tensor]]  # the loss, and the gradient of each parameter


def same_first_step(
    theirs: Callable[[Path], Any],
    ours: Callable[[Path], Any],
    folder: Path,
    batches: Sequence[dict[str, Any]],
    dtype: str,
) -> str:
    """Compares loss and gradients of two models on each batch, in training mode.

    Dropout is random, so it cannot be compared number by number: it is shown to be on in both
    models, and what is compared has rates of 0. In eval mode it would be off as well, but then
    other code may run than the code that is timed.

    Args:
        theirs, ours: open a model folder, a new model each time.
        folder: the model that is timed.
        batches: the first is one that is timed. bf16 wants several: of a single batch, the errors
            of two right implementations were seen to differ by half in either direction.
        dtype: "fp32", or "bf16": under autocast, where the gradients of minibert may be no further
            from those in fp32 than 1.5 times transformers' own, over all batches together.
    """
    for opened in (theirs, ours):
        _require_dropout(opened(folder).train(), batches[0])
    still = without_dropout(folder)
    truths = [_first_step(theirs(still), batch, "fp32") for batch in batches]
    found = [_first_step(ours(still), batch, dtype) for batch in batches]
    errors = _errors(truths, found)
    exact = dtype == "fp32"
    loss_bound = BOUNDS["official model fp32" if exact else "module bf16"]
    what = "relative error of the gradient"
    said = [require("relative error of the first loss", _largest(_losses(truths, found)), loss_bound)]
    if exact:
        return ", ".join([*said, require(what, _largest(errors), BOUNDS["gradient fp32"])])
    own = _errors(truths, [_first_step(theirs(still), batch, dtype) for batch in batches])
    said.append(require(what, _together(errors), BOUNDS["model bf16 ratio"] * _together(own)))
    ratios = [one / other for one, other in zip(errors, own, strict=True)]
    said.append(f"{min(ratios):.2f} to {max(ratios):.2f} times the other's by batch")
    return ", ".join(said)


def _losses(truths: Sequence[Step], found: Sequence[Step]) -> list[float]:
    """How far each batch's loss is from the true one, as a share of it."""
    return [abs(true[0] - one[0]) / abs(true[0]) for true, one in zip(truths, found, strict=True)]


def _errors(truths: Sequence[Step], found: Sequence[Step]) -> list[float]:
    """How far each batch's gradient is from the true one, as a share of it."""
    return [_distance(true[1], one[1]) for true, one in zip(truths, found, strict=True)]


def _together(errors: Sequence[float]) -> float:
    """The root of the mean square."""
    return math.sqrt(sum(error**2 for error in errors) / len(errors))


def _first_step(model: Any, batch: dict[str, Any], dtype: str) -> Step:
    """The loss, and the gradient of each parameter under its official name."""
    model.train()
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
