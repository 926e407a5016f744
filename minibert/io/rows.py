"""Rows of token ids: of one text with its pieces, of a data set in memory, and of a batch as one padded tensor."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.utils.data
from torch import Tensor

from minibert.io.text_input import check_choice

Side = Literal["left", "right"]


class Pieces(Protocol):
    """The pieces of one text: a `tokenizers.Encoding`."""

    tokens: list[str]
    offsets: list[tuple[int, int]]
    word_ids: list[int | None]


@dataclass(frozen=True)
class EncodedText:
    """One text or pair as the network reads it, without padding. Each list has one entry per token."""

    input_ids: list[int]  # with [CLS] and [SEP]
    token_type_ids: list[int]  # 0 for the first text with its [CLS] and [SEP], 1 for the second
    cut: int  # how many pieces truncation removed
    _parts: tuple[tuple[Pieces, int], ...]  # each text, and how many pieces are kept

    @property
    def tokens(self) -> list[str]:
        """The pieces: "token", "##ization"."""
        return self._framed("[CLS]", "[SEP]", lambda text: text.tokens)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """(start, end) of each piece in its own text, in characters; (0, 0) for [CLS] and [SEP]."""
        return self._framed((0, 0), (0, 0), lambda text: text.offsets)

    @property
    def word_ids(self) -> list[int | None]:
        """The word of its own text that each piece belongs to, from 0; None for [CLS] and [SEP]."""
        return self._framed(None, None, lambda text: text.word_ids)

    @property
    def sequence_ids(self) -> list[int | None]:
        """The text that each piece comes from, 0 or 1; None for [CLS] and [SEP]."""
        words_and_types = zip(self.word_ids, self.token_type_ids, strict=True)
        return [None if word is None else number for word, number in words_and_types]

    @property
    def special_tokens_mask(self) -> list[int]:
        """1 at the [CLS] and [SEP] around the texts, 0 elsewhere."""
        return [int(word is None) for word in self.word_ids]

    def _framed(self, cls: Any, sep: Any, of: Callable[[Pieces], list[Any]]) -> Any:
        row = [cls]
        for text, kept in self._parts:
            row += [*of(text)[:kept], sep]
        return row


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


def pad_rows(rows: Sequence[Sequence[int] | np.ndarray], value: int, *, columns: int, side: Side) -> Tensor:
    """Rows of unequal length as one int64 tensor (B, S), padded with `value`."""
    check_choice("padding_side", side, ("left", "right"))
    result = np.full((len(rows), columns), value, dtype=np.int64)  # (B, S)
    for number, row in enumerate(rows):
        start = 0 if side == "right" else columns - len(row)
        result[number, start : start + len(row)] = row
    return torch.from_numpy(result)  # (B, S)


def padded_batch(
    ids: Sequence[Sequence[int] | np.ndarray], token_types: Sequence[Sequence[int] | np.ndarray] | None, *,
    pad_id: int, columns: int, side: Side,
) -> dict[str, Tensor]:  # fmt: skip
    """input_ids, attention_mask (1 at real tokens) and token_type_ids, if given, of rows: int64 (B, S) each."""
    batch = {"input_ids": pad_rows(ids, pad_id, columns=columns, side=side)}  # (B, S)
    batch["attention_mask"] = pad_rows([[1] * len(row) for row in ids], 0, columns=columns, side=side)  # (B, S)
    if token_types is not None:
        batch["token_type_ids"] = pad_rows(token_types, 0, columns=columns, side=side)  # (B, S)
    return batch
