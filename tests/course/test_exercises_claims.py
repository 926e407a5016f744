"""The checks of the chapter on claims: right code in any style, and the names of mistakes."""

from __future__ import annotations

import itertools
import random
import runpy
from pathlib import Path

import pytest
import torch

from minibert.study import exercises as check
from minibert.study.exercises import claims
from minibert.study.exercises.values import difference, plain

FOLDER = Path(__file__).parents[2] / "notebooks" / "solutions"
SOLUTIONS = runpy.run_path(str(FOLDER / "17_claims.py"))
CHECKS = {
    "bootstrap_difference": (check.bootstrap_difference, claims._bootstrap_task()),
    "entropy": (check.entropy_of_attention, claims._entropy_task()),
    "importance": (check.head_importance, claims._importance_task()),
    "leave_one_out": (check.leave_one_out, claims._leave_one_out_task()),
}
SINGLES = [(kind, name) for kind, (_, task) in CHECKS.items() for name in task.mistakes]
STYLES = [(kind, name) for kind in CHECKS for name in SOLUTIONS if name.startswith(f"my_{kind}")]


def wrong(kind, *names):
    return lambda *inputs: CHECKS[kind][1].truth(*inputs, mistakes=frozenset(names))


@pytest.mark.parametrize("kind, name", STYLES)
def test_right_code_passes_in_any_style(kind, name):
    verdict = CHECKS[kind][0](SOLUTIONS[name])
    assert verdict.right, verdict


def test_there_are_three_styles_of_each():
    assert sorted(kind for kind, _ in STYLES) == sorted(3 * [*CHECKS])


@pytest.mark.parametrize("kind, name", SINGLES)
def test_every_known_mistake_is_named_and_no_other(kind, name):
    judge, task = CHECKS[kind]
    verdict = judge(wrong(kind, name))
    assert verdict.mistakes == ((name,),)
    assert task.mistakes[name] in str(verdict)


@pytest.mark.parametrize("kind", CHECKS)
def test_pairs_are_named(kind):
    judge, task = CHECKS[kind]

    def made(names):
        return [plain(wrong(kind, *names)(*case.inputs)) for case in task.cases]

    for pair in random.Random(0).sample([*itertools.combinations(task.mistakes, 2)], 25):
        verdict = judge(wrong(kind, *pair))
        assert not verdict.right and verdict.mistakes, pair
        assert verdict.mistakes == (pair,) or all(
            not any(map(difference, made(names), made(pair))) for names in verdict.mistakes
        ), pair


def medians(first, second, drawn):
    gain = first - second
    low, high = gain[drawn].median(dim=1).values.quantile(torch.tensor([0.025, 0.975]))
    return gain.median(), low, high


def ratio(first, second, drawn):
    first = first / second.mean().clamp(min=0.1)
    return SOLUTIONS["my_bootstrap_difference"](first, second * 0, drawn)


def gini(pattern, mask):
    return (1 - pattern.square().sum(-1)).transpose(0, 1)[:, mask].mean(1)


def first_query(pattern, mask):
    return torch.special.entr(pattern[:, :, 0]).sum(-1).mean(0)


def halves(loss, examples, heads):
    return SOLUTIONS["my_importance"](loss, examples, heads) / 2


def at_half_gates(loss, examples, heads):
    return 2 * SOLUTIONS["my_importance"](lambda example, gates: loss(example, gates / 2), examples, heads)


def first_separator_only(number, ids, cls, sep, mask):
    special = ids.tolist().index(sep)
    scores = SOLUTIONS["my_leave_one_out"](number, ids, cls, sep, mask)
    without = ids.clone()
    without[special] = mask
    scores[special] = 2 * (number(ids) - number(without)) if special < len(ids) - 1 else 0
    return scores


def squares(number, ids, cls, sep, mask):
    return SOLUTIONS["my_leave_one_out"](number, ids, cls, sep, mask).square()


UNKNOWN = [
    ("bootstrap_difference", medians, "resamples that are the data itself"),
    ("bootstrap_difference", ratio, "resamples that are the data itself"),
    ("entropy", gini, "weights that are all equal"),
    ("entropy", first_query, "one sentence"),
    ("importance", halves, "one example"),
    ("importance", at_half_gates, "a curved loss"),
    ("leave_one_out", first_separator_only, "a pair of texts"),
    ("leave_one_out", squares, "a text of one piece"),
]


@pytest.mark.parametrize("kind, function, place", UNKNOWN, ids=lambda x: getattr(x, "__name__", ""))
def test_an_unknown_mistake_gets_no_name_and_the_first_case_that_departs(kind, function, place):
    verdict = CHECKS[kind][0](function)
    assert not verdict.right and verdict.mistakes == ()
    assert place in str(verdict).splitlines()[0]


@pytest.mark.parametrize("kind", CHECKS)
def test_nothing_written_yet(kind):
    assert "Not written yet" in str(CHECKS[kind][0](lambda *inputs: None))
