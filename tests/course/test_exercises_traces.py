"""The checks of looking inside: right in any style, known mistakes named, unknown ones never misnamed."""

from __future__ import annotations

import itertools
import random
import runpy
from functools import partial
from pathlib import Path

import pytest
import torch

from minibert.study import exercises as check
from minibert.study.exercises import traces

FOLDER = Path(__file__).parents[2] / "notebooks" / "solutions"
SOLUTIONS = runpy.run_path(str(FOLDER / "09_looking_inside.py"))
# judge, right function with switches, known mistakes
CHECKS = {
    "tap": (check.tap, traces.tapped, traces.TAP),
    "patch": (check.patch, traces.patched, traces.PATCH),
    "distance": (check.attention_distance, traces.distances, traces.DISTANCE),
}
SINGLES = [(kind, name) for kind, (_, _, known) in CHECKS.items() for name in known]
PAIRS = [
    (kind, pair)
    for kind, (_, _, known) in CHECKS.items()
    for pair in random.Random(9).sample([*itertools.combinations(known, 2)], 15)
]
# A run of the source that is not patched is a target whose whole value comes from there.
SAME = {("swapped", "unpatched"): ("whole value",)}
STYLES = [(kind, name) for kind in CHECKS for name in SOLUTIONS if name.startswith(f"my_{kind}")]


@pytest.mark.parametrize("kind, name", STYLES)
def test_solutions_are_right_in_three_styles(kind, name):
    assert sum(kind == other for other, _ in STYLES) == 3
    verdict = CHECKS[kind][0](SOLUTIONS[name])
    assert verdict.right, verdict


@pytest.mark.parametrize("kind, name", SINGLES)
def test_each_known_mistake_is_named(kind, name):
    judge, wrong, known = CHECKS[kind]
    verdict = judge(partial(wrong, mistakes=frozenset({name})))
    assert verdict.mistakes == ((name,),) and known[name] in str(verdict)


@pytest.mark.parametrize("kind, pair", PAIRS)
def test_of_a_pair_both_are_named_or_the_one_that_hides_the_other(kind, pair):
    judge, wrong, _ = CHECKS[kind]
    verdict = judge(partial(wrong, mistakes=frozenset(pair)))
    assert not verdict.right
    if "nothing returned" in pair and not verdict.mistakes:
        assert "Not written yet" in str(verdict)
    else:
        assert {pair, SAME.get(pair, ())} & {*verdict.mistakes} or any({*x} < {*pair} for x in verdict.mistakes)


# Mistakes that the checks do not know.


def returns_twice_the_value(trace, prefix, name, value):
    return 2 * traces.tapped(trace, prefix, name, value)


def names_in_capitals(trace, prefix, name, value):
    return traces.tapped(trace, prefix, name.upper(), value)


def mean_of_the_source(run, source, target, name, position):
    mean = run(source)[1][name].mean(dim=0, keepdim=True)
    return run(target, {name: lambda x: torch.cat([x[:position], mean, x[position + 1 :]])})[0]


def zeros_put_in(run, source, target, name, position):
    zero = torch.zeros(1, 6)
    return run(target, {name: lambda x: torch.cat([x[:position], zero, x[position + 1 :]])})[0]


def half_the_distance(pattern, mask):
    return traces.distances(pattern, mask) / 2


def without_itself(pattern, mask):
    return traces.distances(pattern / (1 - pattern.diagonal(dim1=-2, dim2=-1))[..., None], mask)


UNKNOWN = {
    returns_twice_the_value: ("tap", "nothing to read or replace"),
    names_in_capitals: ("tap", "a name to read"),
    mean_of_the_source: ("patch", "the embeddings"),
    zeros_put_in: ("patch", "the embeddings"),
    half_the_distance: ("distance", "texts without padding"),
    without_itself: ("distance", "texts without padding"),
}


@pytest.mark.parametrize("function", UNKNOWN, ids=lambda function: function.__name__)
def test_an_unknown_mistake_gets_no_name_and_the_first_case_that_departs(function):
    kind, first = UNKNOWN[function]
    verdict = CHECKS[kind][0](function)
    assert not verdict.right and verdict.mistakes == () and f"with {first}" in str(verdict)


def test_a_record_without_a_graph_is_not_enough():
    def detached(trace, prefix, name, value):
        return traces.tapped(trace, prefix, name, value.detach())

    verdict = check.tap(detached)
    assert not verdict.right and str(verdict).startswith("The results are right. But recorded values")


def test_a_patch_in_place_is_not_enough():
    def in_place(run, source, target, name, position):
        def put(value):
            value[position] = values[name][position]
            return value

        values = run(source)[1]
        return run(target, {name: put})[0]

    verdict = check.patch(in_place)
    assert not verdict.right and str(verdict).startswith("The results are right. But the network's value")


@pytest.mark.parametrize("kind", CHECKS)
def test_nothing_written_yet_and_errors_get_a_sentence(kind):
    judge = CHECKS[kind][0]
    assert "Not written yet" in str(judge(lambda *inputs: None))
    assert "ZeroDivisionError" in str(judge(lambda *inputs: 1 / 0))
