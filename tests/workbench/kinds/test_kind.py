"""A new kind of task is one small class that every command knows; subclasses of heads work, too."""

from __future__ import annotations

import json
import random
import re

import pytest

from minibert import BertForMaskedLM, BertForNextSentencePrediction, BertForSequenceClassification, BertTokenizer
from minibert.fast.precision import choose_precision
from minibert.io.errors import ConfigError
from minibert.io.files import read_json
from minibert.workbench.cli import main
from minibert.workbench.data.corpora import read
from minibert.workbench.kinds import KINDS, kind_of
from minibert.workbench.kinds.classes import Classes
from minibert.workbench.kinds.kind import Kind
from minibert.workbench.scores.metrics import HIGHER_IS_BETTER
from minibert.workbench.tasks.evaluate import evaluate, evaluate_file
from minibert.workbench.tasks.predict import Predictor
from tests.conftest import refused
from tests.workbench.conftest import NAMES, sentence, write_table


class NextSentence(Classes):
    """Whether the second text follows the first (Devlin et al. 2019, section 3.1)."""

    problem_type = "next_sentence"
    head = BertForNextSentencePrediction
    labels_are = "single_label_classification"
    one_class = False  # its head takes no class weights
    named = False  # the official config does not name its classes
    claims, head_for = Kind.claims, Kind.head_for

    def names_of(self, model):
        return ("follows", "random")  # the official order: 0 it followed, 1 it did not


@pytest.fixture(autouse=True)
def _known(monkeypatch) -> None:
    monkeypatch.setitem(KINDS, NextSentence.problem_type, NextSentence())


def write_pairs(path, count: int, draw: random.Random) -> None:
    """The second text follows the first if it has its name."""
    rows = []
    for number in range(count):
        name, other = draw.sample(NAMES, 2)
        follows = number % 2 == 0
        second = sentence(draw, name if follows else other)
        rows.append((sentence(draw, name), second, "follows" if follows else "random"))
    write_table(path, ["text", "next", "label"], rows)


