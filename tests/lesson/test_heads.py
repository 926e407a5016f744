"""The heads: what their losses count, and what they refuse. Numbers: see test_parity.py."""

from __future__ import annotations

import pytest
import torch

from minibert import BertForNextSentencePrediction, BertForPreTraining, Layout
from minibert.io.device import to_device
from minibert.io.errors import ConfigError, InputError
from tests.conftest import BOUNDS
from tests.lesson.reference import (
    BARE,
    CASES,
    MASKS,
    ROW_HEADS,
    SPAN_HEAD,
    TOKEN_HEADS,
    B,
    C,
    S,
    V,
    assert_close,
    batch,
    our_config,
    pair,
    reference_config,
)

HEAD_CASES = [case for case in CASES if case[1] != BARE]
CLASS_CASES = [case for case in HEAD_CASES if case[1] != SPAN_HEAD]
VOCABULARY_HEADS = ("BertForMaskedLM", "BertForPreTraining")
LABEL_KEYS = ("labels", "next_sentence_label", "start_positions", "end_positions")


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("family", "name"), HEAD_CASES)
def test_loss_is_the_sum_of_the_means_and_counts_are_known_beforehand(family, name, mask):
    _, ours = pair(family, name)
    inputs = batch(family, name, mask)
    counts = ours.count_labels(inputs)
    result = ours(**inputs)
    assert {term: count for term, (_, count) in result.loss_terms.items()} == counts
    means = [total / count for total, count in result.loss_terms.values() if count]
    assert (result.loss - sum(means)).abs() <= BOUNDS["fp64"]
    assert all(total.dim() == 0 for total, _ in result.loss_terms.values())


@pytest.mark.parametrize(("family", "name"), HEAD_CASES)
def test_sums_over_parts_are_the_sums_over_the_whole(family, name):
    """Why accumulation is exact: rows by themselves add up to the batch."""
    _, ours = pair(family, name)
    inputs = batch(family, name, "right")
    if name == SPAN_HEAD:
        inputs["start_positions"] = inputs["end_positions"] = torch.tensor([6, 3, 0])
    whole = ours(**inputs).loss_terms
    parts = [ours(**{key: value[row : row + 1] for key, value in inputs.items()}).loss_terms for row in range(B)]
    for term, (total, count) in whole.items():
        assert (sum(part[term][0] for part in parts) - total).abs() <= BOUNDS["fp64"]
        assert sum(part[term][1] for part in parts) == count


@pytest.mark.parametrize(("family", "name"), HEAD_CASES)
def test_a_batch_in_which_nothing_counts_gives_zero_and_no_nan(family, name):
    _, ours = pair(family, name)
    inputs = batch(family, name)
    for key in LABEL_KEYS:
        if key in inputs:
            inputs[key] = torch.full_like(inputs[key], -100)
    result = ours(**inputs)
    assert result.loss == 0 and set(ours.count_labels(inputs).values()) == {0}
    result.loss.backward()
    for parameter in ours.parameters():
        assert parameter.grad is None or not parameter.grad.any()


@pytest.mark.parametrize(("family", "name"), HEAD_CASES)
def test_without_labels_there_is_no_loss(family, name):
    _, ours = pair(family, name)
    inputs = {key: value for key, value in batch(family, name).items() if key not in LABEL_KEYS}
    result = ours(**inputs)
    assert result.loss is None and result.loss_terms == {}
    assert result.hidden_states is None and result.attentions is None


@pytest.mark.parametrize(("family", "name"), HEAD_CASES)
def test_a_layout_made_beforehand_gives_the_same_loss(family, name):
    _, ours = pair(family, name)
    inputs = batch(family, name)
    mask = inputs["attention_mask"].flatten(0, -2)
    given = {key: value for key, value in inputs.items() if key != "attention_mask"}
    assert torch.equal(ours(**given, layout=Layout.from_mask(mask)).loss, ours(**inputs).loss)


