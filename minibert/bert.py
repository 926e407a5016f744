"""BertModel: embeddings, encoder and [CLS] pooler, with the familiar (B, S) face.

Devlin et al. 2018, section 3. Inside, everything but attention runs on the T real tokens (see
layout.py); outside, ids of shape (B, S) go in and hidden states (B, S, D) come out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from minibert.attention import IMPLEMENTATIONS
from minibert.base import Model
from minibert.config import BertConfig
from minibert.embeddings import Embeddings
from minibert.encoder import Encoder, EncoderLayer
from minibert.fast.prepared import can_prepare, prepare_layers, refusal, refuse_to_move
from minibert.io.errors import ConfigError, InputError
from minibert.layers import Linear, default_generator, initialise
from minibert.layout import Layout
from minibert.trace import NO_TRACE, Scope, Trace


@dataclass(frozen=True)
class BertOutput:
    """What BertModel gives back.

    Attributes:
        last_hidden_state: (B, S, D), zeros at padding.
        pooled: (B, D), or None where the model has no pooler.
        hidden_states: L + 1 tensors (B, S, D), the embeddings first, if asked for.
        attentions: L tensors (B, N, S, S), after dropout in training, if asked for.
    """

    last_hidden_state: Tensor
    pooled: Tensor | None
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None

    @property
    def pooler_output(self) -> Tensor:
        """(B, D): tanh(W h + b) of each row's first token; zeros for a row with no token.

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
class Encoded:
    """The forward pass before any head: packed hidden states and what is known of their rows."""

    layout: Layout
    states: list[Tensor]  # L + 1 of (T, D)
    pooled: Tensor | None  # (B, D)
    patterns: list[Tensor]  # L of (B, N, S, S), or none
    output_hidden_states: bool
    output_attentions: bool
    scope: Scope

    @property
    def hidden(self) -> Tensor:
        """The last hidden state, packed (T, D)."""
        return self.states[-1]

    def finish(self) -> tuple[tuple[Tensor, ...] | None, tuple[Tensor, ...] | None]:
        """Closes the trace, and gives the outputs' padded hidden_states and attentions."""
        if self.scope.trace is not None:
            self.scope.trace.finish()
        padded = tuple(map(self.layout.pad, self.states)) if self.output_hidden_states else None
        return padded, tuple(self.patterns) if self.output_attentions else None