def test_a_new_kind_goes_through_every_command(tiny, tmp_path, capsys):
    draw = random.Random(0)
    for name, count in (("train", 48), ("validation", 24), ("test", 40)):
        write_pairs(tmp_path / f"{name}.csv", count, draw)
    files = [f"--{part}={tmp_path / part}.csv" for part in ("train", "validation", "test")]
    reading = ["--text-pair", "next"]
    in_fp32 = ["--precision", "fp32"]  # in bf16 a run and an evaluation round differently
    given = [*files, *reading, *in_fp32, "--problem-type", "next_sentence", "--learning-rate", "2e-3"]
    for epochs, run in (("1", "short"), ("2", "long")):
        more = ["--model", str(tiny), "--epochs", epochs, "--output", str(tmp_path / run)]
        assert main(["train", *given, *more, "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "accuracy" in printed and "follows" in printed
    run = str(tmp_path / "long")
    record = read_json(tmp_path / "long/run.json")
    assert record["problem_type"] == "next_sentence"
    assert record["labels"] == ["follows", "random"]
    assert record["model"]["class"] == "BertForNextSentencePrediction"
    stored = read_json(tmp_path / "long/metrics.json")["test"]

    assert main(["evaluate", run, str(tmp_path / "test.csv"), *reading, *in_fp32, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == stored["accuracy"]

    text = ["the sky was anna", "--pair", "anna is so green"]
    assert main(["predict", run, *text, "--quiet"]) == 0
    assert re.match(r"(follows|random) +0\.\d{3}  the sky was anna\n$", capsys.readouterr().out)
    assert main(["predict", run, *text, "--json", "--quiet"]) == 0
    assert set(json.loads(capsys.readouterr().out)["probabilities"]) == {"follows", "random"}

    assert main(["report", run, "--quiet"]) == 0
    page = (tmp_path / "long/report.html").read_text()
    assert "follows" in page and "macro f1" in page

    assert main(["compare", run, str(tmp_path / "short")]) == 0
    compared = capsys.readouterr().out
    assert "40 examples, the same for all" in compared and "McNemar's test" in compared

    group = [*given, "--model", str(tiny), "--epochs", "1", "--output", str(tmp_path / "seeds")]
    assert main(["train", *group, "--seeds", "2", "--quiet"]) == 0
    assert re.search(r"accuracy .* \+- ", capsys.readouterr().out)


def test_every_metric_has_a_direction():
    for kind in KINDS.values():
        assert {*kind.metrics} <= {*HIGHER_IS_BETTER} and kind.metrics[-1] == "loss"


def test_an_overlap_without_windows_is_refused(tokenizer):
    corpus = KINDS["single_label_classification"].unlabelled(["so"])
    with refused(ConfigError, "overlap"):
        KINDS["single_label_classification"].rows(corpus, tokenizer, overlap=3)


def test_settings_that_it_does_not_support_are_refused(tiny, tmp_path, capsys):
    write_pairs(tmp_path / "train.csv", 30, random.Random(0))
    given = ["--model", str(tiny), "--train", str(tmp_path / "train.csv"), "--text-pair", "next"]
    given += ["--problem-type", "next_sentence", "--output", str(tmp_path / "run"), "--quiet"]
    for more in (["--class-weights"], ["--probe", "linear"], ["--watch", "f1"]):
        assert main(["train", *given, *more]) == 2
        assert more[0].strip("-").replace("-", "_")[:5] in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


class MeanPooled(BertForSequenceClassification):
    """Reads the mean of a text's hidden states in place of the pooled [CLS]."""

    pooler = False

    def answer(self, encoded, labels=None):
        total = encoded.layout.pad(encoded.hidden).sum(dim=1)  # (B, D)
        lengths = encoded.layout.mask.sum(dim=1, keepdim=True)  # (B, 1)
        logits = self.head(encoded, total / lengths)  # (B, C)
        return logits, self.loss_terms(logits, labels)


class Ratings(Classes):
    """A kind of task whose head is a subclass of an official one."""

    problem_type = "ratings"
    head = MeanPooled
    labels_are = Classes.problem_type
    claims = Kind.claims


def test_a_subclass_is_of_the_kind_of_its_nearest_base_class(tiny, tmp_path, monkeypatch):
    labels = ["follows", "random"]
    model = MeanPooled.from_pretrained(tiny, labels=labels, problem_type=Classes.problem_type)
    assert kind_of(model) is KINDS["single_label_classification"]
    monkeypatch.setitem(KINDS, Ratings.problem_type, Ratings())
    assert kind_of(model) is KINDS["ratings"]
    official = BertForSequenceClassification.from_pretrained(tiny, labels=labels)
    assert kind_of(official) is KINDS["single_label_classification"]
    with pytest.raises(ConfigError):
        kind_of(BertForMaskedLM.from_pretrained(tiny))


def test_a_subclass_predicts_and_has_the_same_reports(tiny, tmp_path, monkeypatch):
    write_pairs(tmp_path / "test.csv", 24, random.Random(0))
    model = MeanPooled.from_pretrained(tiny, labels=["follows", "random"])
    tokenizer = BertTokenizer.from_pretrained(tiny)
    corpus = read(tmp_path / "test.csv", text_pair="next", label_names=("follows", "random"))
    rows = kind_of(model).rows(corpus, tokenizer)
    fp32 = choose_precision("fp32", "cpu")
    report = evaluate(model, tokenizer, corpus, rows, split="test", precision=fp32, progress=False)
    predictor = Predictor(model, tokenizer, precision="fp32", device="cpu")
    texts, pairs = zip(*((example.text, example.text_pair) for example in corpus), strict=True)
    predicted = {each.text: each.label for each in predictor(texts, pairs)}
    assert predicted == {row["text"]: row["prediction"] for row in report.rows}
    assert set(report.values()) == {*Classes.metrics}
    # Saved, it is opened again by its own class, once that is the head of a kind.
    model.save_pretrained(tmp_path / "model", allow_untrained=True)
    tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.setitem(KINDS, Ratings.problem_type, Ratings())
    again = evaluate_file(
        tmp_path / "model",
        tmp_path / "test.csv",
        reading={"text_pair": "next"},
        precision="fp32",
        device="cpu",
        progress=False,
    )
    assert again.problem_type == "ratings"
    assert again.metrics["accuracy"] == report.metrics["accuracy"]
