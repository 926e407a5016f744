"""A session's training: the best epoch, early stopping, callbacks, the progress bar."""

from __future__ import annotations

import math
import sys

import pytest

from minibert.fast.precision import choose_precision
from minibert.io.errors import TrainingError
from minibert.training import evaluate
from minibert.workbench.runs.history import History, Watched
from minibert.workbench.runs.ranks import ALONE
from minibert.workbench.runs.session import Session
from minibert.workbench.runs.settings import TrainingSettings
from tests.lesson.test_loop import CPU, Tagger, assert_same, make_examples, split, weights_of

LOSS = Watched("loss", higher_is_better=False)
SCORES = {"accuracy": True, "f1": True, "mae": False, "mse": False, "loss": False}


def measured(values, name="loss"):
    """Stands in for an evaluation that gives these values, epoch after epoch."""
    given = iter(values)
    return lambda: {name: next(given)}


def run(folder, model, measure, *, epochs, watched=LOSS, sizes=(8,), progress=False, **options):
    settings = TrainingSettings(epochs=epochs, learning_rate=1e-2, save_every=None)
    return Session(settings, folder, None, progress, ALONE).train(
        model,
        lambda _: split(make_examples(), sizes),
        measure,
        watched=watched,
        precision=choose_precision("fp32", "cpu"),
        **options,
    )


@pytest.mark.parametrize(
    "name, values, best",
    [
        ("loss", [3.0, 1.0, 2.0, 1.0], 2),
        ("accuracy", [0.1, 0.5, 0.9, 0.9], 3),
        ("f1", [0.9, 0.5, math.nan, 0.1], 1),
        ("mse", [math.nan, 5.0, 4.0, 3.0], 4),
        ("mae", [3.0, 1.0, 2.0, 1.0], 2),  # the name does not say it
    ],
)
def test_the_weights_of_the_best_epoch_come_back(name, values, best, tmp_path):
    model = Tagger()
    snapshots = []
    history = run(
        tmp_path,
        model,
        measured(values, name),
        epochs=4,
        watched=Watched(name, SCORES[name]),
        on_epoch=lambda _: snapshots.append(weights_of(model)),
    )
    assert history.best_epoch == best
    assert_same(weights_of(model), snapshots[best - 1])
    assert not (snapshots[0]["table.weight"] == snapshots[1]["table.weight"]).all()
    assert [row.epoch for row in history.epochs if row.best][-1] == best


def test_the_last_epoch_stays_if_that_is_asked_for(tmp_path):
    model = Tagger()
    snapshots = []
    run(
        tmp_path,
        model,
        measured([1.0, 2.0]),
        epochs=2,
        restore_best=False,
        on_epoch=lambda _: snapshots.append(weights_of(model)),
    )
    assert_same(weights_of(model), snapshots[-1])


def test_the_loss_decides_between_epochs_of_one_score():
    history, watched = History(), Watched("accuracy", higher_is_better=True)
    results = [(0.5, 0.1), (1.0, 0.9), (1.0, 0.3), (1.0, 0.3), (0.9, 0.0)]
    found = [
        history.is_best(epoch, {"accuracy": accuracy, "loss": loss}, watched)
        for epoch, (accuracy, loss) in enumerate(results, start=1)
    ]
    assert found == [True, True, True, False, False] and history.best_epoch == 3


def test_patience_ends_a_run_that_no_longer_gains(tmp_path):
    values = [5.0, 4.0, 4.5, 3.0, 3.0, 9.0, 1.0]
    history = run(tmp_path, Tagger(), measured(values), epochs=7, patience=2)
    assert len(history.epochs) == 6 and history.stopped_early
    assert history.best_epoch == 4 and history.best_value == 3.0


def test_a_metric_that_is_not_measured_cannot_choose_the_epoch(tmp_path):
    with pytest.raises(TrainingError) as caught:
        run(tmp_path, Tagger(), measured([1.0]), epochs=1, watched=Watched("f1", True))
    assert caught.value.key == "watch"


def test_evaluating_after_each_step_changes_nothing_about_training(tmp_path):
    results = []
    for evaluation in (False, True):
        model = Tagger(dropout=0.3)
        model.load_state_dict(results[0][0] if results else model.state_dict())
        before, weights = weights_of(model), []

        def on_step(step, total, model=model, evaluation=evaluation):
            assert total == 6
            if evaluation:
                evaluate(model, split(make_examples(), [8]), CPU)

        run(tmp_path / str(evaluation), model, measured([3.0, 2.0, 1.0]), epochs=3, sizes=(4, 4), on_step=on_step)
        weights.append(weights_of(model))
        results.append((before, weights[-1]))
    assert_same(results[0][1], results[1][1])


def test_the_log_and_the_epochs_have_every_token(tmp_path):
    history = run(tmp_path, Tagger(), measured([2.0, 1.0]), epochs=2, sizes=(4, 4))
    tokens = sum(len(words) for words, _ in make_examples())
    assert [epoch.tokens for epoch in history.epochs] == [tokens] * 2
    assert [step.step for step in history.steps] == [1, 2, 3, 4]
    assert all(step.tokens_per_second > 0 and not step.skipped for step in history.steps)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert len(lines) == 5


def test_the_progress_bar_goes_to_standard_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(tmp_path, Tagger(), measured([1.0]), epochs=1, sizes=(4, 4), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err and "loss=" in err and "lr=" in err and "tokens_s=" in err


def test_the_groups_of_the_optimizer_are_printed(tmp_path, capsys):
    run(tmp_path, Tagger(), measured([1.0]), epochs=1, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "decay: weight decay 0.01, 2 tensors, 70 numbers"
    assert lines[1] == "no decay: weight decay 0, 3 tensors, 13 numbers"
