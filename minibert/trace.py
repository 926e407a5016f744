"""Traces: every intermediate value of the forward pass has a name, and can be read or replaced.

    trace = Trace("layers.*.attention.pattern", "embeddings.norm")
    model(**batch, trace=trace)
    trace["layers.3.attention.pattern"]  # (B, N, S, S)

    without_head_5 = Trace(replace={"layers.3.attention.context": zero_head(5)})
    model(**batch, trace=without_head_5)

Names and shapes, the same whatever kernel computes the attention:

    embeddings.word .segment .position .sum .norm .output                    (T, D)
    layers.3.attention.query .key .value .context                            (T, N, H)
    layers.3.attention.scores .pattern                                       (B, N, S, S)
    layers.3.attention.output .residual .norm                                (T, D)
    layers.3.feed_forward.inner .activation                                  (T, F)
    layers.3.feed_forward.output .residual .norm                             (T, D)
    pooler.dense .output                                                     (B, D)
    head.*, for BertForPreTraining masked_lm.* and next_sentence.*           see heads.py

`trace.padded(name)` spreads a (T, ...) value over the (B, S, ...) columns, zeros at padding.
Scores and patterns do not exist inside SDPA: asking for one of them, and nothing else, makes that
layer compute its attention by hand.

A trace is an argument, handed down through the forward pass, not a global: gradient checkpointing
runs a layer a second time during the backward pass, perhaps in another thread and when any global
has changed. The second run sees the same replacements and records nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from torch import Tensor

from minibert.io.errors import InputError
from minibert.layout import Layout

Replacement = Callable[[Tensor], Tensor]

_OF_ROWS = ("pooler.", "next_sentence.")  # values with one line for each row, not for each token


class Trace:
    """Reads and replaces values of one forward pass.

    Args:
        read: names to keep, where `*` stands for anything (`"layers.*.attention.query"`). Values
            keep their graph, so gradients flow through them; run under `torch.no_grad()` to save
            the memory.
        replace: name (or pattern) -> a function from the value to the one used in its place, of the
            same shape and dtype. Under gradient checkpointing it is called twice and has to give
            the same value twice.

    Attributes:
        values: name -> tensor, for the names that were asked for, of the last forward pass.
        names: every name that the last forward pass went through, in order.
        layout: who sits where in the packed values of the last forward pass.
    """

    def __init__(self, *read: str, replace: Mapping[str, Replacement] | None = None):
        self.read = read
        self.replace = dict(replace or {})
        self.values: dict[str, Tensor] = {}
        self.names: list[str] = []
        self.layout: Layout | None = None

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.values:
            raise InputError(f"The trace holds no {name!r}: {self._why_absent(name)}", key=name)
        return self.values[name]

    def padded(self, name: str) -> Tensor:
        """A packed value (T, ...) spread over its columns: (B, S, ...), zeros at padding."""
        value = self[name]
        assert self.layout is not None
        not_packed = name.startswith(_OF_ROWS) or name.endswith((".scores", ".pattern"))
        if not_packed or value.shape[0] != self.layout.tokens:
            raise InputError(f"{name} has shape {tuple(value.shape)}: it is not packed.", key=name)
        return self.layout.pad(value)  # (B, S, ...)

    def begin(self, layout: Layout) -> Scope:
        """Forgets the last pass; called by the model at the top of its forward pass."""
        self.values, self.names, self.layout = {}, [], layout
        return Scope(self)

    def finish(self) -> None:
        """Raises InputError for a name that nothing in the finished pass was called by."""
        for pattern in (*self.read, *self.replace):
            if not any(fnmatchcase(name, pattern) for name in self.names):
                raise InputError(f"No value is named {pattern!r}. {self._nearest(pattern)}")

    def visit(self, name: str, value: Tensor, recording: bool) -> Tensor:
        for pattern, function in self.replace.items():
            if fnmatchcase(name, pattern):
                value = _replaced(name, value, function)
        if recording:
            self.names.append(name)
            if any(fnmatchcase(name, pattern) for pattern in self.read):
                self.values[name] = value
        return value

    def asks_for(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in (*self.read, *self.replace))

    def _why_absent(self, name: str) -> str:
        if name in self.names:
            return "the pass went through it, but it was not among the names to read."
        return f"no value of the last pass has that name. {self._nearest(name)}"

    def _nearest(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.names, n=3, cutoff=0.4)
        return f"Near it: {', '.join(near)}." if near else "See trace.names for those there are."


class Scope:
    """A trace and the place in the network that names are now relative to.

    `scope("query", value)` gives the value back, or what replaces it. Without a trace it does
    nothing else, so the lines of the network call it whether or not anyone is looking.
    """

    def __init__(self, trace: Trace | None = None, prefix: str = "", recording: bool = True):
        self.trace, self.prefix, self.recording = trace, prefix, recording

    def __call__(self, name: str, value: Tensor) -> Tensor:
        if self.trace is None:
            return value
        return self.trace.visit(self.prefix + name, value, self.recording)

    def inside(self, name: str) -> Scope:
        """The scope of a part: `scope.inside("attention")("query", ...)` is "attention.query"."""
        if self.trace is None:
            return self
        return Scope(self.trace, f"{self.prefix}{name}.", self.recording)

    def asks_for(self, *names: str) -> bool:
        """Whether any of these is read or replaced."""
        return self.trace is not None and any(
            self.trace.asks_for(self.prefix + name) for name in names
        )

    def replaying(self) -> Scope:
        """The scope of a recomputation: values are replaced as before, nothing is recorded."""
        return Scope(self.trace, self.prefix, recording=False)


NO_TRACE = Scope()


def _replaced(name: str, value: Tensor, function: Replacement) -> Tensor:
    new = function(value)
    if new.shape != value.shape or new.dtype != value.dtype:
        raise InputError(
            f"The replacement for {name} has shape {tuple(new.shape)} and {new.dtype}, "
            f"but the value has {tuple(value.shape)} and {value.dtype}.",
            key=name,
        )
    return new