@pytest.mark.parametrize("labelled_only", [False, True])
@pytest.mark.parametrize(("family", "name"), HEAD_CASES)
def test_no_number_is_read_from_the_device(family, name, labelled_only):
    """The device "meta" computes shapes and holds no numbers, so that to read one is an error."""
    given = {"labelled_only": labelled_only} if name in ("BertForMaskedLM", "BertForPreTraining") else {}
    _, ours = pair(family, name)
    inputs, meta = batch(family, name), torch.device("meta")
    expected = ours(**inputs, **given).loss_terms
    inputs = {key: to_device(value, meta) for key, value in inputs.items()}
    found = ours.to(meta)(**inputs, **given)
    found.loss.backward()
    assert found.loss.is_meta and {key: count for key, (_, count) in found.loss_terms.items()} == {
        key: count for key, (_, count) in expected.items()
    }


def test_an_empty_row_is_found_without_reading_from_the_device():
    inputs = batch("bert", "BertForSequenceClassification")
    inputs["attention_mask"][1] = 0
    _, ours = pair("bert", "BertForSequenceClassification")
    meta = torch.device("meta")
    inputs = {key: to_device(value, meta) for key, value in inputs.items()}
    assert ours.to(meta)(**inputs).logits.shape == (B, C)


@pytest.mark.parametrize("name", [*TOKEN_HEADS, "BertForPreTraining"])
def test_token_labels_at_padding_are_refused(name):
    _, ours = pair("bert", name)
    inputs = batch("bert", name, "right")
    inputs["labels"][2, S - 1] = 1
    with pytest.raises(InputError) as caught:
        ours(**inputs)
    assert caught.value.key == "labels" and "collate" in str(caught.value)


@pytest.mark.parametrize(("family", "name"), CLASS_CASES)
def test_labels_of_another_shape_are_refused(family, name):
    _, ours = pair(family, name)
    inputs = batch(family, name)
    inputs["labels"] = inputs["labels"][:2]
    with pytest.raises(InputError) as caught:
        ours(**inputs)
    assert caught.value.key == "labels"


def _out_of_range(name: str) -> int:
    if name in ("BertForMaskedLM", "BertForPreTraining"):
        return V
    is_classifier = name in ("BertForSequenceClassification", "BertForTokenClassification")
    return C if is_classifier else 2


@pytest.mark.parametrize(("family", "name"), CLASS_CASES)
def test_labels_beyond_the_classes_are_refused(family, name):
    _, ours = pair(family, name)
    for bad in (_out_of_range(name), -1):
        inputs = batch(family, name)
        inputs["labels"].flatten()[0] = bad
        with pytest.raises(InputError) as caught:
            ours(**inputs)
        assert caught.value.key == "labels"


@pytest.mark.parametrize("name", ROW_HEADS)
def test_numbers_in_the_place_of_classes_are_refused(name):
    _, ours = pair("bert", name, problem_type="single_label_classification")
    inputs = batch("bert", name)
    inputs["labels"] = inputs["labels"].float()
    with pytest.raises(InputError) as caught:
        ours(**inputs)
    assert caught.value.key == "labels"


@pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification"])
def test_numbers_of_another_shape_are_refused(problem_type):
    _, ours = pair("bert", "BertForSequenceClassification", problem_type=problem_type)
    inputs = {**batch("bert", "BertForSequenceClassification"), "labels": torch.rand(B, C - 1)}
    with pytest.raises(InputError) as caught:
        ours(**inputs)
    assert caught.value.key == "labels"


@pytest.mark.parametrize("labels", [torch.rand(B, C), torch.ones(B, C)])
def test_several_labels_are_counted_one_by_one(labels):
    _, ours = pair("bert", "BertForSequenceClassification")
    inputs = {**batch("bert", "BertForSequenceClassification"), "labels": labels}
    assert ours.count_labels(inputs) == {"label": B * C}
    assert ours(**inputs).loss_terms["label"][1] == B * C


@pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification"])
def test_a_label_of_minus_100_does_not_count_among_numbers_either(problem_type):
    _, ours = pair("bert", "BertForSequenceClassification", problem_type=problem_type)
    inputs = {**batch("bert", "BertForSequenceClassification"), "labels": torch.rand(B, C).round()}
    inputs["labels"][0, 1] = inputs["labels"][1] = -100
    kept = inputs["labels"] != -100
    output = ours(**inputs)
    total, count = output.loss_terms["label"]
    assert count == kept.sum() == ours.count_labels(inputs)["label"]
    if problem_type == "regression":
        expected = (output.logits - inputs["labels"])[kept].square().sum()
    else:
        loss = torch.nn.BCEWithLogitsLoss(reduction="sum")
        expected = loss(output.logits[kept], inputs["labels"].to(output.logits)[kept])
    torch.testing.assert_close(total, expected.to(total), rtol=0, atol=BOUNDS["module fp32"])
    inputs["labels"][:] = -100
    assert ours(**inputs).loss == 0


def test_a_label_on_a_choice_that_is_absent_is_refused():
    _, ours = pair("bert", "BertForMultipleChoice")
    inputs = batch("bert", "BertForMultipleChoice")
    inputs["attention_mask"][1, 0] = 0
    choices = torch.ones(len(inputs["input_ids"]), dtype=torch.long)
    assert ours(**{**inputs, "labels": choices}).loss.isfinite()
    ignored, absent = choices.clone(), choices.clone()
    ignored[1], absent[1] = -100, 0
    assert ours(**{**inputs, "labels": ignored}).loss.isfinite()
    with pytest.raises(InputError) as caught:
        ours(**{**inputs, "labels": absent})
    assert caught.value.key == "labels"


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_spans_never_fall_on_padding(family):
    _, ours = pair(family, SPAN_HEAD)
    inputs = batch(family, SPAN_HEAD, "left")
    result = ours(**inputs)
    padded = inputs["attention_mask"] == 0
    for logits in (result.start_logits, result.end_logits):
        assert (logits[padded] == -torch.inf).all() and logits[~padded].isfinite().all()
    for bad in (0, -1):  # column 0 of row 2 is padding
        inputs["start_positions"][2] = bad
        with pytest.raises(InputError) as caught:
            ours(**inputs)
        assert caught.value.key == "start_positions"


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_the_loss_of_a_span_does_not_depend_on_its_neighbours(family):
    _, ours = pair(family, SPAN_HEAD)
    inputs = batch(family, SPAN_HEAD, "right")
    inputs["start_positions"] = inputs["end_positions"] = torch.tensor([-100, 2, -100])
    with_neighbours = ours(**inputs).loss
    short = {key: value[1:2, :4] if value.dim() == 2 else value[1:2] for key, value in inputs.items()}
    alone = ours(**short).loss
    assert (alone - with_neighbours).abs() <= BOUNDS["fp64"]


@pytest.mark.parametrize(("family", "name"), HEAD_CASES)
def test_padding_is_zero_in_token_heads_and_empty_rows_are_zero_in_row_heads(family, name):
    _, ours = pair(family, name)
    inputs = {key: value for key, value in batch(family, name).items() if key not in LABEL_KEYS}
    inputs["attention_mask"][1] = 0
    result = ours(**inputs)
    padded = inputs["attention_mask"] == 0
    if name in TOKEN_HEADS:
        assert not result.logits[padded].any() and result.logits[0].all()
    elif name == "BertForPreTraining":
        assert not result.prediction_logits[padded].any()
        assert not result.seq_relationship_logits[1].any()
    elif name in ROW_HEADS:
        assert not result.logits[1].any() and result.logits[[0, 2]].all()


@pytest.mark.parametrize("name", ["BertForNextSentencePrediction", "BertForSequenceClassification"])
def test_row_heads_read_the_first_real_token_of_a_row_padded_on_the_left(name):
    _, ours = pair("bert", name)
    ids = torch.randint(1, V, (B, 4))
    padding = torch.zeros(B, 3, dtype=torch.long)
    real = torch.ones_like(ids)
    plain = ours(ids, attention_mask=real)
    left = ours(
        torch.cat([padding, ids], 1),
        attention_mask=torch.cat([padding, real], 1),
        position_ids=torch.cat([padding, torch.arange(4).expand(B, 4)], 1),
    )
    assert (left.logits - plain.logits).abs().max() <= BOUNDS["fp64"]


