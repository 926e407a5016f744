"""Judges a function whose answer is a value: a number, a list of pieces, a tensor, or lists and dicts of these.

A task holds the right function, with switches for the known mistakes. `judge` compares what the reader's function
returns with what the right one returns, case by case, and then looks for the mistakes, alone and in pairs, that give
the same in every case.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minibert.study.exercises.verdict import Verdict, traceback_of

EQUAL = 2e-5  # the largest difference over the largest number
SHOWN = 160  # characters of a value in a message
Property = Callable[[Callable[..., Any]], "str | None"]  # what has to hold besides: a sentence if it does not


@dataclass(frozen=True)
class Case:
    """One call of the function.

    Attributes:
        what: the input in words, to follow "with": "rows without padding".
        inputs: the arguments, copied for each call.
        look: where to look if this is the first case that departs, a sentence.
    """

    what: str
    inputs: tuple[Any, ...]
    look: str = ""


@dataclass(frozen=True)
class Task:
    """What `judge` needs to know.

    Attributes:
        truth: (*inputs, mistakes) -> the answer; with an empty set of mistakes it is right. Floats may be in float64.
        cases: simple ones first, each with one more thing that can go wrong.
        mistakes: the known ones: a name -> what was done, to follow "if": "the mean counts padding".
        gradients: the numbers of the inputs whose gradients have to be right, too.
        properties: what has to hold besides the numbers, tried when the numbers are right.
        equal: how far numbers may be apart, over the largest number.
    """

    truth: Callable[..., Any]
    cases: Sequence[Case]
    mistakes: Mapping[str, str]
    gradients: Sequence[int] = ()
    properties: Sequence[Property] = ()
    equal: float = EQUAL

    def right(self, case: Case, *mistakes: str) -> Any:
        return plain(self.truth(*_copies(case), mistakes=frozenset(mistakes)))


def judge(mine: Callable[..., Any], task: Task) -> Verdict:
    """Whether a function is right, or else which mistakes give what it returns."""
    found = []
    for case in task.cases:
        try:
            found.append(plain(mine(*_copies(case))))
        except Exception as error:  # the code is the reader's
            return Verdict(False, f"With {case.what}, the function stopped with an error.\n{traceback_of(error)}")
    if all(value is None for value in found):
        return Verdict(False, "Not written yet: the function returns None.")
    departures = [
        (case, problem)
        for case, value in zip(task.cases, found, strict=True)
        if (problem := difference(value, task.right(case), task.equal))
    ]
    if departures:
        return _explain(task, found, *departures[0])
    try:
        problems = [holds(mine) for holds in task.properties] + [
            _gradient_problem(mine, task, i) for i in task.gradients
        ]
    except Exception as error:  # the code is the reader's
        problems = [f"But with other input, or with gradients, the function stops.\n{traceback_of(error)}"]
    for problem in problems:
        if problem:
            return Verdict(False, f"The results are right. {problem}")
    also = ", and so are the gradients" if task.gradients else ""
    return Verdict(True, f"Right: all {len(task.cases)} cases agree{also}.")


def _copies(case: Case) -> list[Any]:
    """Arguments that a function may change in place; one that stands there twice becomes two."""
    return [copy.deepcopy(value) for value in case.inputs]


def plain(value: Any) -> Any:
    """A value in one form: tensors for arrays of numbers, lists for sequences, numbers for tensors without axes."""
    if isinstance(value, np.ndarray | np.generic):
        value = torch.from_numpy(np.asarray(value))
    if isinstance(value, Tensor):
        value = value.detach()
        return value if value.dim() else value.item()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return value
    return [plain(item) for item in value]


def difference(found: Any, right: Any, equal: float = EQUAL) -> str | None:
    """In what two plain values differ, in words; None if they are equal up to rounding."""
    if isinstance(right, Tensor) or isinstance(found, Tensor):
        return _tensor_difference(found, right, equal)
    if isinstance(right, Mapping) and isinstance(found, Mapping):
        return _first_difference(found, right, sorted({*found, *right}, key=str), equal)
    if isinstance(right, list) and isinstance(found, list):
        if len(found) != len(right):
            return f"it has {len(found)} entries instead of {len(right)}: {_short(found)} instead of {_short(right)}"
        return _first_difference(dict(enumerate(found)), dict(enumerate(right)), range(len(right)), equal)
    if _is_number(right) and _is_number(found):
        close = found == right or abs(found - right) <= equal * abs(right) or (found != found and right != right)
        return None if close else f"it is {found:.6g} instead of {right:.6g}"
    return (
        None if type(found) is type(right) and found == right else f"it is {_short(found)} instead of {_short(right)}"
    )


def _first_difference(found: Mapping[Any, Any], right: Mapping[Any, Any], keys: Any, equal: float) -> str | None:
    for key in keys:
        if key not in found:
            return f"{key!r} is missing"
        if key not in right:
            return f"{key!r} should not be there"
        problem = difference(found[key], right[key], equal)
        if problem:  # places inside places read as one: at [1][7]
            inner = problem.removeprefix("at ") if problem.startswith("at [") else f", {problem}"
            return f"at [{key!r}]{inner}"
    return None


def _tensor_difference(found: Any, right: Any, equal: float) -> str | None:
    """Lists of numbers count as tensors; NaN and infinity have to stand in the same places."""
    try:
        a, b = (torch.as_tensor(x).double() for x in (found, right))
    except (TypeError, ValueError, RuntimeError):
        return f"it is {_short(found)} instead of {_short(right)}"
    if a.shape != b.shape:
        return f"it has shape {tuple(a.shape)} instead of {tuple(b.shape)}"
    if not a.numel():
        return None
    finite = b[b.isfinite()].abs()
    scale = max(float(finite.max()) if finite.numel() else 0.0, 1e-12)
    away = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, (a - b).abs().nan_to_num(nan=torch.inf))  # (...)
    if float(away.max()) <= equal * scale:
        return None
    place = [int(i) for i in np.unravel_index(int(away.argmax()), tuple(a.shape))]
    where = f"at {place} it is" if place else "it is"
    return f"{where} {_short(a[tuple(place)].item())} instead of {_short(b[tuple(place)].item())}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _explain(task: Task, found: Sequence[Any], case: Case, problem: str) -> Verdict:
    """The known mistakes that give the same in every case, or else the first case that departs."""

    def gives(names: tuple[str, ...]) -> bool:
        for value, one in zip(found, task.cases, strict=True):
            try:
                made = task.right(one, *names)
            except Exception:  # two mistakes need not go together
                return False
            if difference(value, made, task.equal):
                return False
        return True

    singles: list[tuple[str, ...]] = [(name,) for name in task.mistakes]
    matching = [names for names in singles if gives(names)]
    matching = matching or [names for names in itertools.combinations(task.mistakes, 2) if gives(names)]
    lines = [f"Not right: with {case.what}, {problem}."]
    for names in matching:
        lines.append(f"That is what you get if {', and '.join(task.mistakes[name] for name in names)}.")
    if not matching:
        lines.append(f"No known mistake, alone or with another, gives this. {case.look}".rstrip())
    return Verdict(False, "\n".join(lines), tuple(matching))


def _gradient_problem(mine: Callable[..., Any], task: Task, number: int) -> str | None:
    """Whether the gradient of one input is right, through all floats that the function returns."""
    case = task.cases[-1]
    gradients = []
    for function in (mine, lambda *inputs: task.truth(*inputs, mistakes=frozenset())):
        inputs = _copies(case)
        inputs[number] = inputs[number].clone().requires_grad_()
        result = function(*inputs)
        parts = result if isinstance(result, list | tuple) else [result]
        floats = [x.double().flatten() for x in parts if isinstance(x, Tensor) and x.requires_grad]
        if not floats:
            return "But gradients do not get through: is something detached, or computed under no_grad?"
        joined = torch.cat(floats)  # (all,)
        weights = torch.linspace(1, 2, len(joined), dtype=joined.dtype)  # (all,)
        [gradient] = torch.autograd.grad((joined * weights).sum(), inputs[number], allow_unused=True)
        gradients.append(gradient)
    problem = "it has none" if gradients[0] is None else difference(gradients[0], gradients[1], 10 * task.equal)
    return f"But the gradient of input {number} is wrong: {problem}." if problem else None
