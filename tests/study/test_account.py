"""The exact account: sums, shares held to autograd, and a planted circuit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from minibert import BertForMaskedLM, BertModel, BertTokenizer
from minibert.io.errors import InputError
from minibert.study.account import account
from tests.lesson import reference
from tests.lesson.reference import CASES, D, V, pair
from tests.study import planted

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = {token: number for number, token in enumerate([*SPECIAL, *map(str, range(V - 5))])}
TOKENIZERS = {
    family: BertTokenizer(VOCABULARY, max_length=19, token_types=family == "bert") for family in ("bert", "distilbert")
}
TEXT = "3 1 [MASK] 4 1 5"
EXACT = 1e-12  # of a sum in float64, for logits of a few units
OVER_TOKENS = ("BertForTokenClassification", "BertForQuestionAnswering")
READABLE = [(family, name) for family, name in CASES if name not in ("BertForMultipleChoice", reference.BARE)]


def explained(family, name, model, target=None):
    position = 2 if name in OVER_TOKENS else None
    return account(
        model, TOKENIZERS[family], TEXT, "9 2" if family == "bert" else None, target=target, position=position
    )


@pytest.mark.parametrize("hidden_act", ["gelu", "relu", "silu"])
@pytest.mark.parametrize(("family", "name"), READABLE)
def test_every_logit_is_the_sum_of_its_causes(family, name, hidden_act):
    _, model = pair(family, name, hidden_act=hidden_act)
    for target in (0, 1):
        result = explained(family, name, model, target)
        assert abs(result.total - result.value) < EXACT
        for detail in (False, True):
            assert abs(math.fsum(share for _, share in result.causes(detail)) - result.value) < EXACT


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_every_hidden_state_is_the_sum_of_its_causes(family, layer):
    _, model = pair(family, "BertModel")
    direction = torch.randn(D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))  # (D,)
    result = account(model, TOKENIZERS[family], TEXT, position=4, layer=layer, direction=direction)
    states = model(**TOKENIZERS[family](TEXT), output_hidden_states=True).hidden_states
    assert abs(result.value - (states[layer][0, 4] @ direction).item()) < EXACT
    assert abs(result.total - result.value) < EXACT
    assert len(result.sources) == len(result.neurons) == layer


def test_the_value_is_the_models_logit_and_the_default_is_the_largest():
    _, model = pair("bert", "BertForSequenceClassification")
    logits = model(**TOKENIZERS["bert"](TEXT, "9 2")).logits[0]  # (C,)
    result = explained("bert", "BertForSequenceClassification", model)
    assert abs(result.value - logits.max().item()) < EXACT
    assert f"LABEL_{int(logits.argmax())}" in result.what


def frozen(norm, summed):
    """A layer norm whose scale does not depend on its input."""
    deviation = (summed.detach().var(dim=-1, unbiased=False, keepdim=True) + norm.eps).sqrt()  # (T, 1)
    return (summed - summed.mean(dim=-1, keepdim=True)) / deviation * norm.weight + norm.bias  # (T, D)


def test_shares_are_those_of_autograd_through_frozen_norms():
    """Each share is the product of what a cause wrote with the gradient at that place, in a network written anew."""
    _, model = pair("bert", "BertForMaskedLM")
    inputs = TOKENIZERS["bert"](TEXT)
    at, piece = 3, 17
    leaves = {}

    def leaf(name, value):
        leaves[name] = value.detach().requires_grad_()
        return leaves[name]

    body = model.bert
    columns = torch.arange(inputs["input_ids"].shape[1])  # (S,)
    word = leaf("word", body.embeddings.word(inputs["input_ids"][0]))  # (S, D)
    position = leaf("position", body.embeddings.position(columns))  # (S, D)
    segment = leaf("segment", body.embeddings.segment(inputs["token_type_ids"][0]))  # (S, D)
    hidden = frozen(body.embeddings.norm, word + segment + position)  # (S, D)
    for number, layer in enumerate(body.encoder.layers):
        parts = layer.attention
        inside = hidden.detach()  # (S, D): what a head reads is not traced further
        q, k, v = (
            part(inside).unflatten(1, parts.heads).transpose(0, 1) for part in (parts.query, parts.key, parts.value)
        )
        pattern = (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).softmax(dim=2)  # (N, S, S)
        bias = parts.value.bias.unflatten(0, parts.heads)[:, None]  # (N, 1, H)
        brought = leaf(f"brought {number}", pattern[..., None] * (v - bias)[:, None])  # (N, S, S, H)
        context = (brought.sum(dim=2) + bias).transpose(0, 1).flatten(1)  # (S, D)
        hidden = frozen(layer.attention_norm, hidden + parts.output(context))  # (S, D)
        active = layer.feed_forward.activation(layer.feed_forward.inner(hidden.detach()))  # (S, F)
        neurons = leaf(f"neurons {number}", active)  # (S, F)
        hidden = frozen(layer.feed_forward_norm, hidden + layer.feed_forward.outer(neurons))  # (S, D)
    head = model.head
    z = head.dense(hidden[at])  # (D,)
    transformed = z * (head.activation(z) / z).detach()  # (D,)
    logit = frozen(head.norm, transformed) @ body.embeddings.word.weight[piece] + head.bias[piece]  # ()
    logit.backward()

    result = account(model, TOKENIZERS["bert"], TEXT, target=piece, position=at)
    assert abs(result.value - logit.item()) < 1e-9
    for name, share in result.embeddings.items():
        assert abs(share - (leaves[name][at] @ leaves[name].grad[at]).item()) < 1e-9
    for number, (sources, neurons) in enumerate(zip(result.sources, result.neurons, strict=True)):
        brought = leaves[f"brought {number}"]
        torch.testing.assert_close(sources, (brought * brought.grad)[:, at].sum(dim=2), atol=1e-9, rtol=0)
        active = leaves[f"neurons {number}"]
        torch.testing.assert_close(neurons, (active * active.grad)[at], atol=1e-9, rtol=0)


def test_a_planted_head_is_the_cause_and_nothing_else_is():
    model, tokenizer = planted.copies_previous(), planted.tokenizer()
    result = account(model, tokenizer, "word3 word9 word4 word11", position="word4", target="word9")
    (name, share), (_, second) = result.top(2, detail=True)
    assert name == f"layers.{planted.LAYER}.head {planted.HEAD} from word9 (2)"
    assert share > 50 * abs(second)
    assert int(result.by_source().abs().argmax()) == 2
    wrong = account(model, tokenizer, "word3 word9 word4 word11", position="word4", target="word3")
    assert abs(wrong.heads[planted.LAYER][planted.HEAD]) < 0.05 * share


def test_a_planted_search_is_found_in_a_classifier():
    model, tokenizer = planted.finds_word("word7"), planted.tokenizer()
    result = account(model, tokenizer, "word1 word7 word2")
    assert result.what == "logit of YES"
    [(name, share)] = result.top(1, detail=True)
    assert name == f"layers.{planted.LAYER}.head {planted.HEAD} from word7 (2)"
    assert share > 0.9 * result.value
    without = account(model, tokenizer, "word1 word3 word2", target="YES")
    [(name, share)] = (result - without).top(1)
    assert name == f"layers.{planted.LAYER}.head {planted.HEAD}"
    assert share > 0.9 * (result - without).value


def test_fp32_models_are_explained_in_float64_and_stay_as_they_are(minibert_small):
    model, tokenizer = minibert_small
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = account(model, tokenizer, "This is a great [MASK].")
    assert abs(result.total - result.value) < EXACT * 10
    assert model.training and next(model.parameters()).dtype == torch.float32
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert str(result).count("\n") > 10 and "<img alt=" in result.picture()._repr_html_()


@pytest.fixture(scope="module")
def minibert_small():
    return BertForMaskedLM.from_pretrained("minibert-small"), BertTokenizer.from_pretrained("minibert-small")


def test_a_model_that_computes_something_else_is_refused():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    _, model = pair("bert", "BertForSequenceClassification")
    outer = model.bert.encoder.layers[1].feed_forward.outer
    outer.__class__ = Doubled
    with pytest.raises(InputError) as caught:
        explained("bert", "BertForSequenceClassification", model)
    assert caught.value.key == "model"


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"target": "word99", "position": 1}, "target"),
        ({"target": 500, "position": 1}, "target"),
        ({"position": 40}, "position"),
        ({"position": "word8"}, "position"),
        ({}, "position"),
        ({"layer": 1}, "layer"),
        ({"direction": torch.ones(3), "position": 1}, "direction"),
        ({"direction": torch.ones(planted.D)}, "position"),
        ({"direction": torch.ones(planted.D), "position": 1, "layer": 9}, "layer"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(arguments, key):
    with pytest.raises(InputError) as caught:
        account(planted.copies_previous(), planted.tokenizer(), "word1 word2", **arguments)
    assert caught.value.key == key


def test_heads_refuse_positions_and_classes_they_do_not_have():
    model, tokenizer = planted.finds_word(), planted.tokenizer()
    for arguments, key in (({"position": 1}, "position"), ({"target": "MAYBE"}, "target")):
        with pytest.raises(InputError) as caught:
            account(model, tokenizer, "word1", **arguments)
        assert caught.value.key == key
    with pytest.raises(InputError):
        account(BertModel(model.config), tokenizer, "word1")
    first, second = (account(planted.finds_word(), tokenizer, text) for text in ("word1", "word1 word2"))
    with pytest.raises(InputError):
        first - second
