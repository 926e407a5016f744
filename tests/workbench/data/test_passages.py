"""Passages: every sentence once, rows that fit, honest pairs, and nothing but the seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import scipy.stats

from minibert.data import collate
from minibert.io.errors import ConfigError, DataError
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.documents import Document
from minibert.workbench.data.passages import Passages, hold_out, pairs, runs, tokenise
from tests.conftest import refused

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"w{letter}" for letter in "abcdefghijklmnopqrst"]
PIECES = [*SPECIAL, ".", *WORDS, "##x", "mask", "[", "]"]
ROOM = 29


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    return BertTokenizer({piece: number for number, piece in enumerate(PIECES)}, max_length=64)


def documents(count: int = 300, seed: int = 0) -> list[Document]:
    """Of 1 to 12 sentences of 1 to 9 words each."""
    draw = np.random.default_rng(seed)
    return [
        Document(
            " ".join(
                " ".join(draw.choice(WORDS, size=draw.integers(1, 10))).capitalize() + "."
                for _ in range(draw.integers(1, 13))
            ),
            str(number),
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def pieces(tokenizer):
    return tokenise(documents(), tokenizer, most=ROOM // 2)


def assert_share(count: int, total: int, share: float) -> None:
    low, high = scipy.stats.binom.interval(1 - 1e-6, total, share)
    assert low <= count <= high, (count / total, share)


def document_of(pieces, place: int) -> int:
    starts = [pieces.sentences[first] for first in pieces.documents]
    return int(np.searchsorted(starts, place, side="right")) - 1


def test_tokenising_loses_nothing(tokenizer, pieces):
    texts = documents()
    assert len(pieces.documents) == len(texts) + 1 and pieces.empty == pieces.split == 0
    assert pieces.ids.dtype == np.int32
    for document, (first, end) in zip(texts, pieces.spans(), strict=True):
        ids = pieces.ids[pieces.sentences[first] : pieces.sentences[end]]
        assert ids.tolist() == tokenizer.pieces([document.text], split_special_tokens=True)[0].ids
        assert end - first == document.text.count(".")
    assert pieces.sentences[-1] == len(pieces.ids)


def test_a_sentence_too_long_becomes_several_between_words(tokenizer):
    words = ["wax", "wb", "wcx", "wd", "wex"]  # wax is two pieces
    found = tokenise([Document(" ".join(words * 5), "")], tokenizer, most=4)
    assert found.split == 1
    parts = [
        tokenizer.tokens(found.ids[begin:end]) for begin, end in zip(found.sentences, found.sentences[1:], strict=False)
    ]
    assert sum(parts, []) == tokenizer.tokens(found.ids)
    assert all(1 <= len(part) <= 4 and part[0] != "##x" for part in parts)


def test_a_word_longer_than_a_part_is_cut(tokenizer):
    found = tokenise([Document("wa" + 10 * "x", "")], tokenizer, most=4)
    assert np.diff(found.sentences).tolist() == [4, 4, 3]


def test_documents_without_a_piece_are_counted(tokenizer):
    found = tokenise([Document("\x00", ""), Document("wa.", "")], tokenizer, most=9)
    assert found.empty == 1 and found.documents == [0, 1]
    with refused(DataError, "corpus"):
        tokenise([Document("\x00", "")], tokenizer, most=9)


def test_pieces_are_those_that_every_call_gives(tokenizer):
    texts = ["Wa wbx, w?", "", " wc"]
    found = tokenizer.pieces(texts, split_special_tokens=True, offsets=False)
    rows = tokenizer.encode(texts, split_special_tokens=True)
    assert [pieces.ids for pieces in found] == [row.input_ids[1:-1] for row in rows]


def test_special_tokens_in_a_text_are_plain_characters(tokenizer):
    found = tokenise([Document("[MASK]", "")], tokenizer, most=9)
    assert tokenizer.tokens(found.ids) == ["[", "mask", "]"]


def test_runs_hold_every_sentence_once_and_are_full(pieces):
    rows = runs(pieces, ROOM)
    assert rows[0, 0] == 0 and rows[-1, 1] == len(pieces.ids)
    assert np.array_equal(rows[1:, 0], rows[:-1, 1])  # one after the other, with no hole
    for begin, end, *_ in rows.tolist():
        assert end - begin <= ROOM and document_of(pieces, begin) == document_of(pieces, end - 1)
    ends = np.array(pieces.sentences)
    for begin, end, *_ in rows.tolist():  # one sentence more would not have fitted
        following = ends[ends > end]
        if following.size and document_of(pieces, end) == document_of(pieces, begin):
            assert following[0] - begin > ROOM


@pytest.fixture(scope="module")
def drawn(pieces):
    return [pairs(pieces, ROOM, seed=seed) for seed in range(10)]


def test_pairs_hold_every_sentence_once(pieces, drawn):
    for rows in drawn:
        spans = [span for a, b, c, d, _ in rows.tolist() for span in ((a, b), (c, d))]
        places = np.concatenate([np.arange(*span) for span in spans])
        assert np.array_equal(np.sort(places), np.arange(len(pieces.ids)))


def test_labels_say_what_stands_there(pieces, drawn):
    for begin, end, start, stop, label in drawn[0].tolist():
        assert end - begin > 0 and (end - begin) + (stop - start) <= ROOM
        assert {begin, end, start, stop} <= set(pieces.sentences)  # none is cut
        here = document_of(pieces, begin)
        assert document_of(pieces, end - 1) == here
        if label == 0:
            assert start == end and stop > start and document_of(pieces, stop - 1) == here
        elif label == 1:
            assert stop > start and document_of(pieces, start) != here
            assert document_of(pieces, start) == document_of(pieces, stop - 1)
        else:
            assert label == -100 and start == stop


def test_half_of_the_labels_are_strangers(drawn):
    for rows in drawn:
        labels = rows[rows[:, 4] >= 0, 4]
        assert 0.48 < labels.mean() <= 0.5


def test_the_form_of_a_row_does_not_give_its_label_away(pieces, drawn):
    """The best guess from lengths, and from whether either text begins or ends its document."""
    rows = np.concatenate(drawn)
    rows = rows[rows[:, 4] >= 0]
    borders = [pieces.sentences[first] for first in pieces.documents]
    first, second = rows[:, 1] - rows[:, 0], rows[:, 3] - rows[:, 2]
    begins, ends = np.isin(rows[:, 2], borders), np.isin(rows[:, 3], borders)
    fits = first + second + 6 > ROOM  # hardly another sentence
    for cue in (second, first + second, first, begins, ends, 2 * ends + fits, second * 2 + ends):
        right = sum(max(np.bincount(rows[cue == value, 4], minlength=2)) for value in set(cue))
        assert right / len(rows) < 0.55
    assert rows[:, 4].mean() > 0.48


def test_rows_of_one_document_have_no_strangers_in_it(tokenizer):
    """Of a long document and a short one, as many change as the short one has to offer."""
    texts = ["Wa wb. " * 300, "Wc wd. We wf. " * 12]
    found = tokenise([Document(text, "") for text in texts], tokenizer, most=ROOM // 2)
    rows = pairs(found, ROOM, seed=0)
    strangers = rows[rows[:, 4] == 1]
    assert 0 < len(strangers) <= 2 * sum(document_of(found, begin) for begin in rows[:, 0])
    for begin, _, start, *_ in strangers.tolist():
        assert document_of(found, begin) != document_of(found, start)


def test_the_seed_decides_and_nothing_else(pieces, drawn):
    assert np.array_equal(pairs(pieces, ROOM, seed=3), drawn[3])
    assert not np.array_equal(drawn[3][:20], drawn[4][:20])


def test_rows_as_the_model_reads_them(tokenizer, pieces, drawn):
    passages = Passages(pieces, drawn[0], tokenizer, next_sentence=True)
    assert len(passages) == len(drawn[0])
    for row, (begin, end, start, stop, label) in enumerate(drawn[0].tolist()):
        item = passages[row]
        first, second = pieces.ids[begin:end].tolist(), pieces.ids[start:stop].tolist()
        expected = [2, *first, 3, *([*second, 3] if second else [])]
        assert item["input_ids"].tolist() == expected and item["labels"] == label
        types = [0] * (len(first) + 2) + [1] * (len(second) + bool(second))
        assert item["token_type_ids"].tolist() == types
        assert passages.lengths[row] == len(expected)
    batch = collate([passages[row] for row in range(4)])
    assert batch["labels"].tolist() == drawn[0][:4, 4].tolist()
    assert "labels" not in Passages(pieces, runs(pieces, 29), tokenizer, next_sentence=False)[0]


def test_documents_are_held_out_whole_and_at_random():
    texts = documents(200)
    train, held = hold_out(texts, 0.1, seed=1)
    assert len(held) == 20 and Counter(train + held) == Counter(texts)
    assert held != texts[:20] and held != texts[-20:]
    assert hold_out(texts, 0.1, seed=1) == (train, held) != hold_out(texts, 0.1, seed=2)
    assert len(hold_out(texts[:2], 0.01, seed=0)[1]) == 1
    assert len(hold_out(texts[:3], 0.01, seed=0, least=2)[1]) == 2
    with refused(ConfigError, "validation_fraction"):
        hold_out(texts[:1], 0.1, seed=0)


@pytest.mark.parametrize("texts", [["Wa. Wb."], ["Wa.", "Wb."]])
def test_one_document_and_single_sentences_make_no_pairs(tokenizer, texts):
    found = tokenise([Document(text, "") for text in texts], tokenizer, most=9)
    with refused(DataError, "objective") as caught:
        pairs(found, 20, seed=0)
    assert "--objective mlm" in str(caught.value)
