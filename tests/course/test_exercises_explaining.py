"""The checks of the chapter on explaining a prediction: right code in any style, and the names of mistakes."""

from __future__ import annotations

import itertools
import random
import runpy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from minibert.study import exercises as check
from minibert.study.exercises import explaining
from minibert.study.exercises.values import difference, plain

FOLDER = Path(__file__).parents[2] / "notebooks" / "solutions"
SOLUTIONS = runpy.run_path(str(FOLDER / "16_what_made_this_prediction.py"))
CHECKS = {
    "lens": (check.lens, explaining._lens_task()),
    "contributions": (check.contributions, explaining._contributions_task()),
    "integrated_gradients": (check.integrated_gradients, explaining._integrated_gradients_task()),
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


def relu_head(states, head):
    hidden = F.relu(states @ head["dense.weight"].T + head["dense.bias"])
    hidden = F.layer_norm(hidden, hidden.shape[-1:], head["norm.weight"], head["norm.bias"], head["eps"])
    return (hidden @ head["table"].T + head["bias"]).softmax(-1)


def no_bias_of_the_dense_map(states, head):
    return SOLUTIONS["my_lens"](states, {**head, "dense.bias": 0 * head["dense.bias"]})


def layers_reversed(states, head):
    return SOLUTIONS["my_lens"](states, head).flip(0)


def halves_of_the_shares(parts, weight, bias, eps, direction):
    shares, rest = SOLUTIONS["my_contributions"](parts, weight, bias, eps, direction)
    return shares / 2, rest


def bias_shared_out(parts, weight, bias, eps, direction):
    shares, rest = SOLUTIONS["my_contributions"](parts, weight, bias, eps, direction)
    return shares + rest / len(shares), 0 * rest


def squared_steps(function, actual, baseline, steps):
    points = torch.tensor([((k + 0.5) / steps) ** 2 for k in range(steps)])
    gradient = torch.func.grad(function)
    mean = sum(gradient(baseline + point * (actual - baseline)) for point in points) / steps
    return (mean * (actual - baseline)).sum(dim=1)


def gradient_at_the_middle(function, actual, baseline, steps):
    return SOLUTIONS["my_integrated_gradients"](function, actual, baseline, 1)


UNKNOWN = [
    ("lens", relu_head, "a dense map that changes nothing"),
    ("lens", no_bias_of_the_dense_map, "one state and a dense map"),
    ("lens", layers_reversed, "4 states"),
    ("contributions", halves_of_the_shares, "one part"),
    ("contributions", bias_shared_out, "weight and bias"),
    ("integrated_gradients", squared_steps, "a curved function, baseline zero"),
    ("integrated_gradients", gradient_at_the_middle, "a curved function, baseline zero"),
]


@pytest.mark.parametrize("kind, function, place", UNKNOWN, ids=lambda x: getattr(x, "__name__", ""))
def test_an_unknown_mistake_gets_no_name_and_the_first_case_that_departs(kind, function, place):
    verdict = CHECKS[kind][0](function)
    assert not verdict.right and verdict.mistakes == ()
    assert place in str(verdict).splitlines()[0]


@pytest.mark.parametrize("kind", CHECKS)
def test_nothing_written_yet(kind):
    assert "Not written yet" in str(CHECKS[kind][0](lambda *inputs: None))
