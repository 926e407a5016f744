"""The checks of chapter 14: right code in three styles, known mistakes by name, others without a wrong name."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import transformers

from minibert.study import exercises as check
from minibert.study.exercises import distilling
from tests.course.known_mistakes import assert_named, assert_pairs_named, singles

SOLUTIONS = runpy.run_path(str(Path(__file__).parents[2] / "notebooks" / "solutions" / "14_other_models.py"))
TASKS = {
    "distil_name": distilling.distil_name_task(),
    "student_from_teacher": distilling.student_from_teacher_task(),
    "pieces_per_word": distilling.pieces_per_word_task(),
}


@pytest.mark.parametrize("name", [name for name in SOLUTIONS if name.startswith("my_")])
def test_solutions_are_right_in_each_style(name):
    judge = next(getattr(check, task) for task in TASKS if name.startswith(f"my_{task}"))
    verdict = judge(SOLUTIONS[name])
    assert verdict.right, verdict


@pytest.mark.parametrize(("name", "mistake"), singles(TASKS))
def test_each_mistake_is_named_and_no_other(name, mistake):
    assert_named(TASKS[name], mistake)


@pytest.mark.parametrize(
    ("name", "least"), [("distil_name", 40), ("student_from_teacher", 30), ("pieces_per_word", 12)]
)
def test_pairs_are_named(name, least):
    assert_pairs_named(TASKS[name], least)


@pytest.mark.parametrize(
    ("judge", "wrong", "first"),
    [
        (check.distil_name, lambda name: name.upper(), "word_embeddings"),
        (check.distil_name, lambda name: f"distil{name}".replace("LayerNorm", "norm"), "LayerNorm"),
        (check.student_from_teacher, lambda tensors: {name: -tensor for name, tensor in tensors.items()}, "4 layers"),
        (check.student_from_teacher, lambda tensors: {}, "4 layers"),
        (check.pieces_per_word, lambda texts, pieces_of: 1.0, "one short text"),
        (check.pieces_per_word, lambda texts, pieces_of: len(texts), "one short text"),
    ],
)
def test_an_unknown_mistake_gets_no_wrong_name(judge, wrong, first):
    verdict = judge(wrong)
    assert not verdict.right and verdict.mistakes == () and "No known mistake" in verdict.text
    assert first in verdict.text


def test_the_names_are_those_of_transformers_and_of_minibert():
    theirs = transformers.DistilBertForMaskedLM(
        transformers.DistilBertConfig(n_layers=2, dim=24, n_heads=2, hidden_dim=8)
    )
    old = transformers.BertForPreTraining(
        transformers.BertConfig(num_hidden_layers=2, hidden_size=24, num_attention_heads=2, intermediate_size=8)
    )
    found = {SOLUTIONS["my_distil_name"](name) for name in old.state_dict()} - {None}
    assert found - {"cls.predictions.decoder.bias", "vocab_projector.bias"} == {*theirs.state_dict()} - {
        "vocab_projector.bias"
    }
