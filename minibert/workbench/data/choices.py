"""Choices as rows of ids: one list of ids for each choice, with the text before it.

Zellers et al. 2018 (SWAG); Devlin et al. 2019, section 4.4: the text is the first of a pair, the
choice the second.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from minibert import data
from minibert.data import Dataset, Example
from minibert.io.rows import Rows, Side
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.examples import ChoiceExample


class Choices(Rows):
    """Texts with choices: a row holds a list of ids for each choice.

    Args:
        examples: the texts with their choices.
        tokenizer, max_length, progress: as for `Dataset`; each pair is cut on its own.

    Attributes:
        lengths: the tokens of all the pairs of a row together.
    """

    def __init__(
        self,
        examples: Iterable[ChoiceExample],
        tokenizer: BertTokenizer,
        *,
        max_length: int | None = None,
        progress: bool = False,
    ):
        super().__init__(tokenizer.model_inputs)
        rows = list(examples)
        pairs = [Example(row.text, choice) for row in rows for choice in row.choices]
        flat = Dataset(pairs, tokenizer, max_length=max_length, progress=progress)
        ends = list(itertools.accumulate(len(row.choices) for row in rows))
        for row, start, end in zip(rows, [0, *ends], ends, strict=False):
            items = [flat[place] for place in range(start, end)]
            item = {name: [one[name] for one in items] for name in items[0]}
            self._items.append(item if row.label is None else {**item, "labels": row.label})
            self.lengths.append(sum(flat.lengths[start:end]))
            self.full_lengths.append(sum(flat.full_lengths[start:end]))
        self.cut = sum(map(int.__ne__, self.lengths, self.full_lengths))

    def ids(self, row: int) -> np.ndarray:
        return np.concatenate(self._items[row]["input_ids"])


def collate(
    items: Sequence[Mapping[str, Any]], *, pad_id: int = 0, padding_side: Side = "right"
) -> dict[str, torch.Tensor]:
    """Pads rows of any form: those of `Choices` to (B, choices, S), others as in `minibert.data`.

    A row with fewer choices than another has rows of padding in their place; labels are (B,).
    """
    if not isinstance(items[0]["input_ids"], list):
        return data.collate(items, pad_id=pad_id, padding_side=padding_side)
    most = max(len(item["input_ids"]) for item in items)
    tables = [name for name in items[0] if name != "labels"]
    empty = np.zeros(0, dtype=np.int32)  # (0,)
    flat = [
        {name: item[name][place] if place < len(item[name]) else empty for name in tables}
        for item in items
        for place in range(most)
    ]
    batch = {
        name: table.unflatten(0, (len(items), most))  # (B, choices, S)
        for name, table in data.collate(flat, pad_id=pad_id, padding_side=padding_side).items()
    }
    if "labels" in items[0]:
        batch["labels"] = torch.tensor([item["labels"] for item in items])  # (B,)
    return batch
