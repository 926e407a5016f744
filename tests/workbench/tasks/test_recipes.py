"""Recipes: each as its original says, overridden by options, found wherever it is installed."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from minibert.io.errors import ConfigError, DataError
from minibert.io.files import read_json
from minibert.workbench import recipes
from minibert.workbench.arguments import command_line, parse
from minibert.workbench.cli import main
from minibert.workbench.runs.pretrain_settings import PretrainSettings
from minibert.workbench.runs.settings import FAULTS, Settings, check

ROOT = Path(__file__).parents[3]

# What the originals print or pass, by hand. Every other setting is minibert's own default.
IMDB = {"train": "stanfordnlp/imdb", "test": "stanfordnlp/imdb"}
CHINESE = dict.fromkeys(("train", "validation", "test"), "lansinuote/ChnSentiCorp")
EMOTION = {part: f"dair-ai/emotion:split/{part}" for part in ("train", "validation", "test")}
TRAINER = {"warmup": 0.0, "schedule": "linear", "clip_norm": 1.0}  # transformers' defaults
UNCLIPPED = 1e9
ORIGINALS = {
    "imdb-finetune": {
        **IMDB,
        "model": "google-bert/bert-base-uncased",
        "max_length": 256,
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 2e-5,
        "weight_decay": 0.01,
        "warmup": 0.1,
        "schedule": "linear",
        "clip_norm": UNCLIPPED,
        "validation_fraction": 0.05,
        "watch": "loss",
    },
    "imdb-probe": {
        **IMDB,
        "model": "google-bert/bert-base-cased",
        "probe": "linear",
        "layer": -1,
        "pooling": "cls",
        "max_length": 500,
        "epochs": 30,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "warmup": 0.0,
        "schedule": "exponential",
        "clip_norm": UNCLIPPED,
        "validation_fraction": 0.05,
    },
    "imdb-finetune-1000": {
        **IMDB,
        **TRAINER,
        "model": "google-bert/bert-base-cased",
        "max_length": 512,
        "epochs": 10,
        "batch_size": 8,
        "learning_rate": 5e-5,
        "weight_decay": 0.0,
        "train_subset": 1250,
        "validation_fraction": 0.2,
        "test_subset": 1000,
    },
    "chnsenticorp-probe": {
        **CHINESE,
        "model": "google-bert/bert-base-chinese",
        "probe": "linear",
        "layer": -1,
        "pooling": "cls",
        "max_length": 500,
        "epochs": 1,
        "batch_size": 16,
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
        "warmup": 0.0,
        "schedule": "linear",
        "clip_norm": UNCLIPPED,
    },
    "emotion-probe": {
        **EMOTION,
        "model": "distilbert/distilbert-base-uncased",
        "probe": "logistic",
        "layer": -1,
        "pooling": "cls",
    },
    "emotion-finetune": {
        **EMOTION,
        **TRAINER,
        "model": "distilbert/distilbert-base-uncased",
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 2e-5,
        "weight_decay": 0.01,
    },
    "rte": {
        **TRAINER,
        "train": "nyu-mll/glue:rte/train",
        "test": "nyu-mll/glue:rte/validation",
        "text": "sentence1",
        "text_pair": "sentence2",
        "model": "google-bert/bert-base-cased",
        "max_length": 128,
        "epochs": 3,
        "batch_size": 32,
        "learning_rate": 2e-5,
        "weight_decay": 0.0,
    },
    "cola": {
        **TRAINER,
        "train": "nyu-mll/glue:cola/train",
        "test": "nyu-mll/glue:cola/validation",
        "text": "sentence",
        "model": "google-bert/bert-base-cased",
        "watch": "matthews",
        "max_length": 128,
        "epochs": 3,
        "batch_size": 32,
        "learning_rate": 2e-5,
        "weight_decay": 0.0,
    },
    "wnut17": {
        **TRAINER,
        "model": "google-bert/bert-base-cased",
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 5e-5,
        "weight_decay": 0.0,
    },
    "xquad": {
        **TRAINER,
        "train": "google/xquad:xquad.en/validation",
        "problem_type": "question_answering",
        "test_fraction": 0.25,
        "model": "google-bert/bert-base-uncased",
        "max_length": 384,
        "overlap": 128,
        "epochs": 2,
        "batch_size": 12,
        "learning_rate": 3e-5,
        "weight_decay": 0.0,
    },
    "swag": {
        **TRAINER,
        "train": "allenai/swag:regular/train",
        "validation": "allenai/swag:regular/validation",
        "text": "sent1",
        "text_pair": "sent2",
        "choices": ["ending0", "ending1", "ending2", "ending3"],
        "model": "google-bert/bert-base-uncased",
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 5e-5,
        "weight_decay": 0.0,
    },
}
WITHOUT_ORIGINAL = (recipes.DEFAULT, "minibert-small", "minibert-small-long")
FILES_ALONE = {"wnut17"}  # the data set of the Hub is a program
SCORES = {
    "imdb-finetune": 0.9230,
    "imdb-probe": 0.8237,
    "imdb-finetune-1000": None,
    "chnsenticorp-probe": 0.875,
    "emotion-probe": 0.633,
    "emotion-finetune": 0.9375,
    "rte": 0.6570,
    "cola": 0.5653,
    "wnut17": None,
    "xquad": 0.8122,
    "swag": None,
}
THEIR_FAULTS = {
    "imdb-finetune": ["sorted-validation", "last-epoch", "batch-means"],
    "imdb-probe": ["double-softmax"],
    "chnsenticorp-probe": ["double-softmax"],
}


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch):
    """As on a reader's machine; a test that wants MINIBERT_DATA sets it."""
    monkeypatch.delenv(recipes.DATA_FOLDER, raising=False)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_all_are_there():
    assert recipes.names() == sorted({*ORIGINALS, *WITHOUT_ORIGINAL})


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_recipe_has_the_values_of_its_original(name):
    recipe = recipes.load(name)
    values = recipe.values()
    revision = values.pop("revision")
    assert len(revision) == 40 and int(revision, 16)
    assert values == {**ORIGINALS[name], "recipe": name}
    check(Settings(**({"train": "x"} if name in FILES_ALONE else {}), **recipe.values()))
    assert recipe.original.get("score") == SCORES[name]
    assert recipe.original.keys() >= {"model", "data", "measure"}
    assert list(recipe.faults_of_the_original) == THEIR_FAULTS.get(name, [])
    assert recipe.title and recipe.repeats.endswith(".")


