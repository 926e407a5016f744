"""Labels in the forms that files have them, through `data`, `train`, `evaluate` and `finetune`."""

from __future__ import annotations

import json

import pytest

from minibert import BertForSequenceClassification, BertTokenizer
from minibert.data import Example
from minibert.io.errors import DataError
from minibert.io.files import read_json
from minibert.workbench.tasks.finetune import finetune
from tests.conftest import refused
from tests.workbench.conftest import MOODS, write_table

SINGLE, MULTI, NUMBER = "single_label_classification", "multi_label_classification", "regression"
WORDS = ["one angry day", "the calm sky", "a happy walk"]


def write_lines(path, labels, start=0):
    rows = [{"text": f"{WORDS[row % 3]} {'so ' * (start + row)}", "label": label} for row, label in enumerate(labels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train(command, model, path, *options) -> tuple[dict, str]:
    """The record of a run of one epoch, and what was printed."""
    folder = path.parent / "run"
    code, _, err = command("train", "--model", model, "--train", path, "--epochs", 1, "--output", folder, *options)
    assert code == 0, err
    return read_json(folder / "run.json"), err


def test_vectors_are_trained_on_and_measured(command, tiny, tmp_path):
    vectors = [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    path = write_lines(tmp_path / "train.jsonl", vectors * 8)
    record, err = train(command, tiny, path, "--test-fraction", 0.25)
    assert record["problem_type"] == MULTI and record["labels"] == ["0", "1", "2"]
    assert record["data"]["train"]["labels"]["0"] < record["data"]["train"]["examples"]
    assert f"labels: {MULTI}" in err and record["problem_type_reason"] in err
    other = write_lines(tmp_path / "test.jsonl", [[True, False, False], [False, True, True]])
    code, out, err = command("evaluate", tmp_path / "run", other, "--json")
    assert code == 0 and f"labels: {MULTI}" in err and "--problem-type" not in err
    assert json.loads(out)["examples"] == 2
    code, out, _ = command("data", "--train", path, "--test", other)
    assert code == 0 and MULTI in out and "--problem-type" in out
    assert command("evaluate", tmp_path / "run", other, "--quiet")[2] == ""


def test_lists_in_which_every_class_applies_to_every_text(command, tiny, tmp_path):
    path = write_lines(tmp_path / "train.jsonl", [["a", "b"]] * 30)
    code, out, _ = command("data", path)
    assert code == 2 and "fault: train.jsonl: every class" in out
    code, _, err = command("train", "--model", tiny, "--train", path, "--output", tmp_path / "run")
    assert code == 2 and not (tmp_path / "run").exists()


@pytest.mark.parametrize("asked", [None, SINGLE, NUMBER])
def test_whole_numbers_with_decimals_are_what_is_asked_for(command, tiny, tmp_path, asked):
    rows = [(f"{WORDS[row % 3]} {'so ' * row}", float(row % 3 > 0)) for row in range(24)]
    path = write_table(tmp_path / "train.csv", ["text", "label"], rows)
    options = () if asked is None else ("--problem-type", asked)
    record, err = train(command, tiny, path, *options)
    assert record["problem_type"] == (asked or SINGLE) and f"labels: {asked or SINGLE}" in err
    assert record["labels"] == (None if asked == NUMBER else ["0", "1"])
    code, out, _ = command("data", path, *options, "--json")
    assert code == 0 and json.loads(out)["splits"]["train.csv"]["problem_type"] == (asked or SINGLE)
    whole = write_table(tmp_path / "test.csv", ["text", "label"], [("a day", 1), ("a sky", 0)])
    assert command("evaluate", tmp_path / "run", whole)[0] == 0


def test_bad_rows_are_listed_beside_everything_else(command, tiny, tmp_path):
    labels = [None if row % 6 == 5 else "ab"[row % 2] for row in range(36)]
    path = write_lines(tmp_path / "train.jsonl", labels)
    code, out, err = command("data", path)
    assert code == 2 and "fault: train.jsonl: rows" in out and "6 of them" in out and "--drop-bad-rows" in out
    assert "train.jsonl:6 has no label" in out and "Some of train.jsonl" in out
    code, _, err = command("train", "--model", tiny, "--train", path, "--output", tmp_path / "run")
    assert code == 2 and "6 of 36 rows" in err and not (tmp_path / "run").exists()
    code, out, _ = command("data", path, "--drop-bad-rows", "--json")
    [finding] = [one for one in json.loads(out)["findings"] if one["kind"] == "bad_rows"]
    assert code == 0 and finding["severity"] == "warning" and finding["numbers"]["rows"] == 6
    with pytest.warns(UserWarning, match="train: rows .* 6 of them"):
        record, _ = train(command, tiny, path, "--drop-bad-rows")
    assert record["data"]["train"]["dropped_rows"] == 6
    assert record["data"]["train"]["dropped"][0].startswith("train.jsonl:6 has no label")
    assert record["data"]["train"]["examples"] + record["data"]["validation"]["examples"] == 30
    code, _, err = command("evaluate", tmp_path / "run", path)
    assert code == 2 and "6 of 36 rows" in err


def test_several_labels_in_a_table(command, tiny, tmp_path):
    rows = [(f"{WORDS[row % 3]} {'so ' * row}", ["joy,fear", "joy", "fear"][row % 3]) for row in range(24)]
    path = write_table(tmp_path / "train.csv", ["text", "moods"], rows)
    record, _ = train(command, tiny, path, "--label", "moods", "--label-sep", ",")
    assert record["problem_type"] == MULTI and record["labels"] == ["fear", "joy"]
    assert record["settings"]["label"] == "moods"
    code, out, _ = command("evaluate", tmp_path / "run", path, "--json")
    assert code == 0 and json.loads(out)["examples"] == 24


def test_a_column_for_each_class(command, tiny, tmp_path):
    rows = [(f"{WORDS[row % 3]} {'so ' * row}", int(row % 3 == 0), int(row % 2)) for row in range(24)]
    path = write_table(tmp_path / "train.csv", ["text", "joy", "fear"], rows)
    code, out, _ = command("data", path, "--label", "joy", "fear", "--json")
    assert code == 0 and json.loads(out)["splits"]["train.csv"]["labels"] == {"joy": 8, "fear": 12}
    record, _ = train(command, tiny, path, "--label", "joy", "fear")
    assert record["problem_type"] == MULTI and record["labels"] == ["joy", "fear"]
    code, out, _ = command("evaluate", tmp_path / "run", path, "--json")  # by the columns of the run
    assert code == 0 and json.loads(out)["examples"] == 24
    code, _, err = command("data", "--label", "joy", "fear", path)
    assert code == 2 and "before" in err


def test_ids_are_not_classes(command, tiny, tmp_path):
    path = write_lines(tmp_path / "train.jsonl", [f"id-{row}" for row in range(40)])
    code, out, _ = command("data", path)
    assert code == 2 and "--label" in out
    code, _, err = command("train", "--model", tiny, "--train", path, "--output", tmp_path / "run")
    assert code == 2 and "--label" in err and not (tmp_path / "run").exists()


# Objects


@pytest.mark.parametrize(
    ("problem_type", "labels", "row"),
    [
        (SINGLE, [0, 1, 3], 2),
        (SINGLE, [0, "calm", 1], 1),
        (SINGLE, [0, 1, -1], 2),
        (SINGLE, [0, 1, None], 2),
        (SINGLE, [0, 1.5, 1], 1),
        (MULTI, [(1, 0, 0), (0, 1)], 1),
        (MULTI, [(1, 0, 0), (0, 2, 0)], 1),
        (MULTI, [(1, 0, 0), 2], 1),
        (NUMBER, [0.5, float("nan")], 1),
        (NUMBER, [0.5, "much"], 1),
    ],
)
def test_labels_of_objects_are_checked(tiny, tmp_path, problem_type, labels, row):
    given = {"problem_type": problem_type} | ({"num_labels": 1} if problem_type == NUMBER else {"labels": MOODS})
    model = BertForSequenceClassification.from_pretrained(tiny, **given)
    tokenizer = BertTokenizer.from_pretrained(tiny)
    examples = [Example(f"one {'so ' * row}", label=label) for row, label in enumerate(labels)] + [
        Example("a", label=labels[0])
    ] * 8
    with refused(DataError, f"train:{row}"):
        finetune(model=model, tokenizer=tokenizer, train=examples, output=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("labels", [[[1, 0, 0], [0, 1, 1], [0, 0, 1]], [(True, False, False), (0.0, 1.0, 1.0)]])
def test_vectors_of_objects_may_be_written_in_any_way(tiny, tmp_path, labels):
    model = BertForSequenceClassification.from_pretrained(tiny, labels=MOODS, problem_type=MULTI)
    tokenizer = BertTokenizer.from_pretrained(tiny)
    examples = [Example(f"one {'so ' * row}", label=labels[row % len(labels)]) for row in range(20)]
    run = finetune(model=model, tokenizer=tokenizer, train=examples, output=tmp_path / "run", progress=False, epochs=1)
    assert read_json(run.folder / "run.json")["problem_type"] == MULTI
