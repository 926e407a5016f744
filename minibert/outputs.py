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

    Attributes:
        last_hidden_state: (B, S, D), zeros at padding.
        pooled: (B, D); None for a model without a pooler.
        hidden_states: L + 1 tensors (B, S, D), the embeddings first, if asked for.
        attentions: L tensors (B, N, S, S), after dropout in training, if asked for. The trace names
            "layers.*.attention.scores" are read before softmax and dropout.
    """

    last_hidden_state: Tensor
    pooled: Tensor | None
    hidden_states: States
    attentions: States

    @property
    def pooler_output(self) -> Tensor:
        """(B, D): tanh(W h + b) of each row's first token; zeros for a row without tokens.

        Raises:
            InputError: the model has no pooler.
        """
        if self.pooled is None:
            raise InputError(
                "This model has no pooler: its checkpoint held none, or it is a DistilBERT.",
                key="pooler_output",
                hint="Take last_hidden_state[:, 0], the [CLS] vector below the pooler.",
            )
        return self.pooled


@dataclass(frozen=True)
class HeadOutput:
    """What a model with a head returns.

    Attributes:
        loss: the mean over the labels that count (0 if none does); None without labels.
        loss_terms: name -> (sum, count); `loss` is the sum of sum / count.
        logits: the head's numbers before softmax or sigmoid; see the head for their shape.
        hidden_states, attentions: as in BertOutput, if asked for.
    """

    loss: Tensor | None
    loss_terms: dict[str, tuple[Tensor, float]]
    logits: Any
    hidden_states: States
    attentions: States


@dataclass(frozen=True)
class SpanOutput(HeadOutput):
    """Logits (B, S, 2), for each column to be the start and the end."""

    @property
    def start_logits(self) -> Tensor:
        return self.logits[..., 0]  # (B, S)

    @property
    def end_logits(self) -> Tensor:
        return self.logits[..., 1]  # (B, S)


@dataclass(frozen=True)
class PreTrainingOutput(HeadOutput):
    """Logits of both heads: `logits` is the pair of the two below."""

    @property
    def prediction_logits(self) -> Tensor:
        return self.logits[0]  # (B, S, V), of the masked-LM head

    @property
    def seq_relationship_logits(self) -> Tensor:
        return self.logits[1]  # (B, 2), of the next-sentence head


@dataclass(frozen=True)
class Encoded:
    """What a head starts from: packed results of the body, and the scope they were made in.

    Attributes:
        hidden: (T, D), the last hidden state.
        pooled: (B, D), or None for a model without a pooler.
        scope: for the head's own taps.
        asked: the trace that reads hidden_states and attentions for the output.
    """

    hidden: Tensor
    pooled: Tensor | None
    scope: Scope
    asked: Trace

    @property
    def layout(self) -> Layout:
        return self.scope.layout

    def finish(self) -> tuple[States, States]:
        """Closes the traces; returns the output's hidden_states and attentions."""
        for trace in self.scope.traces:
            trace.finish()
        values = self.asked.values
        patterns = [name for name in values if name.endswith(".pattern")]
        states = [self.layout.pad(values[name]) for name in values if name not in patterns]
        attentions = [values[name] for name in patterns]
        return tuple(states) or None, tuple(attentions) or None  # (B, S, D), (B, N, S, S) each
