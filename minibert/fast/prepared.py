"""A model made ready for inference on a CPU: the same numbers, sooner, and nothing else any more.

Linear layers hand their weights to oneDNN once, which lays them out in the order in which its
kernels read them; bias and GELU are then added while a product is still in the cache. What comes
out is what the plain layers give, within rounding; a test holds them together. Prepared weights are
in no state dict and have no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minibert.io.errors import InputError
from minibert.layers import FeedForward, Linear
from minibert.trace import Scope

# Rows that the kernels are told to expect; any other number works as well.
_EXPECTED_ROWS = 512


class PreparedLinear(nn.Module):
    """A Linear whose weight (out, in) oneDNN has laid out."""

    def __init__(self, linear: Linear):
        super().__init__()
        self.bias = linear.bias  # (out,)
        # The operations that torch.compile uses; torch has no public name for them.
        self.weight: Any = torch.ops.mkldnn._reorder_linear_weight(
            linear.weight.detach(), _EXPECTED_ROWS
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """(T, in) -> (T, out)."""
        return self._product(hidden, "none", "")  # (T, out)

    def with_gelu(self, hidden: Tensor) -> Tensor:
        """(T, in) -> (T, out), the exact GELU of the product."""
        return self._product(hidden, "gelu", "none")  # (T, out)

    def _apply(self, *args: Any, **options: Any) -> Self:
        return self  # see refuse_to_move

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        raise refusal("given other weights")

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        raise refusal("copied")

    def _product(self, hidden: Tensor, activation: str, form: str) -> Tensor:
        operation = torch.ops.mkldnn._linear_pointwise
        result: Tensor = operation(hidden, self.weight, self.bias, activation, [], form)
        return result  # (T, out)


class PreparedFeedForward(nn.Module):
    """A FeedForward with prepared maps. GELU joins the first, unless a trace wants to see both."""

    def __init__(self, plain: FeedForward):
        super().__init__()
        self.inner = PreparedLinear(plain.inner)
        self.outer = PreparedLinear(plain.outer)
        self.activation = plain.activation

    def forward(self, hidden: Tensor, scope: Scope) -> Tensor:
        if scope.trace is None and self.activation is F.gelu:
            active = self.inner.with_gelu(hidden)  # (T, F)
        else:
            inner = scope("inner", self.inner(hidden))  # (T, F)
            active = scope("activation", self.activation(inner))  # (T, F)
        return scope("output", self.outer(active))  # (T, D)


def refuse_to_move(module: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
    """Raises InputError if oneDNN's weights in a module could not follow where `function` leads.

    `to`, `double`, `cuda` and their like hand such a function to `nn.Module._apply`.
    """
    for part in module.modules():
        if isinstance(part, PreparedLinear):
            moved = function(part.bias)  # (out,)
            if (moved.dtype, moved.device) != (part.bias.dtype, part.bias.device):
                raise refusal("moved or converted")
            return  # the others have its dtype and are where it is


def refusal(what: str) -> InputError:
    """The error for what a prepared model cannot be any more: trained, saved, moved, copied."""
    return InputError(
        f"This model was prepared for inference and cannot be {what}.",
        key="for_inference",
        hint="Load it again; or copy it first: copy.deepcopy(model).for_inference().",
    )


def can_prepare(dtype: torch.dtype) -> bool:
    """Whether this build of torch can prepare weights of a dtype for this CPU."""
    if not torch.backends.mkldnn.is_available() or not hasattr(
        torch.ops.mkldnn, "_linear_pointwise"
    ):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def prepare_layers(module: nn.Module) -> None:
    """Puts prepared layers in the place of every Linear and FeedForward inside a module."""
    for name, part in module.named_children():
        if isinstance(part, FeedForward):
            setattr(module, name, PreparedFeedForward(part))
        elif isinstance(part, Linear) and part.bias is not None:  # without one: a table to be read
            setattr(module, name, PreparedLinear(part))
        else:
            prepare_layers(part)