class Pooler(nn.Module):
    """tanh(W h + b) of [CLS], the first token (Devlin et al. 2018, section 3.1, Task #2)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, first: Tensor, scope: Scope = NO_TRACE) -> Tensor:
        dense = scope("dense", self.dense(first))  # (B, D)
        return scope("output", torch.tanh(dense))  # (B, D)


class BertBase(Model):
    """The choice of an attention, and preparing for inference, for every model."""

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self._for_inference = False

    def for_inference(self, dtype: torch.dtype | None = None) -> Self:
        """Gives up everything but inference for speed, in place and for good.

        No gradients, no dropout, weights in one dtype and, on a CPU, laid out for its kernels (see
        prepared.py). The model can no longer be trained or saved.

        Args:
            dtype: what to compute in; None: the dtype of the weights. bf16 is half the size
                everywhere and fast where the processor multiplies matrices in it.
        """
        self.eval().requires_grad_(False)
        self.to(dtype or self.body.embeddings.word.weight.dtype)
        weights = self.body.embeddings.word.weight  # (V, D)
        if weights.device.type == "cpu" and can_prepare(weights.dtype):
            prepare_layers(self)
        self._for_inference = True
        return self

    def official_state_dict(self) -> dict[str, Tensor]:
        self._refuse_if_for_inference("saved")
        return super().official_state_dict()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        refuse_to_move(self, fn)  # before any part has moved
        return super()._apply(fn, recurse)

    def _refuse_if_for_inference(self, what: str) -> None:
        if self._for_inference:
            raise refusal(what)

    def train(self, mode: bool = True) -> Self:
        if mode:
            self._refuse_if_for_inference("trained")
        return super().train(mode)

    def use_attention(self, implementation: str) -> None:
        """Chooses how every layer attends: one of `IMPLEMENTATIONS` (see SelfAttention)."""
        if implementation not in IMPLEMENTATIONS:
            raise ConfigError(
                f"There is no attention called {implementation!r}.",
                key="attention",
            )
        for layer in self.body.encoder.layers:
            assert isinstance(layer, EncoderLayer)
            layer.attention.implementation = implementation


class BertModel(BertBase):
    """The bare network: token ids in, hidden states out.

    Args:
        config: sizes and rates.
        pooler: whether to have the [CLS] pooler; a DistilBERT never has one.
        generator: where new weights come from; None: one with seed 0.
    """

    def __init__(
        self,
        config: BertConfig,
        pooler: bool = True,
        generator: torch.Generator | None = None,
    ):
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.pooler = Pooler(config) if pooler and not config.is_distilbert else None
        initialise(self, config.initializer_range, default_generator(generator))

    @property
    def body(self) -> BertModel:
        return self

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **options: Any,
    ) -> BertOutput:
        """Runs the network; `encode` explains the arguments and has the options' names."""
        encoded = self.encode(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **options
        )
        last = encoded.layout.pad(encoded.hidden)  # (B, S, D)
        return BertOutput(last, encoded.pooled, *encoded.finish())

    def encode(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        layout: Layout | None = None,
        trace: Trace | None = None,
    ) -> Encoded:
        """The forward pass up to the pooler, packed; what every head starts from.

        Args:
            input_ids: (B, S) piece ids.
            attention_mask: (B, S), True or 1 = a real token; None: all columns are real.
            token_type_ids: (B, S) segments; None: all 0. Not for DistilBERT.
            position_ids: (B, S) or (1, S); None: the column, whatever side the padding is on.
            inputs_embeds: (B, S, D) vectors in place of the word table's rows for input_ids.
            output_hidden_states, output_attentions: whether the output holds them.
            layout: the Layout of attention_mask, if it has been made already; it then counts.
            trace: reads and replaces values on the way (see trace.py).

        Raises:
            InputError: shapes that disagree, ids beyond a table, a text longer than the positions.
        """
        words = _words(input_ids, inputs_embeds)
        self._check(words, attention_mask, token_type_ids, position_ids)
        if layout is None:
            mask = self._mask(words, attention_mask)
            layout = Layout.from_mask(mask.cpu()).to(words.device)
        _require_shape("layout", layout.mask, tuple(words.shape[:2]))
        if position_ids is None:
            positions = layout.cells % layout.columns  # (T,)
        else:
            positions = layout.unpad(position_ids.expand(words.shape[:2]))  # (T,)
        segments = None if token_type_ids is None else layout.unpad(token_type_ids)  # (T,)
        scope = NO_TRACE if trace is None else trace.begin(layout)
        hidden = self.embeddings(
            layout.unpad(words), positions, segments, scope.inside("embeddings")
        )  # (T, D)
        states, patterns = self.encoder(hidden, layout, scope, output_attentions)
        pooled = None
        if self.pooler is not None:
            first = layout.first_tokens(states[-1])  # (B, D)
            pooled = layout.zero_empty_rows(self.pooler(first, scope.inside("pooler")))  # (B, D)
        return Encoded(
            layout, states, pooled, patterns, output_hidden_states, output_attentions, scope
        )

    def _mask(self, words: Tensor, attention_mask: Tensor | None) -> Tensor:
        if attention_mask is not None:
            return attention_mask  # (B, S)
        pad = self.config.pad_token_id
        if pad is not None and not words.is_floating_point() and bool((words == pad).any()):
            warnings.warn(
                "input_ids holds padding but there is no attention_mask, so padding is read as "
                "text; hand the tokenizer's attention_mask to the model.",
                stacklevel=_LEVELS_TO_CALLER,
            )
        return torch.ones(words.shape[:2], dtype=torch.bool)  # (B, S)

    def _check(
        self,
        words: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
    ) -> None:
        """Names what is wrong before a lookup fails somewhere inside with an index error."""
        config = self.config
        table = tuple(words.shape[:2])
        if attention_mask is not None and attention_mask.dim() == 2:
            _require_shape("attention_mask", attention_mask, table)
        if position_ids is None and table[1] > config.max_position_embeddings:
            raise InputError(
                f"input_ids has {table[1]} columns, but the model has positions for "
                f"{config.max_position_embeddings}.",
                key="input_ids",
                hint="Cut the texts: the tokenizer does it with truncation on.",
            )
        if words.is_floating_point():
            _require_shape("inputs_embeds", words, (*table, config.hidden_size))
        else:
            _require_below("input_ids", words, config.vocab_size, "vocab_size")
        if position_ids is not None:
            rows = 1 if position_ids.shape[:1] == (1,) else table[0]
            _require_shape("position_ids", position_ids, (rows, table[1]))
            _require_below(
                "position_ids", position_ids, config.max_position_embeddings, "positions"
            )
        if token_type_ids is not None:
            if not config.type_vocab_size:
                raise InputError(
                    "token_type_ids were given, but DistilBERT has no segment table.",
                    key="token_type_ids",
                    hint="Leave them out; this model's own tokenizer does.",
                )
            _require_shape("token_type_ids", token_type_ids, table)
            _require_below(
                "token_type_ids", token_type_ids, config.type_vocab_size, "type_vocab_size"
            )


# From the warning in _mask up to whoever called the model: encode, forward, and torch's two calls.
_LEVELS_TO_CALLER = 6


def _words(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
    """The one of ids (B, S) and vectors (B, S, D) that was given."""
    if (input_ids is None) == (inputs_embeds is None):
        raise InputError("Give either input_ids or inputs_embeds, one of the two.", key="input_ids")
    words = input_ids if input_ids is not None else inputs_embeds
    assert words is not None
    name, dimensions = ("input_ids", 2) if inputs_embeds is None else ("inputs_embeds", 3)
    right_kind = words.is_floating_point() if inputs_embeds is not None else _is_integer(words)
    if words.dim() != dimensions or not right_kind:
        raise InputError(
            f"{name} has shape {tuple(words.shape)} and {words.dtype}.",
            key=name,
            hint="A batch of ids is (B, S), int64 or int32; one of vectors is (B, S, D).",
        )
    return words


def _is_integer(ids: Tensor) -> bool:
    return ids.dtype in (torch.int64, torch.int32)


def _require_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise InputError(
            f"{name} has shape {tuple(tensor.shape)}, but the batch needs {shape}.",
            key=name,
        )


def _require_below(name: str, ids: Tensor, size: int, size_name: str) -> None:
    """Refuses ids that the table of this size has no row for.

    A GPU is waited for here. The lookup itself would end the process there, without a word.
    """
    if not _is_integer(ids):
        raise InputError(
            f"{name} is {ids.dtype}, but ids are int64 or int32.",
            key=name,
        )
    if ids.numel() == 0:
        return
    smallest, largest = (int(number) for number in ids.aminmax())
    if smallest < 0 or largest >= size:
        raise InputError(
            f"{name} holds {largest if largest >= size else smallest}, but the model's {size_name} "
            f"is {size}.",
            key=name,
            hint="Is the tokenizer the one that belongs to this model?",
        )
