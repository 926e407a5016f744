"""The encoder as CUDA graphs: all kernels of a pass are started by one call.

Forward and backward pass of BERT-base are some two thousand kernels. Python takes 10 microseconds
and more to start one, and for a few thousand tokens most of them run for less: the GPU waits. A
graph keeps kernels with their addresses and shapes. So tokens are filled up to the next of a few
numbers, and a shape that comes back is recorded.

The spare tokens are a row of their own below the others: attention gives them finite numbers and
lets no other row see them, and in the backward pass their gradients are zero.

Of the same encoder in the same state, a recorded pass computes what the unrecorded one does.
"""

from __future__ import annotations

import copy
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minibert.attention import SelfAttention
from minibert.encoder import Encoder, EncoderLayer
from minibert.fast.attend import attend_fast
from minibert.fast.dropout import FastDropout
from minibert.fast.rows import FilledEncoder
from minibert.fast.varlen import can_use_varlen
from minibert.io.errors import InputError
from minibert.layers import FeedForward
from minibert.layout import Layout
from minibert.trace import Scope

_BEFORE = 2  # passes of a shape before it is recorded; they let the libraries set themselves up, too
_MOST = 32  # recorded shapes of an encoder

# Parts that only start kernels, always the same ones. Another part may count, print or choose in Python.
_PLAIN = (nn.ModuleList, EncoderLayer, SelfAttention, FeedForward, nn.Linear, nn.LayerNorm, nn.Dropout, FastDropout)


class GraphedEncoder(FilledEncoder):
    """An encoder that attends by `attend_fast`, and records the shapes that come back."""

    def forward(self, hidden: Tensor, scope: Scope) -> Tensor:
        """hidden (T, D) -> hidden (T, D)."""
        if scope.traces or not self._can_record(hidden, scope.layout):
            return super().forward(hidden, scope)
        parameters = list(self.parameters())
        shape = _Shape.of(scope.layout)
        boundaries = F.pad(scope.layout.boundaries, (0, 1), value=shape.filled)  # (rows + 2,)
        learns = torch.is_grad_enabled() and (hidden.requires_grad or any(part.requires_grad for part in parameters))
        recordings: _Recordings = vars(self).setdefault("_recordings", _Recordings())
        key = (shape, learns, _state(self, hidden, parameters))
        recording = recordings.made.get(key)
        if recording is None and recordings.is_due(key) and not recordings.is_in_use():
            run = _Pass(self, hidden, boundaries, scope.layout, shape, learns)
            recording = recordings.made[key] = _Recording(run, recordings)
        if recording is None or recordings.is_in_use():
            filled = F.pad(hidden, (0, 0, 0, shape.filled - len(hidden)))  # (filled, D)
            return Encoder.forward(self, filled, shape.scope(scope.layout, boundaries))[: len(hidden)]  # (T, D)
        if not learns:
            return recording.forward(hidden, boundaries)  # (T, D)
        result: Tensor = _Replayed.apply(recording, hidden, boundaries, *recording.run.learning)  # (T, D)
        return result

    def _can_record(self, hidden: Tensor, layout: Layout) -> bool:
        if hidden.device.type != "cuda" or self.gradient_checkpointing or torch.cuda.is_current_stream_capturing():
            return False
        autocast = torch.is_autocast_enabled("cuda")
        dtype = torch.get_autocast_dtype("cuda") if autocast else hidden.dtype
        layers: Any = self.layers
        queries = hidden.new_empty(0, *layers[0].attention.heads, dtype=dtype)  # (0, N, H)
        return can_use_varlen(queries, layout) and all(_is_plain(part) for part in self.modules())


