"""What a run says of itself: failure is called failure, and parts of the data have scores of their own."""

from __future__ import annotations

import csv
import dataclasses
import json
import random
from pathlib import Path

import pytest

from minibert.io.errors import DataError
from minibert.workbench.cli import main
from minibert.workbench.data.corpora import read
from minibert.workbench.kinds import KINDS
from minibert.workbench.reports.page import document
from minibert.workbench.runs.folders import read_run
from minibert.workbench.tasks.evaluate import evaluate_file
from minibert.workbench.tasks.finetune import finetune
from minibert.workbench.tasks.seeds import train_seeds
from tests.conftest import refused
from tests.workbench.conftest import MOODS, sentence
from tests.workbench.tasks.test_finetune import settings_for


def write(path: Path, count: int, **column: list[object]) -> None:
    """Moods, with another column whose values are given in turn."""
    draw, rows = random.Random(path.name), []
    for number in range(count):
        label = MOODS[number % 3]
        row = {"text": sentence(draw, label), "label": label}
        rows.append(row | {name: values[number % len(values)] for name, values in column.items()})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def parted(tiny, tmp_path_factory):
    """A run whose data have two parts, one of which the model cannot have learned."""
    folder = tmp_path_factory.mktemp("parts")
    for name, count in (("train", 48), ("test", 24)):
        write(folder / f"{name}.jsonl", count, part=["plain", "hard", "plain"])
    files = {name: str(folder / f"{name}.jsonl") for name in ("train", "test")} | {"validation": None}
    settings = dataclasses.replace(settings_for(tiny, folder, folder / "run"), **files, validation_fraction=0.25)
    return finetune(settings, progress=False)


