"""Checks of the chapter on batches: packing a padded table, unpacking it, and batches by length."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

PACK = {
    "padding kept": "padding is kept",
    "mask inverted": "padding is taken and the real tokens are left out",
    "padding told by its id": "padding is told by its id 0 instead of the mask",
    "cut at the length": "each row is cut at its length, as if padding were always on the right",
    "column-major": "the table is read column by column instead of row by row",
    "sorted by length": "the rows are packed in the order of their lengths",
    "positions along the line": "positions count along the line instead of the columns of the table",
    "positions of real tokens": "positions count from each row's first real token instead of from column 0",
    "width as length": "each row's length is the width of the table",
    "columns counted": "the mask is summed over the rows, which counts the tokens of each column",
    "empty rows forgotten": "rows without tokens have no length",
}
UNPACK = {
    "from the left": "each row is filled from its first column, as if padding were always on the right",
    "cut to the longest": "the table is only as wide as its longest row",
    "column-major": "the table is filled column by column instead of row by row",
    "sorted by length": "the rows are taken to be packed in the order of their lengths",
    "one line": "the line is folded into rows of S without regard to where texts end",
    "padding repeats": "padding repeats the token before it",
    "empty rows forgotten": "rows without tokens are left out",
}
BATCHES = {
    "padding not counted": "a batch is measured in real tokens, without its padding",
    "shortest row": "a batch is measured by its shortest row",
    "longest of all": "a batch is measured by the longest row of all",
    "one too many": "a batch is closed only when it is over the budget already",
    "below the budget": "a batch has to stay below the budget and may not fill it",
    "not sorted": "the rows are not sorted",
    "shortest first": "the shortest rows come first",
    "last batch dropped": "the last batch is dropped",
    "row dropped": "the row that no longer fits is dropped instead of opening the next batch",
    "places": "places in the sorted order are returned instead of row numbers",
    "lengths": "lengths are returned instead of row numbers",
}
Mistakes = frozenset[str]


def pack(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (ids, mask) -> (packed ids (T,), their columns (T,), the lengths of the rows (B,)).

    ids and mask are (B, S), the mask bool; packed row by row, in the order of the batch.
    """
    generator = torch.Generator().manual_seed(8)
    ids = torch.randint(5, 90, (4, 6), generator=generator)  # (B, S)
    masks = _masks(6)
    look = "Look at which cells are taken, and in which order."
    cases = [Case(what, (torch.where(mask, ids, 0), mask), look) for what, mask in masks.items()]
    zero, mask = ids.clone(), masks["padding on the right"]  # (B, S) each
    zero[0, 3] = 0
    look = "Look at what tells padding from text."
    cases.append(Case("a real token whose id is 0", (torch.where(mask, zero, 0), mask), look))
    return judge(mine, Task(packed, cases, PACK))


def packed(ids: Tensor, mask: Tensor, mistakes: Mistakes = frozenset()) -> Any:
    """The right function of `pack`, with some mistakes."""
    real = ids != 0 if "padding told by its id" in mistakes else mask  # (B, S)
    real = ~real if "mask inverted" in mistakes else real  # (B, S)
    columns = torch.arange(ids.shape[1]).expand(ids.shape)  # (B, S)
    lengths = real.sum(dim=1)  # (B,)
    if "cut at the length" in mistakes:
        real = columns < lengths[:, None]  # (B, S)
    if "sorted by length" in mistakes:
        order = lengths.argsort(stable=True)  # (B,)
        ids, real, lengths = ids[order], real[order], lengths[order]  # (B, S), (B, S), (B,)
    if "positions of real tokens" in mistakes:
        columns = real.cumsum(dim=1) - 1  # (B, S)
    if "width as length" in mistakes:
        lengths = torch.full_like(lengths, ids.shape[1])  # (B,)
    if "columns counted" in mistakes:
        lengths = real.sum(dim=0)  # (S,)
    if "empty rows forgotten" in mistakes:
        lengths = lengths[lengths > 0]  # (rows with a token,)
    if "padding kept" in mistakes:
        real = torch.ones_like(real)  # (B, S)
    if "column-major" in mistakes:
        ids, columns, real = ids.T, columns.T, real.T  # (S, B) each
    values, positions = ids[real], columns[real]  # (T,) each
    if "positions along the line" in mistakes:
        positions = torch.arange(len(values))  # (T,)
    return values, positions, lengths


