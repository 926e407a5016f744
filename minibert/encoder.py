"""The encoder: a stack of L layers, each of them self-attention and a feed-forward block.

Vaswani et al. 2017, section 3.1 and figure 1 (left half).
"""

from __future__ import annotations

from functools import partial
from itertools import chain, repeat

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minibert.attention import SelfAttention
from minibert.config import BertConfig
from minibert.layers import FeedForward
from minibert.trace import Scope


class EncoderLayer(nn.Module):
    """LayerNorm(x + Sublayer(x)), for attention and then for the feed-forward block.

    The norm comes after the sum ("post-norm"), as in the paper; many later models put it before.
    """

    def __init__(self, config: BertConfig, number: int):
        super().__init__()
        size, eps = config.hidden_size, config.layer_norm_eps
        self.attention = SelfAttention(config, config.heads_of(number))
        self.attention_dropout = nn.Dropout(config.attention_output_dropout)
        self.attention_norm = nn.LayerNorm(size, eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.feed_forward_norm = nn.LayerNorm(size, eps)

    def forward(self, hidden: Tensor, scope: Scope) -> Tensor:
        """hidden (T, D) -> hidden (T, D)."""
        inside = scope.inside("attention")
        attended = self.attention(hidden, inside)  # (T, D)
        total = hidden + self.attention_dropout(attended)  # (T, D)
        total = inside.tap("residual", total)
        hidden = self.attention_norm(total)  # (T, D)
        hidden = inside.tap("norm", hidden)

        inside = scope.inside("feed_forward")
        fed = self.feed_forward(hidden, inside)  # (T, D)
        total = hidden + self.feed_forward_dropout(fed)  # (T, D)
        total = inside.tap("residual", total)
        hidden = self.feed_forward_norm(total)  # (T, D)
        return inside.tap("norm", hidden)


class Encoder(nn.Module):
    """L layers.

    With `gradient_checkpointing`, training keeps only each layer's input, and runs the layer again in
    the backward pass (Chen et al. 2016, section 3): less memory, a third more time, the same
    gradients bit for bit.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        numbers = range(config.num_hidden_layers)
        self.layers = nn.ModuleList(EncoderLayer(config, number) for number in numbers)
        self.gradient_checkpointing = False

    def forward(self, hidden: Tensor, scope: Scope) -> Tensor:
        """hidden (T, D) -> hidden (T, D)."""
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        for number, layer in enumerate(self.layers):
            run = partial(_recomputed, layer) if recompute else layer
            hidden = run(hidden, scope.inside(f"layers.{number}"))  # (T, D)
        return hidden


def _recomputed(layer: nn.Module, hidden: Tensor, scope: Scope) -> Tensor:
    # The first run records for traces; the one in the backward pass does not.
    scopes = chain([scope], repeat(scope.replaying()))
    # Non-reentrant: the reentrant form gives no gradients at all below frozen embeddings.
    return checkpoint(lambda x: layer(x, next(scopes)), hidden, use_reentrant=False)  # (T, D)