def test_each_part_has_its_scores(parted):
    with open(parted.folder / "errors.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = parted.reports["test"].metrics["parts"]
    assert list(found) == ["hard", "plain"]
    for part, scores in found.items():
        mine = [row for row in rows if row["part"] == part]
        assert scores["examples"] == len(mine) == {"hard": 8, "plain": 16}[part]
        assert scores["accuracy"] == sum(row["label"] == row["prediction"] for row in mine) / len(mine)
    page = document(read_run(parted.folder))
    for text in (parted.summary(), page):
        assert f"{found['hard']['accuracy']:.4f}" in text and f"{found['plain']['macro_f1']:.4f}" in text
    assert "Scores by part" in page


def test_examples_drawn_from_the_training_data_keep_their_parts(parted):
    rows = parted.reports["validation"].rows
    assert len(rows) == 12
    for row in rows:
        number = int(row["guid"].rpartition(":")[2]) - 1
        assert row["part"] == ["plain", "hard", "plain"][number % 3]


def test_a_later_evaluation_reads_the_parts_of_any_column(parted, tmp_path, capsys):
    write(tmp_path / "more.jsonl", 12, part=["plain", "hard"], season=["spring", "summer", "autumn", 4])
    report = evaluate_file(parted.folder, tmp_path / "more.jsonl", progress=False)
    assert list(report.metrics["parts"]) == ["hard", "plain"]
    assert main(["evaluate", str(parted.folder), str(tmp_path / "more.jsonl"), "--part", "season", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("spring", "summer", "autumn")) and "plain" not in printed


def test_a_named_column_that_has_no_parts_is_refused(parted, tiny, tmp_path):
    write(tmp_path / "more.jsonl", 12, season=["spring"])
    for column in ("season", "none"):
        with refused(DataError, "part"):
            evaluate_file(parted.folder, tmp_path / "more.jsonl", reading={"part": column}, progress=False)
        settings = settings_for(tiny, tmp_path, tmp_path / "run", validation=None, test=None, part=column)
        with refused(DataError, "part"):
            finetune(dataclasses.replace(settings, train=str(tmp_path / "more.jsonl")), progress=False)
    assert not (tmp_path / "run").exists()
    assert evaluate_file(parted.folder, tmp_path / "more.jsonl", progress=False).metrics["examples"] == 12


def test_a_column_with_a_value_for_each_example_has_no_parts(tmp_path):
    for values, count in (([*range(200)], 0), (["one"], 0), (["a", "b", None], 80)):
        write(tmp_path / "rows.jsonl", 120, part=values)
        assert len(read(tmp_path / "rows.jsonl").parts) == count


def test_parts_of_every_format_stay_with_their_examples(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "rows.jsonl", 9, part=["a", "b"])
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    with open(tmp_path / "rows.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    for ending in ("jsonl", "parquet", "csv"):
        corpus = read(tmp_path / f"rows.{ending}")
        assert [corpus.parts[example.guid] for example in corpus] == [row["part"] for row in rows], ending


# Failure is called failure.


def test_a_model_that_cannot_learn_is_called_that_in_the_output_and_on_the_page(tiny, moods, tmp_path, capsys):
    given = [f"--{name}={moods / name}.csv" for name in ("train", "validation", "test")]
    more = ["--learning-rate", "1e-9", "--epochs", "1", "--output", str(tmp_path / "run")]
    assert main(["train", "--model", str(tiny), *given, *more]) == 0
    printed = capsys.readouterr().out
    assert "is not above that of" in printed and "minibert data" in printed
    assert "is not above that of" in document(read_run(tmp_path / "run"))


def test_a_validation_loss_that_only_rises_is_called_that(parted, tmp_path):
    epochs = [
        dataclasses.replace(epoch, metrics={**epoch.metrics, "loss": 0.1 * number})
        for number, epoch in enumerate(parted.history.epochs, start=1)
    ]
    run = dataclasses.replace(parted, history=dataclasses.replace(parted.history, epochs=epochs))
    assert "rose after every epoch, from 0.1000 to 0.3000" in run.summary()


def test_an_evaluation_with_nothing_right_is_called_that(parted, tmp_path, capsys):
    rows = parted.reports["test"].rows
    wrong = [{"text": row["text"], "label": next(mood for mood in MOODS if mood != row["prediction"])} for row in rows]
    (tmp_path / "wrong.jsonl").write_text("".join(json.dumps(row) + "\n" for row in wrong))
    assert main(["evaluate", str(parted.folder), str(tmp_path / "wrong.jsonl"), "--precision", "fp32"]) == 0
    assert "accuracy is 0.0000" in capsys.readouterr().err


def test_several_seeds_are_held_against_the_baselines(tiny, moods, tmp_path):
    files = settings_for(tiny, moods, tmp_path / "seeds", epochs=1, learning_rate=1e-9)
    assert "is not above that of" in train_seeds(files, 2, progress=False).summary()


@pytest.mark.parametrize("kind", ["token_classification", "regression", "multi_label_classification"])
def test_runs_of_other_kinds_are_held_against_a_baseline(kind, tiny, tmp_path, capsys):
    rows = {
        "regression": [{"text": f"{mood} day", "label": number / 2} for number, mood in enumerate(MOODS)],
        "multi_label_classification": [{"text": f"{mood} day", "label": [mood]} for mood in MOODS],
        "token_classification": [
            {"text": ["the", name, "was"], "label": ["O", f"B-{name[0]}", "O"]} for name in ("anna", "berlin")
        ],
    }[kind]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) * 12)
    more = ["--learning-rate", "1e-9", "--epochs", "1", "--output", str(tmp_path / "run"), "--allow-data-faults"]
    assert main(["train", "--model", str(tiny), "--train", str(path), *more, "--precision", "fp32"]) == 0
    said = capsys.readouterr()
    assert "without BERT," in said.err + said.out
    assert any(words in said.out for words in (" is not above ", " is not below ", " is 0.0000: "))
    page = document(read_run(tmp_path / "run"))
    assert 'class="fault"' in page and "baseline: " in page
    assert KINDS[kind].compared(read_run(tmp_path / "run").metrics["baselines"]) is not None
