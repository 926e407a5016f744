"""Every command as a user types it: results, messages, exit codes, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import minibert
from minibert import BertForSequenceClassification
from minibert.io.files import read_json
from minibert.workbench.cli import _COMMANDS as COMMANDS
from minibert.workbench.cli import main
from tests.conftest import BOUNDS
from tests.workbench.conftest import MOODS, VOCABULARY, moods, save_model, save_vocabulary, tiny, write_table
from tests.workbench.tasks.test_convert import checkpoint

__all__ = ["moods", "tiny"]  # fixtures, used by name


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    return save_model(
        tmp_path_factory.mktemp("classifier") / "model",
        BertForSequenceClassification,
        id2label=dict(enumerate(MOODS)),
        initializer_range=0.5,
    )


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Runs a command in an empty folder; gives (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


def train_arguments(tiny, moods, **changes) -> list[str]:
    options = {
        "model": tiny,
        "train": moods / "train.csv",
        "validation": moods / "validation.csv",
        "test": moods / "test.csv",
        "epochs": 1,
        "precision": "fp32",
        "learning-rate": 3e-3,
        **changes,
    }
    pairs = [(f"--{key}", str(value)) for key, value in options.items() if value is not None]
    return ["train", *(part for pair in pairs for part in pair)]


# Help


def test_a_missing_run_is_not_taken_for_a_hub_id(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert main(["predict", "runs/007", "a text"]) == 1
    assert "There is a folder runs here, with no 007 in it." in capsys.readouterr().err
    assert main(["predict", "nobody-has-this", "a text"]) == 1
    assert "There is a folder" not in capsys.readouterr().err


def test_the_version_and_a_command_that_does_not_exist(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"minibert {minibert.__version__}\n"
    for wrong in ([], ["translate"], ["predict", "m", "a", "--bogus"], ["explain", "m", "a", "extra"]):
        with pytest.raises(SystemExit) as stop:
            main(wrong)
        assert stop.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith("minibert") and message.endswith(" --help.\n")
        assert message.count("\n") == 1


def test_texts_are_not_required_as_they_may_come_from_a_file(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["predict"])
    assert stop.value.code == 2
    assert "are required: model. See minibert predict --help." in capsys.readouterr().err


# The commands


def test_train_then_evaluate_then_predict(command, tiny, moods, tmp_path):
    code, output, messages = command(*train_arguments(tiny, moods))
    assert code == 0
    assert "test: 36 examples" in output and "95% interval" in output
    assert 'use it:  minibert predict runs/001 "your text"' in output
    assert "epoch 1: training loss" in messages and "(best so far)" in messages
    assert "fp32 on cpu" in messages and "\r" not in messages
    assert "Traceback" not in messages

    code, output, _ = command("evaluate", "runs/001", moods / "test.csv", "--json", "--quiet")
    assert code == 0
    stored = read_json(tmp_path / "runs/001/metrics.json")["test"]
    assert json.loads(output)["accuracy"] == stored["accuracy"]
    code, output, _ = command("evaluate", "runs/001", moods / "test.csv", "--output", "report")
    assert code == 0 and output.startswith("test.csv: 36 examples\n")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"metrics.json", "confusion.csv", "errors.csv"}

    code, output, messages = command("predict", "runs/001", "one happy day", "so angry")
    assert code == 0 and messages == ""
    assert [line.split("  ")[-1] for line in output.splitlines()] == ["one happy day", "so angry"]
    assert all(line.split()[0] in MOODS for line in output.splitlines())


def test_quiet_training_says_only_its_result(command, tiny, moods):
    code, output, messages = command(*train_arguments(tiny, moods), "--quiet")
    assert code == 0 and messages == "" and "the run is in runs/001" in output


def test_options_of_train_reach_the_run(command, tiny, moods, tmp_path):
    arguments = train_arguments(tiny, moods, validation=None, seed=3, output="out", watch="loss")
    code, _, _ = command(*arguments, "--freeze", "--train-subset", "60", "--no-quoting", "--quiet")
    settings = read_json(tmp_path / "out/run.json")["settings"]
    assert code == 0
    assert (settings["seed"], settings["watch"], settings["freeze"]) == (3, "loss", True)
    assert (settings["train_subset"], settings["quoting"]) == (60, False)
    assert settings["validation"] is None and settings["weight_decay"] == 0.01


def test_texts_come_from_arguments_a_file_or_standard_input(command, classifier, tmp_path):
    texts = ["one happy day", "so, angry", "naïve 東京"]
    (tmp_path / "texts.txt").write_bytes(("\ufeff" + "\r\n".join(texts) + "\n").encode())
    expected = command("predict", classifier, *texts)
    assert expected[0] == 0 and len(expected[1].splitlines()) == 3
    assert command("predict", classifier, "--file", "texts.txt") == expected
    # Options between the model and the texts, and among the texts.
    assert command("predict", classifier, "--quiet", *texts) == expected
    assert command("predict", classifier, texts[0], "--batch-size", "8", *texts[1:]) == expected
    for source in ([], ["--file", "-"]):
        done = subprocess.run(
            [sys.executable, "-m", "minibert", "predict", str(classifier), *source],
            input="\n".join(texts).encode(),
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"},
        )
        assert (done.returncode, done.stdout.decode()) == expected[:2]


@pytest.mark.parametrize("options", [[], ["--json"], ["one day", "--json"]])
def test_everything_after_two_dashes_is_text(command, classifier, options):
    code, output, _ = command("predict", classifier, *options, "--", "-5 degrees", "--json")
    assert code == 0
    texts = ["one day"] * ("one day" in options) + ["-5 degrees", "--json"]
    lines = output.splitlines()
    if "--json" in options:
        assert [json.loads(line)["text"] for line in lines] == texts
    else:
        assert [line.split("  ")[-1] for line in lines] == texts
    with pytest.raises(SystemExit):
        command("predict", classifier, "--json", "--bogus", "--", "-5 degrees")


def test_progress_bars_are_only_for_terminals(command, classifier, moods, monkeypatch):
    _, _, messages = command("evaluate", classifier, moods / "test.csv")
    assert messages.startswith("labels: ") and messages.count("\n") == 1
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, _, messages = command("evaluate", classifier, moods / "test.csv")
    assert "tokenising" in messages and "evaluating test.csv" in messages
    _, _, messages = command("evaluate", classifier, moods / "test.csv", "--quiet")
    assert messages == ""


def test_every_line_of_a_file_has_a_result_even_a_blank_one(command, classifier, tmp_path):
    lines = ["", "one day", " ", "", "so angry", ""]
    (tmp_path / "texts.txt").write_text("\n".join(lines) + "\n")
    code, output, _ = command("predict", classifier, "--file", "texts.txt", "--json")
    assert code == 0
    assert [json.loads(line)["text"] for line in output.splitlines()] == lines


def test_json_lines_can_be_parsed(command, classifier, tiny, tmp_path):
    def objects(*arguments):
        code, output, messages = command(*arguments, "--json")
        assert code == 0 and messages == ""
        return [json.loads(line) for line in output.splitlines()]

    texts = ["one happy day", "naïve"]
    predictions = objects("predict", classifier, *texts)
    assert [row["text"] for row in predictions] == texts
    assert set(predictions[0]) == {"text", "label", "probability", "probabilities"}
    assert set(predictions[0]["probabilities"]) == set(MOODS)
    [mask] = objects("fill-mask", tiny, "one [MASK] day", "--top", "3")
    assert len(mask["pieces"]) == 3 and mask["text"] == "one [MASK] day"
    vectors = objects("embed", tiny, *texts)
    assert [len(row["embedding"]) for row in vectors] == [32, 32]
    tokens = objects("tokenize", tiny, "one", "--pair", "day")
    assert [piece for piece, *_ in tokens[0]["pieces"]] == ["[CLS]", "one", "[SEP]", "day", "[SEP]"]
    [ledger] = objects("weights", tiny)
    assert ledger["model"] == "BertForMaskedLM"


@pytest.mark.parametrize("name", ["predict", "evaluate", "embed", "fill-mask"])
def test_threads_reach_torch_before_the_model(command, classifier, tiny, moods, monkeypatch, name):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    source = classifier if name in ("predict", "evaluate") else tiny
    what = moods / "test.csv" if name == "evaluate" else "one [MASK]"
    assert command(name, source, what)[0] == 0 and asked == []
    assert command(name, source, what, "--threads", "3")[0] == 0 and asked == [3]


def test_a_second_text_makes_pairs(command, classifier):
    _, alone, _ = command("predict", classifier, "one day", "--json")
    _, paired, _ = command("predict", classifier, "one day", "--json", "--pair", "so happy")
    assert json.loads(alone)["probability"] != json.loads(paired)["probability"]


def test_a_file_of_pairs_has_a_tab_in_each_line(command, classifier, tmp_path):
    (tmp_path / "pairs.txt").write_text("one day\tso happy\nthe rain\t\n")
    code, output, _ = command("predict", classifier, "--file", "pairs.txt", "--pairs", "--json")
    first, second = (json.loads(line) for line in output.splitlines())
    assert code == 0 and [first["text"], second["text"]] == ["one day", "the rain"]
    _, output, _ = command("predict", classifier, "one day", "--json", "--pair", "so happy")
    assert json.loads(output)["label"] == first["label"]
    assert json.loads(output)["probability"] == pytest.approx(first["probability"], abs=BOUNDS["official model fp32"])
    (tmp_path / "pairs.txt").write_text("one\ttwo\none day\n")
    result = command("predict", classifier, "--file", "pairs.txt", "--pairs")
    assert_refused(result, tmp_path, "Text 2 has 0 tabs", "--pairs")


def test_embed_prints_or_writes_vectors(command, tiny, tmp_path):
    code, output, messages = command("embed", tiny, "one", "day", "--output", "v.npy")
    assert (code, output, messages) == (0, "", "2 vectors of 32 in v.npy\n")
    written = np.load(tmp_path / "v.npy")
    _, output, _ = command("embed", tiny, "one", "day", "--json")
    printed = [json.loads(line)["embedding"] for line in output.splitlines()]
    np.testing.assert_array_equal(np.array(printed, np.float32), written)
    _, output, _ = command("embed", tiny, "one")
    assert output.startswith("one ") and output.endswith(" ... (32 numbers)\n")
    _, output, _ = command("embed", tiny, "one", "--normalize", "--pooling", "cls", "--json")
    assert np.linalg.norm(json.loads(output)["embedding"]) == pytest.approx(1)


def test_vocabulary_makes_a_tokenizer_and_measures_it(command, tmp_path):
    lines = [f"The {word} sat on the mat, Émile." for word in ("cat", "dog", "cow")] * 50
    (tmp_path / "a.txt").write_text("\n".join(lines[:-1] + ["We saw Zürich."]), encoding="utf-8")
    code, output, _ = command("vocabulary", "a.txt", "--size", 60, "--output", "made", "--quiet")
    assert code == 0
    first, second, third = output.splitlines()
    assert re.fullmatch(r"\d+ pieces from 147 sentences, in made", first)
    # "Zürich", in a held-out sentence, has letters that the rest has not: one word of 22.
    assert second.startswith("On 3 held-out sentences (22 words and punctuation marks): 1.")
    assert second.endswith(" 4.545% [UNK]")
    assert third.startswith("Longest pieces: ") and "emile" in third
    code, output, _ = command("tokenize", "made", "The cat")
    assert code == 0 and "cat" in output
    again = command("vocabulary", "a.txt", "--size", 60, "--output", "made", "--quiet")
    assert again[0] == 2 and "made exists" in again[2]
    code, output, _ = command("vocabulary", "a.txt", "--cased", "--output", "cased", "--quiet")
    assert code == 0 and "Émile" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.txt", "--size", "9"], "A vocabulary of 9 pieces has no room for the "),
        (["b.txt"], "b.txt does not exist"),
        (["a.docx"], "a.docx has the ending '.docx'"),
        (["a.conll"], "a.conll holds tagged words, not plain text"),
        (["a.jsonl", "--column", "body"], "line 1 has no column 'body'"),
    ],
)
def test_vocabulary_refuses_what_it_cannot_use(command, tmp_path, arguments, said):
    (tmp_path / "a.txt").write_text("one two three one two three")
    (tmp_path / "a.docx").write_text("text\none\n")
    (tmp_path / "a.conll").write_text("one\tO\n")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n')
    code, output, messages = command("vocabulary", *arguments, "--output", "made", "--quiet")
    assert (code, output) == (2, "") and said in messages and len(messages.splitlines()) == 1
    assert not (tmp_path / "made").exists()


def test_fill_mask_and_tokenize_print_for_people(command, tiny):
    _, output, _ = command("fill-mask", tiny, "one [MASK] day", "--top", "2")
    lines = output.splitlines()
    assert lines[0] == "one [MASK] day" and len(lines) == 3
    assert 0 < float(lines[1].split()[0]) < 1 and lines[1].split()[1] in VOCABULARY
    _, output, _ = command("tokenize", tiny, "Happy zoo")
    assert output.splitlines()[:3] == [
        "Happy zoo (6 pieces)",
        "       2  [CLS]",
        f"  {VOCABULARY.index('happy'):>6}  happy               0-5",
    ]


def test_the_ledger_of_the_official_checkpoint(command, minilm):
    code, output, messages = command("weights", minilm)
    assert code == 0 and messages == ""
    lines = output.splitlines()
    assert lines[0] == f"BertModel from {minilm}"
    last_bias = "encoder.layer.5.output.LayerNorm.bias encoder.layers.5.feed_forward_norm.bias"
    assert f"{last_bias} 384 float32" in [" ".join(line.split()) for line in lines]
    assert lines[-1].split() == ["sum", "103", "22,713,216"]
    assert any("embeddings.position_ids left out" in line for line in lines)


# --quiet: results and errors, nothing else


@pytest.fixture(scope="module")
def finished(tiny, moods, tmp_path_factory) -> Path:
    """A run on single texts."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main([*train_arguments(tiny, moods, output=folder), "--quiet"]) == 0
    return folder


