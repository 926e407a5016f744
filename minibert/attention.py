"""Self-attention, the only place where positions see each other.

Vaswani et al. 2017, section 3.2: equation 1 for the attention, section 3.2.2 for the heads.

Attention is written twice, with one signature. `attention_by_hand` is the equation, and gives the
attention pattern; `attention_sdpa` hands the same work to torch's fused kernel, which never makes
the pattern. A third form, in chunked.py, is for training on a CPU. Tests hold them together.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minibert.config import BertConfig
from minibert.fast.chunked import attention_in_chunks
from minibert.layers import Linear, dropout
from minibert.layout import Layout
from minibert.trace import NO_TRACE, Scope

IMPLEMENTATIONS = ("auto", "by_hand", "sdpa", "in_chunks", "varlen")


def attention_by_hand(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout_p: float = 0.0,
    scope: Scope = NO_TRACE,
) -> tuple[Tensor, Tensor | None]:
    """softmax(Q K^T / sqrt(H)) V, step by step.

    Args:
        query, key, value: (B, N, S, H).
        mask: (B, S) bool, True = a real token; None: all are real.
        dropout_p: rate of dropout on the pattern.

    Returns:
        The context (B, N, S, H) and the pattern (B, N, S, S) that weighed the values: after
        dropout, zero in the rows and columns of padding.
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (B, N, S, S)
    scores = scope("scores", scores)  # (B, N, S, S)
    if mask is not None:
        both_real = mask[:, None, :, None] & mask[:, None, None, :]  # (B, 1, S, S)
        # The smallest number instead of -inf: a row that is all padding stays finite.
        scores = scores.masked_fill(~both_real, torch.finfo(scores.dtype).min)  # (B, N, S, S)
    pattern = scores.softmax(dim=-1)  # (B, N, S, S)
    if mask is not None:
        pattern = pattern.masked_fill(~both_real, 0.0)  # (B, N, S, S)
    if dropout_p > 0.0:
        pattern = dropout(pattern, dropout_p)  # (B, N, S, S)
    pattern = scope("pattern", pattern)  # (B, N, S, S)
    return pattern.to(value.dtype) @ value, pattern  # (B, N, S, H)


def attention_sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout_p: float = 0.0,
    scope: Scope = NO_TRACE,
) -> tuple[Tensor, Tensor | None]:
    """The same by torch's scaled_dot_product_attention; the pattern never exists, so it is None."""
    keys = None if mask is None else mask[:, None, None, :]  # (B, 1, 1, S)
    context = F.scaled_dot_product_attention(query, key, value, attn_mask=keys, dropout_p=dropout_p)
    return context, None  # (B, N, S, H)


