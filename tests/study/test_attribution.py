"""Attribution and its audit: Captum's numbers, definitions written anew, and a planted circuit."""

from __future__ import annotations

import pytest
import torch

from minibert import Trace
from minibert.io.errors import ConfigError, DataError, InputError
from minibert.study import attribution
from minibert.study.attribution import METHODS, Question, attribute, integrated_gradients
from minibert.study.audit import RANDOM, audit
from tests.lesson.reference import pair
from tests.study import planted
from tests.study.test_account import TEXT, TOKENIZERS

CASES = [
    ("bert", "BertForSequenceClassification"),
    ("bert", "BertForMaskedLM"),
    ("distilbert", "BertForSequenceClassification"),
]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_integrated_gradients_are_captums(family, name):
    from captum.attr import LayerIntegratedGradients

    _, model = pair(family, name)
    tokenizer = TOKENIZERS[family]
    question = Question.ask(model, tokenizer, TEXT, target=1)
    scores, error, steps = integrated_gradients(question)
    assert error < 0.01
    inputs = tokenizer(TEXT)
    ids = inputs["input_ids"]
    padding = torch.where((ids == tokenizer.cls_id) | (ids == tokenizer.sep_id), ids, tokenizer.pad_id)

    def forward(ids):
        mask = torch.ones_like(ids)
        logits = model(input_ids=ids, attention_mask=mask).logits
        return logits[:, 3, 1] if name == "BertForMaskedLM" else logits[:, 1]

    captum = LayerIntegratedGradients(forward, model.bert.embeddings.norm)
    found = captum.attribute(
        ids, baselines=padding, n_steps=steps, method="gausslegendre", attribute_to_layer_input=True
    )  # fmt: skip
    torch.testing.assert_close(scores, found.sum(dim=-1).flatten().float(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("family", "name"), CASES)
def test_integrated_gradients_add_up_to_the_change_of_the_logit(family, name):
    _, model = pair(family, name)
    question = Question.ask(model, TOKENIZERS[family], TEXT, target=1)
    scores, error, _ = integrated_gradients(question, steps=128)
    assert error < (1e-6 if family == "bert" else 2e-3)  # DistilBERT's ReLU has a kink
    assert bool((scores[[0, -1]] == 0).all())  # [CLS] and [SEP] are the same in the baseline


def test_gradient_x_input_is_a_finite_difference():
    _, model = pair("bert", "BertForSequenceClassification")
    tokenizer = TOKENIZERS["bert"]
    question = Question.ask(model, tokenizer, TEXT, target=2)
    actual, baseline = attribution._ends(question)
    scores = attribution.score(question, "gradient x input")
    for column in (1, 4):

        def logit(step, column=column):
            def moved(value):
                value = value.clone()
                value[column] += step * (actual - baseline)[column]
                return value

            return model(**tokenizer(TEXT), trace=Trace(replace={"embeddings.sum": moved})).logits[0, 2].item()

        slope = (logit(1e-5) - logit(-1e-5)) / 2e-5
        assert abs(scores[column].item() - slope) < 1e-5


def test_leave_one_out_is_the_difference_of_two_passes():
    _, model = pair("bert", "BertForMaskedLM")
    tokenizer = TOKENIZERS["bert"]
    result = attribute(model, tokenizer, TEXT, target=5, methods=["leave one out"])
    without = model(**tokenizer(TEXT.replace("4", "[MASK]"))).logits[0, 3, 5].item()
    assert abs(result.scores["leave one out"][4].item() - (result.value - without)) < 1e-6
    assert bool((result.scores["leave one out"][[0, 3, -1]] == 0).all())  # [CLS], the [MASK] that is read, [SEP]


def test_rollout_is_a_distribution_and_follows_the_planted_head():
    model, tokenizer = planted.copies_previous(), planted.tokenizer()
    result = attribute(model, tokenizer, "word3 word9 word4", position="word4", methods=["rollout"])
    assert abs(result.scores["rollout"].sum().item() - 1) < 1e-6
    assert result.top("rollout", 2)[1][0] == "word9 (2)"  # after the piece itself


def test_methods_that_measure_find_the_planted_piece_alone():
    model, tokenizer = planted.finds_word(), planted.tokenizer()
    result = attribute(model, tokenizer, "word1 word7 word2 word3", target="YES")
    for method in ("integrated gradients", "leave one out", "account"):
        scores = result.scores[method]
        (best, share), (_, second) = result.top(method, 2)
        assert best == "word7 (2)" and share > 3 and abs(second) < 0.01 * share, method
        assert str(round(scores[2].item(), 3)) in str(result)
    # The tanh of the pooler is flat where the answer is certain: a first-order guess sees nothing.
    assert result.scores["gradient x input"].abs().max() < 0.01
    assert result.completeness is not None and result.completeness[0] < 0.01
    assert "YES" in result.picture().alt


def test_the_audit_prefers_what_finds_the_piece_and_sees_no_gain_in_chance():
    model, tokenizer = planted.finds_word(), planted.tokenizer()
    generator = torch.Generator().manual_seed(1)
    others = [word for word in planted.WORDS if word != "word7"]
    texts = []
    for _ in range(40):
        words = [others[n] for n in torch.randperm(len(others), generator=generator)[:8].tolist()]
        words[int(torch.randint(8, (), generator=generator))] = "word7"
        texts.append(" ".join(words))
    result = audit(model, tokenizer, texts, methods=["leave one out", "gradient x input"], progress=False)
    for which in ("deletion", "insertion"):
        gains = result.against_random(which)
        mean, low, high = gains["leave one out"]
        assert low > 0.2 and low <= mean <= high
        assert gains["gradient x input"][1] < 0.1
        assert set(result.areas(which)) == {"leave one out", "gradient x input", RANDOM}
    assert result.deletion["leave one out"].shape == (40, 11)
    # The first of ten steps removes the one piece that matters.
    assert bool((result.deletion["leave one out"][:, 2] < 0.2).all())
    torch.testing.assert_close(result.deletion[RANDOM][:, 0], result.insertion[RANDOM][:, -1])
    torch.testing.assert_close(result.deletion[RANDOM][:, -1], result.insertion[RANDOM][:, 0])
    assert "better than random" in str(result) and "leave one out" in result.picture().alt
    again = audit(model, tokenizer, texts[:3], methods=["rollout"], progress=False)
    assert torch.equal(
        again.deletion[RANDOM], audit(model, tokenizer, texts[:3], methods=[], progress=False).deletion[RANDOM]
    )


@pytest.mark.parametrize("training", [False, True])
def test_the_model_and_its_gradients_are_left_alone(training):
    model, tokenizer = planted.finds_word(), planted.tokenizer()
    model.freeze()
    model.train(training)
    attribute(model, tokenizer, "word1 word7", "word2")
    audit(model, tokenizer, ["word1 word7"], progress=False)
    assert model.training is training and all(part.grad is None for part in model.parameters())


def test_every_method_works_on_every_kind_of_text():
    model, tokenizer = planted.finds_word(), planted.tokenizer()
    for text in ("word1", ""):
        result = attribute(model, tokenizer, text)
        assert all(len(scores) == len(result.tokens) and scores.isfinite().all() for scores in result.scores.values())
    assert [*result.scores] == [*METHODS]


def test_what_cannot_be_meant_is_refused_by_name():
    model, tokenizer = planted.finds_word(), planted.tokenizer()
    with pytest.raises(ConfigError) as caught:
        attribute(model, tokenizer, "word1", methods=["magic"])
    assert caught.value.key == "methods"
    with pytest.raises(ConfigError) as caught:
        audit(model, tokenizer, ["word1"], methods=["rollout"], progress=False).areas("deletions")
    assert caught.value.key == "which"
    with pytest.raises(DataError) as caught:
        audit(model, tokenizer, [])
    assert caught.value.key == "texts"
    with pytest.raises(InputError) as caught:
        audit(planted.copies_previous(), tokenizer, ["word1 without a mask"], progress=False)
    assert caught.value.key == "position"
