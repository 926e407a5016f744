"""Attention on a GPU: all rows in one call of the flash kernel for rows of different lengths."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from minibert.layout import Layout


def attention_varlen(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> Tensor:
    """softmax(Q K^T / sqrt(H)) V within each row.

    Args:
        query, key, value: (T, N, H), packed, in fp16 or bf16.

    Returns:
        The context (T, N, H). The kernel has no dropout: see `can_use_varlen`.
    """
    from torch.nn.attention.varlen import varlen_attn  # takes a second: only where it is used

    longest = layout.groups[-1][1]
    rows = layout.boundaries  # (rows + 1,)
    context = varlen_attn(query, key, value, rows, rows, longest, longest)  # (T, N, H)
    assert isinstance(context, Tensor)
    return context


def can_use_varlen(query: Tensor, layout: Layout, dropout_p: float) -> bool:
    """Whether the kernel computes what is asked: 16 bits, tokens, no dropout, a GPU that has it."""
    in_16_bits = query.dtype in (torch.float16, torch.bfloat16)
    return in_16_bits and dropout_p == 0.0 and bool(layout.groups) and _has_varlen(query.device)


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