def attention_varlen(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> Tensor:
    """All rows in one call of the flash kernel for rows of different lengths, on a GPU.

    Args:
        query, key, value: (T, N, H), packed, in fp16 or bf16.

    Returns:
        The context (T, N, H). There is no dropout in this kernel.
    """
    from torch.nn.attention.varlen import varlen_attn  # takes a second: only where it is used

    longest = layout.groups[-1][1]
    rows = layout.boundaries  # (rows + 1,)
    context = varlen_attn(query, key, value, rows, rows, longest, longest)  # (T, N, H)
    assert isinstance(context, Tensor)
    return context


class SelfAttention(nn.Module):
    """Multi-head self-attention over packed tokens, with its output projection.

    Attributes:
        implementation: one of `IMPLEMENTATIONS`. "auto": in chunks for training on a CPU,
            which SDPA is slow at (with dropout most of all); varlen on a GPU that has it, without
            dropout and in 16 bits; SDPA elsewhere. For second derivatives take "by_hand".
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        size = config.hidden_size
        self.heads = (config.num_attention_heads, config.head_size)  # N, H
        self.dropout_p = config.attention_probs_dropout_prob
        self.implementation = "auto"
        self.query = Linear(size, size)
        self.key = Linear(size, size)
        self.value = Linear(size, size)
        self.output = Linear(size, size)

    def forward(
        self, hidden: Tensor, layout: Layout, scope: Scope = NO_TRACE, pattern_wanted: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """hidden (T, D) -> output (T, D), and the pattern (B, N, S, S) if it is wanted."""
        query = scope("query", self.query(hidden).unflatten(1, self.heads))  # (T, N, H)
        key = scope("key", self.key(hidden).unflatten(1, self.heads))  # (T, N, H)
        value = scope("value", self.value(hidden).unflatten(1, self.heads))  # (T, N, H)
        if pattern_wanted or scope.asks_for("scores", "pattern"):
            context, pattern = self._attend_padded(query, key, value, layout, scope)
        else:
            context, pattern = self._attend_by_group(query, key, value, layout), None
        context = scope("context", context)  # (T, N, H)
        return scope("output", self.output(context.flatten(1))), pattern  # (T, D)

    def _attend_by_group(self, query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> Tensor:
        """Attention among the rows of each length: dense blocks, no padding, no mask.

        Spare rows below those of the layout get none, and what comes out of them has no meaning.
        """
        dropout_p = self._dropout_now()
        implementation = self._implementation_now(query)
        if implementation == "in_chunks":
            return attention_in_chunks(query, key, value, layout.groups, dropout_p)  # (T, N, H)
        if implementation == "varlen" and layout.groups:  # on GPUs, where there are no spare rows
            return attention_varlen(query, key, value, layout)  # (T, N, H)
        attend = attention_by_hand if implementation == "by_hand" else attention_sdpa
        sizes = [rows * length for rows, length in layout.groups]
        sizes.append(len(value) - sum(sizes))  # spare rows, see encoder.py; most often none
        *blocks, (_, _, spare) = zip(
            query.split(sizes), key.split(sizes), value.split(sizes), strict=True
        )
        contexts = []
        for group, parts in zip(layout.groups, blocks, strict=True):
            q, k, v = (part.unflatten(0, group).transpose(1, 2) for part in parts)  # (R, N, S, H)
            context, _ = attend(q, k, v, dropout_p=dropout_p)  # (R, N, S, H)
            contexts.append(context.transpose(1, 2).flatten(0, 1))  # (R * S, N, H)
        return torch.cat([*contexts, spare.to(value.dtype)])  # (T, N, H)

    def _attend_padded(
        self, query: Tensor, key: Tensor, value: Tensor, layout: Layout, scope: Scope
    ) -> tuple[Tensor, Tensor | None]:
        """Attention by hand over the whole table, for whoever wants to see scores or pattern."""
        query, key, value = (
            layout.pad(part).transpose(1, 2)  # (B, N, S, H)
            for part in (query, key, value)
        )
        context, pattern = attention_by_hand(
            query, key, value, layout.mask, self._dropout_now(), scope
        )
        return layout.unpad(context.transpose(1, 2)), pattern  # (T, N, H)

    def _implementation_now(self, query: Tensor) -> str:
        if self.implementation != "auto":
            return self.implementation
        if query.device.type == "cpu":
            return "in_chunks" if self.training and query.requires_grad else "sdpa"
        in_16_bits = query.dtype in (torch.float16, torch.bfloat16)
        without_dropout = self._dropout_now() == 0.0
        return "varlen" if in_16_bits and without_dropout and _has_varlen(query.device) else "sdpa"

    def _dropout_now(self) -> float:
        return self.dropout_p if self.training else 0.0


@cache
def _has_varlen(device: torch.device) -> bool:
    """Whether torch has the kernel (2.10 and later) and the GPU runs it (Ampere and later)."""
    if device.type != "cuda" or not torch.backends.cuda.is_flash_attention_available():
        return False
    try:
        from torch.nn.attention import varlen  # noqa: F401
    except ImportError:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)
