"""Modules on torch's meta device, which have names and shapes, and no memory and no numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Modules made inside have shapes on the meta device and no numbers, so none are drawn.

    To draw on the meta device, torch would import its compiler first, which takes as long as importing torch.
    """
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Leaves out the functions of torch.nn.init."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        named = named or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return named["tensor"] if "tensor" in named else arguments[0]
        return function(*arguments, **named)


def leave_meta(model: nn.Module, fresh: Sequence[str]) -> bool:
    """Gives parameters on the meta device zeros on the CPU; whether there were any. The others stay where they are."""
    parameters = dict(model.named_parameters())  # a buffer has its value already
    on_meta = [name for name in fresh if name in parameters and parameters[name].is_meta]
    for name in on_meta:
        owner, _, last = name.rpartition(".")
        zeros = torch.zeros_like(parameters[name], device="cpu")  # as the parameter
        setattr(model.get_submodule(owner), last, nn.Parameter(zeros))
    return bool(on_meta)
