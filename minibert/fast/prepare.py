"""prepare(model): a copy for inference only, with the same numbers, sooner.

    fast = prepare(model, torch.bfloat16)
    fast(**batch).logits

On a CPU the linear layers hand their weights to oneDNN once, which lays them out in the order in
which its kernels read them; bias and GELU are then added while a product is still in the cache.
Whether that pays depends on the processor, the dtype and the batches: on one AMD processor, short
batches in fp32 became slower. Measure before you choose it.
"""

from __future__ import annotations

import copy
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minibert.base import Model
from minibert.fast.accelerate import accelerate
from minibert.layers import FeedForward
from minibert.trace import Scope

# Rows that the kernels are told to expect; any other number works as well.
_EXPECTED_ROWS = 512


class Prepared:
    """A model that can be called, and nothing else: its weights are not a model's any more.

    Attributes:
        config: that of the model it was made from.
    """

    def __init__(self, model: Model):
        self._model = model
        self.config = model.config

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the model itself returns, without gradients."""
        with torch.no_grad():
            return self._model(*args, **kwargs)

    def eval(self) -> Prepared:
        """Itself: there is no other mode."""
        return self

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"A model prepared for inference has no {name!r}; use the model it was made from.")


def prepare(model: Model, dtype: torch.dtype | None = None, graphs: bool = False) -> Prepared:
    """A copy of a model for inference, where the model is; the model itself stays as it was.

    Args:
        dtype: what to compute in; by default the dtype of the weights. bf16 takes half the memory
            everywhere, and is fast where the processor multiplies matrices in it.
        graphs: as for `accelerate`.
    """
    dtype = dtype or next(model.parameters()).dtype
    copies = {id(old): _converted(old, dtype) for old in (*model.parameters(), *model.buffers())}
    prepared = accelerate(copy.deepcopy(model, copies).eval(), graphs)
    device = next(prepared.parameters()).device
    if device.type == "cpu" and can_prepare(dtype):
        _lay_out(prepared)
    return Prepared(prepared)


def can_prepare(dtype: torch.dtype) -> bool:
    """Whether this build of torch can lay out weights of a dtype for this CPU."""
    if not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


class PreparedLinear(nn.Module):
    """A linear layer whose weight (out, in) oneDNN has laid out."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.bias = linear.bias  # (out,)
        # The operations that torch.compile uses; torch has no public name for them.
        self.weight: Any = torch.ops.mkldnn._reorder_linear_weight(linear.weight, _EXPECTED_ROWS)

    def forward(self, hidden: Tensor, activation: str = "none", form: str = "") -> Tensor:
        """(T, in) -> (T, out); of the exact GELU with the activation "gelu" and the form "none"."""
        operation = torch.ops.mkldnn._linear_pointwise
        result: Tensor = operation(hidden, self.weight, self.bias, activation, [], form)
        return result  # (T, out)


class PreparedFeedForward(nn.Module):
    """A FeedForward with prepared layers. GELU joins the first, unless a trace sees both."""

    def __init__(self, plain: FeedForward):
        super().__init__()
        self.inner = PreparedLinear(plain.inner)
        self.outer = PreparedLinear(plain.outer)
        self.activation = plain.activation

    def forward(self, hidden: Tensor, scope: Scope) -> Tensor:
        if not scope.traces and self.activation is F.gelu:
            active = self.inner(hidden, "gelu", "none")  # (T, F)
        else:
            inner = scope.tap("inner", self.inner(hidden))  # (T, F)
            active = scope.tap("activation", self.activation(inner))  # (T, F)
        return scope.tap("output", self.outer(active))  # (T, D)


def _converted(old: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy that shares nothing, so that whatever becomes of the model does not reach it."""
    new = old.detach().to(dtype if old.is_floating_point() else old.dtype, copy=True)  # as old
    return nn.Parameter(new, requires_grad=False) if isinstance(old, nn.Parameter) else new


def _lay_out(module: nn.Module) -> None:
    """Puts prepared layers in the place of every nn.Linear and FeedForward inside a module."""
    for name, part in module.named_children():
        if type(part) is FeedForward:
            setattr(module, name, PreparedFeedForward(part))
        elif type(part) is nn.Linear and part.bias is not None:  # without one: a table to be read
            setattr(module, name, PreparedLinear(part))
        else:
            _lay_out(part)
