"""What models return. Tensors are padded again: (B, S, ...), as they came in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from minibert.io.errors import InputError
from minibert.layout import Layout
from minibert.trace import Scope, Trace

States = tuple[Tensor, ...] | None


@dataclass(frozen=True)
class BertOutput:
    """What BertModel returns.

    In training `attentions` are after dropout, as in transformers' eager form; a trace of
    "layers.*.attention.scores" reads what dropout has not touched.
    """

    last_hidden_state: Tensor  # (B, S, D), zeros at padding
    pooled: Tensor | None  # (B, D), if the model has a pooler
    hidden_states: States  # L + 1 tensors (B, S, D), the embeddings first, if asked for
    attentions: States  # L tensors (B, N, S, S), if asked for

    @property
    def pooler_output(self) -> Tensor:
        """(B, D): tanh(W h + b) of each row's first token. InputError without a pooler."""
        if self.pooled is None:
            message = "This model has no pooler: its checkpoint held none, or it is a DistilBERT."
            hint = "Take last_hidden_state[:, 0], the [CLS] vector below the pooler."
            raise InputError(message, key="pooler_output", hint=hint)
        return self.pooled


@dataclass(frozen=True)
class HeadOutput:
    """What a model with a head returns."""

    loss: Tensor | None  # (), the mean over the labels that count, 0 if none does
    loss_terms: dict[str, tuple[Tensor, float]]  # name -> (sum, count); their means make the loss
    logits: Any  # before softmax or sigmoid; see the head for their shape
    hidden_states: States  # as in BertOutput
    attentions: States


@dataclass(frozen=True)
class SpanOutput(HeadOutput):
    """Logits (B, S, 2), for each column to be the start and the end."""

    start_logits = property(lambda self: self.logits[..., 0])  # (B, S)
    end_logits = property(lambda self: self.logits[..., 1])  # (B, S)


@dataclass(frozen=True)
class PreTrainingOutput(HeadOutput):
    """Logits of both heads: `logits` is the pair of the two below."""

    prediction_logits = property(lambda self: self.logits[0])  # (B, S, V), masked LM
    seq_relationship_logits = property(lambda self: self.logits[1])  # (B, 2), next sentence


@dataclass(frozen=True)
class Encoded:
    """What a head starts from: packed results of the body, and the scope they were made in."""

    hidden: Tensor  # (T, D), the last hidden state
    pooled: Tensor | None  # (B, D), if the model has a pooler
    scope: Scope
    asked: Trace  # reads hidden_states and attentions for the output

    @property
    def layout(self) -> Layout:
        return self.scope.layout

    def finish(self) -> tuple[States, States]:
        """Closes the traces; returns the output's hidden_states and attentions."""
        for trace in self.scope.traces:
            trace.finish()
        values = self.asked.values.items()
        states = [self.layout.pad(value) for name, value in values if not name.endswith(".pattern")]
        patterns = [value for name, value in values if name.endswith(".pattern")]
        return tuple(states) or None, tuple(patterns) or None  # (B, S, D), (B, N, S, S) each
