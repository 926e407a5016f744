"""Who sits where: padding as a matter of attention alone.

A batch of texts is a table of B rows and S columns, short rows filled up with padding:

    row 0   the  cat  sat   .         attention_mask   1 1 1 1 0
    row 1   yes  .                                     1 1 0 0 0
    row 2   it   was  all  right  .                    1 1 1 1 1

Embeddings, norms, projections and feed-forward blocks act on each position alone: they need no
table. So the network drops the padding and lays the T = 11 real tokens in one line, the shortest
row first:

    yes . | the cat sat . | it was all right .         (T, D)

Only attention has to know where a row begins and ends; a Layout, made once from the mask, knows it.
Rows of equal length lie side by side, so attention can view them as one block (rows, length, ...)
without a mask. A padded column cannot leak into the others: it is not there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from minibert.io.checks import bool_mask
from minibert.io.device import on_both, on_host, to_device


@dataclass(frozen=True)
class Layout:
    """Maps the (B, S) table to the packed line of T real tokens and back."""

    cells: Tensor  # (T,), for each packed token the cell b * S + s of the table that it came from
    groups: tuple[tuple[int, int], ...]  # (rows, length) of each block of rows of one length
    boundaries: Tensor  # (rows with a token + 1,) int32, where each packed row begins and the last ends
    first: Tensor  # (rows with a token,), the packed place of each such row's first token
    occupied: Tensor  # (B,) bool, whether a row has any token; `first` goes with its True rows
    mask: Tensor  # (B, S) bool, True = a real token

    @classmethod
    def from_mask(cls, mask: Tensor) -> Layout:
        """The layout of a mask (B, S), bool or 0/1 (else InputError), best on the CPU: its numbers are read."""
        mask = bool_mask(mask)  # (B, S)
        lengths = mask.sum(dim=1)  # (B,)
        order = lengths.argsort(stable=True)  # (B,)
        order = order[lengths[order] > 0]  # (rows with a token,), the shortest first
        row, column = mask[order].nonzero(as_tuple=True)  # (T,), (T,)
        sorted_lengths = lengths[order]  # (rows with a token,)
        sizes, counts = sorted_lengths.unique_consecutive(return_counts=True)  # (groups,) each
        boundaries = torch.zeros(len(order) + 1, dtype=torch.int32)  # (rows with a token + 1,)
        boundaries[1:] = sorted_lengths.cumsum(dim=0)  # (rows with a token,)
        return cls(
            cells=order[row] * mask.shape[1] + column,  # (T,)
            groups=tuple(zip(counts.tolist(), sizes.tolist(), strict=True)),
            boundaries=boundaries,
            first=boundaries[:-1].long()[order.argsort()],  # in the order of the batch
            occupied=lengths > 0,  # (B,)
            mask=mask,
        )

    def __str__(self) -> str:
        groups = ", ".join(f"{rows} of {length}" for rows, length in self.groups) or "none"
        table = f"table {self.batch_size} x {self.columns}, {self.tokens} real tokens"
        return f"{table}; rows by length: {groups}"

    batch_size = property(lambda self: self.mask.shape[0])  # B
    columns = property(lambda self: self.mask.shape[1])  # S
    tokens = property(lambda self: self.cells.shape[0])  # T

    def to(self, device: torch.device | str) -> Layout:
        """The same layout with its tensors on a device."""
        tensors = ((n, x) for n, x in vars(self).items() if isinstance(x, Tensor))
        moved: dict[str, Any] = {n: to_device(x, torch.device(device)) for n, x in tensors}
        return replace(self, **moved)

    def pad(self, packed: Tensor, value: float = 0.0) -> Tensor:
        """Spreads packed values (T, ...) over the table (B, S, ...), with `value` at padding."""
        cells = self.batch_size * self.columns
        table = packed.new_full((cells, *packed.shape[1:]), value)  # (B * S, ...)
        table = table.index_copy(0, self.cells, packed)  # (B * S, ...)
        return table.unflatten(0, (self.batch_size, self.columns))  # (B, S, ...)

    def unpad(self, table: Tensor) -> Tensor:
        """Picks the real tokens (T, ...) out of a table (B, S, ...)."""
        return on_both(lambda x, cells: x.flatten(0, 1).index_select(0, cells), table, self.cells)  # (T, ...)

    def first_tokens(self, packed: Tensor) -> Tensor:
        """The first real token of each row: (T, D) -> (B, D), zeros for a row with none.

        NOTE(paper): this is [CLS]. transformers reads column 0: padding, if a row is padded on the left.
        """
        first = packed.index_select(0, self.first)  # (rows with a token, D)
        if len(first) == self.batch_size:
            return first  # (B, D)
        empty = packed.new_zeros(self.batch_size, *packed.shape[1:])  # (B, D)
        rows = on_host(self.occupied).nonzero().squeeze(1)  # (rows with a token,)
        return empty.index_copy(0, to_device(rows, packed.device), first)  # (B, D)

    def zero_empty_rows(self, rows: Tensor) -> Tensor:
        """(B, ...), zeros in the rows without a token, which no bias may fill."""
        if len(self.first) == self.batch_size:
            return rows
        return rows * self.occupied.view(-1, *[1] * (rows.dim() - 1))  # (B, ...)
