"""Windows: the rows of transformers' fast tokenizer, and answers there and back."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import transformers
from hypothesis import assume, given
from hypothesis import strategies as st

from minibert.data import collate
from minibert.io.errors import ConfigError, DataError, InputError
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus, read
from minibert.workbench.data.examples import Answer, QuestionExample
from minibert.workbench.data.windows import MOST_OF_A_QUESTION, NOT_HERE, Windows, pieces_of
from tests.conftest import refused
from tests.texts import VOCABULARIES

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*SPECIAL, *"abcdefgh", *(f"##{letter}" for letter in "abcdefgh")]
VOCABULARY = {piece: number for number, piece in enumerate(PIECES)}

# Answers of XQuAD that begin or end inside a piece of a vocabulary, as counted: the file cuts one
# off in the middle of a number, "7,000,000 square kilometres (2,70" for 2,700,000 square miles.
WIDENED = {
    ("en", "bert-base-cased"): 1,
    ("es", "bert-base-multilingual-cased"): 1,
    ("zh", "bert-base-chinese"): 0,
    ("zh", "bert-base-multilingual-cased"): 0,
}


@pytest.fixture(scope="module")
def xquad(data) -> dict[str, Corpus]:
    return {name: read(data / f"xquad/xquad.{name}.json") for name in ("en", "es", "zh")}


@pytest.fixture(scope="module")
def tokenizers(data) -> dict[str, BertTokenizer]:
    return {
        name: BertTokenizer.from_vocab(data / f"bert_vocabs/{name}/vocab.txt", lowercase=lowercase)
        for name, (lowercase, _) in VOCABULARIES.items()
    }


@pytest.fixture
def letters() -> BertTokenizer:
    return BertTokenizer(VOCABULARY, max_length=16)


def asked(context: str, question: str = "a", answer: tuple[int, int] | None = None):
    """A question, and the answer at these characters."""
    answers = () if answer is None else (Answer(context[slice(*answer)], answer[0]),)
    return QuestionExample(question, context, answers)


# The rows


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_rows_are_those_of_transformers(data, xquad, tokenizers, vocabulary):
    ours = tokenizers[vocabulary]
    theirs = fast_tokenizer(data / "bert_vocabs" / vocabulary, ours.lowercase)
    sample = [example for corpus in xquad.values() for example in corpus.examples[::29]]
    short = [one for one in sample if len(theirs.tokenize(one.question)) <= 30]
    assert len(short) > 90
    with warnings.catch_warnings(action="ignore"):  # of answers that are too long for so small ones
        rows = Windows(short, ours, max_length=64, overlap=16)
    expected = theirs(
        [one.question for one in short],
        [one.context for one in short],
        truncation="only_second",
        max_length=64,
        stride=16,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    assert len(rows) == len(expected["input_ids"]) > 7 * len(short)
    assert [window.question for window in rows.windows] == expected["overflow_to_sample_mapping"]
    for row, window in enumerate(rows.windows):
        assert rows[row]["input_ids"].tolist() == expected["input_ids"][row]
        assert rows[row]["token_type_ids"].tolist() == expected["token_type_ids"][row]
        last = window.first + len(window.offsets)
        offsets = expected["offset_mapping"][row][window.first : last]
        assert [tuple(place) for place in window.offsets.tolist()] == offsets
        sequences = expected.sequence_ids(row)
        assert sequences.index(1) == window.first and sequences[last:] == [None]
    assert rows.lengths == list(map(len, expected["input_ids"]))
    assert (rows.cut, rows.rows_of[-1][-1]) == (0, len(rows) - 1)


def fast_tokenizer(folder: Path, lowercase: bool) -> transformers.BertTokenizerFast:
    pieces = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    vocabulary = {piece: number for number, piece in enumerate(pieces[:-1])}
    return transformers.BertTokenizerFast(vocab=vocabulary, do_lower_case=lowercase)


def test_a_context_that_fits_is_one_row(letters):
    rows = Windows([asked("b c d", answer=(2, 3))], letters)
    assert letters.tokens(rows[0]["input_ids"]) == ["[CLS]", "a", "[SEP]", *"bcd", "[SEP]"]
    assert rows[0]["token_type_ids"].tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert (rows[0]["start_positions"], rows[0]["end_positions"]) == (4, 4)
    assert rows.rows_of == [[0]] and rows.tokens_read() == rows.full_lengths == [7]
    bare = Windows([asked("b c d")], BertTokenizer(VOCABULARY, token_types=False))
    assert "token_type_ids" not in bare[0]


def test_windows_share_the_overlap_and_read_everything(letters):
    context = " ".join("abcdefgh" * 3)  # 24 pieces, 12 in a window beside the question
    for overlap, starts in ((0, [0, 12]), (4, [0, 8, 16]), (None, [0, 8, 16]), (11, range(13))):
        rows = Windows([asked(context)], letters, overlap=overlap)
        assert [window.start for window in rows.windows] == [*starts]
        assert rows.full_lengths == [28] and max(rows.lengths) == 16
        seen = {tuple(place) for window in rows.windows for place in window.offsets.tolist()}
        assert seen == {(2 * piece, 2 * piece + 1) for piece in range(24)}


def test_an_overlap_or_a_length_without_room(letters):
    for overlap in (12, 13, -1):
        with refused(ConfigError, "overlap"):
            Windows([asked("a " * 40)], letters, overlap=overlap)
    with refused(InputError, "max_length"):
        Windows([asked("a b")], letters, max_length=4)
    assert len(Windows([asked("a b")], letters, max_length=5)) == 2


def test_questions_that_are_missing_or_not_text(letters):
    with refused(DataError, None):
        Windows([], letters)
    examples = [asked("a")] * 101
    with refused(DataError, "101"):
        Windows([*examples, QuestionExample("a", None)], letters)


def test_a_long_question_is_cut_and_counted():
    tokenizer = BertTokenizer(VOCABULARY, max_length=256)
    examples = [asked("b " * 300, question="a " * count) for count in (63, 64, 65, 100)]
    with pytest.warns(UserWarning, match=r"^2 of 4 questions had more than 64 tokens") as caught:
        rows = Windows(examples, tokenizer)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert rows.cut == 2 and MOST_OF_A_QUESTION == 64
    assert [rows.windows[some[0]].first for some in rows.rows_of] == [65, 66, 66, 66]
    assert rows.full_lengths == [366, 367, 368, 403]
    for of_question in rows.rows_of:
        assert all(rows[row]["input_ids"][1] == VOCABULARY["a"] for row in of_question)
    with pytest.warns(UserWarning, match="half of the room"):
        small = Windows([asked("b " * 9, question="a " * 8)], tokenizer, max_length=16)
    assert small.cut == 1 and small.windows[0].first == 8


def test_an_empty_context_has_one_row_without_pieces(letters):
    rows = Windows([asked(" ", question="a b")], letters)
    assert rows.lengths == [5] and rows.windows[0].offsets.shape == (0, 2)
    assert (rows[0]["start_positions"], rows[0]["end_positions"]) == NOT_HERE


# Answers


@pytest.mark.parametrize(("language", "vocabulary"), WIDENED)
@pytest.mark.parametrize("max_length", [384, 128])
def test_every_answer_survives_the_way_there_and_back(xquad, tokenizers, language, vocabulary, max_length):
    corpus = xquad[language]
    with warnings.catch_warnings(action="error"):  # every answer is in some window, whole
        rows = Windows(corpus, tokenizers[vocabulary], max_length=max_length)
    widened = 0
    for example, of_question in zip(corpus, rows.rows_of, strict=True):
        (answer,) = example.answers
        stretches = {stretch(rows, row) for row in of_question} - {None}
        assert len(stretches) == 1, "the windows that hold an answer agree, and one does"
        [(start, end)] = stretches
        assert start <= answer.start and answer.end <= end
        if (start, end) != (answer.start, answer.end):
            assert inside_a_piece(rows, of_question, answer)
            widened += 1
    print(f"{language}, {vocabulary}: {widened} of {len(corpus)} answers are widened")
    assert widened == WIDENED[language, vocabulary]


def stretch(rows: Windows, row: int) -> tuple[int, int] | None:
    """The characters that a row's answer stands for, all of it in the context; None: not here."""
    first, last = rows[row]["start_positions"], rows[row]["end_positions"]
    if (first, last) == NOT_HERE:
        return None
    window = rows.windows[row]
    assert window.first <= first <= last < window.first + len(window.offsets) < rows.lengths[row]
    return window.characters_of(first, last)


