"""The checks of chapter 12: right code in three styles, known mistakes by name, others without a wrong name."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from minibert.study import exercises as check
from minibert.study.exercises import confusion, features
from tests.course.known_mistakes import assert_named, assert_pairs_named, singles

SOLUTIONS = runpy.run_path(str(Path(__file__).parents[2] / "notebooks" / "solutions" / "12_features_and_probes.py"))
TASKS = {
    "mean_pool": features.mean_pool_task(),
    "standardise": features.standardise_task(),
    "confusion_matrix": confusion.confusion_matrix_task(),
    "macro_f1": confusion.macro_f1_task(),
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
    ("name", "least"), [("mean_pool", 20), ("standardise", 25), ("confusion_matrix", 15), ("macro_f1", 8)]
)
def test_pairs_are_named(name, least):
    assert_pairs_named(TASKS[name], least)


@pytest.mark.parametrize(
    ("judge", "wrong", "first"),
    [
        (check.mean_pool, lambda hidden, mask: (hidden * mask[..., None]).median(dim=1).values, "without padding"),
        (check.mean_pool, lambda hidden, mask: hidden.sum(1) / mask.sum(1, keepdim=True).square(), "without padding"),
        (check.mean_pool, lambda hidden, mask: hidden[:, :3].mean(1), "without padding"),
        (check.standardise, lambda a, b: ((a - a.median(0).values) / a.std(0, correction=0), b), "that all vary"),
        (
            check.standardise,
            lambda a, b: tuple((x - a.mean(0)) / (a.std(0, correction=0) + 0.1) for x in (a, b)),
            "all vary",
        ),
        (check.confusion_matrix, lambda x, y, c: torch.eye(c), "three classes"),
        (check.macro_f1, lambda x, y, c: (x == y).float().std().item(), "three classes"),
    ],
)
def test_an_unknown_mistake_gets_no_wrong_name(judge, wrong, first):
    verdict = judge(wrong)
    assert not verdict.right and verdict.mistakes == () and "No known mistake" in verdict.text
    assert first in verdict.text
