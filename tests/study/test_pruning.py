"""Pruned heads are gone, and importance is held to its definition and to a planted circuit."""

from __future__ import annotations

import pytest
import torch

from minibert import BertForMaskedLM, BertForSequenceClassification, Trace
from minibert.io.errors import ConfigError, DataError
from minibert.study import edit
from minibert.study.edit import replacements
from minibert.study.pruning import importance, prune
from tests.lesson.reference import CASES, batch, pair
from tests.study import planted

HEADS = {0: [1, 3], 1: [0]}


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_pruned_model_computes_what_the_masked_one_does(family, name):
    _, model = pair(family, name)
    inputs = batch(family, name)
    masked = Trace(replace=replacements(edit.head(layer, n) for layer, numbers in HEADS.items() for n in numbers))
    smaller = prune(model, HEADS)
    found, wanted = (each(**inputs, **more) for each, more in ((smaller, {}), (model, {"trace": masked})))
    if name == "BertModel":
        torch.testing.assert_close(found.last_hidden_state, wanted.last_hidden_state, atol=1e-12, rtol=0)
    else:
        torch.testing.assert_close(found.loss, wanted.loss, atol=1e-12, rtol=0)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    assert model.config.pruned_heads == {}


def test_a_pruned_model_saves_loads_trains_and_is_pruned_again(tmp_path):
    _, model = pair("bert", "BertForSequenceClassification", torch.float32)
    once = prune(model, {0: [1]})
    twice = prune(once, {0: [1], 1: [2, 0]})  # head 1 of the three left was number 2
    assert twice.config.pruned_heads == {0: [1, 2], 1: [0, 2]}
    twice.save_pretrained(tmp_path)
    loaded = BertForSequenceClassification.from_pretrained(tmp_path)
    inputs = batch("bert", "BertForSequenceClassification")
    assert torch.equal(loaded(**inputs).logits, twice.eval()(**inputs).logits)
    loaded(**inputs).loss.backward()
    attention = loaded.bert.encoder.layers[0].attention
    assert attention.output.weight.grad.shape == attention.output.weight.shape == (32, 16)
    assert attention.query.out_features == attention.output.in_features == 16


def test_pruning_keeps_dtype_mode_frozen_parts_and_the_original():
    _, model = pair("bert", "BertForSequenceClassification")
    model.freeze()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    smaller = prune(model, HEADS)
    attention = smaller.bert.encoder.layers[0].attention
    assert attention.query.weight.dtype == torch.float64 and not attention.query.weight.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_gradient_of_a_gate_is_that_of_finite_differences():
    _, model = pair("bert", "BertForSequenceClassification")
    inputs = batch("bert", "BertForSequenceClassification")
    scores = importance(model, [inputs], progress=False)

    def loss(layer, number, gate):
        def scale(context):
            context = context.clone()
            context[:, number] *= gate
            return context

        return model(**inputs, trace=Trace(replace={f"layers.{layer}.attention.context": scale})).loss.item()

    for layer in range(2):
        for number in range(4):
            slope = (loss(layer, number, 1 + 1e-5) - loss(layer, number, 1 - 1e-5)) / 2e-5
            assert abs(scores.gradient[layer, number].item() - abs(slope)) < 1e-6
            rise = loss(layer, number, 0.0) - loss(layer, number, 1.0)
            assert abs(scores.rise[layer, number].item() - rise) < 1e-6
    assert abs(scores.loss - model(**inputs).loss.item()) < 1e-12


def test_the_planted_head_is_the_only_one_that_is_needed():
    model, tokenizer = planted.finds_word(), planted.tokenizer()
    batches = [
        {**tokenizer(text), "labels": torch.tensor([label])} for text, label in (("word1 word7", 1), ("word1 word2", 0))
    ]
    scores = importance(model, batches, progress=False)
    place = planted.LAYER * planted.N + planted.HEAD
    for each in (scores.gradient, scores.rise):
        assert int(each.argmax()) == place
        assert float(each.flatten()[torch.arange(each.numel()) != place].abs().max()) < 1e-6
    for measured in (False, True):
        least = scores.least(9, measured)
        assert planted.HEAD not in least[planted.LAYER] and sum(map(len, least.values())) == 9
        smaller = prune(model, least)
        for each in batches:
            torch.testing.assert_close(smaller(**each).logits, model(**each).logits, atol=1e-6, rtol=0)
        assert "layer" in scores.picture(measured).alt
    assert sum(map(len, scores.least(99).values())) == planted.L * (planted.N - 1)


@pytest.mark.parametrize("heads", [{0: [4]}, {0: [-1]}, {2: [0]}, {0: [0, 1, 2, 3]}])
def test_heads_that_are_not_there_are_refused(heads):
    _, model = pair("bert", "BertModel")
    with pytest.raises(ConfigError) as caught:
        prune(model, heads)
    assert caught.value.key == "heads"


def test_a_frozen_model_has_the_same_importance():
    _, model = pair("bert", "BertForSequenceClassification")
    batches = [batch("bert", "BertForSequenceClassification")]
    before = importance(model, batches, progress=False)
    for parameter in model.bert.parameters():
        parameter.requires_grad_(False)
    torch.testing.assert_close(importance(model, batches, progress=False).gradient, before.gradient)
    model.requires_grad_(False)
    torch.testing.assert_close(importance(model, batches, progress=False).gradient, before.gradient)


def test_importance_needs_labelled_batches():
    model, tokenizer = planted.copies_previous(), planted.tokenizer()
    assert isinstance(model, BertForMaskedLM)
    for batches, key in (([], "batches"), ([tokenizer("word1")], "labels")):
        with pytest.raises(DataError) as caught:
            importance(model, batches, progress=False)
        assert caught.value.key == key