def inside_a_piece(rows: Windows, of_question: Sequence[int], answer: Answer) -> bool:
    places = np.concatenate([rows.windows[row].offsets for row in of_question])  # (pieces, 2)
    return any(((places[:, 0] < edge) & (edge < places[:, 1])).any() for edge in (answer.start, answer.end))


def test_an_answer_inside_a_piece_is_widened_to_it(letters):
    tokenizer = BertTokenizer({**VOCABULARY, "abc": len(VOCABULARY)})
    rows = Windows([asked("d abc d", answer=(3, 4))], tokenizer)
    assert stretch(rows, 0) == (2, 5)
    rows = Windows([asked("d abc d", answer=(3, 4))], letters)  # "abc" is a, ##b, ##c here
    assert stretch(rows, 0) == (3, 4)


def test_questions_that_are_unanswerable_or_unlabelled(letters):
    unsaid = QuestionExample("a", "b c")
    rows = Windows([asked("b " * 30), unsaid], letters)
    assert len(rows.rows_of[0]) > 2
    for row in rows.rows_of[0]:
        assert (rows[row]["start_positions"], rows[row]["end_positions"]) == NOT_HERE
    assert "start_positions" not in rows[rows.rows_of[1][0]]
    assert rows.cut_labels == 0


def test_an_answer_is_here_only_if_all_of_it_is(letters):
    context = " ".join("abcdefgh" * 3)
    rows = Windows([asked(context, answer=(18, 25))], letters, overlap=4)  # pieces 9 to 12
    assert [stretch(rows, row) for row in rows.rows_of[0]] == [None, (18, 25), None]
    assert (rows[1]["start_positions"], rows[1]["end_positions"]) == (4, 7)


