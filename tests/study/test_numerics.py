"""Numerics: errors are of the size the dtypes have, and a planted fault is found where it enters."""

from __future__ import annotations

import pytest
import torch

from minibert import BertForMaskedLM, BertTokenizer
from minibert.io.errors import ConfigError
from minibert.study.numerics import numerics
from tests.lesson.reference import CASES, pair
from tests.study import planted
from tests.study.test_account import TEXT, TOKENIZERS

UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.bfloat16: 2.0**-9, torch.float16: 2.0**-11}


@pytest.mark.parametrize(("family", "name"), [case for case in CASES if case[1] != "BertForMultipleChoice"])
def test_errors_have_the_size_of_the_dtype(family, name):
    _, model = pair(family, name)
    result = numerics(model, TOKENIZERS[family], TEXT, dtypes=[*UNIT])
    for each in result.passes:
        unit = UNIT[each.dtype]
        for step, own in each.own.items():
            assert own < 30 * unit, (each.dtype, step)
        if each.dtype != torch.float64:
            rounded = each.dtype != torch.float32  # the weights are float32 numbers
            assert (each.own["embeddings.word"] > unit / 20) == rounded
            assert each.total["layers.1.feed_forward.norm"] > each.own["layers.1.feed_forward.norm"] / 2
        else:
            assert set(each.total.values()) == set(each.own.values()) == {0.0}
    headless = name == "BertModel"
    assert (result.margin is None) == (result.passes[0].same is None) == headless


def test_a_step_that_loses_precision_is_found_where_it_is():
    """A bias of 3,000 and a second one of -3,000 cancel in float64; in bf16 the state between them is lost."""
    _, model = pair("bert", "BertForSequenceClassification")
    with torch.no_grad():
        model.bert.encoder.layers[1].attention.output.bias += 3000
    result = numerics(model, TOKENIZERS["bert"], TEXT)
    for dtype in (torch.bfloat16, torch.float32):
        [found] = [each for each in result.passes if each.dtype == dtype]
        name, error = result.worst(dtype, 1)[0]
        assert name == "layers.1.attention.norm" and error > 5 * result.worst(dtype, 2)[1][1]
        assert found.total["layers.1.attention.norm"] > 10 * found.total["layers.0.feed_forward.norm"]


def test_a_narrow_margin_can_flip_and_a_wide_one_cannot():
    model, tokenizer = planted.finds_word(), planted.tokenizer()
    result = numerics(model, tokenizer, "word1 word7")
    assert not any(result.could_flip(each.dtype) for each in result.passes) and result.margin > 5
    assert all(each.same for each in result.passes)
    with torch.no_grad():
        model.head.classifier.weight *= 0
        model.head.classifier.bias.copy_(torch.tensor([1.0, 1.0001]))
    result = numerics(model, tokenizer, "word1 word7")
    assert result.could_flip(torch.bfloat16) and not result.could_flip(torch.float32)
    assert "close enough to flip" in str(result)
    with pytest.raises(ConfigError) as caught:
        result.could_flip(torch.float64)
    assert caught.value.key == "dtype"


def test_an_overflow_could_flip_the_answer():
    model = planted.finds_word()
    with torch.no_grad():
        model.head.classifier.weight.mul_(1e6)  # beyond what fp16 can hold
    result = numerics(model, planted.tokenizer(), "word1 word7")
    assert result.could_flip(torch.float16) and not result.could_flip(torch.float32)


def test_minibert_small_stays_as_it_is():
    model, tokenizer = (kind.from_pretrained("minibert-small") for kind in (BertForMaskedLM, BertTokenizer))
    model.train()
    result = numerics(model, tokenizer, "This is a [MASK] film.")
    assert model.training and next(model.parameters()).dtype == torch.float32
    single, bfloat, half = result.passes
    assert single.total["head.logits"] < half.total["head.logits"] < bfloat.total["head.logits"] < 0.1
    assert "float16" in result.picture().alt