def unpack(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (packed (T, ...), mask (B, S) bool) -> table (B, S, ...), zeros at padding."""
    generator = torch.Generator().manual_seed(9)
    cases = []
    for what, mask in _masks(6).items():
        line = torch.randn(int(mask.sum()), 3, generator=generator)  # (T, D)
        cases.append(Case(what, (line, mask), "Look at which cell each token goes to."))
    cases.insert(0, Case("one number for each token", (line[:, 0], mask), "Look at the number of axes."))
    return judge(mine, Task(unpacked, cases, UNPACK, gradients=[0]))


def unpacked(line: Tensor, mask: Tensor, mistakes: Mistakes = frozenset()) -> Tensor:
    """The right function of `unpack`, with some mistakes."""
    lengths = mask.sum(dim=1)  # (B,)
    order = lengths.argsort(stable=True) if "sorted by length" in mistakes else torch.arange(len(mask))  # (B,)
    if "from the left" in mistakes:
        mask = torch.arange(mask.shape[1]) < lengths[:, None]  # (B, S)
    if "cut to the longest" in mistakes:
        mask = mask[:, : int(lengths.max())]  # (B, S)
    if "one line" in mistakes:
        mask = (torch.arange(mask.numel()) < mask.sum()).view(mask.shape)  # (B, S)
    table = line.new_zeros(*mask.shape, *line.shape[1:])  # (B, S, ...)
    if "column-major" in mistakes:
        place = mask.T.nonzero().flip(1)  # (T, 2)
    else:
        row, column = mask[order].nonzero(as_tuple=True)  # (T,) each
        place = torch.stack([order[row], column], dim=1)  # (T, 2)
    table = table.index_put((place[:, 0], place[:, 1]), line)  # (B, S, ...)
    if "padding repeats" in mistakes:
        before = (mask.flatten().cumsum(dim=0) - 1).view(mask.shape)  # (B, S)
        table = torch.where(mask.view(*mask.shape, *[1] * (line.dim() - 1)), table, line[before])  # (B, S, ...)
    return table[lengths > 0] if "empty rows forgotten" in mistakes else table  # (B, S, ...)


def _masks(columns: int) -> dict[str, Tensor]:
    """Masks (4, columns), each with one more thing that can go wrong."""
    lengths = torch.tensor([[4], [2], [6], [3]])  # (B, 1)
    place = torch.arange(columns)  # (S,)
    wide, empty = lengths.clamp(max=5), lengths * torch.tensor([[1], [1], [0], [1]])  # (B, 1) each
    return {
        "rows of one length": torch.ones(4, columns, dtype=torch.bool),
        "padding on the right": place < lengths,
        "a table wider than its longest row": place < wide,
        "padding on the left": place >= columns - lengths,
        "a row without tokens": place < empty,
    }


def batches_by_length(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (lengths, budget) -> batches, each a list of row numbers.

    The longest rows come first. A batch takes rows as long as its cells, rows times longest, are within the budget. The
    order of the batches, and of the rows in a batch, does not matter.
    """
    lengths = random.Random(8).sample(range(3, 40), 17)  # all different, so that there is one right answer
    descending = sorted(lengths, reverse=True)
    cases = [
        Case("rows that all fit into one batch", (lengths, 900), "Look at what becomes of the rows."),
        Case("rows that are sorted already", (descending, 100), "Look at when a batch is full."),
        Case("rows in any order", (lengths, 100), "Look at the order, and at what the numbers refer to."),
        Case("a batch that fills the budget", ([8, 10, 9, 4, 5], 30), "A budget of 30 has room for 3 rows of 10."),
    ]

    def in_order(*inputs: Any) -> Any:
        found = mine(*inputs)
        return None if found is None else _in_order(found)

    def truth(lengths: list[int], budget: int, mistakes: Mistakes) -> list[list[int]]:
        return _in_order(planned(lengths, budget, mistakes))

    return judge(in_order, Task(truth, cases, BATCHES))


def planned(lengths: list[int], budget: int, mistakes: Mistakes = frozenset()) -> list[list[int]]:
    """The right function of `batches_by_length`, with some mistakes."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    order = [*range(len(lengths))] if "not sorted" in mistakes else order
    order = order[::-1] if "shortest first" in mistakes else order
    batches: list[list[int]] = [[]]
    for row in order:
        taken = [lengths[other] for other in batches[-1]]
        taken = taken if "one too many" in mistakes else [*taken, lengths[row]]
        cells = len(taken) * max(taken, default=0)
        if "shortest row" in mistakes:
            cells = len(taken) * min(taken, default=0)
        if "longest of all" in mistakes:
            cells = len(taken) * max(lengths)
        if "padding not counted" in mistakes:
            cells = sum(taken)
        over = cells >= budget if "below the budget" in mistakes else cells > budget
        if batches[-1] and over:
            batches.append([])
            if "row dropped" in mistakes:
                continue
        batches[-1].append(row)
    batches = batches[:-1] if "last batch dropped" in mistakes else batches
    if "places" in mistakes:
        batches = [[order.index(row) for row in batch] for batch in batches]
    if "lengths" in mistakes:
        batches = [[lengths[row] for row in batch] for batch in batches]
    return batches


def _in_order(batches: Sequence[Any]) -> list[list[int]]:
    return sorted(sorted(int(row) for row in batch) for batch in batches if len(batch))
