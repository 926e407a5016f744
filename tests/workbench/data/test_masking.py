"""Masking: exact shares, nothing special, whole words, and nothing random but the generator."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from minibert.data import IGNORED_LABEL
from minibert.io.errors import ConfigError
from minibert.workbench.data.masking import Masking

SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
PIECES = [*(f"w{number}" for number in range(20)), *(f"##{number}" for number in range(20))]
VOCABULARY = {**SPECIAL, **{piece: number for number, piece in enumerate(PIECES, 5)}}
SIZE = len(VOCABULARY)
WORD, MORE = 5, 25  # the first id of a word's beginning, of what goes on with it
PAD, UNK, CLS, SEP, MASK = SPECIAL.values()


def masking(**options) -> Masking:
    return Masking(VOCABULARY, SPECIAL, size=SIZE, **options)


def batch(rows: int = 500, columns: int = 100, seed: int = 0) -> np.ndarray:
    """[CLS] pieces [SEP] pieces [SEP] padding, with an [UNK]; half of the pieces go on."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(WORD, SIZE, size=(rows, columns))
    ids[:, 0], ids[:, 7], ids[:, columns // 2] = CLS, UNK, SEP
    for row, length in enumerate(draw.integers(columns // 2 + 2, columns + 1, size=rows)):
        ids[row, length - 1] = SEP
        ids[row, length:] = PAD
    return ids


def hide(ids, seed=0, **options):
    return masking(**options)(ids, np.random.default_rng(seed))


def assert_share(count: int, total: int, share: float) -> None:
    """Within the bounds that a binomial draw keeps but once in a million times."""
    low, high = scipy.stats.binom.interval(1 - 1e-6, total, share)
    assert low <= count <= high, (count / total, share)


@pytest.mark.parametrize("share", [0.15, 0.4])
@pytest.mark.parametrize("whole_words", [False, True])
def test_the_shares_are_those_of_the_paper(share, whole_words):
    ids = batch()
    hidden, labels = hide(ids, share=share, whole_words=whole_words)
    ordinary = ids >= WORD
    chosen = labels != IGNORED_LABEL
    if not whole_words:  # words are as many draws as there are beginnings, see below
        assert_share(chosen.sum(), ordinary.sum(), share)
    masked, same = chosen & (hidden == MASK), chosen & (hidden == ids)
    assert_share(masked.sum(), chosen.sum(), 0.8)
    # A replacement may be, by chance, what stood there.
    assert_share(same.sum(), chosen.sum(), 0.1 + 0.1 / len(PIECES))
    assert_share((chosen & ~masked & ~same).sum(), chosen.sum(), 0.1 - 0.1 / len(PIECES))


def test_every_place_is_as_likely_as_every_other():
    ids = np.full((20_000, 6), WORD)
    ids[:, 0], ids[:, -1] = CLS, SEP
    rows = hide(ids, share=0.5)[1] != IGNORED_LABEL
    none = 0.5**4  # of the rows have no place chosen at first, and get one
    for column in range(1, 5):
        assert_share(rows[:, column].sum(), len(rows), 0.5 + none / 4)
    assert not rows[:, [0, -1]].any()


def test_labels_are_what_stood_there_and_nothing_else_is_changed():
    ids = batch()
    before = ids.copy()
    hidden, labels = hide(ids)
    chosen = labels != IGNORED_LABEL
    assert np.array_equal(ids, before)
    assert np.array_equal(labels[chosen], ids[chosen])
    assert np.array_equal(hidden[~chosen], ids[~chosen])
    assert hidden.dtype == labels.dtype == np.int64 and hidden.shape == labels.shape == ids.shape


@pytest.mark.parametrize("whole_words", [False, True])
def test_special_tokens_are_never_chosen_and_never_put_in_a_place(whole_words):
    ids = batch()
    hidden, labels = hide(ids, share=0.9, whole_words=whole_words)
    assert (labels[ids < WORD] == IGNORED_LABEL).all()
    put = hidden[(labels != IGNORED_LABEL) & (hidden != MASK)]
    assert put.min() == WORD and put.max() == SIZE - 1  # both ends of what there is to draw


@pytest.mark.parametrize("whole_words", [False, True])
def test_every_row_has_a_label_if_it_has_a_token(whole_words):
    ids = np.full((2000, 4), PAD)
    ids[:, 0], ids[:, 1], ids[:, 2] = CLS, WORD, SEP
    ids[0, 1] = UNK
    _, labels = hide(ids, whole_words=whole_words)
    assert np.array_equal((labels != IGNORED_LABEL).sum(axis=1), [0] + [1] * 1999)


def words_of(row: np.ndarray) -> list[list[int]]:
    """The columns of each word, told piece by piece."""
    words: list[list[int]] = []
    for column, number in enumerate(row):
        if number >= MORE and column and row[column - 1] >= WORD:
            words[-1].append(column)
        elif number >= WORD:
            words.append([column])
    return words


@pytest.mark.parametrize("share", [0.01, 0.15, 0.5])
def test_whole_words_are_hidden_together(share):
    ids = batch()
    ids[:, 1] = MORE  # a row may begin in the middle of a word
    _, labels = hide(ids, share=share, whole_words=True)
    hidden = total = 0
    for row, chosen in zip(ids, labels != IGNORED_LABEL, strict=True):
        of_words = [set(chosen[columns]) for columns in words_of(row)]
        assert all(len(seen) == 1 for seen in of_words)
        hidden += sum(True in seen for seen in of_words)
        total += len(of_words)
    if share > 0.1:  # else rows without a word get one
        assert_share(hidden, total, share)


def test_without_whole_words_the_pieces_of_a_word_are_each_for_itself():
    ids = np.full((2000, 4), WORD)
    ids[:, 0], ids[:, 2], ids[:, 3] = CLS, MORE, SEP
    chosen = hide(ids, share=0.5)[1] != IGNORED_LABEL
    assert_share((chosen[:, 1] & chosen[:, 2]).sum(), 2000, 0.25)


def test_the_generator_decides_and_nothing_else():
    ids = batch(rows=20)
    np.random.seed(1)
    first = hide(ids, seed=3)
    np.random.seed(2)
    again = hide(ids, seed=3)
    other = hide(ids, seed=4)
    assert all(map(np.array_equal, first, again))
    assert not np.array_equal(first[1], other[1])


def test_ids_without_a_piece_are_never_drawn():
    wide = Masking(VOCABULARY, SPECIAL, size=SIZE + 500, share=0.9)
    hidden, _ = wide(batch(), np.random.default_rng(0))
    assert hidden.max() < SIZE


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigError, match="mask") as caught:
        masking(share=share)
    assert caught.value.key == "mask_share"


def test_a_vocabulary_of_special_tokens_alone_is_refused():
    with pytest.raises(ConfigError, match="All 5 pieces"):
        Masking(SPECIAL, SPECIAL, size=5)
