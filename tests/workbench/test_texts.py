"""Texts of a table: a column is read, the other columns are kept, results stand beside them."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

from minibert import (
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from minibert.workbench.cli import main
from minibert.workbench.data import tables
from minibert.workbench.tasks.embed import Embedder
from minibert.workbench.tasks.predict import Predictor
from tests.workbench.conftest import MOODS, NAMES, save_model, sentence, write_table

# As spreadsheets write it: an id, a line break, a comma and a quote inside texts, an empty cell.
TABLE = 'id,review,stars\n1,"happy day,\nso ""green""",5\n02,the sky,\n'
TEXTS = ['happy day,\nso "green"', "the sky"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Untrained models of every kind of task."""
    folder = tmp_path_factory.mktemp("models")
    classes = {"id2label": dict(enumerate(MOODS)), "initializer_range": 0.5}
    heads = {
        "classes": (BertForSequenceClassification, classes),
        "several": (BertForSequenceClassification, {**classes, "problem_type": "multi_label_classification"}),
        "number": (BertForSequenceClassification, {"id2label": {0: "score"}}),
        "tags": (BertForTokenClassification, {"id2label": dict(enumerate(("B-per", "I-per", "O")))}),
        "answers": (BertForQuestionAnswering, {}),
        "chooses": (BertForMultipleChoice, {}),
    }
    return {name: save_model(folder / name, head, **more) for name, (head, more) in heads.items()}


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Runs a command in a folder with the table; gives (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    Path("reviews.csv").write_text(TABLE)

    def run(*arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


def read(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_row_stays_a_row_and_keeps_its_columns(command, models):
    """The issue's own case: two rows, ids kept, the line break inside a text kept."""
    code, output, messages = command("predict", models["classes"], "--file", "reviews.csv", "--output", "out.csv")
    assert (code, output) == (0, "")
    assert "column 'review'" in messages and "--text" in messages and "out.csv: 2 rows" in messages
    rows = read("out.csv")
    assert [(row["id"], row["review"], row["stars"]) for row in rows] == [("1", TEXTS[0], "5"), ("02", TEXTS[1], "")]
    expected = Predictor.from_pretrained(models["classes"], precision="auto")(TEXTS)
    for row, one in zip(rows, expected, strict=True):
        assert row["prediction"] == one.label and float(row["probability"]) == pytest.approx(one.probability)
        found = {name: float(row[f"probability_{name}"]) for name in MOODS}
        assert found == pytest.approx(one.probabilities)
    # The same as JSON lines on standard output, and for people.
    _, output, _ = command("predict", models["classes"], "--file", "reviews.csv", "--json")
    printed = [json.loads(line) for line in output.splitlines()]
    assert [row["review"] for row in printed] == TEXTS and printed[1]["id"] == "02"
    assert [row["prediction"] for row in printed] == [one.label for one in expected]
    _, output, _ = command("predict", models["classes"], "--file", "reviews.csv")
    assert output.splitlines() == list(map(str, expected))


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_is_read_and_written_with_the_same_rows(command, models, ending):
    assert command("predict", models["classes"], "--file", "reviews.csv", "--output", f"a.{ending}")[0] == 0
    # A second model reads what the first one wrote.
    code, _, messages = command("embed", models["classes"], "--file", f"a.{ending}", "--output", "b.jsonl", "--quiet")
    assert (code, messages) == (0, "")
    rows = [json.loads(line) for line in Path("b.jsonl").read_text().splitlines()]
    assert [row["review"] for row in rows] == TEXTS and [row["id"] for row in rows] == ["1", "02"]
    assert all(row["prediction"] in MOODS for row in rows)
    vectors = np.array([[row[f"embedding_{place}"] for place in range(32)] for row in rows])
    np.testing.assert_allclose(vectors, Embedder.from_pretrained(models["classes"])(TEXTS), atol=1e-5)


ROWS = [{"text": "the anna so", "n": 1}, {"text": "berlin", "n": 2}]
KINDS = {
    "several": (ROWS, [], {"prediction", "probability", *(f"probability_{name}" for name in MOODS)}),
    "number": (ROWS, [], {"prediction"}),
    "tags": (ROWS, [], {"prediction", "prediction_words", "prediction_entities"}),
    "answers": (
        [{"question": "who", "context": "anna is so"}, {"question": "what", "context": "the sky"}],
        ["--top", "2"],
        {"prediction", "probability", "prediction_start", "prediction_end", "probability_no_answer"}
        | {"prediction_others"},
    ),
    "chooses": (
        [{**row, "choices": ["a", "b"]} for row in ROWS],
        [],
        {"prediction", "prediction_place", "probability"},
    ),
}


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_has_columns(command, models, kind, ending):
    rows, more, added = KINDS[kind]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, messages = command("predict", models[kind], "--file", "in.jsonl", *more, "--output", f"out.{ending}")
    assert code == 0, messages
    if ending == "csv":
        found = read(f"out.{ending}")
    elif ending == "jsonl":
        found = [json.loads(line) for line in Path(f"out.{ending}").read_text().splitlines()]
        assert [{key: row[key] for key in rows[0]} for row in found] == rows
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        found = parquet.read_table(f"out.{ending}").to_pylist()
    assert all(row.keys() == {*rows[0], *added} for row in found) and len(found) == 2


def test_choices_may_stand_in_columns_of_their_own_or_be_the_same_for_all(command, models):
    write_table(Path("in.csv"), ["start", "a", "b"], [("the sky", "so green", "anna")])
    model = models["chooses"]
    assert command("predict", model, "--file", "in.csv", "--text", "start", "--choices", "a", "b", "--json")[0] == 0
    one = ["--choice", "so green", "--choice", "anna"]
    _, output, _ = command("predict", model, "--file", "in.csv", "--text", "start", "--choices", "a", "b", "--json")
    _, same, _ = command("predict", model, "the sky", *one, "--json")
    assert json.loads(output)["prediction"] == json.loads(same)["choice"]


def test_second_texts_come_from_a_column(command, models):
    write_table(Path("in.csv"), ["a", "b"], [("one day", "so calm"), ("the sky", "anna")])
    model = models["classes"]
    _, output, _ = command("predict", model, "--file", "in.csv", "--text", "a", "--pair", "b", "--json")
    found = [json.loads(line)["probability"] for line in output.splitlines()]
    expected = Predictor.from_pretrained(model)(["one day", "the sky"], ["so calm", "anna"])
    assert found == pytest.approx([one.probability for one in expected], abs=1e-5)
    code, _, messages = command("predict", model, "--file", "in.csv", "--text", "a", "--pair", "c")
    assert code == 2 and "no column 'c'" in messages


def test_a_run_reads_the_columns_that_it_was_trained_on(command, tiny, tmp_path):
    draw = random.Random(0)
    rows = [(sentence(draw, word), word, "x") for word in MOODS * 20]
    write_table(Path("train.csv"), ["note", "mood", "text"], rows)
    how = "--text note --label mood --epochs 1 --precision fp32 --output run --quiet"
    assert command("train", "--model", tiny, "--train", "train.csv", *how.split())[0] == 0
    _, output, messages = command("predict", "run", "--file", "train.csv", "--json")
    assert "column 'note'" in messages
    found = [json.loads(line)["probability"] for line in output.splitlines()]
    expected = Predictor.from_pretrained("run")([row[0] for row in rows])
    assert found == pytest.approx([one.probability for one in expected], abs=1e-5)


def test_parts_of_a_table_give_what_the_whole_gives(command, models, monkeypatch):
    draw = random.Random(1)
    write_table(Path("many.csv"), ["text", "n"], [(sentence(draw, "happy"), place) for place in range(50)])
    assert command("predict", models["classes"], "--file", "many.csv", "--output", "whole.csv")[0] == 0
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 7)
    for ending in ("csv", "parquet"):
        assert command("predict", models["classes"], "--file", "many.csv", "--output", f"parts.{ending}")[0] == 0
    assert [row["n"] for row in read("parts.csv")] == list(map(str, range(50)))
    for one, other in zip(read("whole.csv"), read("parts.csv"), strict=True):
        assert one["prediction"] == other["prediction"]
        assert float(one["probability"]) == pytest.approx(float(other["probability"]), abs=1e-5)


