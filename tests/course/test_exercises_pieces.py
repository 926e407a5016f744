"""The exercises on pieces, words and rows: right in every style, and each known mistake by its name."""

from __future__ import annotations

import itertools
import re
import runpy
import unicodedata
from pathlib import Path

import pytest

from minibert.study import exercises as check
from minibert.study.exercises import pieces
from minibert.study.exercises.values import difference

SOLUTIONS = runpy.run_path(str(Path(__file__).parents[2] / "notebooks" / "solutions" / "01_text_to_pieces.py"))
TASKS = {"wordpiece": pieces.WORDPIECE_TASK, "words": pieces.WORDS_TASK, "pair": pieces.PAIR_TASK}
STYLES = {
    "wordpiece": ["my_wordpiece", "my_wordpiece_recursive", "my_wordpiece_with_loops"],
    "words": ["my_words", "my_words_with_a_pattern", "my_words_one_by_one"],
    "pair": ["nearly", "pair_with_pops", "pair_with_slices"],
}
each_style = pytest.mark.parametrize("task, name", [(task, name) for task in STYLES for name in STYLES[task]])


@each_style
def test_right_functions_are_right(task, name):
    verdict = getattr(check, task)(SOLUTIONS[name])
    assert verdict.right, verdict


def with_mistakes(task, *names):
    return lambda *inputs: TASKS[task].truth(*inputs, mistakes=frozenset(names))


@pytest.mark.parametrize("task, name", [(task, name) for task in TASKS for name in TASKS[task].mistakes])
def test_each_mistake_is_named(task, name):
    verdict = getattr(check, task)(with_mistakes(task, name))
    assert verdict.mistakes == ((name,),), verdict


@pytest.mark.parametrize("task", TASKS)
def test_pairs_of_mistakes_are_named(task):
    """A pair gets its own name among the verdict's, unless one mistake alone, or none, gives the same."""
    named = 0
    for pair in [*itertools.combinations(TASKS[task].mistakes, 2)][::3]:
        verdict = getattr(check, task)(with_mistakes(task, *pair))
        if verdict.right or any(len(names) == 1 for names in verdict.mistakes):
            continue
        assert pair in verdict.mistakes
        named += 1
    assert named >= 15


# Mistakes outside the catalogue -> the case in which they show first.
UNKNOWN = {
    ("wordpiece", "the second piece is the last"): (
        lambda word, vocabulary: SOLUTIONS["my_wordpiece"](word, vocabulary)[:2],
        "a word of three pieces",
    ),
    ("wordpiece", "characters"): (lambda word, vocabulary: list(word), "a word that the vocabulary has"),
    ("wordpiece", "[UNK] in small letters"): (
        lambda word, vocabulary: [piece.replace("UNK", "unk") for piece in SOLUTIONS["my_wordpiece"](word, vocabulary)],
        "a word with a character that no piece has",
    ),
    ("words", "upper case"): (lambda text, lowercase: text.upper().split(), "two plain words"),
    ("words", "letters only"): (
        lambda text, lowercase: re.findall(r"[a-z]+", text.lower() if lowercase else text),
        "a full stop",
    ),
    ("words", "digits apart"): (
        lambda text, lowercase: SOLUTIONS["my_words"](re.sub(r"(\d)", r" \1 ", text), lowercase),
        "letters that have no accents to lose",
    ),
    ("words", "composed"): (
        lambda text, lowercase: [unicodedata.normalize("NFC", w) for w in SOLUTIONS["my_words"](text, lowercase)],
        "Japanese and Korean",
    ),
    ("pair", "no special tokens"): (
        lambda first, second, most: (first + (second or []), [0] * len(first) + [1] * len(second or [])),
        "one text",
    ),
    ("pair", "the second text is cut away"): (
        lambda first, second, most: SOLUTIONS["nearly"](first, second if len(second or []) < 9 else [], most),
        "a long second text",
    ),
}  # fmt: skip


@pytest.mark.parametrize("task, what", UNKNOWN)
def test_an_unknown_mistake_gets_no_name_and_the_first_case_that_departs(task, what):
    wrong, first = UNKNOWN[task, what]
    verdict = getattr(check, task)(wrong)
    if verdict.right:
        pytest.fail("the mistake does not show")
    assert verdict.mistakes == () and f"with {first}" in str(verdict), verdict


def test_the_tasks_agree_with_the_lesson():
    from minibert.tokenizer import BertTokenizer
    from minibert.wordpiece import WordPiece

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    for case in pieces.WORDPIECE_TASK.cases:
        word, vocabulary = case.inputs
        by_hand = WordPiece({piece: number for number, piece in enumerate([*special, *sorted(vocabulary)])})
        assert [piece.token for piece in by_hand(word)] == pieces.cut_word(word, vocabulary)
    for case in pieces.WORDS_TASK.cases:
        text, lowercase = case.inputs
        tokenizer = BertTokenizer({piece: number for number, piece in enumerate(special)}, lowercase=lowercase)
        assert tokenizer.words(text) == pieces.split_words(text, lowercase)
    vocabulary = [*special, "a", "film", "about", "what", "?", "more", *[f"w{number}" for number in range(9)]]
    tokenizer = BertTokenizer({piece: number for number, piece in enumerate(vocabulary)})
    for case in pieces.PAIR_TASK.cases:
        first, second, most = case.inputs
        texts = [" ".join(first)], None if second is None else [" ".join(second)]
        [row] = tokenizer.encode(*texts, max_length=most)
        assert difference([row.tokens, row.token_type_ids], [*map(list, pieces.make_row(*case.inputs))]) is None
