"""Faults on purpose: what each does, by hand; where it is impossible; what it leaves alone."""

from __future__ import annotations

import csv
import math
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from minibert.io.errors import ConfigError
from minibert.io.files import read_json, sha256
from minibert.workbench.cli import main
from minibert.workbench.data.corpora import Corpus, Example
from minibert.workbench.data.drawing import subset
from minibert.workbench.kinds.evaluation import Report
from minibert.workbench.runs.settings import FAULTS, Settings
from minibert.workbench.tasks import faults
from minibert.workbench.tasks.faults import DoubleSoftmax
from minibert.workbench.tasks.finetune import finetune
from minibert.workbench.tasks.splits import read_splits
from tests.workbench.conftest import write_table


def settings_for(tiny: Path, moods: Path, output: Path, **changes) -> Settings:
    values = {
        "train": str(moods / "train.csv"),
        "validation": str(moods / "validation.csv"),
        "test": str(moods / "test.csv"),
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "precision": "fp32",
    }
    return Settings(str(tiny), output=str(output), **{**values, **changes})


def run(settings: Settings):
    """A run; gives it, and the warnings that it printed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = finetune(settings, progress=False)
    return done, [str(one.message) for one in caught]


def losses_of(folder: Path) -> list[str]:
    with open(folder / "log.csv", newline="") as file:
        return [row["loss"] for row in csv.DictReader(file)]


def weights_of(folder: Path) -> str:
    return sha256(folder / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def right(tiny, moods, tmp_path_factory):
    """The run without a fault, that the others are compared with."""
    return run(settings_for(tiny, moods, tmp_path_factory.mktemp("right")))


# The double softmax


def test_the_gradient_of_a_double_softmax_is_277_times_smaller_where_the_model_is_wrong():
    """Logits 3 and -3, the second class is true: a confidently wrong example."""
    norms = []
    for loss in (F.cross_entropy, lambda logits, labels: DoubleSoftmax()(logits, labels)[0]):
        logits = torch.tensor([[3.0, -3.0]], dtype=torch.float64, requires_grad=True)  # (1, 2)
        loss(logits, torch.tensor([1])).backward()
        norms.append(logits.grad.abs().max().item())
    assert norms[0] == pytest.approx(1 / (1 + math.exp(-6)), rel=1e-12)
    assert [round(norm, 4) for norm in norms] == [0.9975, 0.0036]
    assert round(norms[0] / norms[1]) == 277


@pytest.mark.parametrize("classes, floor", [(2, 0.3133), (6, 1.0436)])
def test_a_double_softmax_cannot_fall_below_its_floor(classes, floor):
    logits = torch.zeros(1, classes, dtype=torch.float64)  # (1, C)
    logits[0, 0] = 1000.0  # as sure and as right as can be
    loss, count = DoubleSoftmax()(logits, torch.tensor([0]))
    assert count == 1
    assert loss.item() == pytest.approx(math.log(1 + (classes - 1) / math.e), rel=1e-12)
    assert round(loss.item(), 4) == floor


def test_a_double_softmax_sums_over_what_counts():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, generator=draw, dtype=torch.float64)  # (5, C)
    labels = torch.tensor([0, -100, 2, 1, -100])
    loss, count = DoubleSoftmax()(logits, labels)
    chances = logits.exp() / logits.exp().sum(dim=1, keepdim=True)  # (5, C)
    again = chances.exp() / chances.exp().sum(dim=1, keepdim=True)  # (5, C)
    expected = -sum(math.log(again[row, labels[row]]) for row in (0, 2, 3))
    assert count == 3 == DoubleSoftmax().count(labels)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    halves = DoubleSoftmax()(logits.to(torch.bfloat16), labels)[0]
    assert halves.dtype == torch.float32


# The other three, by hand


def corpus_of(*labels: int) -> Corpus:
    examples = tuple(Example(f"text {number}", label=label, guid=f"f:{number}") for number, label in enumerate(labels))
    return Corpus(examples, ("no", "yes"))


def test_the_end_is_cut_off_as_the_file_is_sorted():
    whole = corpus_of(*[0] * 50, *[1] * 50)
    first, last = faults.cut_off_the_end(whole, 0.05, whole)
    assert first.examples == whole.examples[:95] and last.examples == whole.examples[95:]
    assert last.label_counts == {"no": 0, "yes": 5}
    drawn = subset(whole, 20, seed=3)  # in random order
    first, last = faults.cut_off_the_end(drawn, 0.25, whole)
    assert (len(first), len(last)) == (15, 5)
    assert {*first, *last} == {*drawn}
    numbers = [whole.examples.index(example) for example in (*first, *last)]
    assert numbers == sorted(numbers)
    pair = corpus_of(0, 1)
    assert [len(part) for part in faults.cut_off_the_end(pair, 0.01, pair)] == [1, 1]


def test_batch_means_count_a_small_batch_like_a_large_one():
    corpus = corpus_of(0, 1, 1, 0, 1)
    truth = ["no", "yes", "yes", "no", "yes"]
    guesses = ["no", "yes", "yes", "yes", "no"]
    losses = [0.1, 0.2, 0.3, 2.0, 4.0]
    rows = [
        {"loss": loss, "label": label, "prediction": guess, "guid": f"f:{number}"}
        for number, (loss, label, guess) in enumerate(zip(losses, truth, guesses, strict=True))
    ]
    rows.sort(key=lambda row: -row["loss"])
    metrics = {"examples": 5, "accuracy": {"value": 0.6, "low": 0.2, "high": 0.9}}
    report = Report("test", "single_label_classification", ("no", "yes"), metrics, None, rows)
    faulty = faults.batch_means(report, corpus, [[0, 1], [3, 2], [4]])
    assert faulty.metrics["accuracy"] == {"value": pytest.approx((1 + 0.5 + 0) / 3)}
    assert faulty.metrics["loss"] == {"value": pytest.approx((0.15 + 1.15 + 4.0) / 3)}
    assert faulty.metrics["examples"] == 5 and report.metrics is metrics
    assert metrics["accuracy"]["value"] == 0.6


# Whole runs


def test_last_epoch_leaves_training_alone_and_measures_other_weights(tiny, moods, tmp_path, monkeypatch):
    """A run whose first epoch is the best: the rate rises until it breaks the model."""
    rising = {"learning_rate": 0.3, "warmup": 1.0, "watch": "loss"}
    base = settings_for(tiny, moods, tmp_path / "best", **rising)
    best, _ = run(base)
    last, said = run(replace(base, output=str(tmp_path / "last"), faults=["last-epoch"]))
    assert best.history.best_epoch == last.history.best_epoch == 1
    assert losses_of(best.folder) == losses_of(last.folder)
    assert weights_of(best.folder) != weights_of(last.folder)
    validation = [run.reports["validation"].metrics["loss"]["value"] for run in (best, last)]
    assert validation == [epoch.metrics["loss"] for epoch in best.history.epochs]
    assert said == ["A FAULT ON PURPOSE, last-epoch: the last epoch is tested, not the best."]
    epochs = len(last.history.epochs)
    assert (best.epoch, last.epoch) == (1, epochs)
    assert read_json(last.folder / "run.json")["measured_epoch"] == epochs
    assert f"epoch {epochs} is the one that was tested" in last.summary()
    assert "that was tested" not in best.summary()


def test_a_double_softmax_trains_another_model_by_the_faulty_loss(right, tiny, moods, tmp_path):
    done, said = run(settings_for(tiny, moods, tmp_path / "run", faults=["double-softmax"]))
    losses = [float(loss) for loss in losses_of(done.folder)]
    assert min(losses) > math.log(1 + 2 / math.e)  # the floor, three classes
    assert losses_of(done.folder) != losses_of(right[0].folder)
    assert weights_of(done.folder) != weights_of(right[0].folder)
    assert read_json(done.folder / "run.json")["settings"]["faults"] == ["double-softmax"]
    assert "double-softmax" in said[0] and len(said) == 1


def test_a_linear_probe_has_the_double_softmax_as_well(tiny, moods, tmp_path):
    settings = settings_for(tiny, moods, tmp_path / "right", probe="linear")
    one, _ = run(settings)
    faulty = replace(settings, output=str(tmp_path / "faulty"), faults=["double-softmax"])
    other, _ = run(faulty)
    first = [float(losses_of(done.folder)[0]) for done in (one, other)]
    assert first[0] != first[1]
    assert min(map(float, losses_of(other.folder))) > math.log(1 + 2 / math.e)
    probes = [sha256(done.folder / "model" / "probe.safetensors") for done in (one, other)]
    assert probes[0] != probes[1]


def test_class_weights_go_into_a_double_softmax():
    weights = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)
    loss, count = DoubleSoftmax(weights)(torch.zeros(2, 3, dtype=torch.float64), torch.tensor([0, 1]))
    assert count == 2.5 and loss.item() == pytest.approx(2.5 * math.log(3), rel=1e-12)


def test_batch_means_leave_the_model_alone(right, tiny, moods, tmp_path):
    """30 rows in batches of 8: the last one holds 6."""
    done, said = run(settings_for(tiny, moods, tmp_path / "run", faults=["batch-means"]))
    assert losses_of(done.folder) == losses_of(right[0].folder)
    report, faulty = right[0].reports["test"], done.reports["test"]
    if done.history.best_epoch == right[0].history.best_epoch:
        assert weights_of(done.folder) == weights_of(right[0].folder)
        assert faulty.rows == report.rows
    assert faulty.metrics["loss"]["value"] != report.metrics["loss"]["value"]
    assert "low" not in faulty.metrics["accuracy"]
    assert read_json(done.folder / "run.json")["settings"]["faults"] == ["batch-means"]
    assert len(said) == 1


def test_sorted_validation_is_of_one_class(tiny, moods, tmp_path):
    with open(moods / "train.csv", newline="") as file:
        rows = sorted(csv.reader(list(file)[1:]), key=lambda row: row[1])
    path = write_table(tmp_path / "sorted.csv", ["text", "label"], rows)
    settings = settings_for(
        tiny,
        moods,
        tmp_path / "run",
        train=str(path),
        validation=None,
        faults=["sorted-validation"],
        validation_fraction=0.1,
        epochs=1,
    )
    done, said = run(settings)
    data = read_json(done.folder / "run.json")["data"]
    assert data["validation"]["labels"] == {"angry": 0, "calm": 0, "happy": 12}
    assert data["train"]["examples"] == 108
    assert "sorted-validation" in said[0]


def test_without_a_fault_nothing_changes(right, tiny, moods, tmp_path):
    again, said = run(settings_for(tiny, moods, tmp_path / "run", faults=[]))
    assert not said and not right[1]
    assert losses_of(again.folder) == losses_of(right[0].folder)
    assert weights_of(again.folder) == weights_of(right[0].folder)
    assert again.reports["test"].rows == right[0].reports["test"].rows
    assert again.reports["test"].metrics == right[0].reports["test"].metrics


# Faults that a run cannot have

IMPOSSIBLE = {
    "double-softmax": ({"problem_type": "regression", "label": "number"}, "one class"),
    "sorted-validation": ({}, "validation.csv"),
    "batch-means": ({"problem_type": "regression", "label": "number"}, "one class"),
}


@pytest.mark.parametrize("fault", IMPOSSIBLE)
def test_a_fault_that_the_run_cannot_have_is_refused(fault, tiny, moods, tmp_path):
    changes, word = IMPOSSIBLE[fault]
    if changes:
        rows = [(f"day {number}", number / 2) for number in range(20)]
        path = write_table(tmp_path / "numbers.csv", ["text", "number"], rows)
        changes = {**changes, "train": str(path), "validation": None, "test": None}
    with pytest.raises(ConfigError) as caught:
        finetune(settings_for(tiny, moods, tmp_path / "run", faults=[fault], **changes), progress=False)
    assert caught.value.key == "faults" and word in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fault", ["double-softmax", "last-epoch"])
def test_a_logistic_probe_has_no_steps_to_make_a_fault_in(fault):
    settings = Settings("m", "t", probe="logistic", faults=[fault])
    with pytest.raises(ConfigError) as caught:
        faults.require_sense(settings, one_class=True)
    assert caught.value.key == "faults" and fault in str(caught.value)


def test_sorted_validation_is_cut_off_beside_a_share_that_is_tested(tiny, tmp_path):
    rows = [(f"day {number}", "no" if number < 50 else "yes") for number in range(100)]
    path = write_table(tmp_path / "sorted.csv", ["text", "label"], rows)
    settings = Settings(str(tiny), str(path), test_fraction=0.2, validation_fraction=0.1, faults=["sorted-validation"])
    _, corpora = read_splits(settings)
    assert {example.label for example in corpora["validation"]} == {1}
    assert len(corpora["validation"]) == 8 and len(corpora["test"]) == 20


def test_unknown_faults_are_refused_with_those_that_exist(tiny, moods, tmp_path, capsys):
    with pytest.raises(ConfigError) as caught:
        finetune(settings_for(tiny, moods, tmp_path / "run", faults=["typo"]), progress=False)
    assert all(fault in str(caught.value) for fault in ("typo", *FAULTS))
    with pytest.raises(SystemExit) as stop:
        main(["train", "--fault", "typo"])
    assert stop.value.code == 2 and "double-softmax" in capsys.readouterr().err
