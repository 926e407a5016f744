"""The engine for exercises whose answer is a value: what counts as equal, and what the verdict says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from minibert.study.exercises.values import Case, Task, difference, judge, plain


def mean_of_real(hidden, mask, mistakes=frozenset()):
    if "padding" in mistakes:
        mask = torch.ones_like(mask)
    if "skips the first" in mistakes:
        mask = mask.clone()
        mask[:, 0] = False
    weights = mask.to(hidden.dtype)[..., None]
    divide_by = hidden.shape[1] if "columns" in mistakes else weights.sum(dim=1)
    return (hidden * weights).sum(dim=1) / divide_by


HIDDEN = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
MEAN = Task(
    mean_of_real,
    [
        Case("a row without padding", (HIDDEN[:1], MASK[:1]), "Look at the sum."),
        Case("padding", (HIDDEN, MASK), "Look at the mask."),
    ],
    {
        "padding": "padding is counted",
        "skips the first": "the first token is left out",
        "columns": "the sum is divided by the number of columns",
    },
    gradients=[0],
)


def masked(hidden, mask):
    return torch.stack([row[real].mean(dim=0) for row, real in zip(hidden, mask, strict=True)])


def as_lists(hidden, mask):
    return [row[real].mean(dim=0).tolist() for row, real in zip(hidden, mask, strict=True)]


@pytest.mark.parametrize("right", [mean_of_real, masked])
def test_right_functions_are_right(right):
    verdict = judge(right, MEAN)
    assert verdict.right, verdict


def test_numbers_in_lists_are_compared_and_their_missing_gradient_is_said():
    verdict = judge(as_lists, MEAN)
    assert not verdict.right and "The results are right" in str(verdict) and "gradients" in str(verdict)


@pytest.mark.parametrize("name", MEAN.mistakes)
def test_each_mistake_is_named(name):
    verdict = judge(lambda *inputs: mean_of_real(*inputs, mistakes={name}), MEAN)
    assert verdict.mistakes == ((name,),)


def test_two_mistakes_are_named_together():
    verdict = judge(lambda *inputs: mean_of_real(*inputs, mistakes={"skips the first", "columns"}), MEAN)
    assert verdict.mistakes == (("skips the first", "columns"),)


def test_an_unknown_mistake_gets_no_name_and_the_first_case_that_departs():
    verdict = judge(lambda hidden, mask: (hidden * mask[..., None]).amax(dim=1), MEAN)
    assert not verdict.right and verdict.mistakes == ()
    assert "a row without padding" in str(verdict) and "Look at the sum." in str(verdict)


def test_an_error_is_shown_with_the_readers_line():
    verdict = judge(lambda hidden, mask: hidden @ mask, MEAN)
    assert not verdict.right and "hidden @ mask" in str(verdict)


def test_nothing_written_yet():
    assert "Not written yet" in str(judge(lambda *inputs: None, MEAN))


def test_inputs_cannot_be_changed_by_the_function():
    def changes(hidden, mask):
        hidden *= mask[..., None]
        return hidden.sum(dim=1) / mask.sum(dim=1, keepdim=True)

    before = HIDDEN.clone()
    assert "The results are right" in str(judge(changes, MEAN)) or judge(changes, MEAN).right
    assert torch.equal(HIDDEN, before)


@pytest.mark.parametrize(
    "found, right",
    [
        ([1, 2], (1, 2)),
        (torch.tensor([1.0, 2.0]), [1, 2]),
        (np.array([1.0, 2.0]), torch.tensor([1.0, 2.0])),
        (torch.tensor(3), 3),
        (np.float32(0.5), 0.5),
        ({"a": (1, "b")}, {"a": [1, "b"]}),
        ({1, 2}, {2, 1}),
        (math.nan, math.nan),
        (torch.tensor([-math.inf, 1.0]), torch.tensor([-math.inf, 1.0 + 1e-7])),
    ],
)
def test_equal_values_in_different_forms(found, right):
    assert difference(plain(found), plain(right)) is None


@pytest.mark.parametrize(
    "found, right",
    [
        ([1, 2], [2, 1]),
        ([1, 2], [1, 2, 3]),
        ("ab", ["a", "b"]),
        (torch.ones(2), torch.ones(1, 2)),
        (torch.tensor([math.nan, 1.0]), torch.ones(2)),
        (torch.tensor([-math.inf, 1.0]), torch.tensor([-1e9, 1.0])),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"a": 1}),
        (1.001, 1.0),
        (None, 1.0),
        ("1", 1),
    ],
)
def test_different_values(found, right):
    assert difference(plain(found), plain(right))
