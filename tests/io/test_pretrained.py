"""Loading and saving: both directions with transformers, fresh heads, what does not fit."""

from __future__ import annotations

import contextlib
import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import minibert
from minibert import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    checkpoint,
    names,
)
from minibert.checkpoint import class_name
from minibert.io.errors import CheckpointError, ConfigError, MinibertError
from minibert.io.files import read_json, sha256, write_json
from minibert.io.shards import SINGLE
from minibert.io.source import open_source
from tests.conftest import BOUNDS, refused
from tests.io.conftest import CASES, batch_of, outputs_of, random_model, reference_class, reference_of

BOUND = BOUNDS["module fp32"]


def assert_same_outputs(ours, theirs, batch, bound=BOUND):
    found, expected = outputs_of(ours, batch), outputs_of(theirs, batch)
    assert found.keys() == expected.keys() and found
    for key in found:
        torch.testing.assert_close(found[key], expected[key], rtol=bound, atol=bound, msg=key)


# Both directions


@pytest.mark.parametrize(("family", "name"), CASES)
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_opens_what_is_saved(family, name, tied, tmp_path):
    ours = random_model(family, name, tie_word_embeddings=tied)
    ours.save_pretrained(tmp_path)
    theirs, report = reference_class(ours).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    assert_same_outputs(ours, theirs.eval(), batch_of(ours))


@pytest.mark.parametrize(("family", "name"), CASES)
@pytest.mark.parametrize("tied", [True, False])
def test_what_transformers_saves_is_opened(family, name, tied, tmp_path):
    theirs = reference_of(random_model(family, name, tie_word_embeddings=tied))
    theirs.save_pretrained(tmp_path)
    ours = getattr(minibert, name).from_pretrained(tmp_path)
    assert not ours.training and not ours.untrained()
    assert not ours.load_report.of("fresh")
    assert_same_outputs(ours, theirs, batch_of(ours))


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_state_dict_of_transformers_loads(family, name):
    ours = random_model(family, name)
    theirs = reference_of(ours)
    checkpoint.load_state_dict(ours, theirs.state_dict())
    assert_same_outputs(ours, theirs, batch_of(ours))


