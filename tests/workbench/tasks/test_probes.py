"""Probes against scikit-learn, and runs of them from end to end."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from minibert import BertModel
from minibert.heads import ClassLoss
from minibert.io.errors import CheckpointError, ConfigError, TrainingError
from minibert.io.files import read_json, write_json
from minibert.study.logistic import fit_logistic
from minibert.workbench.cli import main
from minibert.workbench.runs.folders import read_run
from minibert.workbench.runs.ranks import Ranks
from minibert.workbench.tasks.evaluate import evaluate_file
from minibert.workbench.tasks.features import extract_features
from minibert.workbench.tasks.finetune import Settings, finetune
from minibert.workbench.tasks.predict import Predictor
from minibert.workbench.tasks.probes import LinearProbe, ProbedModel
from tests.conftest import BOUNDS, refused
from tests.workbench.conftest import write_table
from tests.workbench.tasks.test_finetune import log_without_speed, settings_for


def points(count: int, seed: int = 0, spread: float = 1.0):
    """Three overlapping clouds in five dimensions, of unlike scales."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, count)
    centres = np.random.default_rng(9).normal(size=(3, 5))
    features = centres[labels] + spread * draw.normal(size=(count, 5))
    return (features * [1, 5, 0.1, 1, 2] + 3).astype(np.float32), labels


def fitted(features, labels, classes=3, weights=None, **options):
    probe = LinearProbe(features.shape[1], classes, torch.Generator().manual_seed(0))
    probe.class_loss = ClassLoss(weights)
    steps = fit_logistic(
        probe.linear, probe.class_loss, torch.from_numpy(features), torch.from_numpy(labels), **options
    )
    return probe, steps


@pytest.mark.parametrize("c", [1.0, 0.01])
def test_coefficients_are_those_of_scikit_learn(c):
    features, labels = points(300)
    probe, _ = fitted(features, labels, c=c)
    # Newton's method: its L-BFGS stops 2.5e-5 short of the minimum on some machines.
    other = LogisticRegression(C=c, solver="newton-cg", tol=1e-10, max_iter=10_000).fit(
        features.astype(np.float64), labels
    )
    weight, bias = probe.linear.weight.detach().numpy(), probe.linear.bias.detach().numpy()
    bound = BOUNDS["official model fp32"]  # the probe is kept in float32
    np.testing.assert_allclose(weight, other.coef_, rtol=0, atol=bound)
    # A number added to every bias changes nothing; scikit-learn's sum to 0 as ours do.
    np.testing.assert_allclose(bias, other.intercept_, rtol=0, atol=bound)


@pytest.mark.parametrize("c", [1.0, 0.01])
def test_two_classes_have_the_penalty_of_scikit_learns_one_vector(c):
    features, labels = points(300)
    labels = np.minimum(labels, 1)
    probe, _ = fitted(features, labels, classes=2, c=c)
    other = LogisticRegression(C=c, tol=1e-10, max_iter=10_000)
    other.fit(features.astype(np.float64), labels)
    weight, bias = probe.linear.weight.detach().numpy(), probe.linear.bias.detach().numpy()
    bound = BOUNDS["official model fp32"]
    np.testing.assert_allclose(weight[1] - weight[0], other.coef_[0], rtol=0, atol=bound)
    np.testing.assert_allclose(bias[1] - bias[0], other.intercept_[0], rtol=0, atol=bound)


def test_several_processes_cannot_train_a_probe(tiny, moods, tmp_path, monkeypatch):
    monkeypatch.setattr("minibert.workbench.tasks.finetune.launched", lambda: Ranks(0, 2))
    with pytest.raises(ConfigError) as caught:
        finetune(settings_for(tiny, moods, tmp_path / "run", probe="linear"), progress=False)
    assert caught.value.key == "probe" and not (tmp_path / "run").exists()


def test_class_weights_are_those_of_scikit_learn():
    features, labels = points(200)
    weights = torch.tensor([3.0, 0.5, 1.0], dtype=torch.float64)
    probe, _ = fitted(features, labels, weights=weights)
    other = LogisticRegression(class_weight={0: 3.0, 1: 0.5, 2: 1.0}, tol=1e-10, max_iter=10_000)
    other.fit(features.astype(np.float64), labels)
    weight = probe.linear.weight.detach().numpy()
    np.testing.assert_allclose(weight, other.coef_, rtol=0, atol=BOUNDS["official model fp32"])


def test_the_score_is_that_of_scikit_learn_with_its_own_tolerance():
    features, labels = points(2000, spread=2.0)
    test_features, test_labels = points(2000, seed=1, spread=2.0)
    probe, steps = fitted(features, labels)
    guesses = probe(torch.from_numpy(test_features)).logits.argmax(-1).numpy()
    other = LogisticRegression(max_iter=1000).fit(features, labels)
    expected = other.score(test_features, test_labels)
    assert abs((guesses == test_labels).mean() - expected) <= 0.002
    assert 0.5 < expected < 0.9  # neither chance nor easy
    losses = [loss for loss, _, _ in steps]
    assert losses[0] == pytest.approx(np.log(3)) and losses == sorted(losses, reverse=True)
    assert steps[-1][1] <= 1e-7


def test_a_fit_that_does_not_converge_or_is_not_finite_is_an_error():
    features, labels = points(50)
    with refused(TrainingError, "slope"):
        fitted(features, labels, most_steps=2)
    features[3, 1] = np.nan
    with refused(TrainingError, "loss"):
        fitted(features, labels)


# Runs


