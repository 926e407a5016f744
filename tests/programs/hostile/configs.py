"""Cases: a config.json that is none, or that no model can be built from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tests.programs.hostile.case import (
    CONFIG,
    LOADED,
    WEIGHTS,
    Case,
    Group,
    Words,
    cut,
    edit_json,
    grow,
    open_model,
    refused,
    remove,
    replace,
    set_json,
    warned,
    write,
)


def value(key: str, value: Any, named: str = "") -> Case:
    """One value of config.json that must be refused by its key, or by the one it disagrees with."""
    name = f"{key} {value!r:.40}"
    return Case(name, set_json(CONFIG, {key: value}), refused(CONFIG, named or key))


def text(name: str, content: str | bytes, key: str) -> Case:
    """Other content of config.json."""
    return Case(name, write(CONFIG, content), refused(CONFIG, key))


def mismatch(key: str, value: int, tensor: str) -> Case:
    """A size that is a size, but not that of the weights."""
    name = f"{key} {value}, not that of the weights"
    return Case(name, set_json(CONFIG, {key: value}), refused(WEIGHTS, tensor))


def directory(folder: Path) -> None:
    (folder / CONFIG).unlink()
    (folder / CONFIG).mkdir()


def distilbert_twice(config: dict[str, Any]) -> None:
    config.update(model_type="distilbert", dim=8, n_layers=2)
    config.update(num_hidden_layers=3)


WORD = "bert.embeddings.word_embeddings.weight"
TYPE = "bert.embeddings.token_type_embeddings.weight"
HUGE = 2**30
BLANKS = 100 * 2**20
NO_OBJECT = Words("is not a JSON object")
NOT_JSON = [
    text("empty", "", Words("Expecting value")),
    text("one open bracket", "{", Words("Expecting property name")),
    text("not UTF-8", b'{"vocab_size": "\xff"}', Words("byte 0xff in position 16")),
    text("UTF-16", '{"vocab_size": 22}'.encode("utf-16"), Words("byte 0xff in position 0")),
    text("a byte-order mark", "\ufeff{}", Words("BOM")),
    text("a NUL", '{"vocab_size": 22\0}', Words("Expecting ',' delimiter")),
    text("a list", "[]", NO_OBJECT),
    text("a string", '"bert"', NO_OBJECT),
    text("null", "null", NO_OBJECT),
    text("100,000 lists, one in the other", "[" * 100_000, Words("while decoding a JSON array")),
    text("100,000 objects, one in the other", '{"a":' * 100_000, Words("while decoding a JSON object")),
    text("a number of 5,000 digits", '{"vocab_size": ' + "1" * 5000 + "}", Words("Exceeds the limit")),
    text("a Python dict", "{'vocab_size': 22}", Words("Expecting property name")),
    text("code", "__import__('os').system('touch canary')", Words("Expecting value")),
    text("a comment", "{} // comment", Words("Extra data")),
    text("NaN in a list of an unknown key", '{"note": [1, NaN]}', "note"),
    text("half a surrogate pair in a key", '{"\\ud800": 1}', "\ud800"),
    text("half a surrogate pair in a label", '{"id2label": {"0": "\\udfff"}}', "0"),
    text("another kind of file: a pickle", b"\x80\x04cos\nsystem\n(S'touch canary'\ntR.", Words("byte 0x80")),
    Case("100 MB of blanks", grow(CONFIG, BLANKS), refused(CONFIG, Words(f"has {BLANKS} bytes"))),
    Case("2 MB of lists", write(CONFIG, "[" + "[]," * 690_000 + "1]"), refused(CONFIG, NO_OBJECT)),
    Case("cut in half", cut(CONFIG, 200), refused(CONFIG, Words("Unterminated string"))),
    Case("a key twice", replace(CONFIG, "{", '{"vocab_size": 9,'), refused(CONFIG, "vocab_size")),
    Case("none", remove(CONFIG), refused(CONFIG, Words("No such file"))),
    Case("a folder in its place", directory, refused(CONFIG, Words("is not a file"))),
]
VALUES = [
    value("vocab_size", 0),
    value("vocab_size", -1),
    value("vocab_size", True),
    value("vocab_size", "22"),
    value("vocab_size", 22.0),
    value("vocab_size", None),
    value("vocab_size", 2**40),
    value("vocab_size", 10**300),
    value("hidden_size", 2**40),
    value("hidden_size", 0),
    value("hidden_size", [8]),
    value("hidden_size", math.inf),
    value("num_attention_heads", 3),
    value("num_attention_heads", 0),
    value("num_hidden_layers", 10_000_000),
    value("num_hidden_layers", 1000),
    value("num_hidden_layers", 3),
    value("num_hidden_layers", 1),
    value("num_hidden_layers", False),
    value("intermediate_size", {"a": 1}),
    value("max_position_embeddings", -16),
    value("type_vocab_size", -1),
    value("hidden_act", "swiglu"),
    value("hidden_act", "__import__('os').system('touch canary')"),
    value("hidden_act", None),
    value("layer_norm_eps", math.nan),
    value("layer_norm_eps", 0),
    value("layer_norm_eps", -1e-12),
    value("layer_norm_eps", "1e-12"),
    value("hidden_dropout_prob", math.nan),
    value("hidden_dropout_prob", 1.0),
    value("attention_probs_dropout_prob", -0.1),
    value("classifier_dropout", 2),
    value("initializer_range", math.inf),
    value("pad_token_id", 22),
    value("pad_token_id", -1),
    value("tie_word_embeddings", "no"),
    value("problem_type", "ranking"),
    value("id2label", {}),
    value("id2label", {"0": "a", "2": "b"}),
    value("id2label", {"0": "a", "00": "b"}),
    value("id2label", {"0": "a", "9" * 5000: "b"}),
    value("id2label", {"0": ["a"]}),
    value("id2label", ["a", "b", "c"]),
    value("label2id", {"cold": 2, "mild": 1, "hot": 0}),
    value("label2id", "cold"),
    value("num_labels", 10**9),
    value("num_labels", 2),
    value("num_labels", True),
]
SIZES = [
    mismatch("vocab_size", HUGE, WORD),
    mismatch("vocab_size", 23, WORD),
    mismatch("hidden_size", HUGE, WORD),
    mismatch("intermediate_size", HUGE, "bert.encoder.layer.0.intermediate.dense.weight"),
    mismatch("max_position_embeddings", HUGE, "bert.embeddings.position_embeddings.weight"),
    mismatch("type_vocab_size", HUGE, TYPE),
    mismatch("type_vocab_size", 0, TYPE),
]
MEANINGS = [
    value("is_decoder", True),
    value("is_decoder", "false"),
    value("is_encoder_decoder", True),
    value("add_cross_attention", True),
    value("position_embedding_type", "relative_key"),
    value("position_embedding_type", "rotary"),
    value("pruned_heads", {"0": [99]}),
    Case(
        "pruned_heads, with the weights of all heads",
        set_json(CONFIG, {"pruned_heads": {"0": [1]}}),
        refused(WEIGHTS, "bert.encoder.layer.0.attention.self.query.weight"),
    ),
    value("quantization_config", {"load_in_8bit": True}),
    value("model_type", "roberta"),
    value("model_type", "../bert"),
    value("model_type", ["bert"]),
    Case("no model_type", set_json(CONFIG, {"model_type": None}), warned(CONFIG, "model_type")),
    Case(
        "a setting of DistilBERT under both its names", edit_json(CONFIG, distilbert_twice), refused(CONFIG, "n_layers")
    ),
    Case(
        "a DistilBERT, with the weights of a BERT",
        set_json(CONFIG, {"model_type": "distilbert"}),
        refused(WEIGHTS, "distilbert.transformer.layer.0.attention.q_lin.weight"),
    ),
]
HARMLESS = [
    Case("unknown keys", set_json(CONFIG, {"note": [1], "extra": {}, "self": 1}), LOADED),
    Case("the name of a subclass", set_json(CONFIG, {"minibert_class": "evil:Model"}), warned(CONFIG, "evil:Model")),
    Case(
        "the name of a subclass that is none", set_json(CONFIG, {"minibert_class": [1]}), warned(CONFIG, Words("[1]"))
    ),
    Case("not one key", write(CONFIG, json.dumps({})), refused(CONFIG, "num_hidden_layers")),
]

GROUPS = (Group("config", open_model, [*NOT_JSON, *VALUES, *SIZES, *HARMLESS]), Group("meaning", open_model, MEANINGS))
