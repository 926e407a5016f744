"""Examples: what every form says of itself to code that knows none of them."""

from __future__ import annotations

import pytest

from minibert.workbench.data.examples import Answer, ChoiceExample, QuestionExample


@pytest.mark.parametrize(
    ("example", "texts", "target", "group"),
    [
        (QuestionExample("a", "b"), ("a", "b"), None, "b"),
        (QuestionExample("a", "b", ()), ("a", "b"), (), "b"),
        (ChoiceExample("a", ("b", "c"), 1), ("a", "b", "c"), 1, None),
    ],
)
def test_an_example_says_what_it_holds(example, texts, target, group):
    assert (example.texts, example.target, example.group) == (texts, target, group)
    assert {example, example} == {example}  # parts of a split are compared as sets


def test_an_answer_ends_after_its_last_character():
    answer = Answer("bc", 1)
    assert "abcd"[answer.start : answer.end] == answer.text
