"""Attention by whichever form is fastest for a device, a dtype, and training or inference."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from minibert.attention import REFERENCES, attend_by_length, attend_padded
from minibert.fast.chunked import attention_in_chunks
from minibert.fast.varlen import attention_varlen, can_use_varlen
from minibert.layout import Layout


def attend_fast(query: Tensor, key: Tensor, value: Tensor, layout: Layout, dropout_p: float = 0.0) -> Tensor:
    """Attention among packed tokens, (T, N, H) -> (T, N, H), by the fastest form that can.

    On a CPU that is `attention_in_chunks` for gradients, which SDPA is slow at (with dropout most
    of all), and SDPA without. On a GPU it is varlen where that can do it, else SDPA. Spare rows
    below the tokens (see rows.py) come out without meaning.
    """
    if query.device.type != "cpu":
        if can_use_varlen(query, layout):
            return attention_varlen(query, key, value, layout, dropout_p)  # (T, N, H)
        return attend_by_length(query, key, value, layout, dropout_p)  # (T, N, H)
    if query.requires_grad and torch.is_grad_enabled():
        return attention_in_chunks(query, key, value, layout.groups, dropout_p)  # (T, N, H)
    spare = len(query) - layout.tokens
    if not spare:
        return attend_by_length(query, key, value, layout, dropout_p)  # (T, N, H)
    q, k, v = (part[: layout.tokens] for part in (query, key, value))  # (T, N, H)
    context = attend_by_length(q, k, v, layout, dropout_p)  # (T, N, H)
    return F.pad(context, (0, 0, 0, 0, 0, spare))  # (T + spare, N, H)


REFERENCES[attend_fast] = attend_padded
