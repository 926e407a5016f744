"""Judges a function of BERT's tensors: its shape, numbers, gradients, and what has to hold whatever the weights are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minibert.study.exercises.verdict import Verdict, traceback_of
from minibert.study.mistakes import MINUS_INFINITY, MISTAKES

EQUAL = 2e-5  # the largest difference over the largest number: float32 rounds to about 1e-6 in one layer
PADDING = 100.0  # what padding is multiplied by: nothing at a real token may change
Inputs = tuple[Tensor, ...]  # the last one is the mask (B, S)


@dataclass(frozen=True)
class Step:
    """Input on which only some of a function's steps can go wrong."""

    what: str
    inputs: Inputs
    look: str


@dataclass(frozen=True)
class Exercise:
    """What a check needs to know.

    Attributes:
        truth: inputs and mistakes -> what the function should return; with no mistakes it is BERT.
        batches: inputs, with padding on the right of some rows.
        steps: simple inputs first, each with one more step that matters.
        known: the mistakes to try.
        names: what to call the inputs that are not integers.
        mixes: whether tokens of a row see each other, so that padding could leak.
    """

    truth: Callable[[Inputs, frozenset[str]], Tensor]
    batches: Sequence[Inputs]
    steps: Sequence[Step]
    known: tuple[str, ...]
    names: tuple[str, ...]
    mixes: bool = True

    def right(self, inputs: Inputs, *mistakes: str) -> Tensor:
        """What BERT computes, in float64, with some mistakes."""
        exact = tuple(x.double() if x.is_floating_point() else x for x in inputs)
        return self.truth(exact, frozenset(mistakes))


def judge(mine: Callable[..., Any], exercise: Exercise) -> Verdict:
    try:
        with torch.no_grad():
            outputs = [_call(mine, inputs) for inputs in exercise.batches]
            again, _ = _call(mine, exercise.batches[0])
    except Exception as error:  # the code is the reader's
        return Verdict(False, f"The function stopped with an error.\n{traceback_of(error)}")
    if outputs[0][0] is None:
        return Verdict(False, "Not written yet: the function returns None.")
    for (found, _), inputs in zip(outputs, exercise.batches, strict=True):
        problem = _problem_of_form(found, exercise.right(inputs))
        if problem:
            return Verdict(False, problem)
    if _distance(again, outputs[0][0], exercise.batches[0][-1]) > EQUAL:
        return Verdict(False, "Two calls with the same input gave different numbers: is dropout on?")
    contexts = [context for context, _ in outputs]
    far = max(_distance(x, exercise.right(y), y[-1]) for x, y in zip(contexts, exercise.batches, strict=True))
    if far > EQUAL:
        return _explain(mine, exercise, contexts, far)
    try:
        problem = (
            _problem_of_patterns([pattern for _, pattern in outputs], exercise.batches)
            or (_problem_of_properties(mine, exercise.batches[0]) if exercise.mixes else None)
            or _problem_of_gradients(mine, exercise)
        )
    except Exception as error:  # the code is the reader's
        problem = f"But with other input, or with gradients, the function stops.\n{traceback_of(error)}"
    if problem:
        return Verdict(False, f"The numbers are right. {problem}")
    what = "shape, numbers, gradients and padding" if exercise.mixes else "shape, numbers and gradients"
    return Verdict(True, f"Right: {what}. The largest difference is {far:.0e} of the largest number.")


def _call(mine: Callable[..., Any], inputs: Inputs) -> tuple[Any, Any]:
    """What a function returns, on copies that it may change: the context, and the pattern or None."""
    returned = mine(*(x * 1 if x.is_floating_point() else x.clone() for x in inputs))
    return returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)


def _problem_of_form(found: Any, right: Tensor) -> str | None:
    if not isinstance(found, Tensor):
        return f"The function returns {type(found).__name__}, not a tensor."
    if found.shape == right.shape:
        return None
    forgotten = right.dim() == 4 and found.shape == right.transpose(1, 2).shape
    hint = " Are the axes of heads and tokens swapped?" if forgotten else ""
    return f"The result has shape {tuple(found.shape)}, but should have {tuple(right.shape)}.{hint}"


def _distance(mine: Tensor, right: Tensor, mask: Tensor) -> float:
    """The largest difference at real tokens over the largest number there; infinite where only one is NaN."""
    a, b = (_tokens(x)[mask].double() for x in (mine, right))  # (T, ...) each
    if not torch.equal(a.isnan(), b.isnan()):
        return float("inf")
    return float((a - b).nan_to_num().abs().max() / b.nan_to_num().abs().max())


def _tokens(values: Tensor) -> Tensor:
    """(B, N, S, H) -> (B, S, N, H); (B, S, D) stays."""
    return values.transpose(1, 2) if values.dim() == 4 else values  # (B, S, ...)