@pytest.mark.parametrize("name", [name for name in ORIGINALS if recipes.load(name).local])
def test_the_data_folder_takes_the_place_of_the_hub(name, monkeypatch, tmp_path):
    local = recipes.load(name).local
    for split in ("train", "validation", "test"):
        if split in local:
            path = tmp_path / local[split]
            path.parent.mkdir(exist_ok=True)
            path.touch()
    monkeypatch.setenv(recipes.DATA_FOLDER, str(tmp_path))
    values = recipes.load(name).values()
    data = set(recipes.DATA["train"])
    for key in data:
        expected = local.get(key)
        if key in ("train", "validation", "test") and expected is not None:
            expected = str(tmp_path / expected)
        assert values.get(key) == expected
    assert {key: values[key] for key in values if key not in data | {"revision", "recipe"}} == {
        key: value for key, value in ORIGINALS[name].items() if key not in data
    }
    check(Settings(**values))


def test_a_data_folder_without_the_file_is_an_error_that_names_it(monkeypatch, tmp_path):
    monkeypatch.setenv(recipes.DATA_FOLDER, str(tmp_path))
    with pytest.raises(DataError) as caught:
        recipes.load("emotion-probe").values()
    assert caught.value.path == tmp_path / "emotion/train.txt" and caught.value.key == "train"
    assert recipes.load("emotion-probe").values(train="mine.csv")["train"] == "mine.csv"


def test_a_given_setting_wins_and_removes_what_belongs_to_the_recipes_own(monkeypatch, tmp_path):
    emotion = recipes.load("emotion-finetune")
    assert emotion.values(epochs=1)["epochs"] == 1
    assert "revision" not in emotion.values(model="other")
    assert emotion.values(model="other", revision="v1")["revision"] == "v1"
    assert emotion.values(test="t.csv")["test"] == "t.csv"
    assert emotion.values(test="t.csv")["train"] == EMOTION["train"]
    (tmp_path / "emotion").mkdir()
    for part in ("train", "val", "test"):
        (tmp_path / "emotion" / f"{part}.txt").touch()
    monkeypatch.setenv(recipes.DATA_FOLDER, str(tmp_path))
    assert emotion.values()["sep"] == ";"
    assert emotion.values(sep="|")["sep"] == "|"
    own = emotion.values(train="mine.csv")
    assert own["train"] == "mine.csv"
    assert not {"validation", "test", "sep", "names"} & own.keys()


