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

These are names of values, not of modules: the norm after attention is module attention_norm.

Scores and patterns do not exist inside a fused kernel. Asking for one of them, and nothing else,
makes that layer compute its attention step by step.

A trace is an argument, not a global: gradient checkpointing runs a layer again in the backward
pass, perhaps in another thread, with the same replacements and without recording.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from torch import Tensor

from minibert.io.checks import require
from minibert.io.errors import InputError
from minibert.layout import Layout

Replacement = Callable[[Tensor], Tensor]
Tap = Callable[[str, Tensor], Tensor]

_OF_ROWS = ("pooler.", "next_sentence.")  # values with a line for each row, not for each token


class Trace:
    """Reads and replaces values of one forward pass.

    Args:
        read: names to keep, where `*` stands for anything (`"layers.*.attention.query"`). Values
            keep their graph; run under `torch.no_grad()` to save the memory.
        replace: name (or pattern) -> a function from the value to the one used in its place, of the
            same shape and dtype. Under gradient checkpointing it is called twice.
    """

    def __init__(self, *read: str, replace: Mapping[str, Replacement] | None = None):
        self.read = read
        self.replace = dict(replace or {})
        # Of the last forward pass: the values that were read, every name in order, where the tokens stood.
        self.values: dict[str, Tensor] = {}
        self.names: list[str] = []
        self.layout: Layout | None = None
        self._known: dict[str, None] = {}  # names that exist, whether the pass made them or not

    def __getitem__(self, name: str) -> Tensor:
        """The value of a name. InputError if it was not read, with the nearest names there are."""
        if name in self.values:
            return self.values[name]
        require(name not in self.names, name, "is not among the names that this trace reads.")
        raise InputError(f"The last pass has no value {name!r}. {self._nearest(name)}", key=name)

    def padded(self, name: str) -> Tensor:
        """A packed value (T, ...) spread over the columns of the batch: (B, S, ...), else zeros."""
        value = self[name]
        assert self.layout is not None
        not_packed = name.startswith(_OF_ROWS) or name.endswith((".scores", ".pattern"))
        packed = not not_packed and value.shape[0] == self.layout.tokens
        require(packed, name, f"has shape {tuple(value.shape)}: it is not packed.")
        return self.layout.pad(value)  # (B, S, ...)

    def forget(self, layout: Layout) -> None:
        """Begins a new pass."""
        self.values, self.names, self.layout, self._known = {}, [], layout, {}

    def visit(self, name: str, value: Tensor, recording: bool) -> Tensor:
        """The value, or what replaces it."""
        for pattern, function in self.replace.items():
            if fnmatchcase(name, pattern):
                new = function(value)
                found, wanted = (f"{tuple(x.shape)} and {x.dtype}" for x in (new, value))
                require(found == wanted, name, f"is replaced by {found}, but has {wanted}.")
                value = new
        if recording:
            self.names.append(name)
            self._known[name] = None
            if any(fnmatchcase(name, pattern) for pattern in self.read):
                self.values[name] = value
        return value

    def asks_for(self, name: str) -> bool:
        """Whether a value that would not be made otherwise is read or replaced."""
        self._known[name] = None
        return any(fnmatchcase(name, pattern) for pattern in (*self.read, *self.replace))

    def finish(self) -> None:
        """Raises InputError for a name that no value of the finished pass has."""
        for pattern in (*self.read, *self.replace):
            if not any(fnmatchcase(name, pattern) for name in self.names):
                message = f"No value is named {pattern!r}. {self._nearest(pattern)}"
                raise InputError(message, key=pattern)

    def _nearest(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._known, n=3, cutoff=0.4)
        return f"Near it: {', '.join(near)}." if near else "trace.names lists those there are."


class Scope:
    """What is passed down through the layers: the layout of the tokens, and a tap for traces.

    `value = scope.tap("query", value)` names a value; a trace may keep it or replace it. Without a
    trace it returns the value as it is, so the network taps whether or not anyone is looking.
    `prefix` is that of the names here ("layers.3.attention."); `recording` is off where a layer is
    computed again in the backward pass.
    """

    def __init__(self, layout: Layout, *traces: Trace, prefix: str = "", recording: bool = True):
        self.layout, self.traces, self.prefix, self.recording = layout, traces, prefix, recording

    def tap(self, name: str, value: Tensor) -> Tensor:
        """The value, or what a trace puts in its place."""
        for trace in self.traces:
            value = trace.visit(self.prefix + name, value, self.recording)
        return value

    def asks_for(self, *names: str) -> bool:
        """Whether a trace reads or replaces any of these."""
        return any([trace.asks_for(self.prefix + n) for trace in self.traces for n in names])

    def inside(self, name: str) -> Scope:
        """The scope of a part: `scope.inside("attention").tap("query", ...)`."""
        prefix = f"{self.prefix}{name}."
        return Scope(self.layout, *self.traces, prefix=prefix, recording=self.recording)

    def replaying(self) -> Scope:
        """The scope of a recomputation: replaces as before, records nothing."""
        return Scope(self.layout, *self.traces, prefix=self.prefix, recording=False)


def untapped(name: str, value: Tensor) -> Tensor:
    """The tap of a function that is called outside a network: returns the value as it is."""
    return value
