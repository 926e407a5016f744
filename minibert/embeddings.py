"""Embeddings, the only place that sees ids: token + segment + position, then norm and dropout.

Devlin et al. 2019, section 3 ("Input/Output Representations") and figure 2.
NOTE(paper): positions are learned vectors, not the sines of Vaswani et al. 2017. The layer norm
after the sum is in the published code and weights, not in the paper's text.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minibert.config import BertConfig
from minibert.trace import Scope


class Embeddings(nn.Module):
    """For each real token, the sum of its rows in three tables. DistilBERT has no segment table."""

    def __init__(self, config: BertConfig):
        super().__init__()
        size = config.hidden_size
        self.word = nn.Embedding(config.vocab_size, size, padding_idx=config.pad_token_id)
        self.position = nn.Embedding(config.max_position_embeddings, size)
        segments = config.type_vocab_size
        self.segment = nn.Embedding(segments, size) if segments else None
        self.norm = nn.LayerNorm(size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, words: Tensor, positions: Tensor, segments: Tensor | None, scope: Scope) -> Tensor:
        """Embeds packed tokens: only the T real ones of a batch, in one line (see layout.py).

        Args:
            words: (T,) ids, or (T, D) vectors to use in place of the word table's rows.
            positions: (T,) the column of each token in its row.
            segments: (T,) 0 or 1; without them all are 0.
            scope: names the values; without a trace each comes back unchanged (see trace.py).

        Returns:
            (T, D).
        """
        word = words if words.is_floating_point() else self.word(words)  # (T, D)
        total = scope.tap("word", word)
        if self.segment is not None:
            segments = torch.zeros_like(positions) if segments is None else segments  # (T,)
            segment = self.segment(segments)  # (T, D)
            total = total + scope.tap("segment", segment)  # (T, D)
        position = self.position(positions)  # (T, D)
        total = total + scope.tap("position", position)  # (T, D)
        total = scope.tap("sum", total)
        normed = self.norm(total)  # (T, D)
        normed = scope.tap("norm", normed)
        output = self.dropout(normed)  # (T, D)
        return scope.tap("output", output)
