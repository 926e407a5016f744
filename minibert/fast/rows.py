"""Spare rows below the tokens, so that bf16 products on a CPU with AMX come in few shapes.

oneDNN writes a kernel for every shape of a bf16 product that it meets there, which takes several
times as long as the product, and nearly every batch has another T. What acts on each position alone
does nothing with spare rows that reaches the others, and attention passes over them. The results
are the same but for rounding, and for which numbers dropout draws.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from minibert.encoder import Encoder
from minibert.trace import Scope

_ROWS = 32


class FilledEncoder(Encoder):
    """The encoder on T tokens and spare rows up to a multiple of 32. Traces see no spare rows.

    Every layer has to attend by a function that passes over them, such as `attend_fast`.
    """

    def forward(self, hidden: Tensor, scope: Scope) -> Tensor:
        """hidden (T, D) -> hidden (T, D)."""
        if scope.traces or not _pays(hidden):
            return super().forward(hidden, scope)
        filled = F.pad(hidden, (0, 0, 0, -len(hidden) % _ROWS))  # (T + spare, D)
        return super().forward(filled, scope)[: len(hidden)]  # (T, D)


def _pays(hidden: Tensor) -> bool:
    if hidden.device.type != "cpu" or not _has_amx():
        return False
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else hidden.dtype
    return dtype == torch.bfloat16


@cache
def _has_amx() -> bool:
    return torch.cpu._is_amx_tile_supported()