@dataclass(frozen=True)
class _Shape:
    """What a recording is made for: rows, a length that none exceeds, and tokens with the spare ones."""

    rows: int
    longest: int
    filled: int

    @classmethod
    def of(cls, layout: Layout) -> _Shape:
        """At least one spare token, and at most 64 or a sixteenth of all."""
        step = max(64, 2 ** (layout.tokens.bit_length() - 5))
        longest = max(layout.groups[-1][1], step)
        return cls(len(layout.first), -(-longest // 128) * 128, (layout.tokens // step + 1) * step)

    def scope(self, layout: Layout, boundaries: Tensor) -> Scope:
        """The rows and the row of spare tokens, as far as varlen attention has to know them."""
        return Scope(replace(layout, boundaries=boundaries, groups=((1, self.longest),)))


class _Recordings:
    """The recordings of one encoder, which share their memory. A copy of the encoder starts without any."""

    def __init__(self) -> None:
        self.passes: Counter[Hashable] = Counter()
        self.made: dict[Hashable, _Recording] = {}
        self.gradients: dict[int, Tensor] = {}  # of each parameter, by its id, as the last backward pass left it
        self.pool: Any = None
        self._use: weakref.ref[_Use] | None = None

    def __deepcopy__(self, memo: Any) -> _Recordings:
        return _Recordings()

    def __reduce__(self) -> Any:
        return _Recordings, ()

    def is_due(self, key: Hashable) -> bool:
        self.passes[key] += 1
        return self.passes[key] > _BEFORE and len(self.made) < _MOST

    def is_in_use(self) -> bool:
        """Whether the memory holds what a backward pass still needs."""
        return self._use is not None and self._use() is not None

    def use(self) -> _Use:
        use = _Use()
        self._use = weakref.ref(use)
        return use


class _Use:
    """Exists from a forward pass to its backward pass, or to the end of the autograd graph between them."""


class _Pass:
    """Forward and backward pass of a twin of an encoder, over tensors that stay where they are.

    The twin has parameters of its own in the memory of the encoder's. What autograd keeps for those
    of the encoder, DistributedDataParallel's hooks among it, was not made while recording.
    """

    def __init__(
        self, encoder: Encoder, hidden: Tensor, boundaries: Tensor, layout: Layout, shape: _Shape, learns: bool
    ):
        own = {id(part): nn.Parameter(part.detach(), part.requires_grad) for part in encoder.parameters()}
        self.learning = [part for part in encoder.parameters() if learns and part.requires_grad]
        self.own = [own[id(part)] for part in self.learning]
        self.encoder = copy.deepcopy(encoder, {**own})
        self.encoder.__class__ = Encoder
        self.learns = learns
        self.hidden = hidden.detach().new_zeros(shape.filled, hidden.shape[1])  # (filled, D)
        self.hidden.requires_grad_(learns and hidden.requires_grad)
        self.boundaries = boundaries.clone()  # (rows + 2,)
        self.scope = shape.scope(layout, self.boundaries)
        self.output: Tensor | None = None  # with its autograd graph, from forward to backward pass

    def forward(self) -> list[Tensor]:
        """The output (filled, D)."""
        device = self.hidden.device.type
        enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        # What autocast's cache holds is gone at the next pass.
        with torch.autocast(device, dtype, enabled=enabled, cache_enabled=False), torch.set_grad_enabled(self.learns):
            self.output = self.encoder(self.hidden, self.scope)  # (filled, D)
        output, self.output = self.output, self.output if self.learns else None
        return [output.detach()]

    def backward(self, gradient: Tensor, of_parameters: list[Tensor]) -> list[Tensor]:
        """The gradient of hidden (filled, D), if it has one; those of the parameters go to the tensors given."""
        assert self.output is not None
        inputs = [*self.own, *([self.hidden] if self.hidden.requires_grad else [])]
        gradients = torch.autograd.grad(self.output, inputs, gradient)
        self.output = None
        if self.own:
            torch._foreach_copy_(of_parameters, gradients[: len(self.own)])
        return list(gradients[len(self.own) :])


class _Recording:
    """A recorded pass, and how to repeat it with other numbers."""

    def __init__(self, run: _Pass, recordings: _Recordings):
        recordings.pool = recordings.pool or new_pool()
        self.run, self.recordings = run, recordings
        (self.output,), self._again = record(run.forward, recordings.pool)  # (filled, D)
        if run.learns:
            self.gradient = torch.zeros_like(self.output)  # (filled, D)
            for part in run.learning:
                recordings.gradients.setdefault(id(part), torch.empty_like(part))
            self.of_parameters = [recordings.gradients[id(part)] for part in run.learning]
            self.of_hidden, self._back_again = record(
                lambda: run.backward(self.gradient, self.of_parameters), recordings.pool
            )

    @torch.no_grad()
    def forward(self, hidden: Tensor, boundaries: Tensor) -> Tensor:
        """(T, D) -> (T, D)."""
        _fill(self.run.hidden, hidden)
        self.run.boundaries.copy_(boundaries)
        self._again()
        return self.output[: len(hidden)].clone()  # (T, D)

    @torch.no_grad()
    def backward(self, gradient: Tensor) -> tuple[Tensor | None, list[Tensor]]:
        """The gradients of hidden (T, D), if it has one, and of the parameters."""
        _fill(self.gradient, gradient)
        self._back_again()
        # Copies, since the next pass writes to the same places.
        of_parameters = [torch.empty_like(part) for part in self.of_parameters]
        if of_parameters:
            torch._foreach_copy_(of_parameters, self.of_parameters)
        of_hidden = self.of_hidden[0][: len(gradient)].clone() if self.of_hidden else None  # (T, D)
        return of_hidden, of_parameters


class _Replayed(torch.autograd.Function):
    """A recorded forward pass, whose gradient is the recorded backward pass."""

    @staticmethod
    def forward(ctx: Any, recording: _Recording, hidden: Tensor, boundaries: Tensor, *parameters: Tensor) -> Tensor:
        ctx.recording, ctx.use = recording, recording.recordings.use()
        return recording.forward(hidden, boundaries)  # (T, D)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() or ctx.use is None:
            message = "An encoder that is recorded has one backward pass for a forward pass, and no second derivative."
            raise InputError(message, key="graphs", hint="Accelerate the model without graphs.")
        ctx.use = None
        of_hidden, of_parameters = ctx.recording.backward(gradient)
        return None, of_hidden, None, *of_parameters


def new_pool() -> Any:
    """Memory for recordings to share."""
    return torch.cuda.graph_pool_handle()


def record(work: Callable[[], list[Tensor]], pool: Any) -> tuple[list[Tensor], Callable[[], None]]:
    """What work returns, whose numbers come with the first repetition, and what repeats it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        results = work()
    return results, graph.replay


def _fill(target: Tensor, rows: Tensor) -> None:
    """Copies rows (T, D) to the beginning of (filled, D), with zeros below them."""
    target[: len(rows)].copy_(rows)
    target[len(rows) :].zero_()


def _state(encoder: nn.Module, hidden: Tensor, parameters: Sequence[Tensor]) -> Hashable:
    """What else a recording depends on: addresses, what learns, dropout, number formats."""
    device = hidden.device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
    modes = (torch.is_inference_mode_enabled(), torch.are_deterministic_algorithms_enabled(), hidden.requires_grad)
    parts = tuple(
        (part.training, *(vars(part).get(name) for name in ("p", "dropout_p", "activation")))
        for part in encoder.modules()
    )
    return hidden.dtype, autocast, modes, parts, tuple((part.data_ptr(), part.requires_grad) for part in parameters)


def _is_plain(part: nn.Module) -> bool:
    if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks:
        return False
    if type(part) is SelfAttention:
        return part.attend is attend_fast
    return type(part) in (*_PLAIN, GraphedEncoder)
