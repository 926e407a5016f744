"""The lens: the last layer is the model's own answer, and a planted circuit shows at its layer."""

from __future__ import annotations

import itertools
import json
from importlib.resources import files

import pytest
import torch

from minibert import BertForMaskedLM, BertModel, BertTokenizer
from minibert.io.errors import DataError, InputError
from minibert.study.lens import TunedLens, head_logits, kl_divergence, lens, mean_divergence, tune
from minibert.workbench.data import samples
from tests.lesson.reference import CASES, pair
from tests.study import planted
from tests.study.test_account import TEXT, TOKENIZERS

READABLE = [(family, name) for family, name in CASES if name not in ("BertModel", "BertForMultipleChoice")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("family", "name"), READABLE)
def test_the_last_layer_is_the_models_answer_bit_for_bit(family, name, dtype):
    _, model = pair(family, name, dtype)
    tokenizer = TOKENIZERS[family]
    result = lens(model, tokenizer, TEXT)
    logits = model(**tokenizer(TEXT)).logits
    logits = logits[0] if name == "BertForPreTraining" else logits
    logits = logits[0] if logits.dim() == 3 else logits
    assert len(result) == model.config.num_hidden_layers + 1
    assert torch.equal(result.logits(len(result) - 1), logits)
    assert not torch.equal(result.logits(0), logits)
    assert torch.equal(result.divergence()[-1], torch.zeros(len(logits), dtype=dtype))


def test_layers_are_read_in_order():
    """Layer k of the lens is the answer of the model cut after k layers."""
    _, model = pair("bert", "BertForSequenceClassification")
    result = lens(model, TOKENIZERS["bert"], TEXT)
    whole = model.bert.encoder.layers
    for layer in range(3):
        model.bert.encoder.layers = whole[:layer]
        torch.testing.assert_close(result.logits(layer), model(**TOKENIZERS["bert"](TEXT)).logits, atol=1e-12, rtol=0)


def test_a_planted_circuit_shows_from_its_layer_on():
    model, tokenizer = planted.copies_previous(), planted.tokenizer()
    result = lens(model, tokenizer, "word3 word9 word4")
    for layer in range(planted.L + 1):
        (best, chance), *_ = result.top(layer, "word4")
        assert (best == "word9" and chance > 0.5) == (layer > planted.LAYER)
    assert "word9" in result.table("word4") and "word9" in str(result.picture().alt + result.table("word4"))


def test_the_model_and_its_mode_are_left_alone():
    model, tokenizer = planted.copies_previous().train(), planted.tokenizer()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = lens(model, tokenizer, "word1 word2")
    tune(model, tokenizer, ["word1 word2 word3"] * 8, steps=1, progress=False)
    assert torch.equal(result.logits(2), result.logits(2))  # no dropout
    assert model.training and all(part.grad is None for part in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_tuned_lens_starts_as_the_plain_one_and_cannot_say_what_is_not_there():
    """What the previous piece was is not in the states below the planted layer: no affine map finds it."""
    model, tokenizer = planted.copies_previous(), planted.tokenizer()
    words = torch.randint(0, len(planted.WORDS), (232, 9), generator=torch.Generator().manual_seed(0)).tolist()
    texts = [" ".join(planted.WORDS[number] for number in row) for row in words]
    fresh = TunedLens(planted.L, planted.D)
    before = mean_divergence(model, tokenizer, texts[:32])
    assert mean_divergence(model, tokenizer, texts[:32], fresh) == before
    tuned = tune(model, tokenizer, texts[32:], steps=60, learning_rate=1e-3, progress=False)
    assert mean_divergence(model, tokenizer, texts[:32], tuned)[0] < before[0]
    plain, result = (lens(model, tokenizer, "word3 word9 word4", translate=each) for each in (None, tuned))
    assert result.top(1, "word4")[0][1] < 0.5
    assert torch.equal(result.logits(planted.L), plain.logits(planted.L))


def test_a_tuned_lens_is_closer_on_texts_it_has_not_seen():
    model, tokenizer = (kind.from_pretrained("minibert-small") for kind in (BertForMaskedLM, BertTokenizer))
    with (files(samples) / "reviews_train.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in itertools.islice(lines, 200)]
    tuned = tune(model, tokenizer, texts[40:], steps=40, progress=False)
    before, after = (mean_divergence(model, tokenizer, texts[:40], each) for each in (None, tuned))
    assert all(late < early for early, late in zip(before, after, strict=True))
    assert after[0] < 0.8 * before[0]


def test_kl_divergence_is_that_of_its_definition():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(5, 7, dtype=torch.float64, generator=generator) for _ in range(2))
    p, q = first.softmax(dim=1), second.softmax(dim=1)
    torch.testing.assert_close(kl_divergence(first, second), (p * (p / q).log()).sum(dim=1))


def test_the_lens_on_minibert_small():
    model, tokenizer = (kind.from_pretrained("minibert-small") for kind in (BertForMaskedLM, BertTokenizer))
    result = lens(model, tokenizer, "I would [MASK] recommend this film.")
    assert torch.equal(result.logits(4), model(**tokenizer("I would [MASK] recommend this film.")).logits[0])
    divergence = result.divergence()[:, result.given.column("[MASK]")]
    assert divergence[0] > divergence[3] > divergence[4] == 0
    states = result._states[2]
    assert torch.equal(head_logits(model, states, _layout(model, tokenizer)), result.logits(2))


def _layout(model, tokenizer):
    from minibert import Layout

    return Layout.from_mask(tokenizer("I would [MASK] recommend this film.")["attention_mask"])


def test_what_cannot_be_read_is_refused():
    model, tokenizer = planted.copies_previous(), planted.tokenizer()
    with pytest.raises(InputError) as caught:
        lens(BertModel(model.config), tokenizer, "word1")
    assert caught.value.key == "model"
    for position, layer, key in (("word5", 0, "position"), (1, 7, "layer")):
        with pytest.raises(InputError) as caught:
            lens(model, tokenizer, "word1").top(layer, position)
        assert caught.value.key == key
    classifier = planted.finds_word()
    for of, position in ((model, None), (classifier, 1)):  # it needs one; it takes none
        with pytest.raises(InputError) as caught:
            lens(of, tokenizer, "word1").top(0, position)
        assert caught.value.key == "position"
    with pytest.raises(DataError) as caught:
        tune(model, tokenizer, ["word1"])
    assert caught.value.key == "texts"
