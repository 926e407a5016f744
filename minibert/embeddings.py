"""Embeddings, the only place that sees ids: token + segment + position, then norm and dropout.

Devlin et al. 2018, section 3 ("Input/Output Representations") and figure 2.
NOTE(paper): positions are learned vectors, not the sines of Vaswani et al. 2017; the layer norm
after the sum is in the published code and weights, not in the paper's text.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minibert.config import BertConfig
from minibert.layers import Dropout, Embedding, LayerNorm
from minibert.trace import NO_TRACE, Scope


class Embeddings(nn.Module):
    """The sum of three tables' rows for each real token. DistilBERT has no segment table."""

    def __init__(self, config: BertConfig):
        super().__init__()
        size = config.hidden_size
        self.word = Embedding(config.vocab_size, size, padding_idx=config.pad_token_id)
        self.position = Embedding(config.max_position_embeddings, size)
        self.segment = Embedding(config.type_vocab_size, size) if config.type_vocab_size else None
        self.norm = LayerNorm(size, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        words: Tensor,
        positions: Tensor,
        segments: Tensor | None = None,
        scope: Scope = NO_TRACE,
    ) -> Tensor:
        """Embeds packed tokens.

        Args:
            words: (T,) piece ids, or (T, D) vectors to be used in the word table's place.
            positions: (T,) column of each token in its row.
            segments: (T,) 0 or 1; None: all 0.

        Returns:
            (T, D).
        """
        word = words if words.is_floating_point() else self.word(words)  # (T, D)
        total = scope("word", word)  # (T, D)
        if self.segment is not None:
            segments = torch.zeros_like(positions) if segments is None else segments  # (T,)
            total = total + scope("segment", self.segment(segments))  # (T, D)
        total = total + scope("position", self.position(positions))  # (T, D)
        normed = scope("norm", self.norm(scope("sum", total)))  # (T, D)
        return scope("output", self.dropout(normed))  # (T, D)
