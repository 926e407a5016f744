"""Dropout: its places and rates are transformers'."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

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
    """Puts `marked` in the place of dropout on both sides, and lists the rates that it saw."""
    seen: list[float] = []

    def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if training and p:
            seen.append(p)
        return marked(input, p) if training else input

    monkeypatch.setattr(nn.functional, "dropout", dropout)
    return seen


@pytest.mark.parametrize("attentions", [True, False])
@pytest.mark.parametrize(("family", "name"), CASES)
def test_places_and_rates_are_the_reference_s(family, name, attentions, markers):
    theirs, ours = pair(family, name, **RATES)
    ref.attend_by(ours, "by_hand")
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
    ref.attend_by(ours, "by_hand")
    inputs = batch(family, name, "right")
    expected = outputs(name, run(theirs.train(), inputs), inputs)
    ref.assert_close(expected, outputs(name, run(ours.train(), inputs), inputs), BOUNDS["fp64"])


def test_nothing_is_dropped_in_eval_mode(markers):
    _, ours = pair("bert", "BertForSequenceClassification", **RATES)
    ref.attend_by(ours, "by_hand")
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
    ref.attend_by(ours, "sdpa")
    ours.train(training)
    run(ours, batch("bert", "BertModel"))
    assert set(seen) == {0.2 if training else 0.0}