def test_masks_in_a_table_are_filled(command, tiny):
    write_table(Path("in.csv"), ["id", "text"], [("a", "one [MASK] day"), ("b", "[MASK] is [MASK]")])
    assert command("fill-mask", tiny, "--file", "in.csv", "--top", "2", "--output", "out.jsonl")[0] == 0
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [len(row["prediction"]) for row in rows] == [1, 2] and [row["id"] for row in rows] == ["a", "b"]
    assert [len(row["candidates"][0]) for row in rows] == [2, 2]
    write_table(Path("in.csv"), ["id", "text"], [("a", "one [MASK] day"), ("b", "nothing")])
    code, _, messages = command("fill-mask", tiny, "--file", "in.csv", "--output", "none.csv")
    assert code == 2 and "in.csv:3" in messages and not Path("none.csv").exists()


def test_vectors_of_a_table_or_of_lines_go_to_a_file_of_either_form(command, tiny):
    expected = Embedder.from_pretrained(tiny)(TEXTS)
    assert command("embed", tiny, "--file", "reviews.csv", "--output", "v.npy")[0] == 0
    np.testing.assert_allclose(np.load("v.npy"), expected, atol=1e-6)
    assert command("embed", tiny, "the sky", "--output", "v.csv")[0] == 0
    [row] = read("v.csv")
    assert row["text"] == "the sky" and float(row["embedding_31"]) == pytest.approx(expected[1, 31], abs=1e-5)