@pytest.mark.parametrize(("family", "name"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_save_and_load_are_exact(family, name, dtype, tmp_path):
    model = random_model(family, name).to(dtype)
    model.save_pretrained(tmp_path)
    assert read_json(tmp_path / "config.json")["dtype"] == str(dtype).removeprefix("torch.")
    again = type(model).from_pretrained(tmp_path, dtype=dtype)
    for (key, old), (same_key, new) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert key == same_key and new.dtype == dtype and torch.equal(old, new), key


def test_half_precision_is_read_as_float32_unless_told_otherwise(saved, tmp_path):
    BertForSequenceClassification.from_pretrained(saved, dtype=torch.bfloat16).save_pretrained(tmp_path)
    model = BertForSequenceClassification.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_config_is_what_transformers_expects(tmp_path):
    model = random_model("distilbert", "BertForSequenceClassification")
    extra = {"auto_map": {"AutoModel": "evil.Model"}, "my_note": 1, "_name_or_path": "/home/me"}
    model.config = model.config.replace(extra=extra)
    model.save_pretrained(tmp_path)
    values = read_json(tmp_path / "config.json")
    assert values["architectures"] == ["DistilBertForSequenceClassification"]
    assert values["id2label"] == {"0": "cold", "1": "mild", "2": "hot"}
    assert (values["dim"], values["n_heads"], values["hidden_dim"]) == (32, 4, 37)
    assert "hidden_size" not in values and "type_vocab_size" not in values
    assert values["my_note"] == 1
    assert "auto_map" not in values and "_name_or_path" not in values


def test_the_dtype_of_the_file_before_is_not_written_beside_the_new_one(saved, tmp_path):
    values = read_json(saved / "config.json")
    del values["dtype"]
    write_json(saved / "config.json", {**values, "torch_dtype": "float16"})  # its name until transformers 4.56
    BertForSequenceClassification.from_pretrained(saved).save_pretrained(tmp_path / "new")
    written = read_json(tmp_path / "new" / "config.json")
    assert written["dtype"] == "float32" and "torch_dtype" not in written


def test_a_tied_decoder_is_stored_once(tmp_path):
    random_model("bert", "BertForMaskedLM").save_pretrained(tmp_path)
    assert not [key for key in load_file(tmp_path / SINGLE) if "decoder" in key]


def test_training_the_loaded_model_leaves_the_file_alone(saved):
    before = sha256(saved / SINGLE)
    model = BertForSequenceClassification.from_pretrained(saved)
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.requires_grad
            parameter.add_(1.0)
    assert sha256(saved / SINGLE) == before


def test_the_model_does_not_depend_on_the_file_once_loaded(saved):
    model = BertForSequenceClassification.from_pretrained(saved)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with open(saved / SINGLE, "r+b") as file:  # the same file, not a new one of its name
        file.write(bytes((saved / SINGLE).stat().st_size))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


# Official files


def test_official_minilm_opens_as_in_transformers(minilm):
    import transformers

    ours = BertModel.from_pretrained(minilm)
    theirs = transformers.BertModel.from_pretrained(minilm).eval()
    ids = torch.tensor([[101, 7592, 2088, 102], [101, 2023, 2003, 102]])  # (B, S)
    assert_same_outputs(ours, theirs, {"input_ids": ids}, BOUNDS["official model fp32"])
    report = ours.load_report
    assert len(report.of("loaded")) == 103
    assert [entry.official for entry in report.of("left out")] == ["embeddings.position_ids"]
    assert sum(entry.parameters for entry in report.of("loaded")) == 22_713_216


def test_old_norm_names_and_a_decoder_that_is_not_stored(old_names):
    import transformers

    ours = BertForMaskedLM.from_pretrained(old_names)
    theirs = transformers.BertForMaskedLM.from_pretrained(old_names).eval()
    ids = torch.tensor([[101, 7592, 103, 102]])  # (B, S)
    assert_same_outputs(ours, theirs, {"input_ids": ids}, BOUNDS["official model fp32"])
    assert any(entry.official.endswith("LayerNorm.gamma") for entry in ours.load_report.entries)
    assert not ours.load_report.of("fresh")


def test_a_bare_model_without_a_stored_pooler_has_none(old_names):
    model = BertModel.from_pretrained(old_names)
    assert model.pooler is None
    assert "masked-LM head" in str(model.load_report)


def test_a_bare_file_opens_in_a_class_with_a_head_and_back(tmp_path):
    bare = random_model("bert", "BertModel")
    bare.save_pretrained(tmp_path)
    model = BertForSequenceClassification.from_pretrained(tmp_path, labels=["a", "b"])
    assert torch.equal(model.bert.embeddings.word.weight, bare.embeddings.word.weight)
    assert torch.equal(model.bert.pooler.dense.weight, bare.pooler.dense.weight)
    model.save_pretrained(tmp_path, allow_untrained=True)
    again = BertModel.from_pretrained(tmp_path)
    assert torch.equal(again.pooler.dense.weight, bare.pooler.dense.weight)
    assert [entry.official for entry in again.load_report.of("left out")] == ["classifier.bias", "classifier.weight"]


# Stored copies


def change(folder, function) -> None:
    """Rewrites the tensors of a saved model."""
    tensors = load_file(folder / SINGLE)
    function(tensors)
    save_file(tensors, folder / SINGLE, {"format": "pt"})


@pytest.mark.parametrize(
    ("family", "copy_of_table", "table"),
    [
        ("bert", "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("distilbert", "vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight"),
    ],
)
def test_a_stored_decoder_must_be_the_word_table(family, copy_of_table, table, tmp_path):
    random_model(family, "BertForMaskedLM").save_pretrained(tmp_path)
    change(tmp_path, lambda tensors: tensors.update({copy_of_table: tensors[table].clone()}))
    model = BertForMaskedLM.from_pretrained(tmp_path)
    assert [entry.official for entry in model.load_report.of("tied")] == [copy_of_table]
    change(tmp_path, lambda tensors: tensors[copy_of_table][98, 31].add_(1))
    with pytest.raises(CheckpointError, match="tie_word_embeddings") as caught:
        BertForMaskedLM.from_pretrained(tmp_path)
    assert caught.value.key == copy_of_table


@pytest.mark.parametrize("decoder", [torch.zeros(98, 32), torch.zeros(99, 32, dtype=torch.int8)])
def test_a_stored_decoder_unlike_the_word_table_is_found_in_the_header(decoder, tmp_path):
    random_model("bert", "BertForMaskedLM").save_pretrained(tmp_path)
    key = "cls.predictions.decoder.weight"
    change(tmp_path, lambda tensors: tensors.update({key: decoder}))
    with pytest.raises(CheckpointError) as caught:
        BertForMaskedLM.from_pretrained(tmp_path)
    assert caught.value.key == key and caught.value.path == tmp_path / SINGLE


def test_a_bias_under_the_decoders_name_stands_in(tmp_path):
    model = random_model("bert", "BertForMaskedLM")
    model.save_pretrained(tmp_path)
    old, new = "cls.predictions.bias", "cls.predictions.decoder.bias"
    change(tmp_path, lambda tensors: tensors.update({new: tensors.pop(old)}))
    assert torch.equal(BertForMaskedLM.from_pretrained(tmp_path).head.bias, model.head.bias)


# Fresh heads


def test_no_head_is_made_up_in_silence(minilm):
    with refused(CheckpointError, "classifier.weight") as caught:
        BertForSequenceClassification.from_pretrained(minilm)
    assert "missing: classifier.weight (2, 384), classifier.bias (2,)" in str(caught.value)


@pytest.mark.parametrize("asked", [{"labels": ["a", "b", "c"]}, {"num_labels": 3}, {"num_labels": 3, "labels": "abc"}])
def test_a_head_that_was_asked_for_is_drawn(asked, minilm):
    model = BertForTokenClassification.from_pretrained(minilm, **asked)
    weight = model.head.classifier.weight
    assert weight.shape == (3, 384) and not model.head.classifier.bias.any()
    assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.untrained() == ("head.classifier.weight", "head.classifier.bias")
    assert model.config.num_labels == 3 and not model.training
    again = BertForTokenClassification.from_pretrained(minilm, **asked)
    assert torch.equal(weight, again.head.classifier.weight)
    other = torch.Generator().manual_seed(1)
    again = BertForTokenClassification.from_pretrained(minilm, generator=other, **asked)
    assert not torch.equal(weight, again.head.classifier.weight)
    text = str(model.load_report)
    assert "fresh: classifier.* (2 tensors, 1,155 values)" in text and "pooler" in text


def test_a_head_is_trained_whose_bias_rightly_stayed_as_it_was(minilm, tmp_path):
    """That of a score for each choice cancels in the softmax: its gradient is exactly zero."""
    model = BertForMultipleChoice.from_pretrained(minilm, fresh_head=True)
    weight = "head.classifier.weight"
    assert model.untrained() == (weight, "head.classifier.bias")
    with torch.no_grad():
        model.get_parameter(weight).mul_(1.5)
    assert model.untrained() == ()
    model.save_pretrained(tmp_path)


def test_a_stored_head_is_kept_for_the_same_labels(saved):
    stored = BertForSequenceClassification.from_pretrained(saved)
    for asked in ({"labels": ["cold", "mild", "hot"]}, {"num_labels": 3}, {"fresh_head": True}):
        model = BertForSequenceClassification.from_pretrained(saved, **asked)
        assert torch.equal(model.head.classifier.weight, stored.head.classifier.weight)
        assert model.config.id2label == {0: "cold", 1: "mild", 2: "hot"}
        assert not model.untrained()


@pytest.mark.parametrize(
    ("labels", "reason"),
    [(["a", "b"], "3 classes, and 2 were asked for"), (["hot", "mild", "cold"], "cold, mild, hot")],
)
def test_a_stored_head_of_other_labels_is_replaced_and_said(labels, reason, saved):
    model = BertForSequenceClassification.from_pretrained(saved, labels=labels)
    assert model.untrained() == ("head.classifier.weight", "head.classifier.bias")
    assert list(model.config.id2label.values()) == labels
    text = str(model.load_report)
    assert reason in text and "left out: classifier.*" in text


def test_placeholder_labels_are_given_names(saved):
    values = read_json(saved / "config.json")
    values["id2label"] = {str(i): f"LABEL_{i}" for i in range(3)}
    values.pop("label2id")
    write_json(saved / "config.json", values)
    model = BertForSequenceClassification.from_pretrained(saved, labels=["x", "y", "z"])
    assert not model.untrained() and model.config.id2label[2] == "z"


def test_the_pooler_comes_fresh_with_the_head_that_needs_it(old_names):
    model = BertForSequenceClassification.from_pretrained(old_names, labels=["a", "b"])
    assert "bert.pooler.dense.weight" in model.untrained()
    kept = BertForPreTraining.from_pretrained(old_names, fresh_head=True)
    assert "next_sentence.classifier.weight" in kept.untrained()
    assert not [name for name in kept.untrained() if name.startswith("masked_lm")]


def test_a_stored_head_without_its_pooler_is_refused(saved):
    change(saved, lambda tensors: tensors.pop("bert.pooler.dense.bias"))
    with refused(CheckpointError, "bert.pooler.dense.bias"):
        BertForSequenceClassification.from_pretrained(saved, labels=["cold", "mild", "hot"])


def test_a_head_of_another_task_is_not_taken_for_ones_own(saved):
    with refused(CheckpointError, "classifier.weight"):
        BertForTokenClassification.from_pretrained(saved)
    model = BertForTokenClassification.from_pretrained(saved, num_labels=3)
    assert len(model.untrained()) == 2
    assert "the head of BertForSequenceClassification" in str(model.load_report)


@pytest.mark.parametrize(("problem_type", "count"), [("regression", 1), ("multi_label_classification", 4)])
def test_problem_types(problem_type, count, saved, tmp_path):
    model = BertForSequenceClassification.from_pretrained(saved, num_labels=count, problem_type=problem_type)
    model.save_pretrained(tmp_path, allow_untrained=True)
    again = BertForSequenceClassification.from_pretrained(tmp_path)
    assert again.config.problem_type == problem_type and again.config.num_labels == count


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("BertForSequenceClassification", {"labels": []}),
        ("BertForSequenceClassification", {"num_labels": 0}),
        ("BertForSequenceClassification", {"labels": ["a", "a"]}),
        ("BertForSequenceClassification", {"labels": ["a", "b"], "num_labels": 3}),
        ("BertForSequenceClassification", {"problem_type": "guessing"}),
        ("BertForMaskedLM", {"labels": ["a", "b"]}),
    ],
)
def test_labels_that_make_no_sense(name, asked, saved):
    with pytest.raises(ConfigError):
        getattr(minibert, name).from_pretrained(saved, **asked)


# Untrained heads


@pytest.mark.parametrize("optimizer", ["foreach", "fused", "single"])
@pytest.mark.parametrize("path", ["plain", "half", "deepcopy"])
def test_one_optimizer_step_trains_a_head(optimizer, path, saved, tmp_path):
    model = BertForSequenceClassification.from_pretrained(saved, labels=["a", "b"])
    if path == "half":
        model = model.to(torch.bfloat16)
    if path == "deepcopy":
        model = copy.deepcopy(model)
    assert len(model.untrained()) == 2
    switches = {"foreach": {"foreach": True}, "fused": {"fused": True}, "single": {}}
    step = torch.optim.AdamW(model.parameters(), lr=1e-3, **switches[optimizer])
    model.train()(**batch_of(model), labels=torch.tensor([0, 1, 1])).loss.backward()
    with refused(CheckpointError, "head.classifier.weight"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    step.step()
    assert model.untrained() == ()
    assert copy.deepcopy(model).untrained() == ()
    model.save_pretrained(tmp_path / "model")
    assert BertForSequenceClassification.from_pretrained(tmp_path / "model").untrained() == ()


def test_loading_a_state_trains_a_head(saved):
    model = BertForSequenceClassification.from_pretrained(saved, labels=["a", "b"])
    other = random_model("bert", "BertForSequenceClassification", id2label={0: "a", 1: "b"})
    model.load_state_dict(other.state_dict())
    assert model.untrained() == ()


def test_a_model_from_a_config_can_be_saved(tmp_path):
    random_model("bert", "BertForSequenceClassification").save_pretrained(tmp_path)


# What does not fit


def test_one_error_lists_everything(saved):
    def spoil(tensors):
        tensors.pop("bert.embeddings.LayerNorm.weight")
        tensors.pop("bert.encoder.layer.1.output.dense.bias")
        tensors["bert.encoder.layer.0.adapter.weight"] = torch.zeros(2, 3)
        tensors["classifier.weight"] = torch.zeros(5, 32)
        tensors["bert.pooler.dense.bias"] = torch.zeros(32, dtype=torch.int32)
        tensors["embeddings.word_embeddings.weight"] = torch.zeros(99, 32)

    change(saved, spoil)
    with pytest.raises(CheckpointError) as caught:
        BertForSequenceClassification.from_pretrained(saved)
    text = str(caught.value)
    for part in (
        "2 tensors missing: bert.embeddings.LayerNorm.weight (32,), bert.encoder.layer.1.output.dense.bias (32,)",
        "1 tensor unexpected: bert.encoder.layer.0.adapter.weight (2, 3)",
        "classifier.weight is (5, 32) in the file and (3, 32) in the model",
        "bert.pooler.dense.bias (I32)",
        "bert.embeddings.word_embeddings.weight and embeddings.word_embeddings.weight",
        str(saved),
    ):
        assert part in text, part
    assert "\n" not in text


def test_another_heads_tensors_are_left_out_but_not_the_own_heads_strangers(saved):
    change(saved, lambda tensors: tensors.update({"qa_outputs.weight": torch.zeros(2, 32)}))
    report = BertForSequenceClassification.from_pretrained(saved).load_report
    assert [entry.official for entry in report.of("left out")] == ["qa_outputs.weight"]
    change(saved, lambda tensors: tensors.update({"classifier.scale": torch.zeros(2)}))
    with refused(CheckpointError, "classifier.scale"):
        BertForSequenceClassification.from_pretrained(saved)


def test_finite_values_whose_sum_overflows_are_finite(saved):
    change(saved, lambda tensors: tensors["classifier.weight"].fill_(3e38))
    model = BertForSequenceClassification.from_pretrained(saved)
    assert (model.head.classifier.weight == torch.tensor(3e38)).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "key", ["classifier.bias", "bert.embeddings.word_embeddings.weight", "bert.pooler.dense.weight"]
)
def test_values_that_are_no_numbers_are_refused_by_name(value, key, saved):
    change(saved, lambda tensors: tensors[key].view(-1)[-1:].fill_(value))
    with pytest.raises(CheckpointError, match=key):
        BertForSequenceClassification.from_pretrained(saved)


def test_values_that_are_no_numbers_are_a_warning_where_that_is_asked_for(saved):
    change(saved, lambda tensors: tensors["classifier.bias"].fill_(float("nan")))
    with pytest.warns(UserWarning, match="NaN, infinite .* in: classifier.bias"):
        model = BertForSequenceClassification.from_pretrained(saved, allow_nonfinite=True)
    assert model.head.classifier.bias.isnan().all()


def test_values_too_large_for_the_dtype_are_refused(saved):
    change(saved, lambda tensors: tensors["classifier.bias"].fill_(1e6))
    with refused(CheckpointError, "classifier.bias"):
        BertForSequenceClassification.from_pretrained(saved, dtype=torch.float16)


def test_a_failed_load_leaves_the_model_as_it_was():
    model = random_model("bert", "BertForMaskedLM")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    good = random_model("bert", "BertForMaskedLM", seed=5).official_state_dict()
    for spoil in (
        lambda state: state.pop("cls.predictions.bias"),
        lambda state: state.update({"cls.predictions.bias": torch.full((99,), torch.nan)}),
        lambda state: state.update({"bert.pooler.odd": torch.zeros(1), "odd": torch.zeros(1)}),
    ):
        state = dict(good)
        spoil(state)
        with pytest.raises(CheckpointError):
            checkpoint.load_state_dict(model, state)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("layers", [1, 3, 1000])
def test_a_config_with_another_number_of_layers_is_named(layers, saved):
    values = read_json(saved / "config.json")
    write_json(saved / "config.json", {**values, "num_hidden_layers": layers})
    with refused(CheckpointError, "num_hidden_layers"):
        BertForSequenceClassification.from_pretrained(saved)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_errors_name_the_files_own_keys_and_a_default_is_called_one(family, tmp_path):
    model = random_model(family, "BertForMaskedLM", num_hidden_layers=1)
    model.save_pretrained(tmp_path)
    path, values = tmp_path / "config.json", read_json(tmp_path / "config.json")
    layers, width = ("num_hidden_layers", "hidden_size") if family == "bert" else ("n_layers", "dim")
    for stated in ({layers: 3}, {}):
        write_json(path, {key: value for key, value in values.items() if key != layers} | stated)
        with refused(CheckpointError, layers) as caught:  # with the file of weights and what is in it
            BertForMaskedLM.from_pretrained(tmp_path)
        assert str(tmp_path / SINGLE) in str(caught.value) and "layer.0.attention" in str(caught.value)
        assert ("default" in str(caught.value)) is not bool(stated)
    write_json(path, {**values, width: 31})
    with refused(ConfigError, "num_attention_heads" if family == "bert" else "n_heads") as caught:
        BertForMaskedLM.from_pretrained(tmp_path)
    assert f"{width} 31" in str(caught.value)
    del values["vocab_size"]
    write_json(path, values)
    write_json(path, {**values, width: 32})
    with pytest.raises(CheckpointError) as caught:
        BertForMaskedLM.from_pretrained(tmp_path)
    assert "does not state vocab_size" in caught.value.hint


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_config_without_model_type_opens_where_the_family_is_proven(family, tmp_path):
    model = random_model(family, "BertForSequenceClassification")
    model.save_pretrained(tmp_path)
    values = read_json(tmp_path / "config.json")
    del values["model_type"]
    for left_out in ((), ("architectures",), ("architectures", "dim", "n_layers", "n_heads", "hidden_dim")):
        write_json(tmp_path / "config.json", {k: value for k, value in values.items() if k not in left_out})
        with pytest.warns(UserWarning, match=f"no model_type.*{family}"), contextlib.suppress(CheckpointError):
            assert BertForSequenceClassification.from_pretrained(tmp_path).config.replace(extra={}) == model.config


def test_a_config_that_nothing_proves_to_be_a_berts_is_refused(tmp_path):
    random_model("bert", "BertModel").save_pretrained(tmp_path)  # RoBERTa's and ELECTRA's tensors have these names
    values = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", {**values, "model_type": None, "architectures": None})
    with refused(CheckpointError, "model_type") as caught:
        BertModel.from_pretrained(tmp_path)
    assert '"bert"' in caught.value.hint


@pytest.mark.parametrize("strange", [{"num_labels": 0}, {"id2label": {"0": "a", "1": "a"}}, {"label2id": ["a"]}])
def test_a_model_without_labels_does_not_look_at_them(strange, saved):
    write_json(saved / "config.json", {**read_json(saved / "config.json"), **strange, "problem_type": "ranking"})
    BertModel.from_pretrained(saved)
    BertForMaskedLM.from_pretrained(saved, fresh_head=True)
    with pytest.raises(ConfigError):
        BertForSequenceClassification.from_pretrained(saved)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_strangers_head_is_left_out_where_it_is_not_needed(family, tmp_path):
    model = random_model(family, "BertForMaskedLM")
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / SINGLE)
    head = {"linear.weight": torch.ones(3, 32), "loss_fct.weight": torch.ones(3), "head.layers.7.bias": torch.ones(1)}
    prefix = names.PREFIX[family]
    for stored in (tensors, {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}):
        save_file(stored | head, tmp_path / SINGLE)
        bare = BertModel.from_pretrained(tmp_path)
        assert head.keys() <= {entry.official for entry in bare.load_report.of("left out")}
        [line] = [line for line in str(bare.load_report).splitlines() if "linear" in line]
        assert "head" in line and "loss_fct" in line
        fresh = BertForSequenceClassification.from_pretrained(tmp_path, num_labels=3)  # the head to be trained is new
        assert torch.equal(fresh.bert.embeddings.word.weight, bare.embeddings.word.weight)
        with refused(
            CheckpointError, "head.layers.7.bias"
        ):  # a model whose own head is there may compute something else
            BertForMaskedLM.from_pretrained(tmp_path)
        inside = f"{prefix}encoder.odd.weight" if stored is tensors else "encoder.odd.weight"
        save_file(stored | {inside: torch.ones(1)}, tmp_path / SINGLE)
        with refused(CheckpointError, inside):
            BertModel.from_pretrained(tmp_path)
    renamed = {f"model.{name}": tensor for name, tensor in tensors.items()}
    save_file(renamed, tmp_path / SINGLE)
    with pytest.raises(CheckpointError, match="model.*LayerNorm"):
        BertModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "not a JSON object"),
        ('{"vocab_size": 99, "vocab_size": 98}', "vocab_size.*twice"),
        ("{", "not valid JSON"),
        ('{"model_type": "roberta"}', "model_type"),
        ('{"model_type": ["bert"]}', "model_type"),
        ('{"hidden_size": 1e400}', "hidden_size"),
        ('{"num_hidden_layers": 10000000}', "num_hidden_layers = 10000000.*1000"),
    ],
)
def test_a_config_that_is_none(text, message, saved):
    (saved / "config.json").write_text(text)
    with pytest.raises((CheckpointError, ConfigError), match=message) as caught:
        BertForSequenceClassification.from_pretrained(saved)
    assert caught.value.path == saved / "config.json"
    assert str(saved / "config.json") in str(caught.value)


