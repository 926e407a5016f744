"""Tensors on a GPU whose numbers can be read without waiting for it.

To read a number from a GPU is to wait for all that the GPU has been given to do. So a tensor that
is moved there keeps the one it was copied from as its attribute `host`, for checks and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device. A copy from the CPU is not waited for, and keeps what it was copied from."""
    if tensor.device.type != "cpu" or device.type == "cpu":
        return tensor.to(device)
    source = tensor.pin_memory() if device.type == "cuda" else tensor
    moved: Any = source.to(device, non_blocking=True)
    moved.host = tensor
    return moved


def on_host(tensor: Tensor) -> Tensor:
    """The same numbers on the CPU, waiting for a GPU only if they have never been there."""
    return getattr(tensor, "host", tensor).cpu()


def on_both(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """function(*tensors), on the device and, if all of them have numbers on the CPU, there as well."""
    made: Any = function(*tensors)
    if all(hasattr(tensor, "host") for tensor in tensors):
        made.host = function(*map(on_host, tensors))
    return made


def move(inputs: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Moves everything in a model's inputs that has a device. A copy to a GPU is not waited for."""

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            return to_device(value, device)
        return value.to(device) if hasattr(value, "to") else value

    return {name: moved(value) for name, value in inputs.items()}