@pytest.mark.parametrize(
    "header, found",
    [
        ("Review Text,Rating", "Review Text"),
        ("title,TEXT", "TEXT"),
        ("id,customer-comment,comment", "comment"),
        ("opinion", "opinion"),  # the only one
        ("a,b", None),  # a guess would be silent
    ],
)
def test_the_column_of_the_text_is_found_by_its_name(command, models, header, found):
    Path("x.csv").write_text(f"{header}\n{','.join('happy' for _ in header.split(','))}\n")
    code, output, messages = command("predict", models["classes"], "--file", "x.csv")
    assert (code, output != "") == ((0, True) if found else (2, False))
    assert (f"column {found!r}" if found else "--text") in messages


def test_a_table_in_a_file_of_any_name_is_read_if_options_say_so(command, models):
    Path("x.data").write_text("id;opinion\n1;one day\n2;so calm\n")
    how = ["--format", "csv", "--sep", ";", "--text", "opinion", "--json", "--quiet"]
    code, output, _ = command("predict", models["classes"], "--file", "x.data", *how)
    assert code == 0 and [json.loads(line)["opinion"] for line in output.splitlines()] == ["one day", "so calm"]
    # Without them each line is a text.
    _, output, _ = command("predict", models["classes"], "--file", "x.data", "--json")
    assert [json.loads(line)["text"] for line in output.splitlines()][0] == "id;opinion"
    # A column name that is there twice keeps both columns.
    Path("twice.csv").write_text("text,n,n\nso,1,2\n")
    _, output, _ = command("predict", models["classes"], "--file", "twice.csv", "--json")
    assert {"n": "1", "n.1": "2"}.items() <= json.loads(output).items()


def test_texts_in_other_encodings_and_packed_files_are_read_as_training_data_are(command, models):
    Path("old.csv").write_bytes("text,n\ngrün,1\n".encode("windows-1252"))
    Path("old.txt").write_bytes("grün\nso\n".encode("windows-1252"))
    Path("excel.txt").write_text("grün\nso\n", encoding="utf-16")
    with gzip.open("packed.csv.gz", "wt", encoding="utf-8") as file:
        file.write("text,n\ngrün,1\n")
    old = ["--encoding", "windows-1252"]
    for name, more, count in (
        *(("old.csv", old, 1), ("old.txt", old, 2), ("excel.txt", [], 2), ("packed.csv.gz", [], 1)),
    ):
        code, output, messages = command("predict", models["classes"], "--file", name, "--json", *more)
        assert code == 0, messages
        lines = [json.loads(line) for line in output.splitlines()]
        assert (lines[0]["text"], len(lines)) == ("grün", count)
    code, _, messages = command("predict", models["classes"], "--file", "old.txt")
    assert code == 2 and "not UTF-8" in messages and "encoding" in messages


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["reviews.csv"], "--file reviews.csv"),  # the name of a file, given as a text
        (["so", "--text", "review"], "text is about a table"),
        (["so", "--encoding", "utf-16"], "encoding is that of a file"),
        (["so", "--sep", ";"], "sep is about a table"),
        (["so", "--choices", "a", "b"], "choices is about a table"),
        (["--file", "reviews.csv", "--pairs"], "pairs is about plain texts"),
        (["--file", "reviews.csv", "--text", "opinion"], "no column 'opinion'"),
        (["--file", "unnamed.csv"], "no column 'text'"),
        (["--file", "rows.jsonl", "--sep", ";"], "sep has no effect"),
        (["--file", "null.jsonl"], "null.jsonl"),
        (["--file", "reviews.csv", "--choices", "review", "stars"], "takes no choices"),
        (["--file", "reviews.csv", "--output", "reviews.csv"], "the file that is read"),
        (["--file", "reviews.csv", "--output", "out.xlsx"], "'.xlsx'"),
        (["--file", "reviews.csv", "--output", "out.csv", "--json"], "json"),
        (["--file", "done.csv", "--output", "out.csv"], "'prediction' already"),
        (["--file", "ragged.csv", "--output", "out.csv"], "ragged.csv, line 3"),
    ],
)
def test_what_cannot_be_read_or_written_is_refused(command, models, arguments, word):
    Path("unnamed.csv").write_text("a,b\n1,2\n")
    Path("rows.jsonl").write_text('{"text": "so"}\n')
    Path("null.jsonl").write_text('{"text": null}\n')
    Path("done.csv").write_text("text,prediction\nso,calm\n")
    Path("ragged.csv").write_text("text,n\nso,1\nso,1,2\n")
    before = Path("reviews.csv").read_bytes()
    code, output, messages = command("predict", models["classes"], *arguments, "--quiet")
    assert (code, output) == (2, "") and word in messages and messages.count("\n") == 1
    assert Path("reviews.csv").read_bytes() == before
    assert not Path("out.csv").exists() and not list(Path().glob("*.tmp"))


