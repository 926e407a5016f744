"""A model prepared for inference has the numbers of the model, and refuses everything else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from minibert import BertModel, Trace
from minibert.fast.prepare import PreparedFeedForward, PreparedLinear, can_prepare, prepare
from tests.conftest import BOUNDS, missing
from tests.lesson import reference as ref
from tests.lesson.reference import CASES, batch, outputs, pair, run


@pytest.fixture(autouse=True)
def _onednn() -> None:
    if not can_prepare(torch.float32):
        missing("this build of torch has no oneDNN")


@pytest.mark.parametrize(("family", "name"), CASES)
def test_every_model_gives_the_same_prepared(family, name):
    _, ours = pair(family, name, torch.float32)
    inputs = batch(family, name, "right")
    expected = outputs(name, run(ours, inputs), inputs)
    prepared = prepare(ours)
    assert any(isinstance(part, PreparedLinear) for part in prepared._model.modules())
    found = outputs(name, run(prepared, inputs), inputs)
    ref.assert_close(expected, found, BOUNDS["module fp32"])


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_activations_and_untied_tables(activation):
    _, ours = pair("bert", "BertForMaskedLM", torch.float32, hidden_act=activation, tie_word_embeddings=False)
    inputs = batch("bert", "BertForMaskedLM", "left")
    expected, found = ours(**inputs).logits, prepare(ours)(**inputs).logits  # nothing is traced
    assert (expected - found).abs().max() <= BOUNDS["module fp32"]


def test_a_trace_sees_every_name_of_a_prepared_model():
    _, ours = pair("bert", "BertModel", torch.float32)
    inputs = batch("bert", "BertModel", "right")
    plain, prepared = Trace("*"), Trace("*")
    run(ours, {**inputs, "trace": plain})
    run(prepare(ours), {**inputs, "trace": prepared})
    assert plain.names == prepared.names
    for name in plain.names:
        assert (plain[name] - prepared[name]).abs().max() <= BOUNDS["module fp32"], name


def test_the_official_model_prepared(minilm):
    plain = BertModel.from_pretrained(minilm)
    prepared = prepare(plain)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 30000, (5, 40), generator=generator)
    mask = torch.arange(40) < torch.tensor([[40], [3], [17], [40], [1]])
    with torch.inference_mode():
        expected = plain(ids, mask).last_hidden_state
        found = prepared(ids, mask).last_hidden_state
    assert (expected - found).abs().max() <= BOUNDS["official model fp32"]


@pytest.mark.skipif(not can_prepare(torch.bfloat16), reason="this CPU has no bf16 instructions")
def test_bf16_prepared_is_as_good_as_bf16():
    name = "BertForTokenClassification"
    errors = []
    for prepared in (False, True):
        _, exact = pair("bert", name)
        _, ours = pair("bert", name, torch.float32)
        ours = prepare(ours, torch.bfloat16) if prepared else ours.to(torch.bfloat16).eval()
        inputs = batch("bert", name, "right")
        expected = run(exact, inputs).logits
        errors.append((run(ours, inputs).logits.double() - expected).norm())
    assert errors[1] <= BOUNDS["model bf16 ratio"] * errors[0]


def test_other_dtypes_keep_their_layers():
    _, ours = pair("bert", "BertModel")  # float64
    parts = list(prepare(ours)._model.modules())
    assert any(type(part) is nn.Linear for part in parts)
    assert not any(isinstance(part, (PreparedFeedForward, PreparedLinear)) for part in parts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_model_stays_as_it_was_and_may_change_afterwards(dtype):
    name = "BertForMaskedLM"
    _, ours = pair("bert", name, torch.float32)
    inputs = batch("bert", name)
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    prepared = prepare(ours.train(), dtype)
    found = run(prepared, inputs).logits
    assert found.dtype == dtype and not found.requires_grad
    assert ours.training and all(part.requires_grad for part in ours.parameters())
    for key, value in ours.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, before[key])
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
    assert torch.equal(run(prepared, inputs).logits, found)


def test_a_prepared_model_can_be_called_and_nothing_else():
    _, ours = pair("bert", "BertForMaskedLM", torch.float32)
    prepared = prepare(ours)
    assert prepared.eval() is prepared and prepared.config == ours.config
    for name in ("train", "save_pretrained", "state_dict", "to", "parameters"):
        with pytest.raises(AttributeError, match=name):
            getattr(prepared, name)