def test_an_answer_that_no_window_holds_is_counted_and_warned_of(letters):
    context = " ".join("abcdefgh" * 3)
    examples = [
        asked(context, answer=(16, 27)),  # pieces 8 to 13 of windows 0 to 11, 10 to 21
        asked(context, answer=(0, 1)),
        asked(f"{context} \ufe0f", answer=(48, 49)),  # nothing is left of it once it is cleaned
        asked(context),
    ]
    with pytest.warns(UserWarning, match=r"^2 of 4 questions have an answer that no") as caught:
        rows = Windows(examples, letters, overlap=2)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert rows.cut_labels == 2
    held = [{stretch(rows, row) for row in some} - {None} for some in rows.rows_of]
    assert held == [set(), {(0, 1)}, set(), set()]


def test_padding_on_the_left_moves_positions(letters):
    examples = [asked("b c d", answer=(2, 3)), asked("b c d e f g", answer=(0, 3)), asked("b c")]
    rows = Windows(examples, letters)
    items = [rows[row] for row in range(3)]
    right, left = collate(items), collate(items, padding_side="left")
    assert right["start_positions"].tolist() == [4, 3, 0]
    assert right["end_positions"].tolist() == [4, 4, 0]
    assert left["start_positions"].tolist() == [7, 3, 4]
    assert left["end_positions"].tolist() == [7, 4, 4]
    for name in ("start_positions", "end_positions"):
        for row in range(3):
            pieces = [batch["input_ids"][row, batch[name][row]] for batch in (right, left)]
            assert pieces[0] == pieces[1] != VOCABULARY["[PAD]"]
    assert left["input_ids"][2, 4] == VOCABULARY["[CLS]"]


WORDS = st.lists(st.text("abcdefgh\u00e9\u4e2d.,", min_size=1, max_size=6), min_size=1, max_size=40).map(" ".join)


@given(WORDS, WORDS, st.integers(5, 40), st.integers(0, 30), st.data())
def test_any_answer_in_any_context(question, context, max_length, overlap, draw):
    start = draw.draw(st.integers(0, len(context) - 1))
    end = draw.draw(st.integers(start + 1, len(context)))
    tokenizer = BertTokenizer(VOCABULARY, max_length=64)
    whole = tokenizer.encode(context, max_length=64)[0]
    assume(whole.cut == 0)
    offsets = np.array(whole.offsets[1:-1])
    answer = Answer(context[start:end], start)
    example = QuestionExample(question, context, (answer,))
    with warnings.catch_warnings(action="ignore"):
        try:
            rows = Windows([example], tokenizer, max_length=max_length, overlap=overlap)
        except ConfigError:
            assume(False)
    pieces = pieces_of(answer, offsets)
    # Every piece of the context is read, in order, and stands where it stands in the whole.
    for window in rows.windows:
        assert (window.offsets == offsets[window.start :][: len(window.offsets)]).all()
    read_so_far = 0
    for window in rows.windows:
        assert window.start <= read_so_far
        read_so_far = window.start + len(window.offsets)
    assert read_so_far == len(offsets)
    found = [stretch(rows, row) for row in range(len(rows))]
    held = [
        pieces is not None and window.start <= pieces[0] and pieces[1] < window.start + len(window.offsets)
        for window in rows.windows
    ]
    assert [place is not None for place in found] == held
    assert rows.cut_labels == (not any(held))
    if pieces is not None:
        wide = (offsets[pieces[0], 0], offsets[pieces[1], 1])
        assert {*found} - {None} <= {wide}
        visible = [place for place in range(start, end) if ((offsets[:, 0] <= place) & (place < offsets[:, 1])).any()]
        assert wide[0] <= visible[0] and visible[-1] < wide[1]
