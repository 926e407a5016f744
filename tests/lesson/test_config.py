"""The config: official keys in, official keys out, and what no network can be built from."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import transformers

from minibert import BertConfig
from minibert.io.errors import ConfigError
from tests.lesson.reference import our_config

OFFICIAL = ["bert-base-uncased", "bert-base-chinese"]


@pytest.mark.parametrize("folder", OFFICIAL)
def test_official_configs_are_read_and_written_back(data, folder):
    official = json.loads((data / "bert_vocabs" / folder / "config.json").read_text())
    config = BertConfig.from_official(official)
    assert config.hidden_size == 768 and config.head_size == 64 and config.layer_norm_eps == 1e-12
    assert config.vocab_size == official["vocab_size"]
    written = json.loads(json.dumps(config.to_official()))
    assert official.items() <= written.items()
    assert BertConfig.from_official(written) == config


def test_the_defaults_are_those_of_the_reference():
    theirs, ours = transformers.BertConfig().to_dict(), BertConfig().to_official()
    ours["id2label"] = {int(number): name for number, name in ours["id2label"].items()}
    for key in ours.keys() & theirs.keys():
        assert ours[key] == theirs[key], key


@pytest.mark.parametrize("kind", [transformers.BertConfig, transformers.DistilBertConfig])
def test_what_is_written_means_the_same_to_the_reference(kind):
    theirs = kind(num_labels=3, hidden_act="relu") if kind is transformers.BertConfig else kind()
    written = our_config(theirs.to_dict()).to_official()
    again = our_config(kind.from_dict(json.loads(json.dumps(written))).to_dict())
    assert again.num_labels == theirs.num_labels
    if kind is transformers.BertConfig:
        assert again.hidden_act == "relu"


def test_unknown_keys_are_kept_and_never_acted_on():
    config = BertConfig.from_official({"directionality": "bidi", "gradient_checkpointing": True})
    assert config.extra == {"directionality": "bidi", "gradient_checkpointing": True}
    assert config.to_official()["directionality"] == "bidi"
    assert config.replace(extra={}) == BertConfig()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("position_embedding_type", "relative_key"),
        ("position_embedding_type", "relative_key_query"),
        ("is_encoder_decoder", True),
        ("quantization_config", {"bits": 4}),
        ("model_type", "roberta"),
    ],
)
def test_another_network_is_refused_by_name(key, value):
    with pytest.raises(ConfigError) as caught:
        BertConfig.from_official({key: value})
    assert caught.value.key == key and repr(value) in str(caught.value)


@pytest.mark.parametrize("key", ["is_decoder", "add_cross_attention", "position_embedding_type"])
def test_the_meaning_that_is_supported_may_be_said(key):
    said = {"is_decoder": False, "add_cross_attention": False}.get(key, "absolute")
    assert BertConfig.from_official({key: said}).to_official()[key] == said
    BertConfig.from_official({key: None})


BAD = [
    ("vocab_size", 0),
    ("vocab_size", -5),
    ("vocab_size", 2**31),
    ("vocab_size", 3.5),
    ("vocab_size", "30522"),
    ("vocab_size", True),
    ("vocab_size", None),
    ("hidden_size", 0),
    ("hidden_size", [768]),
    ("num_hidden_layers", 0),
    ("num_attention_heads", 0),
    ("num_attention_heads", 7),
    ("intermediate_size", 0),
    ("max_position_embeddings", 0),
    ("type_vocab_size", -1),
    ("hidden_act", "swiglu"),
    ("hidden_act", 1),
    ("hidden_dropout_prob", 1.0),
    ("hidden_dropout_prob", -0.1),
    ("hidden_dropout_prob", math.nan),
    ("attention_probs_dropout_prob", 1.5),
    ("classifier_dropout", 1.0),
    ("classifier_dropout", "0.1"),
    ("qa_dropout", 2),
    ("seq_classif_dropout", math.inf),
    ("initializer_range", 0.0),
    ("initializer_range", math.inf),
    ("layer_norm_eps", 0.0),
    ("layer_norm_eps", math.nan),
    ("layer_norm_eps", True),
    ("pad_token_id", 30522),
    ("pad_token_id", -1),
    ("tie_word_embeddings", "yes"),
    ("problem_type", "ranking"),
    ("id2label", {}),
    ("id2label", {"0": "a", "2": "b"}),
    ("id2label", {"zero": "a"}),
    ("id2label", {"0": "a", "1": "a"}),
    ("id2label", {"0": 1, "1": "1"}),
    ("id2label", {"0": None}),
    ("id2label", {"0": ["a"]}),
    ("id2label", "a,b"),
    ("num_labels", 0),
    ("num_labels", "3"),
    ("num_labels", 10**9),
    ("num_labels", True),
    ("num_hidden_layers", 1001),
    ("hidden_size", 2**30 + 1),
    ("id2label", {"0": "a", "00": "b"}),
    ("id2label", {"0": "a", "\u0661": "b"}),
    ("label2id", {"a": 1, "b": 2}),
    ("label2id", {"a": 0, "b": 0}),
    ("pruned_heads", [1]),
    ("pruned_heads", {"0": 1}),
    ("pruned_heads", {"0": [12]}),
    ("pruned_heads", {"12": [0]}),
    ("pruned_heads", {"0": list(range(12))}),
    ("pruned_heads", {"first": [0]}),
    ("label2id", {"a": 0, "b": [1]}),
    ("label2id", {"a": 0, "b": 1.0}),
    ("label2id", {}),
    ("label2id", ["a", "b"]),
    ("label2id", "a"),
]


@pytest.mark.parametrize(("key", "value"), BAD)
def test_values_out_of_range_are_refused_by_key(key, value):
    with pytest.raises(ConfigError) as caught:
        BertConfig.from_official({key: value})
    assert caught.value.key == key and key in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("classifier_dropout", None), ("pad_token_id", None), ("hidden_dropout_prob", 0)]
    + [("type_vocab_size", 0), ("layer_norm_eps", 1e-5), ("problem_type", "regression")],
)
def test_values_at_the_edge_are_taken(key, value):
    assert getattr(BertConfig.from_official({key: value}), key) == value


def test_the_head_size_message_names_both_numbers():
    with pytest.raises(ConfigError) as caught:
        BertConfig(num_attention_heads=10)
    assert caught.value.key == "num_attention_heads"


def test_labels_are_read_from_whichever_key_is_there():
    assert BertConfig.from_official({}).num_labels == 2
    assert BertConfig.from_official({"num_labels": 3}).id2label[2] == "LABEL_2"
    named = BertConfig.from_official({"id2label": {"1": "joy", "0": "fear"}})
    assert list(named.id2label.values()) == ["fear", "joy"]  # in the order of the numbers
    assert named.label2id == {"fear": 0, "joy": 1}
    turned = BertConfig.from_official({"label2id": {"joy": 1, "fear": 0}, "id2label": None})
    assert turned == named
    numbers = BertConfig.from_official({"id2label": {"0": 0, "1": 1}, "label2id": {"0": 0, "1": 1}})
    assert numbers.id2label == {0: "0", 1: "1"}
    for stored in ({"id2label": {"0": "neg", "1": "pos"}}, {}):
        texts = BertConfig.from_official({**stored, "label2id": {"neg": "0", "pos": "1"}})
        assert texts.label2id == {"neg": 0, "pos": 1}
    eleven = {str(number): f"n{number}" for number in range(11)}
    assert list(BertConfig.from_official({"id2label": eleven}).id2label) == list(range(11))


def test_label_tables_that_disagree_are_refused():
    with pytest.raises(ConfigError) as caught:
        BertConfig.from_official({"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 1, "b": 0}})
    assert caught.value.key == "label2id"


def test_a_number_of_labels_that_is_not_that_of_the_names_is_refused():
    with pytest.raises(ConfigError) as caught:
        BertConfig.from_official({"id2label": {"0": "a", "1": "b"}, "num_labels": 3})
    assert caught.value.key == "num_labels"
    with pytest.raises(ConfigError) as caught:
        BertConfig.from_official({"label2id": {"a": 0, "b": 1}, "num_labels": 3})
    assert caught.value.key == "num_labels"
    assert "2" in str(caught.value) and "3" in str(caught.value)


def test_a_config_is_frozen_and_checked_again_when_replaced():
    config = BertConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.hidden_size = 32
    with pytest.raises(ConfigError) as caught:
        config.replace(hidden_size=100)
    assert caught.value.key == "num_attention_heads"
    assert config.replace(hidden_size=24).head_size == 2


def test_which_rate_is_the_classifier_s():
    assert BertConfig(hidden_dropout_prob=0.3).head_dropout == 0.3
    assert BertConfig(classifier_dropout=0.0).head_dropout == 0.0
    distilbert = BertConfig(model_type="distilbert", type_vocab_size=0, classifier_dropout=0.4)
    assert distilbert.head_dropout == 0.1


@pytest.mark.parametrize("names", [{}, {5: "x"}, {0: 1}, {0: "a", 1: "a"}, ["a"], {"0": "a"}, {1: "b", 0: "a"}])
def test_label_names_go_by_0_1_2(names):
    with pytest.raises(ConfigError) as caught:
        BertConfig(id2label=names)
    assert caught.value.key == "id2label"


def test_a_distilbert_has_no_segments():
    with pytest.raises(ConfigError) as caught:
        BertConfig(model_type="distilbert")
    assert caught.value.key == "type_vocab_size"