def probe_settings(tiny, moods, output, **changes) -> Settings:
    values = {"probe": "linear", "layer": 0, "pooling": "mean", "learning_rate": 3e-2, "epochs": 6}
    return settings_for(tiny, moods, output, **{**values, **changes})


def logistic_settings(tiny, moods, output) -> Settings:
    """The same without the settings of training in steps."""
    settings = probe_settings(tiny, moods, output, probe="logistic")
    defaults = {item.name: item.default for item in fields(Settings)}
    steps = ("epochs", "batch_size", "learning_rate")
    return replace(settings, **{key: defaults[key] for key in steps})


@pytest.mark.parametrize("probe", ["linear", "logistic"])
def test_a_run_is_a_run_like_any_other(tiny, moods, tmp_path, probe):
    if probe == "logistic":
        settings = logistic_settings(tiny, moods, tmp_path / "run")
    else:
        settings = probe_settings(tiny, moods, tmp_path / "run", epochs=20)
    run = finetune(settings, progress=False)
    values = run.reports["test"].values()
    assert values["accuracy"] > 0.7  # the largest class has 0.5
    saved = read_run(run.folder)
    assert saved.split == "test" and len(saved.rows) == 36 and "low" in saved.metrics["test"]["accuracy"]
    assert len(saved.steps) == len(run.history.steps)
    assert saved.record["model"]["trained_parameters"] == 3 * 32 + 3
    assert saved.record["settings"]["probe"] == probe
    assert {"confusion.csv", "model"} <= {path.name for path in run.folder.iterdir()}
    assert saved.metrics["baselines"]["majority"]["accuracy"] == 0.5
    assert "majority 0.5000" in run.summary()
    # What was saved says of each text what the run's own report says of it.
    again = evaluate_file(run.folder, moods / "test.csv", precision="fp32", progress=False)
    bound = BOUNDS["official model fp32"]
    assert again.values() == {key: pytest.approx(value, abs=bound) for key, value in values.items()}
    row = run.reports["test"].rows[0]
    [prediction] = Predictor.from_pretrained(run.folder, precision="fp32")([row["text"]])
    assert prediction.label == row["prediction"]
    assert prediction.probability == pytest.approx(row["probability"], abs=bound)


def test_the_frozen_model_is_saved_as_it_was(tiny, moods, tmp_path):
    run = finetune(probe_settings(tiny, moods, tmp_path / "run", epochs=1), progress=False)
    before, after = (BertModel.from_pretrained(path) for path in (tiny, run.folder))
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, after.state_dict()[name]), name


def test_the_probe_depends_on_the_seed(tiny, moods, tmp_path):
    logs, weights = [], []
    for number, seed in enumerate((1, 1, 2)):
        settings = probe_settings(tiny, moods, tmp_path / str(number), seed=seed, epochs=2)
        run = finetune(settings, progress=False)
        logs.append(log_without_speed(run.folder))
        weights.append((run.folder / "model" / "probe.safetensors").read_bytes())
    assert logs[0] == logs[1] != logs[2]
    assert weights[0] == weights[1] != weights[2]


def test_the_rate_falls_by_a_twentieth_from_epoch_to_epoch(tiny, moods, tmp_path):
    settings = probe_settings(tiny, moods, tmp_path / "run", schedule="exponential", warmup=0.0, epochs=3)
    rates = [record.learning_rate for record in finetune(settings, progress=False).history.steps]
    expected = [3e-2 * 0.95**epoch for epoch in range(3) for _ in range(15)]
    assert rates == pytest.approx(expected)


def test_labels_that_are_not_classes_are_refused(tiny, tmp_path):
    path = write_table(tmp_path / "numbers.csv", ["text", "label"], [("so", 0.5), ("a day", 1.5)] * 9)
    with refused(ConfigError, "probe"):
        finetune(Settings(str(tiny), str(path), probe="linear"), progress=False)


def test_a_probe_that_does_not_fit_is_named(tiny, moods, tmp_path):
    run = finetune(probe_settings(tiny, moods, tmp_path / "run", epochs=1), progress=False)
    path = run.folder / "model" / "probe.json"
    record = read_json(path)
    write_json(path, {**record, "labels": ["one", "two"]})
    with pytest.raises(CheckpointError, match="probe.safetensors holds"):
        ProbedModel.from_pretrained(run.folder)
    write_json(path, {**record, "layer": "last"})
    with pytest.raises(CheckpointError, match="does not name layer and labels"):
        ProbedModel.from_pretrained(run.folder)


def test_the_commands(tiny, moods, tmp_path, capsys):
    folder = str(tmp_path / "run")
    data = [f"--{name}={moods / name}.csv" for name in ("train", "validation", "test")]
    probe = ["--probe=logistic", "--layer=1", "--pooling=max", "--precision=fp32"]
    assert main(["train", f"--model={tiny}", f"--output={folder}", "--quiet", *data, *probe]) == 0
    assert "without BERT, accuracy on test: majority 0.5000" in capsys.readouterr().out
    record = read_json(tmp_path / "run" / "model" / "probe.json")
    assert record == {"layer": 1, "pooling": "max", "labels": ["angry", "calm", "happy"]}
    assert main(["predict", folder, "the sky was happy"]) == 0
    assert capsys.readouterr().out.endswith("the sky was happy\n")
    assert main(["evaluate", folder, str(moods / "test.csv"), "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("test.csv: 36 examples")
    assert main(["embed", folder, "so", "--layer=0", "--json", "--quiet"]) == 0
    vector = json.loads(capsys.readouterr().out)["embedding"]
    assert vector == extract_features(tiny, ["so"], layer=0, pooling="mean")[0].tolist()
