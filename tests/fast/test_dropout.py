"""Dropout: its places and rates are transformers', and its random numbers are good ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from minibert import attention, layers
from tests.conftest import BOUNDS
from tests.lesson import reference as ref
from tests.lesson.reference import CASES, batch, outputs, pair, run

RATES = {
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.2,
    "classifier_dropout": 0.3,
    "qa_dropout": 0.4,
    "seq_classif_dropout": 0.5,
}


def marked(values: Tensor, p: float) -> Tensor:
    """In dropout's place: no chance in it, other numbers for another rate, zero stays zero.

    It is not linear, so that a layer norm above it cannot hide the rate.
    """
    return values - p * values.sin()


@pytest.fixture
def markers(monkeypatch: Any) -> list[float]:
    """Puts `marked` in the place of dropout on both sides, and lists the rates that ours saw."""
    seen: list[float] = []

    def ours(values: Tensor, p: float) -> Tensor:
        seen.append(p)
        return marked(values, p)

    def theirs(
        input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        return marked(input, p) if training else input

    monkeypatch.setattr(nn.functional, "dropout", theirs)
    monkeypatch.setattr(layers, "dropout", ours)
    monkeypatch.setattr(attention, "dropout", ours)
    return seen


@pytest.mark.parametrize("attentions", [True, False])
@pytest.mark.parametrize(("family", "name"), CASES)
def test_places_and_rates_are_the_reference_s(family, name, attentions, markers):
    theirs, ours = pair(family, name, **RATES)
    ours.use_attention("by_hand")  # in chunks the mask is made elsewhere: see test_chunked.py
    inputs = batch(family, name, "right")
    plain = outputs(name, run(ours, inputs), inputs)
    expected = outputs(name, run(theirs.train(), inputs, attentions), inputs)
    found = outputs(name, run(ours.train(), inputs, attentions), inputs)
    ref.assert_close(expected, found, BOUNDS["fp64"])
    moved = (found["hidden_states[2]"] - plain["hidden_states[2]"]).abs().max()
    assert moved > 0.01  # the markers were there


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_classifier_dropout_defaults_to_the_hidden_rate(family, markers):
    name = "BertForTokenClassification"
    theirs, ours = pair(family, name, **{**RATES, "classifier_dropout": None})
    ours.use_attention("by_hand")
    inputs = batch(family, name, "right")
    expected = outputs(name, run(theirs.train(), inputs), inputs)
    ref.assert_close(expected, outputs(name, run(ours.train(), inputs), inputs), BOUNDS["fp64"])


def test_nothing_is_dropped_in_eval_mode(markers):
    _, ours = pair("bert", "BertForSequenceClassification", **RATES)
    run(ours, batch("bert", "BertForSequenceClassification"))
    assert markers == []


@pytest.mark.parametrize("training", [True, False])
def test_sdpa_is_given_the_attention_rate_in_training_only(training, monkeypatch):
    seen = []
    sdpa = nn.functional.scaled_dot_product_attention

    def watched(*args: Any, **kwargs: Any) -> Tensor:
        seen.append(kwargs["dropout_p"])
        return sdpa(*args, **kwargs)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", watched)
    _, ours = pair("bert", "BertModel", **RATES)
    ours.use_attention("sdpa")
    ours.train(training)
    run(ours, batch("bert", "BertModel"))
    assert set(seen) == {0.2 if training else 0.0}


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_keep_rate_in_each_of_the_four_pieces_of_a_draw(p):
    """The fourth piece holds the top bit, which random_() would leave at zero."""
    torch.manual_seed(1)
    count = 400_000
    kept = layers.dropout(torch.ones(count, 4), p) != 0  # (draws, pieces)
    deviation = math.sqrt(p * (1 - p) / count)
    rates = kept.double().mean(dim=0)
    assert (rates - (1 - p)).abs().max() < 5 * deviation + 1 / 65536


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_pieces_of_a_draw_and_neighbouring_draws_are_independent(p):
    torch.manual_seed(2)
    count = 200_000
    kept = (layers.dropout(torch.ones(count, 4), p) != 0).double()
    neighbours = torch.cat([kept[:-1], kept[1:]], dim=1).T  # (8, draws)
    correlation = torch.corrcoef(neighbours) - torch.eye(8)
    assert correlation.abs().max() < 5 / math.sqrt(count)


@pytest.mark.parametrize("p", [0.1, 1 / 3, 0.5])
def test_the_scale_is_that_of_the_rate_used(p):
    values = torch.randn(1000, dtype=torch.float64)
    dropped = layers.dropout(values, p)
    used = round(p * 65536) / 65536
    kept = dropped != 0
    assert torch.allclose(dropped[kept], values[kept] / (1 - used), rtol=1e-15, atol=0)


@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (5, 7), (2, 3, 5, 5)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_any_shape_and_dtype(shape, dtype):
    dropped = layers.dropout(torch.ones(shape, dtype=dtype), 0.5)
    assert dropped.shape == shape and dropped.dtype == dtype
    assert set(dropped.flatten().tolist()) <= {0.0, 2.0}


def test_a_seed_gives_the_same_mask_and_another_seed_another():
    values = torch.ones(1000)
    masks = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        masks.append(layers.dropout(values, 0.5))
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_no_rate_draws_nothing():
    values = torch.randn(10)
    state = torch.get_rng_state()
    assert layers.dropout(values, 0.0) is values
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_go_through_what_was_kept():
    values = torch.randn(100, requires_grad=True)
    dropped = layers.dropout(values, 0.5)
    dropped.sum().backward()
    assert torch.equal(values.grad, 2.0 * (dropped != 0))


def test_the_largest_rate_below_one_drops_all_but_a_few():
    torch.manual_seed(0)
    kept = (layers.dropout(torch.ones(65536), 1 - 1e-9) != 0).sum()
    assert kept < 12
