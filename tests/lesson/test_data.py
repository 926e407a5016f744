"""Data: what a row holds, how rows are padded, and which rows share a batch."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minibert.data import Dataset, collate, piece_labels, plan_batches
from minibert.io.errors import ConfigError, DataError
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus, Example, TaggedExample, read
from tests.conftest import refused

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "##b", "##c"]
VOCABULARY = {piece: number for number, piece in enumerate(PIECES)}


@pytest.mark.parametrize(
    ("example", "texts", "target"),
    [
        (Example("a", label=1), ("a",), 1),
        (Example("a", "", 0.5), ("a", ""), 0.5),
        (TaggedExample(("a", "b"), (0, 1)), ("a b",), (0, 1)),
    ],
)
def test_an_example_says_what_it_holds(example, texts, target):
    assert (example.texts, example.target, example.group) == (texts, target, None)
    assert {example, example} == {example}  # parts of a split are compared as sets


@pytest.fixture
def tokenizer() -> BertTokenizer:
    return BertTokenizer(VOCABULARY, max_length=8)


def test_rows_are_what_the_tokenizer_says(tokenizer):
    examples = [Example("a b", "c", 1), Example("abc", "", 0)]
    rows = Dataset(examples, tokenizer)
    assert len(rows) == 2 and rows.lengths == [6, 6] and rows.cut == 0
    assert rows.word_ids is None
    assert rows[0]["input_ids"].tolist() == [2, 5, 6, 3, 7, 3]
    assert rows[0]["token_type_ids"].tolist() == [0, 0, 0, 0, 1, 1]
    batch = collate([rows[0], rows[1]])
    expected = tokenizer(["a b", "abc"], ["c", ""])
    assert {key: value.tolist() for key, value in batch.items()} == {
        **{key: value.tolist() for key, value in expected.items()},
        "labels": [1, 0],
    }


def test_a_model_without_segments():
    rows = Dataset([Example("a")], BertTokenizer(VOCABULARY, token_types=False))
    assert set(rows[0]) == {"input_ids"}
    assert set(collate([rows[0]])) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("side", ["left", "right"])
def test_collate_pads_on_either_side(tokenizer, side):
    rows = Dataset([Example("a"), Example("a b c")], tokenizer)
    batch = collate([rows[0], rows[1]], pad_id=9, padding_side=side)
    expected = tokenizer(["a", "a b c"], padding_side=side)
    assert torch.equal(batch["attention_mask"], expected["attention_mask"])
    assert torch.equal(batch["token_type_ids"], expected["token_type_ids"])
    short = batch["input_ids"][0].tolist()
    assert short == ([2, 5, 3, 9, 9] if side == "right" else [9, 9, 2, 5, 3])
    with refused(ConfigError, "padding_side"):
        collate([rows[0]], padding_side="middle")


@pytest.mark.parametrize(
    ("labels", "kind", "shape"),
    [
        ((2, 0), torch.int64, (2,)),
        ((0.5, 2.0), torch.float32, (2,)),
        (((1.0, 0.0, 1.0), (0.0, 0.0, 0.0)), torch.float32, (2, 3)),
    ],
)
def test_labels_by_their_kind(tokenizer, labels, kind, shape):
    rows = Dataset([Example("a", label=label) for label in labels], tokenizer)
    found = collate([rows[0], rows[1]])["labels"]
    assert found.dtype == kind and found.shape == shape
    assert torch.equal(found, torch.tensor(labels, dtype=kind))


def test_the_first_piece_carries_the_tag(tokenizer):
    examples = [TaggedExample(("abc", "b", "x"), (1, 0, 2)), TaggedExample(("a",), (1,))]
    rows = Dataset(examples, tokenizer)
    assert tokenizer.tokens(rows[0]["input_ids"]) == [*("[CLS]", "a", "##b", "##c", "b", "[UNK]", "[SEP]")]
    assert rows[0]["labels"].tolist() == [-100, 1, -100, -100, 0, 2, -100]
    assert rows.word_ids == [[None, 0, 0, 0, 1, 2, None], [None, 0, None]]
    batch = collate([rows[0], rows[1]])
    assert batch["labels"].tolist()[1] == [-100, 1, -100, -100, -100, -100, -100]
    left = collate([rows[0], rows[1]], padding_side="left")
    assert left["labels"].tolist()[1] == [-100, -100, -100, -100, -100, 1, -100]
    assert piece_labels([7, 8], [None, 0, 1, 1, None]) == [-100, 7, 8, -100, -100]


def test_tags_lost_to_truncation_are_counted(tokenizer):
    words = ("a", "b", "abc", "a", "b", "c")  # eight pieces, and there is room for six
    with pytest.warns(UserWarning) as caught:
        rows = Dataset([TaggedExample(words, (0, 1, 2, 3, 4, 5)), TaggedExample(("a",), (0,))], tokenizer)
    assert caught[0].filename == caught[1].filename == __file__
    assert str(caught[0].message).startswith("1 of 2 texts had more than 8 tokens")
    assert str(caught[1].message).startswith("2 of 7 word tags have no piece to carry them")
    assert (rows.cut, rows.cut_labels, rows.lengths) == (1, 2, [8, 3])
    assert rows[0]["labels"].tolist() == [-100, 0, 1, 2, -100, -100, 3, -100]


def test_every_tag_of_wnut_is_kept(data, uncased):
    corpus = read(data / "wnut17/dev.conll.gz")
    with pytest.warns(UserWarning, match=r"^4 of 15733 word tags have no piece to carry them"):
        rows = Dataset(corpus, uncased)
    kept = sum(int((rows[row]["labels"] >= 0).sum()) for row in range(len(rows)))
    # A word of characters that all vanish (a variation selector, say) has no piece for its tag.
    assert kept == sum(corpus.label_counts.values()) - rows.cut_labels
    assert (rows.cut, rows.cut_labels) == (0, 4)


def test_tags_of_words_that_vanish_are_counted(tokenizer):
    with pytest.warns(UserWarning, match="1 of 3 word tags have no piece to carry them") as caught:
        rows = Dataset([TaggedExample(("a", "\ufe0f", "b"), (0, 1, 2))], tokenizer)
    assert len(caught) == 1 and (rows.cut, rows.cut_labels) == (0, 1)
    assert rows[0]["labels"].tolist() == [-100, 0, 2, -100]


def test_tags_that_would_be_lost_are_an_error_without_truncation(tokenizer):
    with refused(DataError, "1"):
        rows = [TaggedExample(("a",), (0,)), TaggedExample(("a",) * 9, (0,) * 9)]
        Dataset(rows, tokenizer, truncation=False)


def test_too_long_where_truncation_is_off(tokenizer):
    with refused(DataError, "0"):
        Dataset([Example("a " * 9)], tokenizer, truncation=False)


def test_no_examples_and_a_missing_second_text(tokenizer):
    with refused(DataError, None):
        Dataset([], tokenizer)
    with refused(DataError, "1"):
        Dataset([Example("a", "b"), Example("a")], tokenizer)


def test_it_works_in_a_plain_loader(tokenizer):
    rows = Dataset([Example("a b"[: 1 + 2 * (n % 2)], label=n) for n in range(10)], tokenizer)
    loader = torch.utils.data.DataLoader(rows, batch_size=4, collate_fn=collate)
    labels = [label for batch in loader for label in batch["labels"].tolist()]
    assert labels == list(range(10))


def test_chunks_make_no_difference(tokenizer, monkeypatch, capsys):
    examples = [Example("a b c"[: n % 5], label=n) for n in range(50)]
    whole = Dataset(examples, tokenizer)
    monkeypatch.setattr("minibert.io.text_input._CHUNK", 7)
    Dataset(examples, tokenizer, progress=True)
    assert capsys.readouterr().err == ""  # a bar is for a terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    parts = Dataset(Corpus(tuple(examples)), tokenizer, progress=True)
    for row in range(50):
        np.testing.assert_equal(parts[row], whole[row])
    printed = capsys.readouterr()
    assert printed.out == "" and "50/50" in printed.err


@pytest.mark.parametrize("examples", [[Example("a b c" * 9)], [TaggedExample(("a", "b") * 20)]])
def test_long_texts_come_in_smaller_chunks(tokenizer, monkeypatch, examples):
    sizes = []
    encode = tokenizer.encode

    def counted(texts, *arguments, **options):
        sizes.append(len(texts))
        return encode(texts, *arguments, **options)

    monkeypatch.setattr(tokenizer, "encode", counted)
    monkeypatch.setattr("minibert.io.text_input._CHUNK_CHARACTERS", 500)
    with warnings.catch_warnings(action="ignore"):
        assert len(Dataset(examples * 20, tokenizer)) == sum(sizes) == 20
    assert 1 < max(sizes) < 12
    sizes.clear()
    monkeypatch.setattr("minibert.io.text_input._CHUNK_CHARACTERS", 5)  # less than one text has
    with warnings.catch_warnings(action="ignore"):
        Dataset(examples * 3, tokenizer)
    assert sizes == [1, 1, 1]


def test_an_error_names_the_row_of_the_whole_data_set(tokenizer, monkeypatch):
    monkeypatch.setattr("minibert.io.text_input._CHUNK", 2)
    rows = [Example("a")] * 5
    with refused(DataError, "4"):
        Dataset([*rows[:4], Example(None)], tokenizer)
    with refused(DataError, "4"):
        Dataset([*rows[:4], Example("\ud800")], tokenizer)
    with refused(DataError, "4"):
        Dataset([*rows[:4], Example("a " * 9)], tokenizer, truncation=False)


# The plan


@given(
    lengths=st.lists(st.integers(2, 60), max_size=200),
    size=st.integers(1, 20),
    budget=st.booleans(),
    shuffle=st.booleans(),
    window=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_every_row_is_in_exactly_one_batch(lengths, size, budget, shuffle, window, seed):
    by = {"token_budget": 60 + size} if budget else {"batch_size": size}
    options = {**by, "shuffle": shuffle, "window": window, "seed": seed}
    batches = plan_batches(lengths, **options)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        if budget:
            assert sum(lengths[row] for row in batch) <= 60 + size
        else:
            assert len(batch) <= size
    if not budget:
        assert len(batches) == -(-len(lengths) // size)
    assert plan_batches(lengths, **options) == batches


def test_the_plan_depends_on_seed_and_epoch_alone():
    lengths = [2 + n * 7 % 50 for n in range(300)]
    plans = {
        (seed, epoch): plan_batches(lengths, batch_size=8, seed=seed, epoch=epoch)
        for seed in range(3)
        for epoch in range(3)
    }
    assert len({str(plan) for plan in plans.values()}) == 9
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert plan_batches(lengths, batch_size=8, seed=1, epoch=2) == plans[1, 2]
    assert torch.equal(torch.get_rng_state(), state)


def test_batches_have_rows_of_similar_length(data):
    lengths = [len(example.text.split()) + 2 for example in read_emotion(data)]

    def padding(batches):
        columns = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
        return 1 - sum(lengths) / columns

    random = plan_batches(lengths, batch_size=32, window=1)
    grouped = plan_batches(lengths, batch_size=32)
    ordered = plan_batches(lengths, batch_size=32, shuffle=False)
    assert padding(random) > 0.45
    assert padding(grouped) < 0.05
    assert padding(ordered) < 0.01
    # Grouped batches still come in random order, short and long mixed.
    means = [np.mean([lengths[row] for row in batch]) for batch in grouped]
    assert 0.35 < np.mean(np.diff(means) > 0) < 0.65
    assert len({*map(tuple, grouped)} & {*map(tuple, plan_batches(lengths, batch_size=32, epoch=1))}) == 0


def read_emotion(data) -> Corpus:
    return read(data / "emotion/train.txt", sep=";", names=["text", "label"])


def test_sorted_batches_begin_with_the_longest():
    batches = plan_batches([3, 9, 4, 9, 2], batch_size=2, shuffle=False)
    assert batches == [[1, 3], [2, 0], [4]]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "batch_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 8, "token_budget": 100}, "batch_size"),
        ({"token_budget": 8}, "token_budget"),
    ],
)
def test_plans_with_impossible_sizes(options, key):
    with refused(ConfigError, key):
        plan_batches([3, 9], **options)


def test_nothing_warns_if_nothing_was_cut(tokenizer):
    with warnings.catch_warnings(action="error"):
        Dataset([Example("a b c")], tokenizer)
        Dataset([TaggedExample(("a", "b"), (0, 1))], tokenizer)


def test_numbers_of_two_types_are_numbers():
    rows = [{"input_ids": np.array([1], dtype=np.int32), "labels": label} for label in (3, 2.5)]
    assert collate(rows)["labels"].tolist() == [3.0, 2.5]
