"""The tools on models with other answers: several labels, a number, spans, choices, a custom head or `forward`."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from minibert import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
)  # fmt: skip
from minibert.io.errors import ConfigError, DataError, InputError
from minibert.study.account import account
from minibert.study.attribution import attribute
from minibert.study.audit import audit
from minibert.study.diff import cka_of_layers
from minibert.study.edit import ablate, means
from minibert.study.explain import explain
from minibert.study.lens import lens, mean_divergence, tune
from minibert.study.numerics import numerics
from minibert.study.readout import decisions, probabilities
from minibert.study.sentence import run, sentence
from tests.lesson.reference import V
from tests.study.test_account import TEXT, TOKENIZERS

TOKENIZER = TOKENIZERS["bert"]


class MeanPooled(BertForSequenceClassification):
    """Reads the mean of the hidden states, with the pooler and the classifier of the class."""

    pooler = False

    def answer(self, encoded, labels=None):
        return self.head.classifier(encoded.layout.pad(encoded.hidden).mean(dim=1)), {}


class Doubled(BertForSequenceClassification):
    def forward(self, *args, **given):
        output = super().forward(*args, **given)
        return dataclasses.replace(output, logits=2 * output.logits + 1)


def of(kind, **settings):
    config = BertConfig(
        vocab_size=V, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
        max_position_embeddings=32, initializer_range=0.5, **settings,
    )  # fmt: skip
    return kind(config, torch.Generator().manual_seed(3)).eval()


def labels(number):
    return {"id2label": {n: f"L{n}" for n in range(number)}}


def test_several_labels_have_a_probability_each():
    model = of(BertForSequenceClassification, problem_type="multi_label_classification", **labels(3))
    output, _ = run(model, sentence(TOKENIZER, TEXT).inputs)
    chances = output.logits[0].sigmoid()
    looked = lens(model, TOKENIZER, TEXT)
    assert dict(looked.top(len(looked) - 1)) == pytest.approx(dict(zip(looked.names, chances.tolist(), strict=True)))
    checked = audit(model, TOKENIZER, [TEXT], methods=["rollout"], progress=False)
    assert checked.deletion["rollout"][0, 0].item() == pytest.approx(chances.max().item(), abs=1e-6)
    assert f"{chances.max().item():.4f}"[:5] in explain(model, TOKENIZER, TEXT).html()
    assert numerics(model, TOKENIZER, TEXT).margin == pytest.approx(output.logits.abs().min().item(), abs=1e-5)


def test_a_number_is_not_a_probability():
    model = of(BertForSequenceClassification, problem_type="regression", **labels(1))
    number = run(model, sentence(TOKENIZER, TEXT).inputs)[0].logits.item()
    looked = lens(model, TOKENIZER, TEXT)
    assert looked.top(len(looked) - 1)[0][1] == pytest.approx(number)
    with pytest.raises(InputError):
        audit(model, TOKENIZER, [TEXT], methods=["rollout"], progress=False)
    assert "width: -" not in explain(model, TOKENIZER, TEXT).html()


def test_a_span_is_a_choice_between_columns():
    model = of(BertForQuestionAnswering)
    given = sentence(TOKENIZER, TEXT)
    output, _ = run(model, given.inputs)
    looked = lens(model, TOKENIZER, TEXT)
    assert torch.allclose(looked.probabilities(len(looked) - 1).sum(dim=0), torch.ones(2))
    assert torch.equal(decisions(model, given, output).argmax(dim=1), output.logits[0].argmax(dim=0))
    assert torch.equal(probabilities(model, output.logits[0]).argmax(dim=0), output.logits[0].argmax(dim=0))


def test_a_masked_lm_decides_at_its_masks():
    model = of(BertForMaskedLM)
    given = sentence(TOKENIZER, TEXT)
    output, _ = run(model, given.inputs)
    at = given.tokens.index("[MASK]")
    assert torch.equal(decisions(model, given, output), output.logits[0, [at]])
    best = output.logits[0, at].double().topk(2).values
    assert numerics(model, TOKENIZER, given.text).margin == pytest.approx((best[0] - best[1]).item(), abs=1e-4)
    looked = lens(model, TOKENIZER, given.text)
    assert looked.top(1) == looked.top(1, at) and looked.table() == looked.table("[MASK]")


def test_choices_are_refused_by_every_tool():
    model = of(BertForMultipleChoice)
    for tool in (account, attribute, ablate, lens, numerics, explain):
        with pytest.raises(InputError) as caught:
            tool(model, TOKENIZER, TEXT)
        assert caught.value.key == "model"


def test_a_custom_head_is_named_and_the_page_does_without_its_account():
    model = of(MeanPooled, **labels(2))
    with pytest.raises(InputError) as caught:
        account(model, TOKENIZER, TEXT)
    assert caught.value.key == "model" and "MeanPooled" in str(caught.value)
    hidden = account(model, TOKENIZER, TEXT, direction=torch.ones(model.config.hidden_size), position=1)
    assert hidden.total == pytest.approx(hidden.value, abs=1e-9)
    page = explain(model, TOKENIZER, TEXT).html()
    assert 'data-part="answer"' in page and 'class="account"' not in page


def test_a_custom_forward_is_not_read_through_the_head():
    model = of(Doubled, **labels(2))
    for tool in (account, lens):
        with pytest.raises(InputError) as caught:
            tool(model, TOKENIZER, TEXT)
        assert caught.value.key == "model"
    page = explain(model, TOKENIZER, TEXT).html()
    assert 'data-part="lens"' not in page and 'data-part="view"' in page


def test_an_error_in_a_forward_stays_what_it_is():
    class Broken(BertForSequenceClassification):
        def forward(self, *args, **given):
            return SimpleNamespace().nothing

    with pytest.raises(AttributeError, match="nothing"):
        account(of(Broken, **labels(2)), TOKENIZER, TEXT)


@pytest.mark.parametrize("texts", ["3 1 4", []])
def test_one_string_is_not_a_list_of_texts(texts):
    model = of(BertForMaskedLM)
    for tool in (
        lambda: audit(model, TOKENIZER, texts, progress=False),
        lambda: means(model, TOKENIZER, texts),
        lambda: tune(model, TOKENIZER, texts, batch_size=1, steps=1, progress=False),
        lambda: mean_divergence(model, TOKENIZER, texts),
        lambda: cka_of_layers(model, model, TOKENIZER, texts, progress=False),
    ):
        with pytest.raises(DataError) as caught:
            tool()
        assert caught.value.key == "texts"


def test_what_only_a_masked_lm_and_whole_steps_can_do():
    model = of(BertForSequenceClassification, **labels(2))
    for tool in (tune, mean_divergence):
        with pytest.raises(InputError) as caught:
            tool(model, TOKENIZER, [TEXT] * 8)
        assert caught.value.key == "model"
    with pytest.raises(ConfigError) as caught:
        audit(model, TOKENIZER, [TEXT], steps=0, progress=False)
    assert caught.value.key == "steps"
