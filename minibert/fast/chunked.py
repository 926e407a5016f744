"""Attention for training on a CPU: the equation of attention.py and its gradient, written out.

The numbers are those of `attention_by_hand`; a test holds the two together. It saves traffic with
the memory, which costs more than the arithmetic once a pattern has outgrown the cache:

- rows are taken in chunks, so that a pattern is still in the cache when softmax, dropout and the
  products come to it, and again on the way back;
- 1/sqrt(H) goes to the queries and dropout's scale to the values, which are small, and not to the
  patterns;
- of dropout only the random bits are kept, and the mask is made from them a second time.

The gradient, with P the pattern, M the mask of dropout, and * element by element:

    scores = Q K^T        P = softmax(scores)        C = (M * P) V
    dV = (M * P)^T dC     dP = M * (dC V^T)          dS = P * (dP - rows of sum(dP * P))
    dQ = dS K             dK = dS^T Q
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from minibert.fast.dropout import dropout_bits, dropout_mask, dropout_scale
from minibert.io.errors import InputError

# Numbers of a pattern in a chunk: 1 MB in fp32, which leaves half of a common level 2 cache free.
_CHUNK = 2**18

Groups = Sequence[tuple[int, int]]


def attention_in_chunks(query: Tensor, key: Tensor, value: Tensor, groups: Groups, dropout_p: float = 0.0) -> Tensor:
    """softmax(Q K^T / sqrt(H)) V within each row, with dropout on the pattern.

    Can be differentiated once: neither a second derivative nor `torch.func` goes through it.

    Args:
        query, key, value: (T, N, H), packed; rows below those of the groups are passed over.
        groups: (rows, length) of each block of rows of one length, as in `Layout`.
        dropout_p: rate of dropout on the pattern.

    Returns:
        The context (T, N, H).
    """
    query = query / math.sqrt(query.shape[-1])  # (T, N, H)
    value = value * dropout_scale(dropout_p)  # (T, N, H)
    context: Tensor = _AttentionInChunks.apply(query, key, value, groups, dropout_p)  # (T, N, H)
    return context


class _AttentionInChunks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, groups: Groups, dropout_p: float) -> Tensor:
        heads = query.shape[1]
        numbers = sum(rows * heads * length**2 for rows, length in groups)
        bits = dropout_bits(numbers, dropout_p)  # (numbers of all patterns,)
        tokens = sum(rows * length for rows, length in groups)
        context = _zero_from(tokens, torch.empty_like(query))  # (T, N, H)
        patterns = []
        # The dtypes are settled: autocast has already chosen that of the queries.
        with torch.autocast(query.device.type, enabled=False):
            for chunk in _chunks(groups, heads):
                q, k, v = (chunk.take(part) for part in (query, key, value))  # (R*N, S, H)
                pattern = _pattern(q, k)  # (R*N, S, S)
                patterns.append(pattern)
                if bits is not None:
                    pattern = chunk.mask(bits, dropout_p, pattern).mul_(pattern)  # (R*N, S, S)
                chunk.put(torch.bmm(pattern, v), context)  # (R*N, S, H)
        ctx.save_for_backward(query, key, value, bits, *patterns)
        ctx.groups, ctx.dropout_p = groups, dropout_p
        return context

    @staticmethod
    def backward(ctx: Any, context_gradient: Tensor) -> tuple[Tensor | None, ...]:
        # torch's own `once_differentiable` says nothing where `autograd.grad` is asked for some
        # inputs alone, and the second derivative would be wrong in silence.
        if torch.is_grad_enabled():
            raise InputError(
                "Attention in chunks has no second derivative, which create_graph=True asks for.",
                key="attention",
                hint="Set `attend` of the attention modules to partial(attend_by_length, "
                "form=attention_by_hand), or do not accelerate the model.",
            )
        query, key, value, bits, *patterns = ctx.saved_tensors
        tokens = sum(rows * length for rows, length in ctx.groups)
        query_gradient, key_gradient, value_gradient = (
            _zero_from(tokens, torch.empty_like(part))  # (T, N, H)
            for part in (query, key, value)
        )
        chunks = _chunks(ctx.groups, query.shape[1])
        for chunk, pattern in zip(chunks, patterns, strict=True):
            parts = (query, key, value, context_gradient)
            q, k, v, dc = (chunk.take(part) for part in parts)  # (R*N, S, H)
            dp = torch.bmm(dc, v.transpose(1, 2))  # (R*N, S, S)
            kept = pattern  # (R*N, S, S)
            if bits is not None:
                mask = chunk.mask(bits, ctx.dropout_p, pattern)  # (R*N, S, S)
                dp.mul_(mask)
                kept = mask.mul_(pattern)  # (R*N, S, S)
            # In 16 bits it adds up in 32: a sum that is rounded would shift a whole row of dS.
            ds = torch._softmax_backward_data(dp, pattern, -1, pattern.dtype)  # (R*N, S, S)
            chunk.put(torch.bmm(ds, k), query_gradient)  # (R*N, S, H)
            chunk.put(torch.bmm(ds.transpose(1, 2), q), key_gradient)  # (R*N, S, H)
            chunk.put(torch.bmm(kept.transpose(1, 2), dc), value_gradient)  # (R*N, S, H)
        return query_gradient, key_gradient, value_gradient, None, None


def _pattern(query: Tensor, key: Tensor) -> Tensor:
    """softmax(Q K^T): (R*N, S, H) twice -> (R*N, S, S).

    Scores are never rounded to 16 bits, as they are not in torch's own kernels: bf16 would put a
    score of 20 off by up to 0.06, and its share of the pattern by as much as 6%.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    scores = torch.bmm(query.to(wide), key.to(wide).transpose(1, 2))  # (R*N, S, S)
    return scores.softmax(dim=-1).to(query.dtype)  # (R*N, S, S)


