"""The encoder: L layers, and recomputation that changes no bit of any gradient."""

from __future__ import annotations

import pytest
import torch

from minibert import encoder
from tests.lesson import reference as ref
from tests.lesson.reference import CASES, L, batch, pair, run

RATES = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "qa_dropout": 0.1, "seq_classif_dropout": 0.2}


def _loss_and_gradients(ours, name, inputs):
    torch.manual_seed(3)
    loss = ref.loss_of(name, run(ours, inputs), inputs)
    loss.backward()
    return [loss.detach(), *(parameter.grad for parameter in ours.parameters())]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("family", "name"), CASES)
def test_recomputation_gives_the_same_gradients_bit_for_bit(family, name, frozen):
    inputs = batch(family, name, "right")
    found = []
    for checkpointing in (False, True):
        _, ours = pair(family, name, torch.float32, **RATES)
        if frozen:
            ours.freeze(ours.body.embeddings)
        ours.train().use_gradient_checkpointing(checkpointing)
        found.append(_loss_and_gradients(ours, name, inputs))
        layers = ours.body.encoder.layers.parameters()
        assert all(parameter.grad is not None for parameter in layers)
    for plain, recomputed in zip(*found, strict=True):
        assert (plain is None) == (recomputed is None)
        assert plain is None or torch.equal(plain, recomputed)


def _runs(monkeypatch, ours, inputs, backward=True):
    """How often a layer ran in a pass and its backward."""
    count = 0
    forward = encoder.EncoderLayer.forward

    def counted(*args, **kwargs):
        nonlocal count
        count += 1
        return forward(*args, **kwargs)

    monkeypatch.setattr(encoder.EncoderLayer, "forward", counted)
    loss = run(ours, inputs).loss
    if backward:
        loss.backward()
    monkeypatch.setattr(encoder.EncoderLayer, "forward", forward)
    return count


def test_each_layer_runs_twice_in_training_only(monkeypatch):
    name = "BertForMaskedLM"
    _, ours = pair("bert", name)
    inputs = batch("bert", name)
    assert _runs(monkeypatch, ours.train(), inputs) == L
    ours.use_gradient_checkpointing()
    assert _runs(monkeypatch, ours, inputs) == 2 * L
    assert _runs(monkeypatch, ours.eval(), inputs) == L
    with torch.no_grad():
        assert _runs(monkeypatch, ours.train(), inputs, backward=False) == L
    ours.use_gradient_checkpointing(False)
    assert _runs(monkeypatch, ours, inputs) == L


def test_states_are_the_embeddings_and_one_for_each_layer():
    _, ours = pair("bert", "BertModel")
    result = run(ours, batch("bert", "BertModel"), attentions=True)
    assert len(result.hidden_states) == L + 1 and len(result.attentions) == L
    assert torch.equal(result.hidden_states[-1], result.last_hidden_state)
    plain = ours(**batch("bert", "BertModel"))
    assert plain.hidden_states is None and plain.attentions is None


def test_attentions_can_be_had_under_recomputation():
    _, ours = pair("bert", "BertForMaskedLM")
    inputs = batch("bert", "BertForMaskedLM")
    plain = run(ours.train(), inputs, attentions=True)
    ours.use_gradient_checkpointing()
    recomputed = run(ours, inputs, attentions=True)
    for one, two in zip(plain.attentions, recomputed.attentions, strict=True):
        assert torch.equal(one, two)
