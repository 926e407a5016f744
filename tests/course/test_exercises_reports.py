"""The checks of chapter 13: right code in three styles, known mistakes by name, others without a wrong name."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from minibert.study import exercises as check
from minibert.study.exercises import calibration, chance
from tests.course.known_mistakes import assert_named, assert_pairs_named, singles

SOLUTIONS = runpy.run_path(str(Path(__file__).parents[2] / "notebooks" / "solutions" / "13_fine_tuning.py"))
TASKS = {
    "rank_by_loss": calibration.rank_by_loss_task(),
    "calibration_error": calibration.calibration_error_task(),
    "bootstrap_interval": chance.bootstrap_interval_task(),
    "mcnemar": chance.mcnemar_task(),
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
    ("name", "least"), [("rank_by_loss", 8), ("calibration_error", 25), ("bootstrap_interval", 15), ("mcnemar", 8)]
)
def test_pairs_are_named(name, least):
    assert_pairs_named(TASKS[name], least)


@pytest.mark.parametrize(
    ("judge", "wrong", "first"),
    [
        (check.rank_by_loss, lambda logits, labels: labels.argsort(), "four examples"),
        (check.rank_by_loss, lambda logits, labels: logits[:, 0].argsort(), "four examples"),
        (check.calibration_error, lambda p, labels, bins: (p.max(1).values.mean() - 0.5).item(), "one bin"),
        (check.calibration_error, lambda p, labels, bins: p.std().item(), "one bin"),
        (check.bootstrap_interval, lambda right, drawn: (right.mean().item() - 0.1, right.mean().item() + 0.1), "50"),
        (check.mcnemar, lambda a, b: (a != b).double().mean().item(), "12 examples"),
    ],
)
def test_an_unknown_mistake_gets_no_wrong_name(judge, wrong, first):
    verdict = judge(wrong)
    assert not verdict.right and verdict.mistakes == () and "No known mistake" in verdict.text
    assert first in verdict.text


def test_ece_of_certain_and_right_predictions_is_zero():
    assert SOLUTIONS["my_calibration_error"](torch.eye(3), torch.arange(3), 10) == 0