@pytest.mark.parametrize("key", [*BertConfig.__dataclass_fields__, "label2id", "num_labels"])
def test_a_config_with_a_value_of_any_type_loads_or_is_refused_by_name(key, saved):
    values = read_json(saved / "config.json")
    for value in (None, True, "x", -1, 1.5, [], [["a"]], ["a", "b", "c"], {}, {"a": {}}, {"0": []}):
        write_json(saved / "config.json", {**values, key: value})
        try:
            BertForSequenceClassification.from_pretrained(saved)
        except MinibertError as error:
            assert str(saved) in str(error), value


# The class that a config names


@pytest.mark.parametrize(("family", "name"), CASES)
def test_the_class_is_the_one_that_the_config_names(family, name, tmp_path):
    random_model(family, name).save_pretrained(tmp_path)
    assert class_name(open_source(tmp_path)) == name


@pytest.mark.parametrize("values", [{}, {"architectures": None}, {"architectures": []}])
def test_a_config_that_names_no_class_is_that_of_a_bare_model(values, tmp_path):
    write_json(tmp_path / "config.json", values)
    assert class_name(open_source(tmp_path)) == "BertModel"


@pytest.mark.parametrize("stated", [["RobertaModel"], "BertForMaskedLM", 7, True, {"a": 1}, [["a"]], [{}], [None], [7]])
def test_a_class_that_is_not_known_is_named_with_those_that_are(stated, tmp_path):
    write_json(tmp_path / "config.json", {"architectures": stated})
    with pytest.raises(CheckpointError) as caught:
        class_name(open_source(tmp_path))
    assert repr(stated) in str(caught.value) and "DistilBertForMaskedLM" in str(caught.value)
    assert caught.value.path == tmp_path / "config.json" and caught.value.key == "architectures"


