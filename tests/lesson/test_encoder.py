"""The encoder: L layers, and recomputation that changes no bit of any gradient."""

from __future__ import annotations

import pytest
import torch

from minibert import Trace, encoder
from tests.conftest import BOUNDS
from tests.lesson import reference as ref
from tests.lesson.reference import CASES, L, batch, pair, run

RATES = {
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "qa_dropout": 0.1,
    "seq_classif_dropout": 0.2,
}


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


def _in_bf16(monkeypatch, rows, train, attention="auto", poison=False):
    """Loss, logits and gradients under autocast, with rows filled up to a multiple of `rows`.

    And how many rows the feed-forward blocks saw.
    """
    monkeypatch.setattr(encoder, "_has_amx", lambda: True)
    monkeypatch.setattr(encoder, "_ROWS", rows)
    if poison:  # memory as it may be found
        like = torch.empty_like
        monkeypatch.setattr(torch, "empty_like", lambda part: like(part).fill_(float("nan")))
    inputs = batch("bert", "BertForSequenceClassification", "right")
    _, ours = pair("bert", "BertForSequenceClassification", torch.float32)
    ours.train(train).use_attention(attention)
    seen = []
    for layer in ours.body.encoder.layers:
        layer.feed_forward.register_forward_hook(lambda *hooked: seen.append(len(hooked[1][0])))
    with torch.autocast("cpu", torch.bfloat16):
        output = run(ours, inputs)
    output.loss.backward()
    monkeypatch.undo()
    gradients = [parameter.grad for parameter in ours.parameters()]
    return [output.loss.detach(), output.logits.detach(), *gradients], set(seen)


@pytest.mark.parametrize(
    ("train", "attention"), [(True, "auto"), (False, "sdpa"), (True, "by_hand")]
)
def test_spare_rows_change_nothing_in_16_bits(monkeypatch, train, attention):
    plain, rows = _in_bf16(monkeypatch, 1, train, attention)
    assert rows == {13}  # T: 7 + 4 + 2
    filled, rows = _in_bf16(monkeypatch, 32, train, attention, poison=True)
    assert rows == {32}
    for one, other in zip(plain, filled, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=BOUNDS["module bf16"])
        assert one.abs().max() > 0


def test_there_are_no_spare_rows_in_32_bits_without_amx_or_for_who_looks_on(monkeypatch):
    inputs = batch("bert", "BertModel", "right")
    _, ours = pair("bert", "BertModel", torch.float32)
    seen = []
    ours.encoder.layers[0].feed_forward.register_forward_hook(
        lambda *hooked: seen.append(len(hooked[2]))
    )
    monkeypatch.setattr(encoder, "_has_amx", lambda: True)
    run(ours, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        states = ours(**inputs, output_hidden_states=True).hidden_states
        ours(**inputs, trace=Trace("layers.0.attention.norm"))
        ours(**inputs, output_attentions=True)
        monkeypatch.setattr(encoder, "_has_amx", lambda: False)
        run(ours, inputs)
    assert seen == [13, 32, 13, 13, 13]
    assert {state.shape for state in states} == {(ref.B, ref.S, ref.D)}


def test_spare_rows_and_recomputation_and_dropout(monkeypatch):
    monkeypatch.setattr(encoder, "_has_amx", lambda: True)
    inputs = batch("bert", "BertForSequenceClassification", "right")
    found = []
    for checkpointing in (False, True):
        _, ours = pair("bert", "BertForSequenceClassification", torch.float32, **RATES)
        ours.train().use_gradient_checkpointing(checkpointing)
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16):
            loss = run(ours, inputs).loss
        loss.backward()
        found.append([parameter.grad for parameter in ours.parameters()])
    for plain, recomputed in zip(*found, strict=True):
        assert torch.equal(plain, recomputed) and plain.isfinite().all()
