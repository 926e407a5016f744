"""Edits and patches: planted circuits are found, values are those of a model with changed weights, nothing is kept."""

from __future__ import annotations

import copy

import pytest
import torch

from minibert import BertForMaskedLM, BertTokenizer, Trace
from minibert.io.errors import ConfigError, DataError, InputError
from minibert.study import edit
from minibert.study.edit import ablate, means, patch, replacements, resampled
from minibert.study.sentence import PIECES, sentence
from tests.lesson.reference import pair
from tests.study import planted
from tests.study.test_account import TEXT, TOKENIZERS

EXACT = 1e-6


def test_patching_finds_where_the_planted_circuit_has_moved_the_answer():
    model, tokenizer = planted.copies_previous(), planted.tokenizer()
    texts = "word3 word9 word4", "word3 word8 word4"
    result = patch(model, tokenizer, *texts, target="word9", position="word4", progress=False)
    assert result.values.shape == (planted.L, 5) and result.goal > result.before
    source, reader = 2, 3  # columns of word9 and word4
    for layer in range(planted.L):
        carries = reader if layer >= planted.LAYER else source
        assert int(result.restored[layer].argmax()) == carries
        assert result.restored[layer, carries] > 0.9
        others = result.restored[layer].clone()
        others[carries] = 0
        assert others.abs().max() < 0.05
    heads = patch(model, tokenizer, *texts, parts="heads", target="word9", position="word4", progress=False)
    (name, change), (_, second) = heads.top(2)
    assert name == f"layer {planted.LAYER}, head {planted.HEAD}" and abs(change) > 50 * abs(second)


def test_ablation_finds_the_planted_head_and_no_other():
    model, tokenizer = planted.finds_word(), planted.tokenizer()
    result = ablate(model, tokenizer, "word1 word7 word2", target="YES", minus="NO", progress=False)
    (name, change), (_, second) = result.top(2)
    assert name == f"layer {planted.LAYER}, head {planted.HEAD}"
    assert change < -1 and abs(second) < EXACT
    assert "less logit of NO" in result.what and name in str(result) and name in result.picture().alt


@pytest.mark.parametrize(
    ("family", "name"), [("bert", "BertForMaskedLM"), ("distilbert", "BertForSequenceClassification")]
)
def test_zero_ablation_is_what_zero_weights_do(family, name):
    _, model = pair(family, name)
    tokenizer = TOKENIZERS[family]
    result = ablate(model, tokenizer, TEXT, target=1, progress=False)
    neurons = ablate(model, tokenizer, TEXT, target=1, parts="neurons", progress=False)
    column = 3 if name == "BertForMaskedLM" else None
    for layer, number in ((0, 1), (1, 3)):
        without = copy.deepcopy(model)
        part = without.bert.encoder.layers[layer]
        size = model.config.head_size
        with torch.no_grad():
            part.attention.output.weight[:, number * size : (number + 1) * size] = 0
        assert abs(result.values[layer, number] - logit(without, tokenizer, column)) < EXACT
        without = copy.deepcopy(model)
        with torch.no_grad():
            without.bert.encoder.layers[layer].feed_forward.outer.weight[:, number] = 0
        assert abs(neurons.values[layer, number] - logit(without, tokenizer, column)) < EXACT


def logit(model, tokenizer, column):
    logits = model(**tokenizer(TEXT)).logits[0]
    return (logits[1] if column is None else logits[column, 1]).item()


def test_patching_all_of_a_layer_gives_the_clean_answer():
    _, model = pair("bert", "BertForSequenceClassification")
    tokenizer = TOKENIZERS["bert"]
    result = patch(model, tokenizer, "3 1 4", "3 2 4", target=0, progress=False)
    assert abs(result.values[-1, 0] - result.goal) < EXACT  # [CLS] of the last layer is all that the head reads
    assert torch.allclose(result.values[-1, 1:], torch.tensor(result.before).double(), atol=EXACT)


def test_means_and_resampled_values_stand_in():
    _, model = pair("bert", "BertForMaskedLM")
    tokenizer, texts = TOKENIZERS["bert"], ["3 1", "7 7 2"]
    found = means(model, tokenizer, texts)
    trace = Trace("layers.1.attention.context")
    model(**tokenizer(texts), trace=trace)
    torch.testing.assert_close(found["layers.1.attention.context"][0], trace["layers.1.attention.context"].mean(dim=0))
    drawn = resampled(model, tokenizer, texts, length=8, seed=3)
    pool = trace["layers.1.attention.context"]
    for row in drawn["layers.1.attention.context"]:
        assert any(torch.allclose(row, one) for one in pool)
    for instead in (found, drawn):
        result = ablate(model, tokenizer, TEXT, target=5, instead=instead, progress=False)
        by_hand = Trace(replace=replacements([edit.head(1, 2, instead["layers.1.attention.context"][:, 2])]))
        expected = model(**tokenizer(TEXT), trace=by_hand).logits[0, 3, 5].item()
        assert abs(result.values[1, 2] - expected) < EXACT
    assert torch.equal(
        drawn["layers.0.attention.context"], resampled(model, tokenizer, texts, 8, seed=3)["layers.0.attention.context"]
    )


def test_edits_of_one_value_follow_each_other():
    model, tokenizer = planted.copies_previous(), planted.tokenizer()
    trace = Trace("layers.1.attention.context", replace=replacements([edit.head(1, 0, 2.0), edit.head(1, 3, 5.0)]))
    model(**tokenizer("word1 word2"), trace=trace)
    context = trace["layers.1.attention.context"]
    assert bool((context[:, 0] == 2).all()) and bool((context[:, 3] == 5).all())
    assert bool((context[:, 1] == 0).all())


