"""Modules compared: with one that is built again, part by part, and with the values that they once had."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def unlike_parts(found: nn.Module, expected: nn.Module) -> list[str]:
    """The names of the modules, attention functions and parameters that differ between two modules."""
    ours, theirs = _parts(found), _parts(expected)
    return [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]


def unchanged(model: nn.Module, values: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The parameters that still hold these values.

    They are compared rounded to 16 bits or not, so the answer survives `deepcopy`, `to(dtype)` and back, `to(device)`
    and any optimizer. A module counts as a whole: a bias alone may rightly stay as it was (that of a score per choice
    cancels in the softmax).
    """
    parameters = dict(model.named_parameters())
    changed = {
        name.rpartition(".")[0]
        for name, value in values.items()
        if name not in parameters  # the module was replaced
        or not any(
            torch.equal(parameters[name].detach().cpu(), value.to(rounded).to(parameters[name].dtype))
            for rounded in (value.dtype, torch.bfloat16, torch.float16)
        )
    }
    return tuple(name for name in values if name.rpartition(".")[0] not in changed)


def _parts(model: nn.Module) -> dict[str, object]:
    """Module -> its class and settings, attention -> its function if it is a user's, parameter -> its shape.

    A class of minibert.fast counts as the one that it is derived from: it computes the same. Settings are what a
    module shows of itself (the rate of a dropout, the eps of a norm), and its activation.
    """
    parts: dict[str, object] = {name: tensor.shape for name, tensor in model.named_parameters()}
    for name, part in model.named_modules():
        kind = next(k for k in type(part).__mro__ if not k.__module__.startswith("minibert.fast"))
        parts[name] = kind, part.extra_repr(), vars(part).get("dropout_p"), _identity(vars(part).get("activation"))
        attend = getattr(part, "attend", None)
        if attend is not None and not _is_of_minibert(attend):
            parts[f"{name}.attend"] = _identity(attend)
    return parts


def _is_of_minibert(function: Any) -> bool:
    """Whether a function is of this package; a partial is if all that it is made of is."""
    if isinstance(function, partial):
        return all(map(_is_of_minibert, (function.func, *function.args, *function.keywords.values())))
    return str(getattr(function, "__module__", "")).startswith("minibert.")


def _identity(function: Any) -> object:
    """What two functions have alike that were made by the same code: a partial or a lambda is new at each call."""
    if isinstance(function, partial):
        return _identity(function.func), function.args, function.keywords
    return getattr(function, "__module__", None), getattr(function, "__qualname__", type(function))