def _explain(mine: Callable[..., Any], exercise: Exercise, found: Sequence[Tensor], far: float) -> Verdict:
    """The known mistakes that give the numbers, or else the first step that departs."""

    def gives(names: tuple[str, ...], everywhere: bool = False) -> bool:
        for values, inputs in zip(found, exercise.batches, strict=True):
            mask = torch.ones_like(inputs[-1]) if everywhere else inputs[-1]  # (B, S)
            # A row that may read nothing is a plain mean, or NaN, or in torch's own attention zeros.
            blank = exercise.right(inputs, *names, MINUS_INFINITY)
            forms = (exercise.right(inputs, *names), blank, blank.nan_to_num())
            if all(_distance(values, form, mask) > EQUAL for form in forms):
                return False
        return True

    singles: list[tuple[str, ...]] = [(name,) for name in exercise.known]
    matching = [names for names in singles if gives(names)]
    matching = matching or [names for names in itertools.combinations(exercise.known, 2) if gives(names)]
    # Some mistakes differ only in what they leave in rows of padding.
    matching = [names for names in matching if gives(names, everywhere=True)] or matching
    lines = [f"Not right: the numbers differ by up to {far:.2g} of the largest number."]
    for names in matching:
        lines.append(f"They are what you get if {', and '.join(MISTAKES[name] for name in names)}.")
    if not matching:
        lines += ["No known mistake, alone or with another, gives these numbers.", _first_step(mine, exercise)]
    return Verdict(False, "\n".join(lines), tuple(matching))


def _first_step(mine: Callable[..., Any], exercise: Exercise) -> str:
    for step in exercise.steps:
        try:
            with torch.no_grad():
                found, _ = _call(mine, step.inputs)
            far = _distance(found, exercise.right(step.inputs), step.inputs[-1])
        except Exception as error:  # the code is the reader's
            return f"With {step.what}, the function stops: {type(error).__name__}: {error}"
        if far > EQUAL:
            return f"They first depart with {step.what}: by {far:.2g} of the largest number. {step.look}"
    return "With simpler input they are right, so the mistake depends on the sizes of the batch."


def _problem_of_patterns(patterns: Sequence[Any], batches: Sequence[Inputs]) -> str | None:
    for pattern, inputs in zip(patterns, batches, strict=True):
        if isinstance(pattern, Tensor):
            sums = _tokens(pattern.sum(dim=-1, keepdim=True))[inputs[-1]]  # (T, N, 1)
            off = float((sums - 1).abs().max())
            if not off <= EQUAL:
                return f"But rows of the pattern do not sum to 1: they are off by up to {off:.2g}."
    return None


def _problem_of_properties(mine: Callable[..., Any], inputs: Inputs) -> str | None:
    *values, mask = inputs
    with torch.no_grad():
        before, _ = _call(mine, inputs)
        padding = [_tokens(torch.where(mask.view(*mask.shape, *[1] * (x.dim() - 2)), _tokens(x), PADDING * _tokens(x)))
                   for x in values]  # fmt: skip
        after, _ = _call(mine, (*padding, mask))
        leak = _distance(after, before, mask)
        if leak > EQUAL:
            return f"But padding leaks: with larger numbers there, real tokens change by {leak:.2g} of the largest."
        row = [x[:1] for x in inputs]  # the first row has no padding
        turned = [_tokens(_tokens(x).flip(1)) for x in row[:-1]]
        backwards, _ = _call(mine, (*turned, row[-1]))
        moved = _distance(_tokens(_tokens(backwards).flip(1)), before[:1], row[-1])
    if moved > EQUAL:
        return "But tokens in another order give other vectors; attention itself knows nothing about the order."
    return None


def _problem_of_gradients(mine: Callable[..., Any], exercise: Exercise) -> str | None:
    gradients = []
    for function, dtype in (
        (lambda *x: _call(mine, x)[0], torch.float32),
        (lambda *x: exercise.right(x), torch.double),
    ):
        inputs = [x.to(dtype).requires_grad_() if x.is_floating_point() else x for x in exercise.batches[0]]
        leaves = [x for x in inputs if x.requires_grad]
        real = _tokens(function(*inputs))[inputs[-1]]  # (T, ...)
        if not real.requires_grad:
            return "But gradients do not get through: is something detached, or computed under no_grad?"
        weights = torch.linspace(-1, 1, real.numel(), dtype=dtype).view(real.shape)  # (T, ...)
        gradients.append(torch.autograd.grad((real * weights).sum(), leaves, allow_unused=True))
    for name, ours, right in zip(exercise.names, *gradients, strict=True):
        if ours is None:
            return f"But {name} gets no gradient: is it detached?"
        far = float((ours.double() - right).abs().max() / right.abs().max())
        if not far <= 10 * EQUAL:
            return f"But the gradient of {name} is wrong: by {far:.2g} of its largest number."
    return None