def test_pre_training_takes_either_label_alone():
    _, ours = pair("bert", "BertForPreTraining")
    inputs = batch("bert", "BertForPreTraining")
    both = ours(**inputs)
    total = 0.0
    for key, term in (("labels", "masked_lm"), ("next_sentence_label", "next_sentence")):
        one = {name: value for name, value in inputs.items() if name not in LABEL_KEYS}
        one[key] = inputs[key]
        result = ours(**one)
        assert set(result.loss_terms) == set(ours.count_labels(one)) == {term}
        total = total + result.loss
    assert (total - both.loss).abs() <= BOUNDS["fp64"]


def test_a_tied_decoder_is_the_word_table_and_learns_with_it():
    _, tied = pair("bert", "BertForMaskedLM")
    assert tied.head.decoder is None
    inputs = batch("bert", "BertForMaskedLM")
    tied(**inputs).loss.backward()
    unseen = sorted(set(range(V)) - set(inputs["input_ids"].flatten().tolist()))
    assert tied.bert.embeddings.word.weight.grad[unseen].abs().sum(dim=1).all()
    _, untied = pair("bert", "BertForMaskedLM", tie_word_embeddings=False)
    untied(**inputs).loss.backward()
    assert not untied.bert.embeddings.word.weight.grad[unseen].any()
    assert untied.head.decoder.weight.grad[unseen].any()


@pytest.mark.parametrize("model_class", [BertForNextSentencePrediction, BertForPreTraining])
def test_distilbert_has_no_next_sentence_head(model_class):
    config = our_config(reference_config("distilbert", "BertForMaskedLM").to_dict())
    with pytest.raises(ConfigError) as caught:
        model_class(config)
    assert caught.value.key == "model_type"


def test_multiple_choice_needs_three_axes():
    _, ours = pair("bert", "BertForMultipleChoice")
    with pytest.raises(InputError) as caught:
        ours(torch.ones(B, S, dtype=torch.long))
    assert caught.value.key == "input_ids"


@pytest.mark.parametrize(("family", "name"), HEAD_CASES)
def test_half_precision_losses_are_computed_in_float32(family, name):
    _, ours = pair(family, name, torch.bfloat16)
    result = ours(**batch(family, name))
    assert result.loss.dtype == torch.float32 and result.loss.isfinite()


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("family", "name"), [case for case in CASES if case[1] in VOCABULARY_HEADS])
def test_the_head_at_labelled_positions_alone_gives_the_same_loss_and_gradients(family, name, mask):
    inputs = batch(family, name, mask)
    found = []
    for labelled_only in (False, True):
        _, ours = pair(family, name)
        result = ours(**inputs, labelled_only=labelled_only)
        result.loss.backward()
        gradients = {key: part.grad for key, part in ours.named_parameters()}
        found.append((result, {**gradients, "loss": result.loss.detach()}))
    (whole, expected), (part, gradients) = found
    assert_close(expected, gradients, BOUNDS["fp64"])
    key = "logits" if name == "BertForMaskedLM" else "prediction_logits"
    # In packed order: the shortest row first.
    order = inputs["attention_mask"].sum(dim=1).argsort(stable=True)
    labelled = inputs["labels"][order] != -100
    assert (getattr(part, key) - getattr(whole, key)[order][labelled]).abs().max() <= BOUNDS["fp64"]


def test_labelled_only_without_labels_or_with_none_that_count():
    _, ours = pair("bert", "BertForMaskedLM")
    inputs = batch("bert", "BertForMaskedLM")
    labels = inputs.pop("labels")
    with pytest.raises(InputError) as caught:
        ours(**inputs, labelled_only=True)
    assert caught.value.key == "labels"
    result = ours(**inputs, labels=torch.full_like(labels, -100), labelled_only=True)
    assert result.loss == 0.0 and result.logits.shape == (0, V)
    result.loss.backward()
