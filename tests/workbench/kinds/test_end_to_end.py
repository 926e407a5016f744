"""Questions, choices and entities from data to report, each command as a user types it."""

from __future__ import annotations

import csv
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from minibert.io.files import read_json
from minibert.workbench.cli import main
from minibert.workbench.tasks.evaluate import evaluate_file
from minibert.workbench.tasks.predict import Predictor
from tests.conftest import BOUNDS
from tests.workbench.conftest import FILLERS, MOODS, NAMES, sentence
from tests.workbench.runs.test_resume import assert_same_run, break_at, unbroken


@dataclass(frozen=True)
class Task:
    """Toy data, and what to type.

    Attributes:
        metric: the main one; `chance` is what guessing gets of it.
        reading: how to read the data.
        asked: an example for `predict`; `text` is of it.
        shown: what the answer to it holds.
    """

    ending: str
    metric: str
    chance: float
    asked: tuple[str, ...]
    shown: str
    reading: tuple[str, ...] = ()


TASKS = {
    "questions": Task("json", "exact_match", 1 / 4, ("what is so", "--pair", "the sky happy anna is green"), "anna"),
    "choices": Task(
        "jsonl",
        "accuracy",
        1 / 3,
        ("the sky was anna", *(part for name in ("cairo", "anna", "berlin") for part in ("--choice", name))),
        "anna",
        ("--choices", "choices"),
    ),
    "tags": Task("conll", "entity_f1", 1 / 4, ("the anna angry is cairo",), "[anna angry person]"),
}


def write_questions(path: Path, count: int, draw: random.Random) -> None:
    """The answer is the word after "happy"."""
    paragraphs = []
    for number in range(count):
        words = draw.sample([*FILLERS, *NAMES], draw.randint(3, 7))
        place = draw.randrange(len(words))
        before = " ".join([*words[:place], "happy", ""])
        answer = {"text": words[place], "answer_start": len(before)}
        item = {"id": f"q{number}", "question": "what is so", "answers": [answer]}
        paragraphs.append({"context": before + " ".join(words[place:]), "qas": [item]})
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))


def write_choices(path: Path, count: int, draw: random.Random) -> None:
    """The right choice is a word of the text."""
    lines = []
    for _ in range(count):
        choices = draw.sample(NAMES, 3)
        text = sentence(draw, choices[0])
        right = choices[0]
        draw.shuffle(choices)
        item = {"text": text, "choices": choices, "label": choices.index(right)}
        lines.append(json.dumps(item) + "\n")
    path.write_text("".join(lines))


def write_tags(path: Path, count: int, draw: random.Random) -> None:
    """A name begins a person, a mood after it goes on with it; cairo and berlin are places."""
    blocks = []
    for number in range(count):
        rows = [(word, "O") for word in draw.choices(FILLERS, k=draw.randint(2, 5))]
        entity = [
            [("anna", "B-person"), (draw.choice(MOODS), "I-person")],
            [("david", "B-person")],
            [(draw.choice(["cairo", "berlin"]), "B-place")],
        ][number % 3]
        place = draw.randint(0, len(rows))
        rows[place:place] = entity
        blocks.append("".join(f"{word}\t{tag}\n" for word, tag in rows))
    path.write_text("\n".join(blocks))


WRITERS = {"questions": write_questions, "choices": write_choices, "tags": write_tags}


@dataclass(frozen=True)
class Trained:
    name: str
    task: Task
    folder: Path
    data: Path

    @property
    def test(self) -> str:
        return str(self.data / f"test.{self.task.ending}")


def train(task: Task, model: Path, data: Path, output: Path, *more: str) -> int:
    files = [f"--{part}={data / part}.{task.ending}" for part in ("train", "validation", "test")]
    given = ["--output", str(output), "--learning-rate", "2e-3", "--batch-size", "16"]
    given += ["--precision", "fp32"]  # whatever is faster on this machine
    return main(["train", "--model", str(model), *files, *given, *task.reading, "--quiet", *more])


