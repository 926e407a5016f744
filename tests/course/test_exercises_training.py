"""The checks of the training loop: right in three styles, known mistakes named, unknown ones never misnamed."""

from __future__ import annotations

import itertools
import math
import random
import runpy
from pathlib import Path

import pytest
import torch

from minibert.study import exercises as check
from minibert.study.exercises import training
from minibert.study.exercises.values import Task, difference

FOLDER = Path(__file__).parents[2] / "notebooks" / "solutions"
SOLUTIONS = runpy.run_path(str(FOLDER / "10_the_training_loop.py"))
CHECKS = {
    "adamw_step": (training._adamw, training.ADAMW, "my_adamw_step"),
    "schedule": (training._schedule, training.SCHEDULE, "my_schedule"),
    "accumulate": (training._accumulate, training.ACCUMULATE, "my_gradient"),
    "scaled_step": (training._scaled_step, training.SCALED_STEP, "my_scaled_step"),
}
STYLES = [
    (name, style) for name, (_, _, stem) in CHECKS.items() for style in SOLUTIONS if style.startswith(stem)
]  # fmt: skip
SINGLES = [(name, mistake) for name, (_, known, _) in CHECKS.items() for mistake in known]


def judged(name, mine):
    return getattr(check, name)(mine)


def wrong(name, *mistakes):
    return lambda *inputs: CHECKS[name][0](*inputs, mistakes=frozenset(mistakes))


@pytest.fixture
def task_of(monkeypatch):
    """The task of a check, which it makes when it is called."""

    def get(name) -> Task:
        seen = []
        monkeypatch.setattr(training, "judge", lambda mine, task: seen.append(task))
        judged(name, None)
        monkeypatch.undo()
        return seen[0]

    return get


def test_there_are_three_styles_of_each():
    assert [sum(name == one for one, _ in STYLES) for name in CHECKS] == [3, 3, 3, 3]


@pytest.mark.parametrize("name, style", STYLES)
def test_solutions_are_right(name, style):
    verdict = judged(name, SOLUTIONS[style])
    assert verdict.right, verdict


@pytest.mark.parametrize("name, mistake", SINGLES)
def test_each_known_mistake_is_named(name, mistake):
    verdict = judged(name, wrong(name, mistake))
    assert verdict.mistakes == ((mistake,),), verdict


@pytest.mark.parametrize("name", CHECKS)
def test_pairs_are_named_where_one_alone_would_not_do(name, task_of):
    task, known = task_of(name), CHECKS[name][1]
    made = {}
    for names in [*((one,) for one in known), *itertools.combinations(known, 2)]:
        try:
            made[names] = [task.right(case, *names) for case in task.cases]
        except (ValueError, ZeroDivisionError, RuntimeError):
            continue

    def same(one, other):
        return all(difference(a, b) is None for a, b in zip(made[one], made[other], strict=True))

    named = 0
    pairs = [names for names in made if len(names) == 2]
    for pair in random.Random(0).sample(pairs, 25):
        alone = any(same(pair, (one,)) for one in known if (one,) in made)
        right = all(difference(a, task.right(case)) is None for a, case in zip(made[pair], task.cases, strict=True))
        verdict = judged(name, wrong(name, *pair))
        assert verdict.right == right
        if not alone and not right:
            assert pair in verdict.mistakes, (pair, verdict)
            named += 1
    assert named >= 8


UNKNOWN = {
    "adamw_step": [
        lambda w, g, m, s, step, rate, decay: (w - rate * g, 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2),
        lambda w, g, m, s, step, rate, decay: (w - rate * g.sign() - rate * decay * w, m, s),
        lambda *given: SOLUTIONS["my_adamw_step"](*given[:5], -given[5], given[6]),
        lambda *given: SOLUTIONS["my_adamw_step"](*given)[0],
    ],
    "schedule": [
        lambda update, warmup, total: 0.5,
        lambda update, warmup, total: SOLUTIONS["my_schedule"](update, warmup, total) ** 2,
        lambda update, warmup, total: max(0.0, 1 - (update / total) ** 2),
    ],
    "accumulate": [
        lambda weight, batches: torch.zeros_like(weight),
        lambda weight, batches: -SOLUTIONS["my_gradient"](weight, batches),
        lambda weight, batches: SOLUTIONS["my_gradient"](weight, batches[:1]),
        lambda weight, batches: SOLUTIONS["my_gradient"](2 * weight, batches),
    ],
    "scaled_step": [
        lambda weights, scaled, scale, limit, rate, updates: (weights, scale, updates),
        lambda weights, scaled, scale, limit, rate, updates: SOLUTIONS["my_scaled_step"](
            weights, scaled, scale, limit, -rate, updates),
        lambda weights, scaled, scale, limit, rate, updates: (
            [w - rate * (x / scale).clamp(-limit, limit) for w, x in zip(weights, scaled, strict=True)],
            scale, updates + 1),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name, number", [(name, number) for name in UNKNOWN for number in range(len(UNKNOWN[name]))])
def test_an_unknown_mistake_gets_no_name(name, number):
    verdict = judged(name, UNKNOWN[name][number])
    assert not verdict.right and verdict.mistakes == (), verdict
    assert "No known mistake" in str(verdict)


def test_the_first_case_that_departs_is_said():
    def without_clipping_small(weights, scaled, scale, limit, rate, updates):
        result = SOLUTIONS["my_scaled_step"](weights, scaled, scale, limit, rate, updates)
        return result if math.isfinite(float(scaled[1].sum())) else (result[0], scale - 1, updates)

    text = str(check.scaled_step(without_clipping_small))
    assert "an infinite gradient in one tensor" in text and "only the scale changes" in text


def test_readers_that_return_nothing_yet():
    for name in CHECKS:
        assert "Not written yet" in str(judged(name, lambda *inputs: None))
