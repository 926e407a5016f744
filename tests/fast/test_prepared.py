"""A model prepared for inference says what it said before, and refuses everything else."""

from __future__ import annotations

import copy

import pytest
import torch

from minibert import BertForMaskedLM, BertModel, Trace
from minibert.fast.prepared import PreparedFeedForward, PreparedLinear, can_prepare
from minibert.io.errors import InputError
from minibert.layers import Linear
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
    prepared = ours.for_inference()
    assert prepared is ours
    assert any(isinstance(part, PreparedLinear) for part in ours.modules())
    found = outputs(name, run(ours, inputs), inputs)
    ref.assert_close(expected, found, BOUNDS["module fp32"])


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_activations_and_untied_tables(activation):
    _, ours = pair(
        "bert", "BertForMaskedLM", torch.float32, hidden_act=activation, tie_word_embeddings=False
    )
    inputs = batch("bert", "BertForMaskedLM", "left")
    expected = outputs("BertForMaskedLM", run(ours, inputs), inputs)
    found = outputs("BertForMaskedLM", run(ours.for_inference(), inputs), inputs)
    ref.assert_close(expected, found, BOUNDS["module fp32"])


def test_a_trace_sees_every_name_of_a_prepared_model():
    _, ours = pair("bert", "BertModel", torch.float32)
    inputs = batch("bert", "BertModel", "right")
    plain, prepared = Trace("*"), Trace("*")
    run(ours, {**inputs, "trace": plain})
    run(ours.for_inference(), {**inputs, "trace": prepared})
    assert plain.names == prepared.names
    for name in plain.names:
        assert (plain[name] - prepared[name]).abs().max() <= BOUNDS["module fp32"], name


def test_the_official_model_prepared(minilm):
    plain = BertModel.from_pretrained(minilm)
    prepared = BertModel.from_pretrained(minilm).for_inference()
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
    for prepare in (False, True):
        _, exact = pair("bert", name)
        _, ours = pair("bert", name, torch.float32)
        ours = ours.for_inference(torch.bfloat16) if prepare else ours.to(torch.bfloat16).eval()
        inputs = batch("bert", name, "right")
        expected = run(exact, inputs).logits
        errors.append((run(ours, inputs).logits.double() - expected).norm())
    assert errors[1] <= BOUNDS["model bf16 ratio"] * errors[0]


def test_other_dtypes_keep_their_layers():
    _, ours = pair("bert", "BertModel")  # float64
    ours.for_inference()
    assert any(isinstance(part, Linear) for part in ours.modules())
    assert not any(isinstance(part, PreparedFeedForward) for part in ours.modules())


@pytest.mark.parametrize(
    "what, misuse",
    [
        ("moved or converted", lambda model: model.double()),
        ("moved or converted", lambda model: model.to("meta")),
        ("moved or converted", lambda model: model.for_inference(torch.float16)),
        ("given other weights", lambda model: model.load_state_dict({}, strict=False)),
        ("copied", copy.deepcopy),
    ],
)
def test_what_a_prepared_model_cannot_do_it_says(what, misuse):
    _, ours = pair("bert", "BertForSequenceClassification", torch.float32)
    ours.for_inference()
    inputs = batch("bert", "BertForSequenceClassification")
    before = run(ours, inputs).logits
    with pytest.raises(InputError, match=f"prepared for inference and cannot be {what}"):
        misuse(ours)
    ours.to("cpu").float().for_inference()  # asks for nothing new
    assert torch.equal(before, run(ours, inputs).logits)


def test_a_prepared_model_is_neither_trained_nor_saved(tmp_path):
    _, ours = pair("bert", "BertForMaskedLM", torch.float32)
    assert isinstance(ours, BertForMaskedLM)
    before = copy.deepcopy(ours)
    ours.for_inference()
    with pytest.raises(InputError, match="cannot be trained"):
        ours.train()
    with pytest.raises(InputError, match="cannot be saved"):
        ours.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert not any(part.requires_grad for part in ours.parameters())
    before.train().save_pretrained(tmp_path / "model")
