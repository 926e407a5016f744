"""Checks of tensors: what a model is called with, by argument, and what NaN or infinity came from."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from minibert.io.device import on_host
from minibert.io.errors import InputError

IGNORED = -100  # the label that never counts, as in torch.nn.functional.cross_entropy


def require(holds: bool, name: str, message: str, hint: str | None = None) -> None:
    """Raises InputError with the name, the message and the hint unless something holds."""
    if not holds:
        raise InputError(f"{name} {message}", key=name, hint=hint)


def require_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Refuses a tensor of another shape than that of the batch."""
    found = tuple(tensor.shape)
    require(found == shape, name, f"has shape {found}, but the batch needs {shape}.")


def require_below(name: str, ids: Tensor, size: int, size_name: str) -> None:
    """Refuses ids beyond a table of this size; on a GPU the lookup would end the process without a message."""
    require(is_integer(ids), name, f"is {ids.dtype}, but ids are int64 or int32.")
    smallest, largest = (int(n) for n in on_host(ids).aminmax()) if ids.numel() else (0, 0)
    wrong = smallest if smallest < 0 else largest
    message = f"holds {wrong}, but the model's {size_name} is {size}."
    hint = "Is the tokenizer the one that belongs to this model?"
    require(smallest >= 0 and (largest < size or not ids.numel()), name, message, hint)


def is_integer(ids: Tensor) -> bool:
    """Whether a tensor can hold ids."""
    return ids.dtype in (torch.int64, torch.int32)


def bool_mask(mask: Tensor) -> Tensor:
    """An attention mask (B, S) of bool or 0 and 1, as bool; refuses others."""
    hint = "Masks over pairs of positions (3-D, 4-D) are not supported."
    require(mask.dim() == 2, "attention_mask", f"has shape {tuple(mask.shape)}, but a mask is (B, S).", hint)
    real = mask != 0  # (B, S)
    message = "must be 1 at real tokens and 0 at padding, and has other values."
    hint = "A mask to be added to the scores (0 and -10000) is another thing."
    require(torch.equal(real.to(mask.dtype), mask), "attention_mask", message, hint)
    return real  # (B, S)


def check_labels(name: str, labels: Tensor, shape: tuple[int, ...], classes: int, real: Tensor | None = None) -> None:
    """Refuses class labels that do not fit the logits, before a GPU would end the process.

    InputError if the argument `name` is not of `shape`, not integers, has a class beyond `classes`,
    or something other than -100 where `real` (B, S) is False.
    """
    message = f"has shape {tuple(labels.shape)} and {labels.dtype}, but it must be {shape} integers."
    require(tuple(labels.shape) == shape and not labels.is_floating_point(), name, message)
    labels = on_host(labels)
    counts = labels != IGNORED  # as labels
    wrong = counts & ((labels < 0) | (labels >= classes))  # as labels
    if bool(wrong.any()):
        place = [int(index) for index in wrong.nonzero()[0]]
        label = int(labels[tuple(place)])
        raise InputError(f"{name}{place} is {label}, but there are {classes} classes.", key=name)
    if real is not None:
        hint = f"Fill the labels of padded columns with {IGNORED}; collate does."
        require(not bool((counts & ~on_host(real)).any()), name, f"must be {IGNORED} at padding.", hint)


def first_not_finite(named_parameters: Iterable[tuple[str, Tensor]], loss: float) -> tuple[str, str]:
    """The first tensor that NaN or infinity came from, after a backward pass, and a sentence that says so."""
    for name, parameter in named_parameters:
        if not parameter.isfinite().all():
            return name, f"the loss is {loss} and the weights of {name} are not finite"
        if math.isfinite(loss) and parameter.grad is not None and not parameter.grad.isfinite().all():
            return name, f"the gradient of {name} is not finite"
    return "loss", f"the loss is {loss}"
