"""Choices: what a row holds, how rows of them are padded, and what a model makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from minibert.io.errors import DataError
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.choices import Choices, collate
from minibert.workbench.data.examples import ChoiceExample
from tests.conftest import BOUNDS, refused
from tests.lesson import reference

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "##b", "##c"]
VOCABULARY = {piece: number for number, piece in enumerate(PIECES)}


def choices(*labels: int | None) -> list[ChoiceExample]:
    """Rows with 3, 2, 4, 3, ... choices of unequal length."""
    texts = ["a b c", "b c", "abc a b", "c"]
    return [
        ChoiceExample("ab c"[: 2 + row], tuple(texts[: (3, 2, 4)[row % 3]]), label) for row, label in enumerate(labels)
    ]


def test_a_row_has_a_list_for_each_choice():
    tokenizer = BertTokenizer(VOCABULARY, max_length=16)
    rows = Choices(choices(2, 0), tokenizer)
    assert len(rows) == 2 and rows[0]["labels"] == 2
    expected = tokenizer.encode(["ab", "ab", "ab"], ["a b c", "b c", "abc a b"])
    assert [ids.tolist() for ids in rows[0]["input_ids"]] == [one.input_ids for one in expected]
    assert [types.tolist() for types in rows[0]["token_type_ids"]] == [one.token_type_ids for one in expected]
    assert [len(row["input_ids"]) for row in (rows[0], rows[1])] == [3, 2]
    assert rows.ids(0).tolist() == [number for one in expected for number in one.input_ids]
    assert rows.lengths == [25, 15] and rows.tokens_read() == rows.lengths
    assert set(Choices(choices(None), tokenizer)[0]) == {"input_ids", "token_type_ids"}
    bare = Choices(choices(0), BertTokenizer(VOCABULARY, token_types=False))
    assert set(bare[0]) == {"input_ids", "labels"}


def test_choices_that_are_cut():
    tokenizer = BertTokenizer(VOCABULARY, max_length=8)
    one = ChoiceExample("a b", ("c", "a b c a b c a", "b " * 9), 1)
    with pytest.warns(UserWarning, match="2 of 5 texts had more than 8 tokens and were cut"):
        rows = Choices([ChoiceExample("a", ("b", "c"), 0), one], tokenizer)
    assert rows.cut == 1
    assert rows.lengths == [10, 6 + 8 + 8] and rows.full_lengths == [10, 6 + 12 + 14]
    with refused(DataError, None):
        Choices([], tokenizer)


@pytest.mark.parametrize("side", ["right", "left"])
def test_collate_fills_up_with_choices_of_padding(side):
    rows = Choices(choices(2, 0, 3), BertTokenizer(VOCABULARY))
    batch = collate([rows[row] for row in range(3)], pad_id=9, padding_side=side)
    assert batch["labels"].tolist() == [2, 0, 3] and batch["labels"].dtype == torch.int64
    for name, filler in (("input_ids", 9), ("attention_mask", 0), ("token_type_ids", 0)):
        table = batch[name]
        assert table.shape == (3, 4, 11) and table.dtype == torch.int64
        assert (table[0, 3] == filler).all() and (table[1, 2:] == filler).all()
    for row in range(3):
        real = batch["attention_mask"][row].bool()
        stored = rows[row]
        for name in ("input_ids", "token_type_ids"):
            assert batch[name][row][real].tolist() == np.concatenate(stored[name]).tolist()
        lengths = [len(ids) for ids in stored["input_ids"]]
        assert real.sum(dim=1).tolist() == lengths + [0] * (4 - len(lengths))
        assert real[:, 0 if side == "right" else -1].tolist() == [length > 0 for length in lengths] + [False] * (
            4 - len(lengths)
        )
    assert "labels" not in collate([Choices(choices(None), BertTokenizer(VOCABULARY))[0]])


def test_a_model_reads_each_row_of_choices_as_if_alone():
    _, model = reference.pair("bert", "BertForMultipleChoice", vocab_size=len(PIECES))
    rows = Choices(choices(2, 0, 3, 1), BertTokenizer(VOCABULARY, max_length=16))
    items = [rows[row] for row in range(4)]
    whole = model(**collate(items))
    assert whole.logits.shape == (4, 4)
    losses = []
    for row, item in enumerate(items):
        alone = model(**collate([item]))
        count = len(item["input_ids"])
        assert alone.logits.shape == (1, count)
        assert close(whole.logits[row, :count], alone.logits[0])
        assert (whole.logits[row, count:] == -torch.inf).all()
        losses.append(alone.loss)
    assert close(whole.loss, torch.stack(losses).mean())


def test_choices_mean_to_transformers_what_they_mean_here():
    theirs, ours = reference.pair("bert", "BertForMultipleChoice", vocab_size=len(PIECES))
    rows = Choices(choices(2, 0, 3, 1), BertTokenizer(VOCABULARY, max_length=16))
    batch = collate([rows[0], rows[3]])  # three choices each
    assert batch["input_ids"].shape == (2, 3, 11)
    found, expected = ours(**batch), theirs(**batch)
    assert close(found.logits, expected.logits) and close(found.loss, expected.loss)
    assert found.loss > 0.01 and found.logits.std() > 0.01


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((found - expected).abs().max() <= BOUNDS["fp64"])