def test_a_layer_without_both_blocks_only_norms():
    _, model = pair("bert", "BertModel")
    trace = Trace("layers.1.attention.residual", replace=replacements(edit.whole_layer(1)))
    output = model(**TOKENIZERS["bert"](TEXT), output_hidden_states=True, trace=trace)
    torch.testing.assert_close(trace["layers.1.attention.residual"], output.hidden_states[1][0])
    layer = model.encoder.layers[1]
    expected = layer.feed_forward_norm(layer.attention_norm(output.hidden_states[1]))
    torch.testing.assert_close(output.last_hidden_state, expected)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_model_is_the_same_after_edits(checkpointing):
    model, tokenizer = planted.finds_word().train(), planted.tokenizer()
    model.use_gradient_checkpointing(checkpointing)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    answer = model.eval()(**tokenizer("word7")).logits
    model.train()
    for parts in edit.PARTS:
        ablate(model, tokenizer, "word1 word7", parts=parts, progress=False)
        patch(model, tokenizer, "word1 word7", "word1 word2", parts=parts, progress=False)
    assert model.training and torch.equal(model.eval()(**tokenizer("word7")).logits, answer)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_edits_hold_in_training_under_autocast_and_with_an_empty_row(checkpointing):
    """The gradients of an edited pass, recomputed or not, are those of weights that are zero."""
    model, tokenizer = planted.finds_word(), planted.tokenizer()
    model.use_gradient_checkpointing(checkpointing)
    batch = tokenizer(["word1 word7", "word7"])
    batch["attention_mask"][1] = 0
    trace = Trace(replace=replacements([edit.head(planted.LAYER, planted.HEAD)]))
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch, labels=torch.tensor([1, 1]), trace=trace)
    output.loss.backward()
    weight = model.bert.encoder.layers[planted.LAYER].attention.value.weight
    assert bool((weight.grad[planted.HEAD * planted.H : (planted.HEAD + 1) * planted.H] == 0).all())
    assert bool(output.logits.isfinite().all()) and bool((output.logits[1] == 0).all())


def test_512_pieces():
    _, model = pair("bert", "BertForSequenceClassification", torch.float32, max_position_embeddings=512)
    tokenizer = BertTokenizer(TOKENIZERS["bert"].vocabulary, max_length=512)
    result = ablate(model, tokenizer, "1 2 " * 255, progress=False)
    assert result.values.shape == (2, 4) and bool(result.values.isfinite().all())


@pytest.mark.parametrize(
    ("arguments", "error", "key"),
    [
        ({"parts": "ears"}, ConfigError, "parts"),
        ({"target": "MAYBE"}, InputError, "target"),
        ({"position": 1}, InputError, "position"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(arguments, error, key):
    with pytest.raises(error) as caught:
        ablate(planted.finds_word(), planted.tokenizer(), "word1", **arguments)
    assert caught.value.key == key


def test_texts_of_unequal_length_are_refused():
    with pytest.raises(DataError) as caught:
        patch(planted.finds_word(), planted.tokenizer(), "word1", "word1 word2")
    assert caught.value.key == "corrupted"
    with pytest.raises(DataError):
        means(planted.finds_word(), planted.tokenizer(), [])


def test_the_guides_example_on_minibert_small():
    """As the patches by hand in CHANGING.md: the verb's state matters after layer 0 and not later."""
    model, tokenizer = (kind.from_pretrained("minibert-small") for kind in (BertForMaskedLM, BertTokenizer))
    texts = "do not waste your [MASK] on this one.", "do not judge your [MASK] on this one."
    result = patch(model, tokenizer, *texts, target="time", progress=False)
    verb, mask = 3, 5
    assert result.restored[0, verb] > 0.5 and result.restored[2, verb].abs() < 0.1
    assert result.restored[2, mask] > 0.9


def test_the_answer_with_each_edit_is_said():
    model, tokenizer = planted.finds_word(), planted.tokenizer()
    result = ablate(model, tokenizer, "word3 word7", progress=False)
    assert result.answer == "YES"
    changed = [
        (layer, number) for layer in range(planted.L) for number in range(planted.N)
        if result.answers[layer][number] != "YES"
    ]  # fmt: skip
    assert changed == [(planted.LAYER, planted.HEAD)]
    assert result.answers[planted.LAYER][planted.HEAD] == "NO" and "NO" in str(result)


@pytest.mark.parametrize("parts", ["heads", "neurons"])
def test_values_that_do_not_fit_are_refused(parts):
    model, tokenizer = planted.finds_word(), planted.tokenizer()
    for instead in (means(model, tokenizer, ["word1"], "hidden"), resampled(model, tokenizer, ["word1"], 2, parts)):
        with pytest.raises(InputError) as caught:
            ablate(model, tokenizer, "word3 word7 word5", parts=parts, instead=instead, progress=False)
        assert caught.value.key == "instead"


def test_a_model_in_float64_is_measured_in_float64():
    model = planted.finds_word().double()
    result = ablate(model, planted.tokenizer(), "word3 word7", progress=False)
    assert result.values.dtype == torch.float64 and result.changes[0].abs().max() < 1e-12


def test_many_rows_of_a_long_text_are_split():
    given = sentence(planted.tokenizer(), "word1 " * 9)
    assert given.rows * len(given.tokens) <= PIECES < (given.rows + 1) * len(given.tokens)
    assert given.repeated(3)["input_ids"].shape == (3, len(given.tokens))
