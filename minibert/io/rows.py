"""Rows of token ids in memory: what data sets of all forms of example have in common."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch.utils.data


class Rows(torch.utils.data.Dataset):
    """Rows of token ids, made from examples of any form.

    Args:
        model_inputs: the names of the tensors that the model takes.
    """

    def __init__(self, model_inputs: Collection[str]):
        self._token_types = "token_type_ids" in model_inputs
        self._items: list[dict[str, Any]] = []
        self.lengths: list[int] = []  # tokens of each row
        self.full_lengths: list[int] = []  # the same of each example, before truncation
        self.cut = 0  # examples that truncation made shorter
        self.cut_labels = 0  # labels that lost the tokens they belong to
        # For tagged sentences, the word of each piece of a row, as in `EncodedText`.
        self.word_ids: list[list[int | None]] | None = None

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A row: input_ids, token_type_ids if the model takes them, labels if there are any."""
        return self._items[index]

    def add(self, ids: Sequence[int], token_types: Sequence[int], **labels: Any) -> None:
        """Appends a row."""
        self._items.append(self.item(ids, token_types, **labels))
        self.lengths.append(len(ids))

    def item(self, ids: Sequence[int], token_types: Sequence[int], **labels: Any) -> dict[str, Any]:
        """A row as it is stored, in small integers: a corpus of these is in memory as a whole."""
        item: dict[str, Any] = {"input_ids": np.array(ids, dtype=np.int32)}  # (tokens,)
        if self._token_types:
            item["token_type_ids"] = np.array(token_types, dtype=np.int8)  # (tokens,)
        return item | labels

    def tokens_read(self) -> list[int]:
        """How many tokens the model reads of each example."""
        return self.lengths

    def ids(self, row: int) -> np.ndarray:
        """All ids of a row, one after the other."""
        return self._items[row]["input_ids"]
