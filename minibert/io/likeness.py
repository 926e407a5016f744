"""Modules compared part by part: what a model that is built again would not bring back."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn


def unlike_parts(found: nn.Module, expected: nn.Module) -> list[str]:
    """The names of the modules, attention functions and parameters that differ between two modules."""
    ours, theirs = _parts(found), _parts(expected)
    return [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]


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
