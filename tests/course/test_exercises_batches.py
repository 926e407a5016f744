"""The checks of the chapter on batches: right in any style, known mistakes named, unknown ones never misnamed."""

from __future__ import annotations

import itertools
import random
import runpy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from minibert.study import exercises as check
from minibert.study.exercises import batches, splits

FOLDER = Path(__file__).parents[2] / "notebooks" / "solutions"
SOLUTIONS = runpy.run_path(str(FOLDER / "08_batches.py"))
# judge, right function with switches, known mistakes
CHECKS = {
    "pack": (check.pack, batches.packed, batches.PACK),
    "unpack": (check.unpack, batches.unpacked, batches.UNPACK),
    "batches": (check.batches_by_length, batches.planned, batches.BATCHES),
    "split": (check.split, splits.drawn, splits.SPLIT),
}
SINGLES = [(kind, name) for kind, (_, _, known) in CHECKS.items() for name in known]
PAIRS = [
    (kind, pair)
    for kind, (_, _, known) in CHECKS.items()
    for pair in random.Random(8).sample([*itertools.combinations(known, 2)], 15)
]
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
    assert pair in verdict.mistakes or any(set(names) < set(pair) for names in verdict.mistakes)


# Mistakes that the checks do not know.


def positions_from_one(ids, mask):
    values, positions, lengths = batches.packed(ids, mask)
    return values, positions + 1, lengths


def each_row_backwards(ids, mask):
    return batches.packed(ids.flip(1), mask.flip(1))


def ones_at_padding(line, mask):
    return batches.unpacked(line - 1, mask) + 1


def rows_in_reverse(line, mask):
    return batches.unpacked(line, mask).flip(0)


def two_at_a_time(lengths, budget):
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    return [order[start : start + 2] for start in range(0, len(order), 2)]


def half_of_the_budget(lengths, budget):
    return batches.planned(lengths, max(budget / 2, max(lengths)))


def one_class_never_in_test(texts, labels, fraction, seed):
    train, test = splits.drawn(texts, labels, fraction, seed)
    return train + [row for row in test if labels[row] == 0], [row for row in test if labels[row] != 0]


def half_of_the_share(texts, labels, fraction, seed):
    return splits.drawn(texts, labels, fraction / 2, seed)


UNKNOWN = {
    positions_from_one: ("pack", "rows of one length"),
    each_row_backwards: ("pack", "rows of one length"),
    ones_at_padding: ("unpack", "one number for each token"),
    rows_in_reverse: ("unpack", "one number for each token"),
    two_at_a_time: ("batches", "rows that all fit into one batch"),
    half_of_the_budget: ("batches", "rows that all fit into one batch"),
    one_class_never_in_test: ("split", "rows in random order"),
    half_of_the_share: ("split", "rows in random order"),
}


@pytest.mark.parametrize("function", UNKNOWN, ids=lambda function: function.__name__)
def test_an_unknown_mistake_gets_no_name_and_the_first_case_that_departs(function):
    kind, first = UNKNOWN[function]
    verdict = CHECKS[kind][0](function)
    assert not verdict.right and verdict.mistakes == () and f"with {first}" in str(verdict)


def test_a_table_without_gradients_is_not_enough():
    verdict = check.unpack(lambda line, mask: batches.unpacked(line.detach(), mask))
    assert not verdict.right and str(verdict).startswith("The results are right. But gradients")


@pytest.mark.parametrize("kind", CHECKS)
def test_nothing_written_yet_and_errors_get_a_sentence(kind):
    judge = CHECKS[kind][0]
    assert "Not written yet" in str(judge(lambda *inputs: None))
    assert "ZeroDivisionError" in str(judge(lambda *inputs: 1 / 0))


def seeds_torch(texts, labels, fraction, seed):
    torch.manual_seed(seed)
    return splits.drawn(texts, labels, fraction, int(torch.randint(1000, ())))


def seeds_numpy(texts, labels, fraction, seed):
    np.random.seed(seed)
    return splits.drawn(texts, labels, fraction, np.random.randint(1000))


def seeds_the_standard_library(texts, labels, fraction, seed):
    random.seed(seed)
    return splits.drawn(texts, labels, fraction, random.randrange(1000))


@pytest.mark.parametrize("function", [seeds_torch, seeds_numpy, seeds_the_standard_library])
def test_a_split_that_seeds_a_default_generator_is_not_enough(function):
    verdict = check.split(function)
    assert not verdict.right and str(verdict).startswith("The results are right. But it draws from a default")
