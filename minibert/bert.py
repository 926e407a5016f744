"""BertModel: embeddings, encoder and [CLS] pooler.

Devlin et al. 2019, section 3. Ids of shape (B, S) go in and hidden states (B, S, D) come out. In
between, everything runs on the T real tokens of the batch (see layout.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minibert.base import Model, initialise
from minibert.config import BertConfig
from minibert.embeddings import Embeddings
from minibert.encoder import Encoder
from minibert.inputs import Packed, pack
from minibert.layout import Layout
from minibert.outputs import BertOutput, Encoded
from minibert.trace import Scope, Trace


class Pooler(nn.Module):
    """tanh(W h + b) of [CLS], the first token (Devlin et al. 2019, section 3.1, Task #2)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, first: Tensor, scope: Scope) -> Tensor:
        """first (B, D) -> pooled (B, D)."""
        dense = self.dense(first)  # (B, D)
        dense = scope.tap("dense", dense)
        return scope.tap("output", torch.tanh(dense))  # (B, D)


class BertModel(Model):
    """The bare network: token ids in, hidden states out.

    Args:
        pooler: whether to have the [CLS] pooler; a DistilBERT never has one.
        generator: draws the new weights; without one, a generator with seed 0.
    """

    def __init__(self, config: BertConfig, pooler: bool = True, generator: torch.Generator | None = None):
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.pooler = Pooler(config) if pooler and not config.is_distilbert else None
        initialise(self, config.initializer_range, generator)

    @property
    def body(self) -> BertModel:
        return self

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None, position_ids: Tensor | None = None, inputs_embeds: Tensor | None = None,
        output_hidden_states: bool = False, output_attentions: bool = False,
        layout: Layout | None = None, trace: Trace | None = None,
    ) -> BertOutput:  # fmt: skip
        """Runs the network.

        Args:
            input_ids: (B, S).
            attention_mask: (B, S), True or 1 = a real token; without it all columns are real.
            token_type_ids: (B, S) segments; without them all are 0. Not for DistilBERT.
            position_ids: (B, S) or (1, S); without them the column, whatever side padding is on.
            inputs_embeds: (B, S, D) vectors in place of the word table's rows for input_ids.
            output_hidden_states, output_attentions: whether the output holds them.
            layout: the Layout of attention_mask, if it has been made already; it is used in its place.
            trace: reads and replaces values on the way (see trace.py).

        InputError for shapes that disagree, ids beyond a table, a text longer than the positions.
        """
        packed = pack(self.config, input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, layout)
        encoded = self.encode(packed, output_hidden_states, output_attentions, trace)
        last = encoded.layout.pad(encoded.hidden)  # (B, S, D)
        return BertOutput(last, encoded.pooled, *encoded.finish())

    def encode(
        self, packed: Packed, output_hidden_states: bool, output_attentions: bool, trace: Trace | None
    ) -> Encoded:
        """The forward pass as far as every head needs it, from the real tokens."""
        layout, asked = packed.layout, Trace()
        if output_hidden_states:
            asked.read += ("embeddings.output", "layers.*.feed_forward.norm")
        if output_attentions:
            asked.read += ("layers.*.attention.pattern",)
        traces = ([] if trace is None else [trace]) + ([asked] if asked.read else [])
        scope = Scope(layout, *traces)
        for looking in traces:
            looking.forget(layout)
        hidden = self.embeddings(packed.words, packed.positions, packed.segments, scope.inside("embeddings"))  # (T, D)
        hidden = self.encoder(hidden, scope)  # (T, D)
        pooled = None
        if self.pooler is not None:
            first = layout.first_tokens(hidden)  # (B, D)
            pooled = layout.zero_empty_rows(self.pooler(first, scope.inside("pooler")))  # (B, D)
        return Encoded(hidden, pooled, scope, asked)
