"""The checks of chapter 18: right code in any style passes, each known mistake is named, others are not misnamed."""

from __future__ import annotations

import itertools
import math
import runpy
from pathlib import Path

import pytest
from torch.nn import functional as F

from minibert.study import exercises as check
from minibert.study.exercises import numerics

FOLDER = Path(__file__).parents[2] / "notebooks" / "solutions"
SOLUTIONS = runpy.run_path(str(FOLDER / "18_numerics.py"))
CHECKS = {
    "spacing": (check.spacing, numerics._spacing, numerics.SPACING),
    "softmax": (check.stable_softmax, numerics._softmax, numerics.SOFTMAX),
    "norm": (check.norm_in_16_bits, numerics._norm, numerics.NORM),
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
    assert not verdict.right and verdict.mistakes == ((name,),), verdict
    assert known[name] in str(verdict)


# Pairs with the numbers of one mistake alone, which is named then.
HIDES = {
    "exponent rounded up": ["exponent rounded"],
    "relative": ["exponent rounded", "exponent rounded up", "no subnormals", "decimal"],
    "decimal": ["no subnormals"],
    "no maximum": ["maximum of everything", "maximum of the sizes", "mean subtracted", "minimum subtracted"],
    "scores cut off": [
        "no maximum",
        "maximum of everything",
        "maximum of the sizes",
        "mean subtracted",
        "minimum subtracted",
    ],
    "maximum of everything": ["maximum of the sizes", "mean subtracted", "minimum subtracted"],
    "maximum of the sizes": ["mean subtracted", "minimum subtracted"],
    "mean subtracted": ["minimum subtracted"],
    "no eps": ["eps in 16 bits", "eps 1e-5", "eps after the root"],
    "eps 1e-5": ["eps in 16 bits"],
    "mean kept": ["eps in 16 bits"],  # a row of equal numbers is infinite with either
}
NAMES = {frozenset((winner, other)): (winner,) for winner, others in HIDES.items() for other in others}
CANCEL = ("hidden bit counted", "half")  # twice too large, and half of that


@pytest.mark.parametrize("kind", CHECKS)
def test_pairs_are_named(kind):
    judge, _, known = CHECKS[kind]
    for pair in itertools.combinations(known, 2):
        verdict = judge(wrong(kind, *pair))
        assert verdict.right == (pair == CANCEL)
        assert verdict.right or verdict.mistakes == (NAMES.get(frozenset(pair), pair),), pair


UNKNOWN = {
    "1 in fp16": (check.spacing, lambda x, bits, smallest: 3 * 2.0**-bits),
    "8 in fp16": (check.spacing, lambda x, bits, smallest: 2.0 ** (math.ceil(math.log2(abs(x))) - 1 - bits)
                  if abs(x) > 1 else SOLUTIONS["my_spacing"](x, bits, smallest)),
    "small scores": (check.stable_softmax, lambda scores: (2 * scores).softmax(dim=-1)),
    "-inf where": (check.stable_softmax, lambda scores: scores.clamp(min=-2000).softmax(dim=-1) + scores.isinf() / 9),
    "all is masked": (check.stable_softmax, lambda x: (x - x.logsumexp(dim=-1, keepdim=True)).exp()),
    "numbers near 1": (check.norm_in_16_bits, lambda x, w, b, e: (F.rms_norm(x.float(), x.shape[-1:], w) + b).half()),
    "weight and bias": (check.norm_in_16_bits, lambda x, w, b, e: SOLUTIONS["my_norm"](x, w * w, b, e)),
}  # fmt: skip


@pytest.mark.parametrize("what", UNKNOWN)
def test_unknown_mistakes_get_no_wrong_name_and_the_first_input(what):
    judge, function = UNKNOWN[what]
    verdict = judge(function)
    assert not verdict.right and verdict.mistakes == () and what in str(verdict).splitlines()[0], verdict


def test_right_numbers_are_not_enough():
    wide = check.norm_in_16_bits(lambda x, w, b, eps: F.layer_norm(x.float(), x.shape[-1:], w, b, eps))
    assert not wide.right and "torch.float32" in str(wide) and wide.mistakes == ()
    detached = check.stable_softmax(lambda scores: scores.detach().softmax(dim=-1))
    assert not detached.right and "gradients" in str(detached) and detached.mistakes == ()
