"""The ledger: every tensor accounted for, and the sizes that are known of the official models."""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open

from minibert import BertConfig
from minibert.io.errors import CheckpointError
from minibert.io.files import read_json, write_json
from minibert.io.shards import SINGLE
from minibert.study import ledger as module
from minibert.study.ledger import ledger, parameters_of
from tests.io.conftest import CASES, random_model

DISTILBERT = BertConfig(model_type="distilbert", type_vocab_size=0, num_hidden_layers=6)


@pytest.mark.parametrize(
    ("config", "tensors", "parameters"),
    [
        (BertConfig(), 199, 109_482_240),  # bert-base-uncased
        (BertConfig(vocab_size=28996), 199, 108_310_272),  # bert-base-cased
        (BertConfig(vocab_size=21128), 199, 102_267_648),  # bert-base-chinese
        (BertConfig(vocab_size=119547), 199, 177_853_440),  # multilingual, cased
        (DISTILBERT, 100, 66_362_880),  # distilbert-base-uncased
    ],
)
def test_official_models_have_the_sizes_that_are_known_of_them(config, tensors, parameters):
    parts = parameters_of(config)
    assert sum(part.tensors for part in parts) == tensors
    assert sum(part.parameters for part in parts) == parameters


@pytest.mark.parametrize(
    ("name", "parameters"), [("bert-base-uncased", 109_482_240), ("bert-base-chinese", 102_267_648)]
)
def test_official_configs_have_the_sizes_that_are_known_of_them(name, parameters, data):
    folder = data / "bert_vocabs" / name
    config = BertConfig.from_official(read_json(folder / "config.json"))
    assert sum(part.parameters for part in parameters_of(config)) == parameters
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").strip("\n").split("\n")
    assert len(lines) == config.vocab_size


def test_the_parts_of_bert_base():
    parts = {part.name: part.parameters for part in parameters_of(BertConfig())}
    size, inner = 768, 3072
    layer = 4 * (size * size + size) + 2 * size * inner + inner + size + 4 * size
    assert parts == {
        "embeddings.word": 30522 * size,
        "embeddings.position": 512 * size,
        "embeddings.segment": 2 * size,
        "embeddings.norm": 2 * size,
        **{f"encoder.layers.{number}": layer for number in range(12)},
        "pooler": size * size + size,
    }


def test_every_tensor_of_the_official_file_is_in_it_once(minilm):
    found = ledger(minilm)
    with safe_open(minilm / SINGLE, framework="pt") as file:
        assert sorted(file.keys()) == sorted(entry.official for entry in found.entries)
    assert (found.model, found.parameters) == ("BertModel", 22_713_216)
    assert sum(part.parameters for part in found.parts) == found.parameters
    text = str(found)
    for row in (
        "embeddings.word_embeddings.weight",
        "encoder.layers.5.feed_forward_norm.bias",
        "30522 x 384",
        "embeddings.position_ids left out:",
        "22,713,216",
    ):
        assert row in text, row


def test_old_names_stand_as_they_are_in_the_file(old_names):
    found = ledger(old_names)
    assert found.model == "BertForMaskedLM"
    names = {entry.official: entry.name for entry in found.entries}
    assert names["bert.embeddings.LayerNorm.gamma"] == "bert.embeddings.norm.weight"
    assert {part.name for part in found.parts} >= {"head", "encoder.layers.1"}
    assert "nothing" in str(found)


@pytest.mark.parametrize(("family", "name"), CASES)
def test_the_class_is_the_one_that_the_config_names(family, name, tmp_path):
    model = random_model(family, name)
    model.save_pretrained(tmp_path)
    found = ledger(tmp_path)
    assert found.model == name
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert {entry.name for entry in found.entries} == set(model.state_dict())


def test_a_config_that_names_no_class_is_opened_as_the_bare_model(saved):
    values = read_json(saved / "config.json")
    write_json(saved / "config.json", {**values, "architectures": None})
    found = ledger(saved)
    assert found.model == "BertModel"
    assert [entry.status for entry in found.entries if entry.name is None] == ["left out"] * 2


def test_an_unknown_class_is_an_error(saved):
    values = read_json(saved / "config.json")
    write_json(saved / "config.json", {**values, "architectures": ["RobertaModel"]})
    with pytest.raises(CheckpointError) as caught:
        ledger(saved)
    assert caught.value.key == "architectures"


def test_a_run_folder_stands_for_its_model(saved, tmp_path):
    saved.rename(tmp_path / "model")
    (tmp_path / "run.json").write_text("{}")
    assert ledger(tmp_path).model == "BertForSequenceClassification"


def test_it_is_ready_for_json(saved):
    values = json.loads(json.dumps(ledger(saved).as_dict()))
    assert values["parameters"] == sum(part["parameters"] for part in values["parts"])
    assert values["entries"][0]["official"] == "bert.embeddings.word_embeddings.weight"


def test_parts_that_do_not_add_up_are_an_error(saved, monkeypatch):
    whole = module.parts_of
    monkeypatch.setattr(module, "parts_of", lambda sizes: whole(sizes)[1:])
    with pytest.raises(CheckpointError, match="add up"):
        ledger(saved)
