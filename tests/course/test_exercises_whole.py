"""The exercises on the whole network: right in every style, and each known mistake by its name."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from minibert.study import exercises as check
from minibert.study.exercises import whole
from minibert.study.mistakes import MISTAKES, forward
from tests.course.known_mistakes import assert_named, assert_pairs_named, singles

SOLUTIONS = runpy.run_path(str(Path(__file__).parents[2] / "notebooks" / "solutions" / "05_the_whole_bert.py"))
TASKS = {"pooler": whole.POOLER_TASK, "count_parameters": whole.COUNT_TASK}
STYLES = [
    ("pooler", "nearly"),
    ("pooler", "my_pooler"),
    ("pooler", "my_pooler_by_number"),
    ("count_parameters", "my_count"),
    ("count_parameters", "my_count_as_a_polynomial"),
    ("count_parameters", "my_count_by_shapes"),
    ("bert", "my_bert"),
    ("bert", "my_bert_with_torch_layers"),
    ("bert", "my_bert_row_by_row"),
]


@pytest.mark.parametrize("task, name", STYLES)
def test_right_functions_are_right(task, name):
    verdict = getattr(check, task)(SOLUTIONS[name])
    assert verdict.right, verdict


@pytest.mark.parametrize("task, name", singles(TASKS))
def test_each_mistake_is_named(task, name):
    assert_named(TASKS[task], name)


@pytest.mark.parametrize("task, least", [("pooler", 34), ("count_parameters", 115)])
def test_pairs_of_mistakes_are_named(task, least):
    assert_pairs_named(TASKS[task], least)


UNKNOWN = {
    ("pooler", "half of the weight"): (
        lambda hidden, weight, bias: torch.tanh(hidden[:, 0] @ weight.T / 2 + bias),
        "a row of one token, and no bias",
    ),
    ("pooler", "second token"): (
        lambda hidden, weight, bias: torch.tanh(hidden[:, min(1, hidden.shape[1] - 1)] @ weight.T + bias),
        "several tokens",
    ),
    ("count_parameters", "two poolers"): (
        lambda config: whole.count(config) + config["hidden_size"] ** 2,
        "one small layer",
    ),
    ("count_parameters", "layers counted from 0"): (
        lambda config: whole.count(config | {"num_hidden_layers": max(1, config["num_hidden_layers"] - 1)}),
        "two layers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("task, what", UNKNOWN)
def test_an_unknown_mistake_gets_no_name_and_the_first_case_that_departs(task, what):
    wrong, first = UNKNOWN[task, what]
    verdict = getattr(check, task)(wrong)
    assert not verdict.right and verdict.mistakes == () and f"with {first}" in str(verdict), verdict


def bert_with(*mistakes):
    def bert(config, tensors, ids, mask, segments):
        values = forward(config, tensors, ids, mask, segments, frozenset(mistakes))
        return values["hidden"], values["pooled"]

    return bert


@pytest.mark.parametrize("name", ["tanh gelu", "one segment", "layers reversed", "pooler without tanh", "pre-norm"])
def test_mistakes_of_the_whole_network_are_named(name):
    verdict = check.bert(bert_with(name))
    assert not verdict.right and (name,) in verdict.mistakes and MISTAKES[name] in str(verdict)


def test_two_mistakes_of_the_whole_network_are_named():
    assert check.bert(bert_with("positions from one", "pooler without tanh")).mistakes == (
        ("positions from one", "pooler without tanh"),
    )


def test_the_verdict_says_that_only_the_pooler_is_wrong():
    assert str(check.bert(bert_with("pooler without tanh"))).startswith("The hidden states are right")


def test_bert_is_not_written_yet_returns_one_tensor_or_fails():
    assert "Not written yet" in str(check.bert(lambda *inputs: None))
    alone = check.bert(lambda *inputs: bert_with()(*inputs)[0])
    assert not alone.right and "two tensors" in str(alone)
    failing = check.bert(lambda config, *inputs: config["no_such_key"])
    assert not failing.right and "no_such_key" in str(failing)
