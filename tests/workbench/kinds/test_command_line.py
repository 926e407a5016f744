"""Inputs that fit no kind of task: one sentence that names what is wrong, and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minibert import (
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from minibert.workbench.cli import main
from tests.workbench.conftest import MOODS, save_model


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    heads = {
        "answers": BertForQuestionAnswering,
        "chooses": BertForMultipleChoice,
        "classes": BertForSequenceClassification,
        "tags": BertForTokenClassification,
    }
    names = {"classes": MOODS, "tags": ("B-per", "I-per", "O")}
    for name, head in heads.items():
        more = {"id2label": dict(enumerate(names[name]))} if name in names else {}
        save_model(folder / name, head, **more)
    return {name: str(folder / name) for name in heads}


def squad(answer: str = "anna", start: int = 8, count: int = 1) -> str:
    paragraphs = [
        {
            "context": f"the sky anna is {MOODS[number % 3]}",
            "qas": [{"id": str(number), "question": "who is so", "answers": [{"text": answer, "answer_start": start}]}],
        }
        for number in range(count)
    ]
    return json.dumps({"data": [{"paragraphs": paragraphs}]})


def refused(capsys, *arguments: str) -> str:
    """The one sentence (and a hint) that a command ends with."""
    code = main(list(arguments))
    found = capsys.readouterr()
    assert code == 2, found.err
    assert found.out == ""
    lines = [line for line in found.err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, found.err
    assert lines[0].startswith("minibert: ") and lines[0].endswith((".", ")"))
    assert "Traceback" not in found.err and "Error" not in found.err
    return lines[0]


@pytest.mark.parametrize(
    "model, arguments, message",
    [
        ("answers", ["who?"], "A question needs a context to be answered from."),
        ("answers", ["who?", "--choice", "a", "--choice", "b"], "question_answering takes no choices"),
        ("chooses", ["so"], "needs choices for each text"),
        ("chooses", ["so", "--choice", "one"], "2 texts or more are needed"),
        ("chooses", ["so", "--pair", "x"], "multiple_choice takes no pairs"),
        ("classes", ["so", "--choice", "a", "--choice", "b"], "single_label_classification takes no choices"),
        ("tags", ["so", "--pair", "x"], "token_classification takes no pairs"),
        ("tags", ["so", "--choice", "a", "--choice", "b"], "token_classification takes no choices"),
        ("answers", ["who?", "--pair", "x", "--top", "0"], "top is 0, but it must be 1 or more"),
    ],
)
def test_predicting_with_what_the_model_does_not_take(models, capsys, model, arguments, message):
    assert message in refused(capsys, "predict", models[model], *arguments, "--allow-untrained", "--quiet")


FILES = {
    "offset.json": squad(start=9),
    "outside.json": squad(start=900),
    "negative.json": squad(start=-4),
    "table.json": '{"data": [{"paragraphs": [3]}]}',
    "tags.conll": "so\tO\nanna\tI-per\n",
    "other.conll": "so\tB-loc\nanna\tI-per\n",
    "none.jsonl": '{"text": "so", "choices": [], "label": 0}\n',
    "one.jsonl": '{"text": "so", "choices": ["a"], "label": 0}\n',
    "beyond.jsonl": '{"text": "so", "choices": ["a", "b"], "label": 2}\n',
    "unlabelled.jsonl": '{"text": "so", "choices": ["a", "b"], "label": null}\n',
}


@pytest.mark.parametrize(
    "file, message",
    [
        ("offset.json", "the answer 'anna' at character 9, but 'nna ' stands there. It stands at 8."),
        ("outside.json", "the answer 'anna' at character 900, but '' stands there"),
        ("negative.json", "the answer 'anna' at character -4, but '' stands there"),
        ("table.json", "not in the form of SQuAD"),
        ("tags.conll", "word 2 ('anna') has the tag I-per, but O comes before it"),
        ("other.conll", "word 2 ('anna') has the tag I-per, but B-loc comes before it"),
        ("none.jsonl", "line 1 has [] as choices, which is not a list of 2 texts or more"),
        ("one.jsonl", "line 1 has ['a'] as choices"),
        ("beyond.jsonl", "line 1 has the label 2, which is not a choice of its 2"),
        ("unlabelled.jsonl", "line 1 has the label None, which is not a choice of its 2"),
    ],
)
def test_data_that_contradict_themselves(tiny, models, tmp_path, capsys, file, message):
    """In training, in evaluation, in a look at the data: the same sentence."""
    path = tmp_path / file
    path.write_text(FILES[file])
    ending = path.suffix
    reading = ["--choices", "choices"] if ending == ".jsonl" else []
    name = {".json": "answers", ".conll": "tags", ".jsonl": "chooses"}[ending]
    output = tmp_path / "run"
    for command in (
        ["train", "--model", str(tiny), "--train", str(path), "--output", str(output)],
        ["evaluate", models[name], str(path)],
        ["data", str(path)],
    ):
        found = refused(capsys, *command, *reading, "--quiet")
        assert message in found and file in found
    assert not output.exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--class-weights"], "class_weights needs one class for each text"),
        (["--balanced"], "balanced needs one class for each text"),
        (["--probe", "linear"], "A probe predicts one class"),
        (["--probe", "logistic"], "A probe predicts one class"),
        (["--watch", "accuracy"], "watch is 'accuracy', but the metrics here are f1, exact"),
        (["--problem-type", "regression"], "regression"),
        (["--test", "train.json", "--test-fraction", "0.5"], "leave one of the two out"),
        (["--overlap", "40"], "overlap"),
    ],
)
def test_settings_that_questions_do_not_have(tiny, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("train.json").write_text(squad(count=12))
    given = ["--model", str(tiny), "--train", "train.json", "--output", "run"]
    found = refused(capsys, "train", *given, *arguments, "--validation-fraction", "0.3", "--quiet")
    assert message in found
    assert not Path("run").exists()


def test_labels_for_another_kind_than_the_model(models, tmp_path, capsys):
    (tmp_path / "x.json").write_text(squad())
    (tmp_path / "x.csv").write_text("text,label\nso,calm\n")
    (tmp_path / "x.conll").write_text("anna\tB-per\n")
    for model, file in (("classes", "x.json"), ("tags", "x.json"), ("chooses", "x.conll")):
        found = refused(capsys, "evaluate", models[model], str(tmp_path / file), "--quiet")
        assert file in found
    found = refused(capsys, "evaluate", models["answers"], str(tmp_path / "x.csv"), "--quiet")
    assert "question" in found or "context" in found