def test_a_row_that_fails_late_leaves_no_file(command, models, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 2)
    Path("late.csv").write_text("text,n\n" + "so,1\n" * 5 + "so,1,2\n")
    for ending in ("csv", "jsonl", "parquet"):
        assert command("predict", models["classes"], "--file", "late.csv", "--output", f"out.{ending}")[0] == 2
        assert not Path(f"out.{ending}").exists() and not list(Path().glob(".*.tmp"))


@pytest.mark.parametrize(
    ("raw", "options"),
    [
        ("süß\n\nthe sky\n".encode("utf-16"), ()),
        (gzip.compress("süß\n\nthe sky".encode(), mtime=0), ()),
        ("süß\r\n\r\nthe sky\r\n".encode("utf-8-sig"), ()),
        ("süß\n\nthe sky\n".encode("windows-1252"), ("--encoding", "windows-1252")),
    ],
)
def test_lines_of_text_may_be_packed_or_in_another_encoding(command, models, raw, options):
    Path("texts.txt").write_bytes(raw)
    code, output, _ = command("predict", models["classes"], "--file", "texts.txt", "--json", *options)
    assert code == 0
    assert [json.loads(line)["text"] for line in output.splitlines()] == ["süß", "", "the sky"]


def test_a_header_with_another_separator_is_not_one_column(command, models):
    Path("other.csv").write_text(";Comment;Mood\n0;happy day;good\n")
    code, output, messages = command("predict", models["classes"], "--file", "other.csv")
    assert (code, output) == (2, "") and "--sep ';'" in messages
    code, output, _ = command(
        "predict", models["classes"], "--file", "other.csv", "--sep", ";", "--text", "Comment", "--json"
    )
    assert code == 0 and json.loads(output)["Comment"] == "happy day"


def test_files_that_are_not_text_are_refused(command, models):
    for raw in (b"version https://git-lfs.github.com/spec/v1\noid", b"PK\x03\x04"):
        for name in ("texts.txt", "texts.csv"):
            Path(name).write_bytes(raw)
            code, output, messages = command("predict", models["classes"], "--file", name)
            assert (code, output) == (2, "") and name in messages


def test_questions_and_tagged_words_are_read_from_their_own_formats(command, models):
    item = {"id": "q7", "question": "who", "answers": []}
    Path("q.json").write_text(json.dumps({"data": [{"paragraphs": [{"context": "anna is so", "qas": [item]}]}]}))
    code, output, messages = command("predict", models["answers"], "--file", "q.json", "--json")
    assert code == 0, messages
    assert json.loads(output)["id"] == "q7"
    Path("w.conll").write_text(f"{NAMES[0]}\nis\n\nso\n")
    code, output, messages = command("predict", models["tags"], "--file", "w.conll", "--json")
    assert code == 0, messages
    assert [len(json.loads(line)["prediction"]) for line in output.splitlines()] == [2, 1]


def test_tagged_words_are_a_sentence_where_a_text_is_wanted(command, models, tiny):
    Path("x.conll").write_text("happy\tO\nday\tO\n\nthe\tO\nsky\tO\n")
    for arguments in (["predict", models["classes"]], ["embed", tiny]):
        code, _, _ = command(*arguments, "--file", "x.conll", "--output", "words.jsonl")
        assert code == 0
        Path("x.txt").write_text("happy day\nthe sky\n")
        assert command(*arguments, "--file", "x.txt", "--output", "texts.jsonl")[0] == 0
        words, texts = (list(map(json.loads, Path(f"{n}.jsonl").read_text().splitlines())) for n in ("words", "texts"))
        assert [set(row) for row in words] == [{*row} - {"text"} | {"id"} for row in texts]
        for one, other in zip(words, texts, strict=True):
            assert all(one[key] == other[key] for key in one if key != "id")


def test_empty_texts_are_counted(command, models):
    Path("x.csv").write_text("id,text\n1,happy\n2,\n3,  \n")
    arguments = ["predict", models["classes"], "--file", "x.csv", "--output", "y.csv"]
    assert "2 of 3" in command(*arguments)[2]
    assert [row["id"] for row in read("y.csv")] == ["1", "2", "3"]
    assert command(*arguments, "--quiet") == (0, "", "")
    assert "of 2" not in command(*arguments[:3], "reviews.csv", *arguments[4:])[2]