@pytest.fixture(scope="module", params=TASKS)
def trained(request, tiny, tmp_path_factory) -> Trained:
    """A run that has learned its toy task."""
    task = TASKS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    draw = random.Random(0)
    for part, count in (("train", 600), ("validation", 40), ("test", 60)):
        WRITERS[request.param](folder / f"{part}.{task.ending}", count, draw)
    assert train(task, tiny, folder, folder / "run", "--epochs", "10", "--learning-rate", "3e-3") == 0
    return Trained(request.param, task, folder / "run", folder)


def readable(text: str) -> str:
    """What a command has said, which has to hold no sign of something that is not there."""
    assert text.strip()
    for sign in ("None", "nan", "Traceback", "(--debug shows"):
        assert sign not in text, text
    return text


def said(capsys) -> str:
    found = capsys.readouterr()
    assert "Traceback" not in found.err, found.err
    assert "minibert:" not in found.err, found.err
    return readable(found.out)


def test_the_task_is_learned(trained):
    found = read_json(trained.folder / "metrics.json")["test"][trained.task.metric]
    assert found["low"] > trained.task.chance
    assert found["value"] > trained.task.chance + 0.2


def test_evaluating_a_run_again_gives_the_same_result(trained, capsys):
    """The scores to the bit; losses nearly, since the model is prepared for inference."""
    stored = read_json(trained.folder / "metrics.json")["test"]
    reading = {"choices": ["choices"]} if trained.task.reading else {}
    report = evaluate_file(trained.folder, trained.test, reading=reading, precision="fp32", progress=False)
    bound = BOUNDS["official model fp32"]
    assert report.metrics["loss"]["value"] == pytest.approx(stored["loss"]["value"], abs=bound)
    assert {**report.metrics, "loss": 0} == {**stored, "loss": 0}
    again = trained.data / "again"
    arguments = [str(trained.folder), trained.test, *trained.task.reading, "--quiet"]
    assert main(["evaluate", *arguments, "--precision", "fp32", "--output", str(again)]) == 0
    assert trained.task.metric in readable(capsys.readouterr().out)
    for name in ("errors.csv", *(("entities.csv",) if trained.name == "tags" else ())):
        assert told(again / name) == told(trained.folder / name)


