"""Settings: what each may be, which contradict each other, and where their names come from."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from minibert.io.errors import ConfigError
from minibert.optim import SCHEDULES
from minibert.workbench.data.readers import FORMATS
from minibert.workbench.data.tag_schemes import TAG_SCHEMES
from minibert.workbench.runs import settings as declared
from minibert.workbench.runs.pretrain_settings import PretrainSettings
from minibert.workbench.runs.settings import Settings, as_record, check
from minibert.workbench.tasks.pooling import POOLINGS


def test_names_are_those_of_what_they_name():
    assert list(declared.SCHEDULES) == list(SCHEDULES)
    assert list(declared.POOLINGS) == list(POOLINGS)
    assert list(declared.TAG_SCHEMES) == list(TAG_SCHEMES)
    assert {*declared.FORMATS} == {*FORMATS} - {"lines"}  # never said: a .txt has lines


@pytest.mark.parametrize("kind", [Settings, PretrainSettings])
def test_every_setting_is_declared_in_full(kind):
    for item in fields(kind):
        assert item.metadata["help"], item.name
        assert declared.broken_rule(item, item.default) is None or item.name in ("model", "train", "corpus")


def tuned(**changes) -> Settings:
    return Settings(**{"model": "model", "train": "train.csv", **changes})


def pretrained(**changes) -> PretrainSettings:
    return PretrainSettings(**{"corpus": ["a.txt"], **changes})


WRONG = [
    ("epochs", 0),
    ("epochs", "3"),
    ("epochs", 1.5),
    ("epochs", True),
    ("epochs", None),
    ("learning_rate", 1.0),
    ("learning_rate", float("nan")),
    ("weight_decay", 1.0),
    ("warmup", 1.1),
    ("schedule", "quadratic"),
    ("clip_norm", 0),
    ("seed", 2**63),
    ("threads", 0),
    ("on_nonfinite", "cry"),
    ("precision", "fp8"),
    ("test_fraction", 0.0),
    ("max_length", 2),
    ("overlap", -1),
    ("layer_decay", 0.0),
    ("freeze", 1),
    ("names", "text"),
    ("faults", ["typo"]),
    ("probe", "cubic"),
]


@pytest.mark.parametrize("key, value", WRONG)
def test_a_value_that_breaks_its_rule(key, value):
    with pytest.raises(ConfigError) as caught:
        check(tuned(**{key: value}))
    assert caught.value.key == key and "it must be" in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"test": "t.csv", "test_fraction": 0.1},
        {"validation": "v.csv", "validation_fraction": 0.2},
        {"class_weights": True, "balanced": True},
        {"freeze": True, "freeze_layers": 1},
        {"test_subset": 5},
        {"freeze": True, "layer_decay": 0.9},
        {"freeze": True, "gradient_checkpointing": True},
        {"layer": 3},
        {"pooling": "mean"},
        {"probe": "linear", "freeze": True},
        {"probe": "linear", "freeze_layers": 1},
        {"probe": "linear", "layer_decay": 0.9},
        {"probe": "linear", "gradient_checkpointing": True},
        {"probe": "logistic", "epochs": 5},
        {"probe": "logistic", "learning_rate": 1e-3},
        {"probe": "logistic", "save_every": None},
        {"probe": "logistic", "watch": "loss"},
    ],
)
def test_settings_that_contradict_each_other_or_have_no_effect(changes):
    with pytest.raises(ConfigError) as caught:
        check(tuned(**changes))
    assert caught.value.key == list(changes)[-1]


@pytest.mark.parametrize(
    "changes",
    [
        {"corpus": []},
        {"hidden_size": 30},
        {"max_length": 64, "max_positions": 32},
        {"model": "m", "layers": 2},
        {"model": "m", "cased": True},
        {"model": "m", "vocabulary": "v"},
        {"vocabulary": "v", "vocabulary_size": 100},
        {"validation": ["v.txt"], "validation_fraction": 0.2},
        {"revision": "main"},
    ],
)
def test_the_same_in_pretraining(changes):
    with pytest.raises(ConfigError) as caught:
        check(pretrained(**changes))
    assert caught.value.key == list(changes)[-1]


def test_what_may_be_together():
    check(tuned(validation="v.csv", test_fraction=0.1, names=("text", "label"), learning_rate=0.5))
    check(tuned(probe="linear", layer=2, pooling="max", epochs=5, class_weights=True))
    check(tuned(probe="logistic", layer=2, seed=3, train_subset=50))
    check(tuned(model=Path("m"), output=Path("run"), faults=["last-epoch"]))
    check(pretrained(model="m", revision="main", max_positions=512, max_length=256))
    check(pretrained(vocabulary="v", layers=2, hidden_size=64, heads=2, dropout=0))


def test_the_record_is_plain_json():
    record = as_record(tuned(output=Path("runs") / "x", names=("text", "label")))
    assert record["output"] == str(Path("runs/x").absolute()) and record["names"] == ["text", "label"]
    assert list(record) == [item.name for item in fields(Settings)]
    assert record["learning_rate"] is None and record["faults"] == []