def test_a_recipe_of_pretraining_reads_its_corpus_below_the_data_folder(monkeypatch, tmp_path):
    small = recipes.load("minibert-small", "pretrain")
    with pytest.raises(TypeError):
        PretrainSettings(**small.values())
    own = small.values(corpus=["installed-docs"], layers=2)
    check(PretrainSettings(**own))
    assert (own["corpus"], own["layers"], own["recipe"]) == (["installed-docs"], 2, small.name)
    assert not [path for path in small.local["corpus"] if "test" in path]  # IMDB's is for tests
    monkeypatch.setenv(recipes.DATA_FOLDER, str(tmp_path))
    with pytest.raises(DataError) as caught:
        small.values()
    assert caught.value.key == "corpus" and "--corpus" in str(caught.value)
    for path in small.local["corpus"]:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    settings = PretrainSettings(**small.values())
    check(settings)
    assert settings.corpus == [str(tmp_path / path) for path in small.local["corpus"]]


def test_another_model_removes_the_sizes_of_the_new_one():
    small = recipes.load("minibert-small").values(model="other", corpus=["a.txt"])
    check(PretrainSettings(**small))
    assert "layers" not in small and small["max_length"] == 64
    given = recipes.load("minibert-small").values(vocabulary="other", corpus=["a.txt"])
    check(PretrainSettings(**given))
    assert "vocabulary_size" not in given and given["layers"] == 4


def test_the_second_part_of_pretraining_continues_the_first():
    first, second = (recipes.load(name) for name in WITHOUT_ORIGINAL[1:])
    # A path even where there is no such folder: without "./" it could be a model on the Hub.
    assert second.settings["model"] == f"./{first.settings['output']}"
    assert second.local == first.local  # so that the same documents are held out
    assert second.settings["max_positions"] > first.settings["max_length"]
    check(PretrainSettings(**second.values(corpus=["a.txt"])))


def test_a_recipe_is_for_one_command(capsys):
    assert main(["train", "--recipe", "minibert-small"]) == 2
    assert "minibert pretrain --recipe minibert-small" in capsys.readouterr().err
    assert main(["pretrain", "--recipe", "cola"]) == 2
    assert "for minibert train" in capsys.readouterr().err
    assert main(["pretrain", "--recipe", "minibert-small"]) == 2  # no data folder
    said = capsys.readouterr().err
    assert "MINIBERT_DATA" in said and "imdb/train.jsonl.gz" in said and "--corpus" in said


def test_pretraining_follows_a_recipe(tmp_path):
    lines = [f'{{"text": "One day. {number} days."}}\n' for number in range(40)]
    corpus = write(tmp_path / "tales.jsonl", "".join(lines))
    recipe = write(
        tmp_path / "mine.toml",
        'command = "pretrain"\n[settings]\nlayers = 1\nhidden_size = 8\nheads = 2\n'
        "vocabulary_size = 40\nmax_length = 16\nepochs = 1\n",
    )
    arguments = ["pretrain", "--recipe", recipe, "--corpus", corpus, "--heads", 1, "--quiet"]
    assert main(list(map(str, [*arguments, "--output", tmp_path / "run"]))) == 0
    settings = read_json(tmp_path / "run/run.json")["settings"]
    chosen = {key: settings[key] for key in ("layers", "heads", "epochs", "recipe")}
    assert chosen == {"layers": 1, "heads": 1, "epochs": 1, "recipe": str(recipe)}


def test_a_recipe_in_a_file(tmp_path):
    path = write(tmp_path / "mine.toml", '[settings]\nmodel = "m"\nweight_decay = 0\n')
    values = recipes.load(path).values(train="t.csv")
    assert values == {"model": "m", "weight_decay": 0, "train": "t.csv", "recipe": str(path)}


