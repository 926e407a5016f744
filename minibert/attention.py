"""Self-attention: the only place where positions see each other.

Vaswani et al. 2017, section 3.2: equation 1 for one head, section 3.2.2 for many. The equation is
written twice: `attention_by_hand`, line by line, and `attention_sdpa`, by torch's fused kernel,
which never makes the pattern. Both see a dense block of rows; the two functions after them fit the
packed tokens of a batch to such blocks (see layout.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minibert.config import BertConfig
from minibert.io.errors import InputError
from minibert.layout import Layout
from minibert.trace import Scope, Tap, untapped


def attention_by_hand(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout_p: float = 0.0, tap: Tap = untapped
) -> Tensor:
    """softmax(Q K^T / sqrt(H)) V, step by step: (B, N, S, H) each -> the context (B, N, S, H).

    Args:
        mask: (B, S) bool, True = a real token; without a mask all tokens are real.
        dropout_p: rate of dropout on the pattern.
        tap: receives the scores and the pattern, (B, N, S, S) each. The pattern is the one that
            weighs the values: after dropout, zero in rows and columns of padding.
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (B, N, S, S)
    scores = tap("scores", scores)
    if mask is not None:
        both_real = mask[:, None, :, None] & mask[:, None, None, :]  # (B, 1, S, S)
        # The smallest number instead of -inf: a row that is all padding stays finite.
        scores = scores.masked_fill(~both_real, torch.finfo(scores.dtype).min)  # (B, N, S, S)
    pattern = scores.softmax(dim=-1)  # (B, N, S, S)
    if mask is not None:
        pattern = pattern.masked_fill(~both_real, 0.0)  # (B, N, S, S)
    pattern = F.dropout(pattern, dropout_p)  # (B, N, S, S)
    pattern = tap("pattern", pattern)
    return pattern.to(value.dtype) @ value  # (B, N, S, H)


def attention_sdpa(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout_p: float = 0.0
) -> Tensor:
    """The same by torch's scaled_dot_product_attention: (B, N, S, H) each -> (B, N, S, H)."""
    keys = None if mask is None else mask[:, None, None, :]  # (B, 1, 1, S)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=keys, dropout_p=dropout_p)


def attend_by_length(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout,
    dropout_p: float = 0.0, form: Callable[..., Tensor] = attention_sdpa,
) -> Tensor:  # fmt: skip
    """Attention among packed tokens, (T, N, H) each -> the context (T, N, H).

    Rows of one length form a dense block, which needs no mask. `form` is one of the two above.
    """
    sizes = [rows * length for rows, length in layout.groups]
    parts = zip(query.split(sizes), key.split(sizes), value.split(sizes), strict=True)
    contexts = [query.new_zeros(0, *query.shape[1:])]  # (0, N, H), for a batch without tokens
    for group, block in zip(layout.groups, parts, strict=True):
        q, k, v = (part.unflatten(0, group).transpose(1, 2) for part in block)  # (R, N, S, H)
        context = form(q, k, v, dropout_p=dropout_p)  # (R, N, S, H)
        contexts.append(context.transpose(1, 2).flatten(0, 1))  # (R * S, N, H)
    return torch.cat(contexts)  # (T, N, H)


def attend_padded(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, dropout_p: float = 0.0, tap: Tap = untapped
) -> Tensor:
    """The same by hand over the padded table, so that scores and pattern are (B, N, S, S)."""
    q, k, v = (layout.pad(part).transpose(1, 2) for part in (query, key, value))  # (B, N, S, H)
    context = attention_by_hand(q, k, v, layout.mask, dropout_p, tap)  # (B, N, S, H)
    return layout.unpad(context.transpose(1, 2))  # (T, N, H)


# An attention function -> the function of the same mathematics that taps its scores and pattern.
# One that is not here cannot be asked for its pattern: another function's would be wrong.
REFERENCES: dict[Callable[..., Tensor], Callable[..., Tensor]] = {attend_by_length: attend_padded}


def reference_of(attend: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function that shows the scores and the pattern of an attention function."""
    # A partial that only chooses between the two forms of one equation is the function itself.
    forms = ({"form": attention_by_hand}, {"form": attention_sdpa})
    function = attend.func if isinstance(attend, partial) and attend.keywords in forms and not attend.args else attend
    if function not in REFERENCES:
        name = getattr(function, "__name__", type(function).__name__)
        hint = "Add one of the same mathematics to minibert.attention.REFERENCES."
        raise InputError(f"No function is known that shows the pattern of {name}.", key="attend", hint=hint)
    return REFERENCES[function]


class SelfAttention(nn.Module):
    """Multi-head self-attention over packed tokens, with its output projection.

    Set `attend` to try another form of attention.
    """

    def __init__(self, config: BertConfig, heads: int):
        super().__init__()
        self.heads = (heads, config.head_size)  # N, H
        self.dropout_p = config.attention_probs_dropout_prob
        # (query, key, value, layout, dropout_p) -> context, three (T, N, H) to one.
        self.attend: Callable[..., Tensor] = attend_by_length
        self.query = nn.Linear(config.hidden_size, heads * config.head_size)
        self.key = nn.Linear(config.hidden_size, heads * config.head_size)
        self.value = nn.Linear(config.hidden_size, heads * config.head_size)
        self.output = nn.Linear(heads * config.head_size, config.hidden_size)

    def forward(self, hidden: Tensor, scope: Scope) -> Tensor:
        """hidden (T, D) -> output (T, D)."""
        query = self.query(hidden).unflatten(1, self.heads)  # (T, N, H)
        query = scope.tap("query", query)
        key = self.key(hidden).unflatten(1, self.heads)  # (T, N, H)
        key = scope.tap("key", key)
        value = self.value(hidden).unflatten(1, self.heads)  # (T, N, H)
        value = scope.tap("value", value)
        dropout_p = self.dropout_p if self.training else 0.0
        attend = self.attend
        if scope.asks_for("scores", "pattern"):
            attend = partial(reference_of(attend), tap=scope.tap)
        context = attend(query, key, value, scope.layout, dropout_p)  # (T, N, H)
        context = scope.tap("context", context)
        output = self.output(context.flatten(1))  # (T, D)
        return scope.tap("output", output)
