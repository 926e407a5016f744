"""The checks of chapter 15: right code in any style passes, each known mistake is named, others are not misnamed."""

from __future__ import annotations

import itertools
import random
import runpy
from pathlib import Path

import pytest
from torch.nn import functional as F

from minibert.study import exercises as check
from minibert.study.exercises import museum

FOLDER = Path(__file__).parents[2] / "notebooks" / "solutions"
SOLUTIONS = runpy.run_path(str(FOLDER / "15_bug_museum.py"))
CHECKS = {
    "window_loss": (check.window_loss, museum._window_loss, museum.WINDOW),
    "guard": (check.guard, museum._guard, museum.GUARD),
}
SINGLES = [(kind, name) for kind, (_, _, known) in CHECKS.items() for name in known]


def wrong(kind, *names):
    return lambda *inputs: CHECKS[kind][1](*inputs, frozenset(names))


@pytest.mark.parametrize("kind", CHECKS)
def test_right_code_passes_in_any_style(kind):
    styles = [function for name, function in SOLUTIONS.items() if name.startswith(f"my_{kind}")]
    assert len(styles) == 3
    for function in styles:
        verdict = CHECKS[kind][0](function)
        assert verdict.right and verdict.mistakes == (), (function.__name__, verdict)


@pytest.mark.parametrize(("kind", "name"), SINGLES)
def test_every_known_mistake_is_named_and_no_other(kind, name):
    judge, _, known = CHECKS[kind]
    verdict = judge(wrong(kind, name))
    assert not verdict.right and verdict.mistakes == ((name,),)
    assert known[name] in str(verdict)


# Pairs with the numbers of one mistake alone, which is named then.
HIDES = {
    "mean of means": ["divided by batches", "not divided"],
    "last batch alone": ["mean of means"],
    "0 ignored": ["-100 counted"],
    "-100 counted": ["divided by all tokens"],
    "divided by batches": ["divided by all tokens", "divided by rows"],
    "divided by rows": ["divided by all tokens"],
    "not divided": ["divided by all tokens", "divided by batches", "divided by rows"],
    "mean of rows": ["divided by all tokens", "divided by rows"],
    "mask inverted": ["all padding"],
    "sums alone": ["signs alone"],
    "negative labels": ["-100 refused"],
}
NAMES = {frozenset((winner, other)): (winner,) for winner, others in HIDES.items() for other in others}


@pytest.mark.parametrize("kind", CHECKS)
def test_pairs_are_named(kind):
    judge, _, known = CHECKS[kind]
    for pair in itertools.combinations(known, 2):
        verdict = judge(wrong(kind, *pair))
        assert not verdict.right and verdict.mistakes == (NAMES.get(frozenset(pair), pair),), pair


def test_the_chapters_faulty_loss_is_named():
    def loss(batches):
        means = [F.cross_entropy(logits.softmax(-1).flatten(0, 1), labels.flatten()) for logits, labels in batches]
        return sum(means) / len(means)

    assert check.window_loss(loss).mistakes == (("double softmax", "mean of means"),)


def test_unknown_mistakes_get_no_wrong_name():
    right = SOLUTIONS["my_window_loss"]
    unknown = {
        "a single label": lambda batches: right([(logits / 2, labels) for logits, labels in batches]),
        "labels of -100": lambda batches: right([(x, labels.abs().clamp(max=4)) for x, labels in batches]),
        "three batches": lambda batches: right(batches[:1]),
    }
    for what, function in unknown.items():
        verdict = check.window_loss(function)
        assert not verdict.right and verdict.mistakes == () and what in str(verdict), what


def test_a_loss_without_gradients_is_refused():
    verdict = check.window_loss(lambda batches: SOLUTIONS["my_window_loss"](batches).item())
    assert not verdict.right and "gradients" in str(verdict) and verdict.mistakes == ()


def test_an_unknown_guard_gets_no_wrong_name():
    def never(*inputs):
        return dict.fromkeys(("padding read", "special tokens", "probabilities", "labels"), False)

    verdict = check.guard(never)
    assert not verdict.right and verdict.mistakes == () and "padding that is not masked" in str(verdict)


def test_a_guess_of_the_damage():
    right = SOLUTIONS["my_order"]()
    assert check.damage_order(SOLUTIONS["my_order"]).right
    assert check.damage_order(lambda: right[::-1]).mistakes == (("least damage first",),)
    for first, second in itertools.pairwise(range(len(right))):
        guess = [*right]
        guess[first], guess[second] = guess[second], guess[first]
        verdict = check.damage_order(lambda guess=guess: guess)
        assert verdict.mistakes == ((f"{right[second]} before {right[first]}",),) and "9 of 10" in str(verdict)
    for seed in range(5):
        guess = random.Random(seed).sample(right, len(right))
        assert check.damage_order(lambda guess=guess: guess).right == (guess == right)
    for wrong_guess in (None, [], "causal", right[:-1]):
        verdict = check.damage_order(lambda guess=wrong_guess: guess)
        assert not verdict.right and verdict.mistakes == () and str(verdict)
    assert "error" in str(check.damage_order(lambda: 1 / 0))