WRONG = {
    "unknown part": ("[setting]\nepochs = 3", "setting", "settings"),
    "unknown setting": ("[settings]\nepoch = 3", "settings.epoch", "epochs"),
    "recipe in a recipe": ('[settings]\nrecipe = "x"', "settings.recipe", "epochs"),
    "unknown local": ("[local]\nepochs = 3", "local.epochs", "train"),
    "unknown original": ("[original]\nloss = 3", "original.loss", "score"),
    "text for a number": ('[settings]\nepochs = "3"', "settings.epochs", "a whole number"),
    "part for a whole": ("[settings]\nepochs = 1.5", "settings.epochs", "a whole number"),
    "truth for a number": ("[settings]\nepochs = true", "settings.epochs", "a whole number"),
    "number for truth": ("[settings]\nfreeze = 1", "settings.freeze", "true or false"),
    "text for a list": ('[local]\nnames = "text"', "local.names", "a list"),
    "numbers in a list": ("[settings]\nfaults = [1]", "settings.faults", "a string"),
    "number for text": ("[settings]\nmodel = 5", "settings.model", "a string"),
    "a value for a part": ("settings = 3", "settings", "a table"),
    "number for a title": ("title = 3", "title", "a string"),
    "unknown fault": ('faults_of_the_original = ["x"]', "faults_of_the_original", "double-softmax"),
    "a value that breaks a rule": ("[settings]\nepochs = 0", "settings.epochs", "1 or more"),
    "not toml": ("[settings\n", None, ""),
    "unknown command": ('command = "predict"', "command", "pretrain"),
    "one text for a corpus": ('command = "pretrain"\n[local]\ncorpus = "a"', "local.corpus", "a list"),
    "the other command's setting": ('command = "pretrain"\n[settings]\nprobe = "linear"', "settings.probe", "layers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_by_key(case, tmp_path):
    text, key, expected = WRONG[case]
    with pytest.raises(ConfigError) as caught:
        recipes.load(write(tmp_path / "wrong.toml", text))
    assert caught.value.key == key and expected in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#" * 100_001])
def test_a_file_that_is_not_a_short_text_is_refused(content, tmp_path):
    (tmp_path / "wrong.toml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        recipes.load(tmp_path / "wrong.toml")
    assert caught.value.path == tmp_path / "wrong.toml"


def test_an_unknown_name_lists_what_there_is(capsys):
    assert main(["train", "--recipe", "imdb"]) == 2
    message = capsys.readouterr().err
    assert "There is no recipe 'imdb'." in message and all(name in message for name in ORIGINALS)
    assert main(["train", "--recipe", "none.toml"]) == 2
    assert "none.toml could not be read" in capsys.readouterr().err


def test_the_list_names_each_with_its_score_and_faults(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == recipes.names()
    assert any("0.923" in line and "batch-means" in line for line in lines)


@pytest.mark.parametrize("name", [*ORIGINALS, *WITHOUT_ORIGINAL])
def test_a_recipe_prints_as_the_command_it_stands_for(name, capsys):
    assert main(["recipes", name]) == 0
    comments, _, command = capsys.readouterr().out.partition("\nminibert ")
    recipe = recipes.load(name)
    assert all(line.startswith("# ") for line in comments.splitlines()) and recipe.title in comments
    assert all(f"--fault {fault}" in comments for fault in recipe.faults_of_the_original)
    given = parse(shlex.split(command.replace("\\\n", "")))  # as a shell joins lines
    assert given.command == recipe.command
    values = recipe.values()
    if not {"train", "corpus"} & values.keys():  # its files are not on the Hub
        values |= recipe.local
    del values["recipe"]
    assert {key: getattr(given, key) for key in values} == values
    assert not {item.name for item in fields(recipes.COMMANDS[given.command])} & vars(given).keys() - values.keys()


def test_a_command_line_quotes_repeats_and_keeps_every_digit():
    values = {"train": "my file.csv", "faults": ["last-epoch", "batch-means"], "learning_rate": 1 / 3, "quoting": False}
    command = command_line(Settings, {**values, "freeze": True, "balanced": False, "sep": ";"})
    words = shlex.split(command.replace("\\\n", ""))
    assert words[:2] == ["minibert", "train"]
    given = vars(parse(words[1:]))
    assert {key: given[key] for key in values} == values
    assert given["freeze"] is True and "balanced" not in given and given["sep"] == ";"


def test_a_recipe_in_a_file_prints_too_and_an_unknown_one_is_refused(tmp_path, capsys):
    path = write(tmp_path / "mine.toml", '[settings]\nmodel = "m"\n')
    assert main(["recipes", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["minibert train \\", "    --model m"]
    assert main(["recipes", "nothing"]) == 2


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_recipe_runs_on_other_data_and_another_model(name, tiny, moods, tmp_path, capsys):
    arguments = ["train", "--recipe", name, "--model", tiny, "--train", moods / "train.csv"]
    arguments += ["--test", moods / "test.csv", "--output", tmp_path / "run"]
    arguments += [] if name == "emotion-probe" else ["--epochs", 1]  # L-BFGS has none
    arguments += ["--max-length", 30, "--quiet", "--precision", "fp32"]
    if name == "imdb-finetune-1000":
        arguments += ["--train-subset", 60, "--test-subset", 30]
    assert main(list(map(str, arguments))) == 0, capsys.readouterr().err
    settings = read_json(tmp_path / "run/run.json")["settings"]
    assert settings["recipe"] == name
    assert settings["max_length"] == 30
    assert settings["epochs"] == (3 if name == "emotion-probe" else 1)
    assert settings["revision"] is None and settings["validation"] is None
    for key in ("learning_rate", "batch_size", "probe", "schedule"):
        assert key not in ORIGINALS[name] or settings[key] == ORIGINALS[name][key]


def test_the_faults_of_originals_can_be_made():
    for name in ORIGINALS:
        assert set(recipes.load(name).faults_of_the_original) <= FAULTS.keys()