@pytest.mark.parametrize("text", ["[]", "3", "null", '"BertModel"'])
def test_a_config_that_is_no_object_names_no_class(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="config.json is not a JSON object"):
        class_name(open_source(tmp_path))


def test_a_missing_config_is_named(saved):
    (saved / "config.json").unlink()
    with pytest.raises(CheckpointError, match="config.json"):
        BertForSequenceClassification.from_pretrained(saved)


@pytest.mark.parametrize("name", sorted(set(names.HEADS["bert"]) - set(names.HEADS["distilbert"])))
def test_distilbert_has_no_next_sentence(name, tmp_path):
    random_model("distilbert", "BertForMaskedLM").save_pretrained(tmp_path)
    with refused(CheckpointError, "model_type"):
        getattr(minibert, name).from_pretrained(tmp_path)


def test_loading_writes_nothing(saved):
    before = {path: path.stat().st_mtime_ns for path in saved.rglob("*")}
    BertForQuestionAnswering.from_pretrained(saved, fresh_head=True)
    assert {path: path.stat().st_mtime_ns for path in saved.rglob("*")} == before


def test_code_named_in_a_config_is_only_data(saved, tmp_path):
    canary = tmp_path / "canary"
    (saved / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    values = json.loads((saved / "config.json").read_text())
    values |= {"auto_map": {"AutoModel": "evil.Model"}, "trust_remote_code": True}
    values["_attn_implementation_internal"] = "someone/evil-kernels"
    write_json(saved / "config.json", values)
    BertForSequenceClassification.from_pretrained(saved)
    assert not canary.exists()
