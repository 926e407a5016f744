"""Dropout with a cheap mask on a CPU: one draw of 64 bits serves four elements.

torch draws one number for each element, on one thread. Here a draw is cut into four 16-bit pieces,
and an element is dropped where its piece is among the lowest p * 65536. So p is rounded to the
nearest 1/65536, and the scale is that of the rate used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FastDropout(nn.Dropout):
    """nn.Dropout with the masks of this file."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p) if self.training else input


def dropout(values: Tensor, p: float) -> Tensor:
    """Zeroes each number with probability p and scales the others by 1 / (1 - p)."""
    if values.device.type != "cpu":
        return F.dropout(values, p)
    bits = dropout_bits(values.numel(), p)  # (numbers,)
    if bits is None:
        return values
    return (values * dropout_mask(bits, p, values)).mul_(dropout_scale(p))  # as values


def dropout_bits(numbers: int, p: float) -> Tensor | None:
    """16 random bits for each number, (numbers,) int16; None if p drops nothing."""
    if _dropped_of_65536(p) == 0:
        return None
    draws = torch.empty(-(-numbers // 4), dtype=torch.int64)  # (draws,), four pieces each
    draws.random_(-(2**63), None)  # plain random_() would leave the top bit out
    return draws.view(torch.int16)[:numbers]  # (numbers,)


def dropout_mask(bits: Tensor, p: float, like: Tensor) -> Tensor:
    """1 to keep, 0 to drop, in the shape of `like`.

    In its dtype as well: a product of numbers with bools is several times slower than with numbers.
    """
    mask = torch.empty_like(like, requires_grad=False)  # as like
    return torch.ge(bits.view(like.shape), _dropped_of_65536(p) - 32768, out=mask)  # as like


def dropout_scale(p: float) -> float:
    """What the numbers that are kept are multiplied by: 1 / (1 - the rate used); 0 if none is to be kept."""
    return 0.0 if p == 1 else 65536 / (65536 - _dropped_of_65536(p))


def _dropped_of_65536(p: float) -> int:
    return min(round(p * 65536), 65535)