LONG = "[MASK] " + "day " * 99  # is cut, which is a warning
QUIET = {
    "data": "TWICE --model TINY",
    "train": "--model TINY --train TWICE --epochs 1 --test-fraction 0.2",
    "pretrain": "--corpus TALES --layers 1 --hidden-size 8 --heads 2 --vocabulary-size 90 --max-length 16 --epochs 1",
    "recipes": "cola",
    "evaluate": "RUN TWICE --output report",
    "report": "RUN",
    "compare": "RUN RUN",
    "predict": "RUN LONG",
    "fill-mask": "TINY LONG",
    "embed": "TINY LONG --output v.npy",
    "explain": "TINY LONG --output made.html",
    "doctor": "MY_BERT",
    "probe": "TINY --train TWICE --test TWICE",
    "weights": "TINY",
    "tokenize": "TINY LONG",
    "convert": "CHECKPOINT made",
    "vocabulary": "TALES --size 90 --output made",
}


MY_BERT = """
from minibert.study.mistakes import forward

def build(config, tensors):
    return lambda ids, mask, segments: forward(config, tensors, ids, mask, segments)["hidden"]
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_quiet_is_quiet_even_on_a_terminal(command, tiny, finished, tmp_path, monkeypatch, name):
    texts = [f"{word} one day {'so ' * number}" for number in range(20) for word in MOODS]
    rows = [(text, text.split()[0]) for text in [*texts, *texts[:3]]] + [(LONG, "calm")]
    places = {
        "TINY": tiny,
        "RUN": finished,
        "TWICE": write_table(tmp_path / "twice.csv", ["text", "label"], rows),
        "TALES": tmp_path / "tales",
        "LONG": LONG,
        "CHECKPOINT": tmp_path / "checkpoint",
        "MY_BERT": tmp_path / "my_bert.py",
    }
    places["MY_BERT"].write_text(MY_BERT)
    places["CHECKPOINT"].mkdir()
    checkpoint(places["CHECKPOINT"])
    places["TALES"].mkdir()
    for number in range(40):
        (places["TALES"] / f"{number}.txt").write_text(f"One {'day ' * number}. So it was. The sky is green.")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    arguments = [places.get(argument, argument) for argument in QUIET[name].split()]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        code, output, messages = command(name, *arguments, "--quiet")
        assert (code, messages, warned) == (0, "", []) and (output or name == "embed")
        for leftover in ("made", "runs", "report"):
            shutil.rmtree(tmp_path / leftover, ignore_errors=True)
        _, _, messages = command(name, *arguments)
        nothing_to_say = name in ("recipes", "compare", "doctor", "weights", "tokenize")
        assert bool(messages or warned) != nothing_to_say  # there was something to be quiet about


# Options without effect


@pytest.mark.parametrize(
    "arguments, key",
    [
        (["predict", "CLASSIFIER", "one", "--top", "2"], "top"),
        (["predict", "CLASSIFIER", "one", "--allow-no-answer"], "allow_no_answer"),
        (["predict", "CLASSIFIER", "one", "--overlap", "5"], "overlap"),
        (["predict", "RUN", "one", "--pair", "day"], "pairs"),
        (["predict", "CLASSIFIER", "one", "--revision", "main"], "revision"),
        (["embed", "TINY", "one", "--json", "--output", "v.npy"], "json"),
        (["evaluate", "CLASSIFIER", "TEST", "--split", "validation"], "split"),
        (["evaluate", "CLASSIFIER", "TEST", "--sep", ";", "--format", "jsonl"], "sep"),
        (["evaluate", "RUN", "TEST", "--text-pair", "label"], "pairs"),
        (["weights", "TINY", "TINY"], "model"),
        (["weights", "TINY", "--file", "TEXTS"], "file"),
        (["weights", "diff", "TINY", "TINY", "--revision", "main"], "revision"),
        (["data", "TEST", "--split", "train"], "split"),
        (["data", "--train", "TEST", "--split", "train"], "split"),
        (["data", "TEST", "--revision", "main"], "revision"),
        (["data", "TEST", "--max-length", "9"], "max_length"),
        (["data", "TEXTS", "--text", "tweet"], "text"),
        (["data", "TEXTS", "--quoting", "--format", "conll"], "quoting"),
        (["train", "--model", "TINY", "--train", "TEST", "--validation", "TEST", "--data-seed", "1"], "data_seed"),
        (["train", "--model", "TINY", "--train", "TEST", "--pooling", "mean"], "pooling"),
        (["train", "--model", "TINY", "--train", "TEST", "--layer", "1"], "layer"),
    ],
)
def test_an_option_without_effect_is_refused(command, tiny, classifier, finished, moods, tmp_path, arguments, key):
    (tmp_path / "texts.txt").write_text("one day\n")
    places = {"TINY": tiny, "CLASSIFIER": classifier, "RUN": finished, "TEST": moods / "test.csv", "TEXTS": "texts.txt"}
    code, output, messages = command(*(places.get(argument, argument) for argument in arguments), "--quiet")
    assert (code, output) == (2, "") and key.replace("pairs", "pair") in messages
    assert not (tmp_path / "runs").exists()


def test_a_run_on_pairs_takes_pairs_alone(command, tiny, tmp_path):
    rows = [("one day", f"so {word}", word) for word in MOODS * 20]
    for name, header in (("train.csv", ["a", "b", "mood"]), ("other.csv", ["text", "b", "mood"])):
        write_table(tmp_path / name, header, rows)
    how = ["--text", "a", "--text-pair", "b", "--label", "mood", "--epochs", "1", "--output", "run", "--quiet"]
    assert command("train", "--model", tiny, "--train", "train.csv", *how)[0] == 0
    code, output, messages = command("predict", "run", "one day")
    assert (code, output) == (2, "") and "second text" in messages
    assert command("predict", "run", "one day", "--pair", "so calm")[0] == 0
    # Columns that are not named are those of the run.
    assert command("evaluate", "run", "train.csv")[0] == 0
    code, _, messages = command("evaluate", "run", "other.csv")
    assert code == 2 and "no column 'a'" in messages
    assert command("evaluate", "run", "other.csv", "--text", "text")[0] == 0


# Wrong input: one clear sentence, exit code 2, nothing written


def assert_refused(result, tmp_path, *words):
    code, output, messages = result
    assert code == 2 and output == ""
    assert messages.startswith("minibert: ") and messages.count("\n") == 1, messages
    for word in words:
        assert word in messages, messages
    assert not list(tmp_path.rglob("run.json")) and not (tmp_path / "runs").exists()


def test_a_missing_column(command, tiny, moods, tmp_path):
    path = write_table(tmp_path / "x.csv", ["text", "mood"], [("one day", "calm")])
    result = command(*train_arguments(tiny, moods, train=path), "--quiet")
    assert_refused(result, tmp_path, "x.csv", "no column 'label'", "there are text, mood")
    result = command(*train_arguments(tiny, moods, text="tweet"), "--quiet")
    assert_refused(result, tmp_path, "train.csv", "no column 'tweet'")


def test_an_unknown_label(command, tiny, moods, classifier, tmp_path):
    path = write_table(tmp_path / "x.csv", ["text", "label"], [("one day", "bored")])
    result = command(*train_arguments(tiny, moods, test=path), "--quiet")
    assert_refused(result, tmp_path, "x.csv:2", "'bored'", "angry, calm, happy")
    result = command("evaluate", classifier, path, "--quiet", "--output", "report")
    assert_refused(result, tmp_path, "x.csv:2", "'bored'", "angry, calm, happy")
    assert not (tmp_path / "report").exists()


def test_an_empty_file(command, tiny, moods, classifier, tmp_path):
    (tmp_path / "x.csv").write_text("")
    for key in ("train", "validation", "test"):
        result = command(*train_arguments(tiny, moods, **{key: "x.csv"}), "--quiet")
        assert_refused(result, tmp_path, "x.csv", "empty")
    (tmp_path / "x.csv").write_text("text,label\n")
    result = command(*train_arguments(tiny, moods, train="x.csv"), "--quiet")
    assert_refused(result, tmp_path, "x.csv", "no rows")
    (tmp_path / "x.txt").write_text("")
    result = command("predict", classifier, "--file", "x.txt")
    assert_refused(result, tmp_path, "x.txt", "holds no text")


def test_a_vocabulary_with_more_pieces_than_the_model(command, tiny, moods, tmp_path):
    wrong = tmp_path / "wrong"
    shutil.copytree(tiny, wrong)
    save_vocabulary(wrong, [*VOCABULARY, "extra", "pieces"])
    result = command(*train_arguments(wrong, moods), "--quiet")
    found, expected = str(len(VOCABULARY) + 2), str(len(VOCABULARY))
    assert_refused(result, tmp_path, "vocab.txt", found, expected, "config.json")
    assert_refused(command("tokenize", wrong, "one"), tmp_path, "vocab.txt", found, expected)


def test_a_folder_without_weights(command, tiny, moods, classifier, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(classifier, bare)
    (bare / "model.safetensors").unlink()
    for result in (
        command(*train_arguments(bare, moods), "--quiet"),
        command("predict", bare, "one"),
        command("embed", bare, "one"),
        command("weights", bare),
    ):
        assert_refused(result, tmp_path, "bare", "model.safetensors")


def test_a_folder_with_a_pickle_only(command, moods, classifier, tmp_path):
    pickled = tmp_path / "pickled"
    shutil.copytree(classifier, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    for result in (
        command(*train_arguments(pickled, moods), "--quiet"),
        command("predict", pickled, "one"),
        command("weights", pickled),
    ):
        assert_refused(result, tmp_path, "pytorch_model.bin", "pickle", "safetensors")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["predict", "nowhere/at/all", "one"], ["no folder nowhere/at/all"]),
        (["predict", "TINY", "one"], ["BertForMaskedLM", "minibert train --model"]),
        (["fill-mask", "TINY", "one"], ["no [MASK]", "Write [MASK]"]),
        (["fill-mask", "CLASSIFIER", "[MASK]"], ["needs a BertForMaskedLM"]),
        (["fill-mask", "TINY", "[MASK]", "--top", "0"], ["top is 0"]),
        (["predict", "CLASSIFIER", "one", "--file", "x.txt"], ["not both"]),
        (["predict", "CLASSIFIER", "--file", "absent.txt"], ["absent.txt could not be read"]),
        (["predict", "CLASSIFIER", "one", "--batch-size", "0"], ["batch_size is 0"]),
        (["predict", "CLASSIFIER", "one", "--max-length", "900"], ["900", "30"]),
        (["predict", "CLASSIFIER", "one", "--device", "abacus"], ["abacus"]),
        (["predict", "CLASSIFIER", "one", "--device", "tpu"], ["auto, cuda, mps or cpu."]),
        (["evaluate", "CLASSIFIER", "absent.csv"], ["no file or folder absent.csv"]),
        (["embed", "TINY", ""], []),
    ],
)
def test_other_wrong_input(command, tiny, classifier, tmp_path, arguments, words):
    places = {"TINY": tiny, "CLASSIFIER": classifier}
    result = command(*(places.get(argument, argument) for argument in arguments))
    if words:
        assert_refused(result, tmp_path, *words)
    else:
        assert result[0] == 0  # an empty text is a text


def test_text_that_is_not_utf8(command, classifier, tmp_path):
    (tmp_path / "x.txt").write_bytes("größer\n".encode("latin-1"))
    assert_refused(command("predict", classifier, "--file", "x.txt"), tmp_path, "not UTF-8")


# Long texts


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("name", ["predict", "embed", "fill-mask"])
def test_a_very_long_text_is_cut_counted_and_warned_about_once(command, classifier, tiny, monkeypatch, name):
    """As a process of its own would: through the real warning filter and its formatting."""
    source = classifier if name == "predict" else tiny
    long = "[MASK] " + "day " * 9999
    code, output, messages = run_process([name, str(source), long])
    assert code == 0 and output
    assert messages == ("warning: 1 of 1 texts had more than 30 tokens and were cut (9972 tokens lost).\n")


# Signals, pipes, unexpected errors


def run_process(arguments: list[str], **options) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "minibert", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number, code, word", [(2, 130, "Interrupted"), (15, 143, "Terminated")])
def test_signals_stop_a_run_with_their_own_exit_codes(tiny, moods, tmp_path, number, code, word):
    process = subprocess.Popen(
        [sys.executable, "-m", "minibert", *train_arguments(tiny, moods, epochs=500)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A shell that starts the tests in the background has Ctrl-C ignored by all below it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 100  # a guard against hanging alone
    while not (tmp_path / "runs/001/log.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.Signals(number))
    output, messages = process.communicate(timeout=60)
    assert process.returncode == code, messages
    way = "Resume it: minibert train --resume runs/001"
    assert messages.splitlines()[-1] == f"minibert: {word}. {way}"
    assert "Traceback" not in messages and output == ""
    assert read_json(tmp_path / "runs/001/run.json")["status"] == "unfinished"
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_reader_that_stops_is_not_an_error(tiny, tmp_path):
    (tmp_path / "texts.txt").write_text("one happy day\n" * 5000)
    command = f"{sys.executable} -m minibert tokenize {tiny} --file texts.txt"
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "one happy day (5 pieces)\n", "")


def test_an_unexpected_error_is_one_line_and_debug_adds_the_traceback(command, tiny, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("the sky fell")

    monkeypatch.setattr("minibert.workbench.tasks.tokenize.tokenize", fail)
    code, _, messages = command("tokenize", tiny, "one")
    assert code == 1
    assert messages == ("minibert: RuntimeError: the sky fell (--debug shows where it came from)\n")
    code, _, messages = command("tokenize", tiny, "one", "--debug")
    assert code == 1 and "Traceback (most recent call last)" in messages
    code, _, messages = command("predict", tiny, "one", "--debug")
    assert code == 2 and "Traceback" in messages and "CheckpointError" in messages


def test_a_failed_write_gives_1(command, tiny, moods, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, messages = command("embed", tiny, "one", "--output", "file/v.npy")
    assert code == 1 and messages.startswith("minibert: file/v.npy could not be written")
    code, _, messages = command(*train_arguments(tiny, moods, output="file/run"), "--quiet")
    assert code == 1 and "could not be made" in messages