def _zero_from(tokens: int, packed: Tensor) -> Tensor:
    """Zeros in the spare rows below the tokens (see rows.py), which no chunk writes to."""
    packed[tokens:] = 0
    return packed  # (T, N, H)


class _Chunk:
    """Some rows of one length: where their tokens and their patterns are."""

    def __init__(self, rows: int, length: int, heads: int, token: int, number: int):
        self.rows, self.length, self.heads = rows, length, heads
        self.tokens = slice(token, token + rows * length)
        self.numbers = slice(number, number + rows * heads * length**2)

    def take(self, packed: Tensor) -> Tensor:
        """(T, N, H) -> (R*N, S, H)."""
        table = packed[self.tokens].reshape(self.rows, self.length, self.heads, -1)  # (R, S, N, H)
        # A view where R is 1, else a copy: it fits the cache.
        return table.transpose(1, 2).reshape(self.rows * self.heads, self.length, -1)  # (R*N, S, H)

    def put(self, blocks: Tensor, packed: Tensor) -> None:
        """Writes (R*N, S, H) to its place in (T, N, H)."""
        table = blocks.view(self.rows, self.heads, self.length, -1).transpose(1, 2)  # (R, S, N, H)
        packed[self.tokens].view(table.shape).copy_(table)  # (R, S, N, H)

    def mask(self, bits: Tensor, dropout_p: float, pattern: Tensor) -> Tensor:
        """1 where the pattern is kept and 0 where it is dropped: (R*N, S, S)."""
        return dropout_mask(bits[self.numbers], dropout_p, pattern)  # (R*N, S, S)


def _chunks(groups: Groups, heads: int) -> Iterator[_Chunk]:
    token = number = 0
    for rows, length in groups:
        at_once = max(1, _CHUNK // (heads * length**2))
        for first in range(0, rows, at_once):
            chunk = _Chunk(min(at_once, rows - first), length, heads, token, number)
            token, number = chunk.tokens.stop, chunk.numbers.stop
            yield chunk