def told(path: Path) -> list[tuple[str, ...]]:
    """Every row of a table but for its numbers."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    return sorted((row["guid"], row["text"], row["label"], row["prediction"]) for row in rows)


def test_a_run_predicts(trained, capsys):
    assert main(["predict", str(trained.folder), *trained.task.asked, "--quiet"]) == 0
    found = said(capsys)
    assert trained.task.shown in found
    assert main(["predict", str(trained.folder), *trained.task.asked, "--quiet", "--json"]) == 0
    assert trained.task.asked[0] in json.dumps(json.loads(capsys.readouterr().out))


def test_predictions_are_those_of_the_evaluation(trained):
    """The rows of errors.csv, asked again one by one."""
    predictor = Predictor.from_pretrained(trained.folder, precision="fp32")
    with open(trained.folder / "errors.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    for row in rows[:20]:
        if trained.name == "questions":
            [found] = predictor(row["text"], row["text_pair"])
            assert found.answer.text == row["prediction"]
        elif trained.name == "choices":
            [found] = predictor(row["text"], choices=row["text_pair"].split(" | "))
            assert found.choice == row["prediction"]
        else:
            [found] = predictor(row["text"])
            assert " ".join(word.tag for word in found.words) == row["prediction"]


def test_a_run_has_a_report(trained, capsys):
    assert main(["report", str(trained.folder), "--quiet"]) == 0
    assert "report.html" in said(capsys)
    page = (trained.folder / "report.html").read_text()
    body = re.sub(r"(?s)<(script|style).*?</\1>", "", page)
    seen = re.sub(r"<[^>]+>", " ", body)
    for sign in ("None", "nan", "undefined"):
        assert not re.search(rf"\b{sign}\b", seen), sign
    assert not re.search(r"<tbody>\s*</tbody>", body)
    assert trained.task.metric.replace("_", " ") in page
    assert ("<h2>Entities</h2>" in page) == (trained.name == "tags")


def test_seeds_are_trained_and_compared(trained, tiny, capsys):
    output = trained.data / "seeds"
    few = ("--epochs", "1", "--train-subset", "64", "--seeds", "2")
    assert train(trained.task, tiny, trained.data, output, *few) == 0
    printed = said(capsys)
    assert re.search(rf"{trained.task.metric} .* \+- ", printed)
    assert main(["compare", str(trained.folder), str(output / "seed-0")]) == 0
    compared = said(capsys)
    assert trained.task.metric in compared
    assert "60 examples, the same for all" in compared
    assert re.search(r"p (=|<) 0\.\d+", compared)
    assert main(["compare", str(output), str(output), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert trained.task.metric in json.dumps(found["pairs"])
    assert found["runs"][0]["scores"][trained.task.metric]


def test_a_stopped_run_resumes_bit_for_bit(trained, tiny, tmp_path, monkeypatch, capsys):
    few = ("--epochs", "2", "--train-subset", "64", "--save-every", "3")
    assert train(trained.task, tiny, trained.data, tmp_path / "whole", *few) == 0
    break_at(monkeypatch, 6, KeyboardInterrupt)
    assert train(trained.task, tiny, trained.data, tmp_path / "run", *few) == 130
    unbroken(monkeypatch)
    assert main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    for name in ("errors.csv", "metrics.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_training_prints_how_to_use_the_run(trained, tiny, tmp_path, capsys):
    few = ("--epochs", "1", "--train-subset", "32")
    assert train(trained.task, tiny, trained.data, tmp_path / "run", *few) == 0
    printed = said(capsys)
    assert trained.task.metric in printed
    wanted = {"questions": "--pair", "choices": "--choice", "tags": '"your text"'}[trained.name]
    [line] = [line for line in printed.splitlines() if line.startswith("use it:")]
    assert wanted in line
    assert main(["data", *_files(trained), *trained.task.reading, "--model", str(tiny)]) == 0
    assert "600" in said(capsys)


def _files(trained: Trained) -> list[str]:
    return [f"--{part}={trained.data / part}.{trained.task.ending}" for part in ("train", "test")]


def test_questions_without_an_answer_have_scores_of_their_own(tiny, tmp_path, capsys):
    """Every third context is without the marker, and its question without an answer."""
    draw = random.Random(0)
    for part, count in (("train", 60), ("validation", 30), ("test", 30)):
        path = tmp_path / f"{part}.json"
        write_questions(path, count, draw)
        stored = json.loads(path.read_text())
        for paragraph in stored["data"][0]["paragraphs"][::3]:
            paragraph["context"] = paragraph["context"].replace("happy", "angry")
            paragraph["qas"][0].update(answers=[], is_impossible=True)
        path.write_text(json.dumps(stored))
    run = str(tmp_path / "run")
    assert train(TASKS["questions"], tiny, tmp_path, tmp_path / "run", "--epochs", "1") == 0
    metrics = read_json(tmp_path / "run/metrics.json")["test"]
    parts = metrics["has_answer"], metrics["no_answer"]
    assert [part["examples"] for part in parts] == [20, 10]
    for name in ("f1", "exact_match"):
        mean = sum(part["examples"] * part[name] for part in parts) / 30
        assert metrics[name]["value"] == pytest.approx(mean)
    capsys.readouterr()
    assert main(["report", run, "--quiet"]) == 0
    page = Path(run, "report.html").read_text()
    table = page[page.index("With and without an answer") :]
    for part in parts:
        assert f"{part['exact_match']:.4f}" in table and f"{part['f1']:.4f}" in table
    capsys.readouterr()
    asked = ["what is so", "--pair", "sky angry day", "--top", "9", "--allow-no-answer", "--quiet"]
    assert main(["predict", run, *asked]) == 0
    lines = said(capsys).splitlines()
    assert len(lines) == 1 + 7  # 6 stretches and "no answer"
    assert sum("(no answer)" in line for line in lines) == 1
