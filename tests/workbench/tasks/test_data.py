"""`minibert data`, and the same as a gate before training."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from minibert.io.errors import ConfigError, DataError
from minibert.io.files import read_json
from minibert.workbench.data.corpora import read
from minibert.workbench.tasks.data import inspect
from minibert.workbench.tasks.finetune import Settings, finetune
from tests.workbench.conftest import MOODS, write_table


def splits_of(folder: Path) -> list[str]:
    names = ("train", "validation", "test")
    return [part for name in names for part in (f"--{name}", str(folder / f"{name}.csv"))]


def rows_of(out: str, name: str) -> list[list[str]]:
    """The cells of the rows of all tables that begin with a name."""
    return [line.split() for line in out.split("\n") if line.startswith(f"{name} ")]


def write_one_class(path: Path) -> Path:
    rows = [(f"a happy walk number {chr(97 + row)}", "happy") for row in range(12)]
    return write_table(path, ["text", "label"], rows)


# The command


def test_tables_for_people(command, tiny, moods):
    code, out, err = command("data", *splits_of(moods), "--model", tiny)
    assert (code, err) == (0, "")
    counts = ["happy", "60", "50.0", "15", "50.0", "18", "50.0"]
    assert rows_of(out, "happy") == [counts]
    assert "the limit is 30" in out
    lengths = np.array([len(one.text.split()) + 2 for one in read(moods / "train.csv")])
    numbers = [lengths.min(), np.median(lengths), lengths.mean(), np.quantile(lengths, 0.95)]
    assert rows_of(out, "train") == [
        ["train", "120", str(moods / "train.csv")],
        ["train", *(str(round(n)) for n in [*numbers, lengths.max()]), "0", "0.0", "0", "0.0"],
    ]
    assert out.count(" | ") == 4  # examples


def test_without_a_model_lengths_are_in_words_and_it_says_so(command, moods):
    code, out, _ = command("data", moods / "train.csv")
    assert code == 0 and "in words between white space, as no --model was named" in out
    assert "[UNK]" not in out
    words = [len(example.text.split()) for example in read(moods / "train.csv")]
    [_, row] = rows_of(out, "train.csv")
    assert (row[1], row[-1]) == (str(min(words)), str(max(words)))


def test_json_for_programs(command, tiny, moods):
    code, out, _ = command("data", *splits_of(moods), "--model", tiny, "--json")
    found = json.loads(out)
    assert code == 0 and list(found["splits"]) == ["train", "validation", "test"]
    train = found["splits"]["train"]
    assert train["labels"] == read(moods / "train.csv").label_counts
    assert (train["examples"], train["unit"], train["limit"]) == (120, "tokens", 30)
    assert list(train["lengths_by_class"]) == MOODS
    assert train["unknown_pieces"] == 0 and train["pieces"] > 360
    kinds = {"kind", "severity", "split", "numbers", "sentence"}
    assert all(finding.keys() == kinds for finding in found["findings"])


def test_a_fault_gives_2_after_everything_was_printed(command, moods, tmp_path):
    one = write_one_class(tmp_path / "validation.csv")
    train = moods / "train.csv"
    code, out, err = command("data", "--train", train, "--validation", one)
    assert code == 2
    assert "fault: validation: all 12 examples have the label happy" in out
    assert "meaningless" in err
    code, out, _ = command("data", train, one, "--json")
    assert code == 2
    first = json.loads(out)["findings"][0]
    assert (first["kind"], first["split"]) == ("one_class", "validation.csv")


def test_the_same_texts_twice(command, moods):
    path = moods / "train.csv"
    code, out, _ = command("data", "--train", path, "--test", path)
    assert code == 2 and "fault: test: 120 of 120 texts (100.0%) are in train too" in out


def test_files_of_one_name_are_told_apart_by_their_folders(command, moods, tmp_path):
    (tmp_path / "test.csv").write_text((moods / "validation.csv").read_text())
    code, out, _ = command("data", moods / "test.csv", tmp_path / "test.csv", "--json")
    assert code == 0
    assert list(json.loads(out)["splits"]) == [str(moods / "test.csv"), str(tmp_path / "test.csv")]


def test_folders_are_read_by_the_name_of_the_split(command, tmp_path):
    for part, word in (("train", "the"), ("test", "one")):
        for label in ("neg", "pos"):
            folder = tmp_path / "aclImdb" / part / label
            folder.mkdir(parents=True)
            for row in range(6):
                (folder / f"{row}_1.txt").write_text(f"{word} {label} {row}")
    folder = tmp_path / "aclImdb"
    code, out, _ = command("data", "--train", folder, "--test", folder, "--json")
    found = json.loads(out)
    assert code == 0 and found["splits"]["test"]["labels"] == {"neg": 6, "pos": 6}
    assert "seen_in_training" not in str(found["findings"])
    code, out, _ = command("data", folder, "--split", "train")
    assert code == 0 and rows_of(out, "pos") == [["pos", "6", "50.0"]]


def test_regression_pairs_and_texts_without_labels(command, tmp_path):
    rows = [(f"a {row}", f"b {row}", row / 4) for row in range(12)]
    path = write_table(tmp_path / "pairs.csv", ["one", "two", "score"], rows)
    columns = ["--text", "one", "--text-pair", "two", "--label", "score"]
    code, out, _ = command("data", path, *columns)
    assert code == 0 and "labels are numbers from 0 to 2.75, mean 1.375" in out
    assert "0.0 | a 0 | b 0" in out
    plain = tmp_path / "texts.txt"
    plain.write_text("one line\nanother line\n")
    code, out, _ = command("data", plain)
    assert code == 0 and "There are no labels." in out and "Nothing was found" in out


def test_tagged_words(command, tiny, tmp_path):
    path = tmp_path / "train.conll"
    path.write_text("".join(f"anna\tB-who\nwalk\tO\nday{chr(97 + n)}\tO\n\n" for n in range(12)))
    code, out, _ = command("data", path, "--model", tiny)
    assert code == 0 and "tag of a word" in out
    assert rows_of(out, "O") == [["O", "24", "66.7"]]


def test_many_classes_are_not_all_shown(command, tmp_path):
    rows = [(f"text {row}", f"class {row % 40}") for row in range(400)]
    code, out, _ = command("data", write_table(tmp_path / "a.csv", ["text", "label"], rows))
    assert code == 0 and "and 10 more" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--train FILE"),
        (["a.csv", "--train", "b.csv"], "not both"),
        (["a.csv", "a.csv"], "named twice"),
        (["a.csv", "--max-length", "8"], "--model"),
        (["nowhere.csv"], "nowhere.csv"),
    ],
)
def test_wrong_input(command, arguments, words):
    code, out, err = command("data", *arguments)
    assert (code, out) == (2, "") and words in err


def test_a_label_that_training_does_not_have_is_an_error(moods, tmp_path):
    other = write_table(tmp_path / "test.csv", ["text", "label"], [("a day", "furious")])
    with pytest.raises(DataError) as caught:
        inspect({"train": moods / "train.csv", "test": other})
    assert "furious" in str(caught.value)


def test_a_limit_above_that_of_the_model(tiny, moods):
    with pytest.raises(ConfigError) as caught:
        inspect({"train": moods / "train.csv"}, model=tiny, max_length=31)
    assert caught.value.key == "max_length"


def test_a_shorter_limit_is_counted_without_a_warning(tiny, moods, recwarn):
    found = inspect({"train": moods / "train.csv"}, model=tiny, max_length=6, progress=False)
    long = sum(len(example.text.split()) > 4 for example in read(moods / "train.csv"))
    [finding] = [one for one in found.findings if one.kind == "cut_texts"]
    assert finding.numbers["texts"] == found.splits[0].cut == long > 0
    assert list(recwarn) == []


# Before training


def settings_for(tiny: Path, folder: Path, output: Path, **changes) -> Settings:
    values = {"validation": folder / "validation.csv", "epochs": 1, "precision": "fp32", **changes}
    return Settings(tiny, folder / "train.csv", output=output, **values)


def test_a_fault_stops_a_run_before_anything_is_written(tiny, moods, tmp_path):
    one = write_one_class(tmp_path / "validation.csv")
    settings = settings_for(tiny, moods, tmp_path / "run", validation=one)
    with pytest.raises(DataError) as stop:
        finetune(settings, progress=False)
    assert (stop.value.path, stop.value.key) == (one, "one_class")
    assert not (tmp_path / "run").exists()


def test_testing_on_the_training_data_is_a_fault_though_validation_is_taken_from_them(tiny, moods, tmp_path):
    settings = settings_for(
        tiny, moods, tmp_path / "run", validation=None, validation_fraction=0.3, test=moods / "train.csv"
    )
    with pytest.raises(DataError) as caught:
        finetune(settings, progress=False)
    assert caught.value.key == "seen_in_training"
    assert re.search(r"8. of 120 texts", str(caught.value))


def test_a_fault_can_be_allowed(command, tiny, moods, tmp_path):
    train = ["train", "--model", tiny, "--train", moods / "train.csv", "--epochs", 1]
    train += ["--validation", write_one_class(tmp_path / "one.csv"), "--precision", "fp32"]
    train += ["--output", tmp_path / "run"]
    code, _, err = command(*train)
    assert code == 2 and "validation: all 12 examples" in err
    with pytest.warns(UserWarning, match="^validation: all 12 examples"):
        code, _, _ = command(*train, "--allow-data-faults")
    assert code == 0
    record = read_json(tmp_path / "run" / "run.json")
    assert record["settings"]["allow_data_faults"] is True
    first = record["data_findings"][0]
    assert (first["kind"], first["severity"]) == ("one_class", "fault")


def test_warnings_are_one_line_each_and_stand_in_the_record(tiny, moods, tmp_path):
    with open(moods / "train.csv", newline="") as file:
        header, *rows = csv.reader(file)
    write_table(tmp_path / "train.csv", header, [*rows, rows[0]])
    (tmp_path / "validation.csv").write_text((moods / "validation.csv").read_text() + ",".join(rows[5]) + "\n")
    with pytest.warns(UserWarning) as caught:
        finetune(settings_for(tiny, tmp_path, tmp_path / "run"), progress=False)
    lines = [str(one.message) for one in caught]
    assert any("texts (0.8%) repeat an earlier one" in line for line in lines)
    assert any("are in train too" in line for line in lines)
    findings = read_json(tmp_path / "run" / "run.json")["data_findings"]
    assert [finding["sentence"] for finding in findings] == lines
    assert not any("\n" in line for line in lines)


def test_what_is_checked_is_what_is_trained_on(tiny, moods, tmp_path):
    """Sorted data are drawn from at random: the parts are not sorted any more."""
    with open(moods / "train.csv", newline="") as file:
        header, *rows = csv.reader(file)
    write_table(tmp_path / "train.csv", header, sorted(rows, key=lambda row: row[1]))
    assert "sorted_labels" in str(inspect({"train": tmp_path / "train.csv"}).findings)
    settings = settings_for(tiny, tmp_path, tmp_path / "run", validation=None)
    result = finetune(settings, progress=False)
    assert "sorted_labels" not in str(read_json(result.folder / "run.json")["data_findings"])


def test_the_record_has_the_lengths_of_each_class(tiny, moods, tmp_path):
    settings = settings_for(tiny, moods, tmp_path / "run", max_length=6)
    with pytest.warns(UserWarning, match="were cut") as caught:
        result = finetune(settings, progress=False)
    # The tokenizer has said it, once for each split.
    assert not any("is cut off and never read" in str(one.message) for one in caught)
    record = read_json(result.folder / "run.json")
    assert "cut_texts" in str(record["data_findings"])
    lengths = record["data"]["train"]["lengths"]
    texts = [example.text for example in read(moods / "train.csv")]
    # Before truncation: a box plot shows how much is lost.
    assert lengths["all"]["max"] == max(len(text.split()) + 2 for text in texts) > 6
    assert list(lengths["by_class"]) == MOODS
    assert lengths["by_class"]["calm"].keys() == {
        "min", "q1", "median", "q3", "p95", "max", "mean"
    }  # fmt: skip
    assert (lengths["limit"], lengths["unknown_share"]) == (6, 0)
