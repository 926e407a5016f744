"""The encoder: a stack of L layers, each self-attention and feed-forward with their residual sums.

Vaswani et al. 2017, section 3.1 and figure 1 (left half). On a CPU with AMX the stack may run on a
few spare rows below the T real tokens (see `_filled_up`); they end where it ends.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from minibert.attention import SelfAttention
from minibert.config import BertConfig
from minibert.layers import Dropout, FeedForward, LayerNorm
from minibert.layout import Layout
from minibert.trace import NO_TRACE, Scope

_ROWS = 32  # see _filled_up


class EncoderLayer(nn.Module):
    """LayerNorm(x + Sublayer(x)), for attention and then for the feed-forward block.

    The norm comes after the sum ("post-norm"), as in the paper; many later models put it before.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        # DistilBERT has no dropout between the attention's output projection and the sum.
        attention_dropout = 0.0 if config.is_distilbert else config.hidden_dropout_prob
        self.attention = SelfAttention(config)
        self.attention_dropout = Dropout(attention_dropout)
        self.attention_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_dropout = Dropout(config.hidden_dropout_prob)
        self.feed_forward_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(
        self, hidden: Tensor, layout: Layout, scope: Scope = NO_TRACE, pattern_wanted: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """hidden (T, D) -> hidden (T, D), and the attention pattern (B, N, S, S) if wanted."""
        in_attention, in_feed_forward = scope.inside("attention"), scope.inside("feed_forward")
        attended, pattern = self.attention(hidden, layout, in_attention, pattern_wanted)  # (T, D)
        total = in_attention("residual", hidden + self.attention_dropout(attended))  # (T, D)
        hidden = in_attention("norm", self.attention_norm(total))  # (T, D)
        fed = self.feed_forward(hidden, in_feed_forward)  # (T, D)
        total = in_feed_forward("residual", hidden + self.feed_forward_dropout(fed))  # (T, D)
        return in_feed_forward("norm", self.feed_forward_norm(total)), pattern  # (T, D)


class Encoder(nn.Module):
    """L layers.

    Attributes:
        gradient_checkpointing: keep only each layer's input in training and run the layer again in
            the backward pass (Chen et al. 2016, section 3): less memory, a third more time, the
            same gradients bit for bit.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.gradient_checkpointing = False

    def forward(
        self, hidden: Tensor, layout: Layout, scope: Scope = NO_TRACE, patterns_wanted: bool = False
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Runs the stack.

        Returns:
            The L + 1 hidden states (T, D), the embeddings first, and the L patterns (B, N, S, S),
            an empty list if they are not wanted.
        """
        tokens = len(hidden)
        if scope.trace is None and not patterns_wanted:
            hidden = _filled_up(hidden)  # (T + spare, D)
        states, patterns = [hidden], []
        for number, layer in enumerate(self.layers):
            run = _Recomputed(layer) if self._recompute() else layer
            in_layer = scope.inside(f"layers.{number}")
            hidden, pattern = run(states[-1], layout, in_layer, patterns_wanted)  # (T + spare, D)
            states.append(hidden)
            if pattern is not None and patterns_wanted:
                patterns.append(pattern)
        if len(states[0]) > tokens:
            states = [state[:tokens] for state in states]  # (T, D) each
        return states, patterns

    def _recompute(self) -> bool:
        return self.gradient_checkpointing and self.training and torch.is_grad_enabled()


def _filled_up(hidden: Tensor) -> Tensor:
    """(T, D) -> (T + spare, D): zeros below, so that the rows are a multiple of 32.

    On a CPU with AMX oneDNN writes a kernel for every shape of a bf16 product that it meets, which
    takes several times as long as the product, and nearly every batch has another T. What acts on
    each position alone does nothing with spare rows that reaches the others, and attention passes
    over them. The results are the same but for rounding, and for which numbers dropout draws. A
    pass that is traced is not filled up.
    """
    if hidden.device.type != "cpu" or not _has_amx():
        return hidden
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else hidden.dtype
    if dtype != torch.bfloat16:
        return hidden
    return F.pad(hidden, (0, 0, 0, -len(hidden) % _ROWS))  # (T + spare, D)


@cache
def _has_amx() -> bool:
    return torch.cpu._is_amx_tile_supported()


class _Recomputed:
    """A layer that torch.utils.checkpoint runs now and again in the backward pass."""

    def __init__(self, layer: nn.Module):
        self.layer = layer
        self.runs = 0

    def __call__(
        self, hidden: Tensor, layout: Layout, scope: Scope, pattern_wanted: bool
    ) -> tuple[Tensor, Tensor | None]:
        # Non-reentrant: the reentrant form gives no gradients at all below frozen embeddings.
        return checkpoint(self._run, hidden, layout, scope, pattern_wanted, use_reentrant=False)

    def _run(
        self, hidden: Tensor, layout: Layout, scope: Scope, pattern_wanted: bool
    ) -> tuple[Tensor, Tensor | None]:
        self.runs += 1
        scope = scope if self.runs == 1 else scope.replaying()
        return self.layer(hidden, layout, scope, pattern_wanted)
