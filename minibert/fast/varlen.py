"""Attention on a GPU: all rows in one call of the flash kernel for rows of different lengths."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from minibert.layout import Layout


def attention_varlen(query: Tensor, key: Tensor, value: Tensor, layout: Layout, dropout_p: float = 0.0) -> Tensor:
    """softmax(Q K^T / sqrt(H)) V within each row, with dropout on the pattern.

    Args:
        query, key, value: (T, N, H), packed, in fp16 or bf16; see `can_use_varlen`.

    Returns:
        The context (T, N, H).
    """
    longest = layout.groups[-1][1]
    rows = layout.boundaries  # (rows + 1,)
    # The operation behind torch's public `varlen_attn`, which leaves the dropout out.
    flash = torch.ops.aten._flash_attention_forward
    context: Tensor
    context, *_ = flash(query, key, value, rows, rows, longest, longest, dropout_p, False, False)  # (T, N, H)
    return context


def can_use_varlen(query: Tensor, layout: Layout) -> bool:
    """Whether the kernel computes what is asked: 16 bits, tokens, its head sizes, a GPU that has it."""
    in_16_bits = query.dtype in (torch.float16, torch.bfloat16)
    fits = query.shape[2] % 8 == 0 and query.shape[2] <= 256
    return in_16_bits and fits and bool(layout.groups) and _has_varlen(query.device)


@cache
def _has_varlen(device: torch.device) -> bool:
    """Whether torch was built with the kernel and the GPU runs it (Ampere and later)."""
    if device.type != "cuda" or not torch.backends.cuda.is_flash_attention_available():
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)
