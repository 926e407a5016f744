"""Runs over seeds: what varies, what does not, and resuming a group."""

from __future__ import annotations

import json
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from minibert.io.errors import ConfigError, DataError
from minibert.io.files import sha256
from minibert.workbench.cli import main
from minibert.workbench.runs.folders import read_run
from minibert.workbench.runs.settings import Settings
from minibert.workbench.tasks import seeds as module
from minibert.workbench.tasks.compare import compare
from minibert.workbench.tasks.finetune import finetune
from minibert.workbench.tasks.seeds import train_seeds
from tests.conftest import refused


def settings_for(tiny: Path, moods: Path, output: Path, **changes) -> Settings:
    """A run of a second that draws its subset and its validation split."""
    values = {
        "test": str(moods / "test.csv"),
        "train_subset": 60,
        "validation_fraction": 0.2,
        "epochs": 1,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "precision": "fp32",
        **changes,
    }
    return Settings(str(tiny), str(moods / "train.csv"), output=str(output), **values)


def weights_of(folder: Path) -> str:
    return sha256(folder / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def group(tiny, moods, tmp_path_factory):
    output = tmp_path_factory.mktemp("group") / "runs"
    return train_seeds(settings_for(tiny, moods, output), 3, progress=False)


@pytest.fixture
def no_training(monkeypatch):
    def fail(*_, **__):
        pytest.fail("a run was trained")

    monkeypatch.setattr(module, "finetune", fail)


def test_training_varies_and_the_examples_do_not(group, tiny, moods, tmp_path):
    folders = [group.folder / f"seed-{seed}" for seed in range(3)]
    assert len({weights_of(folder) for folder in folders}) == 3
    records = [read_run(folder).record for folder in folders]
    assert [record["settings"]["seed"] for record in records] == [0, 1, 2]
    assert {record["settings"]["data_seed"] for record in records} == {0}
    # Without a test split the examples of errors.csv are those of validation, drawn by the seed.
    tables = []
    for seed, data_seed in ((0, None), (1, 0), (1, None)):
        wanted = settings_for(tiny, moods, tmp_path / f"{seed}-{data_seed}", test=None)
        finetune(replace(wanted, seed=seed, data_seed=data_seed), progress=False)
        rows = read_run(str(wanted.output)).rows
        tables.append({row["guid"] for row in rows})
    assert tables[0] == tables[1] != tables[2]


def test_one_of_the_runs_is_the_run_of_that_seed_alone(group, tiny, moods, tmp_path):
    alone = replace(settings_for(tiny, moods, tmp_path / "alone"), seed=2, data_seed=0)
    finetune(alone, progress=False)
    assert weights_of(tmp_path / "alone") == weights_of(group.folder / "seed-2")


def test_seeds_json_holds_means_spreads_and_intervals(group):
    record = json.loads((group.folder / "seeds.json").read_text())
    assert record["seeds"] == [0, 1, 2] and record["runs"] == ["seed-0", "seed-1", "seed-2"]
    assert record["metrics"].keys() == {"validation", "test"}
    for split, scores in record["metrics"].items():
        for name, found in scores.items():
            values = [run.metrics[split][name]["value"] for run in group.runs]
            assert found["values"] == values
            assert found["mean"] == pytest.approx(statistics.mean(values), abs=1e-9)
            assert found["deviation"] == pytest.approx(np.std(values, ddof=1), abs=1e-9)
            error = scipy.stats.sem(values)
            if error:
                expected = scipy.stats.t.interval(0.95, 2, np.mean(values), error)
                assert (found["low"], found["high"]) == pytest.approx(expected, abs=1e-9)


def test_the_summary_has_each_seed_and_the_spread(group):
    text = group.summary()
    spread = group.spreads("test")["loss"]
    assert f"{spread.mean:.4f} +- {spread.deviation:.4f}" in text
    assert all(
        f"\n{seed}     {value:.4f}" in text for seed, value in enumerate(group.spreads("test")["accuracy"].values)
    )
    assert "36 examples, 3 seeds (3 trained now, 0 finished before)" in text


def test_a_finished_group_is_not_trained_again(group, tiny, moods, no_training):
    again = train_seeds(settings_for(tiny, moods, group.folder), 3, progress=False)
    assert again.trained == 0
    assert "(0 trained now, 3 finished before)" in again.summary()


def test_a_group_that_was_stopped_trains_the_missing_seeds(tiny, moods, tmp_path, monkeypatch):
    trained = []

    def stopped(settings, **options):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(settings.seed)
        return finetune(settings, **options)

    wanted = settings_for(tiny, moods, tmp_path / "runs", seed=5)
    monkeypatch.setattr(module, "finetune", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_seeds(wanted, 2, progress=False)
    assert trained == [5] and not (tmp_path / "runs" / "seeds.json").exists()
    before = weights_of(tmp_path / "runs" / "seed-5")
    monkeypatch.setattr(module, "finetune", finetune)
    found = train_seeds(wanted, 2, progress=False)
    assert found.trained == 1 and weights_of(tmp_path / "runs" / "seed-5") == before
    assert [run.record["settings"]["data_seed"] for run in found.runs] == [5, 5]


def test_other_settings_in_the_folder_are_refused_by_name(group, tiny, moods, no_training):
    other = settings_for(tiny, moods, group.folder, learning_rate=1e-3)
    with pytest.raises(ConfigError) as caught:
        train_seeds(other, 3, progress=False)
    assert caught.value.key == "learning_rate"


def test_data_that_was_moved_since_is_the_same(group, tiny, moods, tmp_path, monkeypatch, no_training):
    folder = tmp_path / "runs"
    shutil.copytree(group.folder, folder)
    shutil.copy(moods / "train.csv", tmp_path / "moved.csv")
    monkeypatch.chdir(tmp_path)
    moved = replace(settings_for(tiny, moods, Path("runs")), train="moved.csv")
    assert train_seeds(moved, 3, progress=False).trained == 0
    (tmp_path / "moved.csv").write_text((moods / "train.csv").read_text() + "one more,good\n")
    with refused(ConfigError, "train"):
        train_seeds(moved, 3, progress=False)


def test_data_that_changed_since_is_refused(group, tiny, moods, tmp_path, no_training):
    folder = tmp_path / "runs"
    shutil.copytree(group.folder, folder)
    record = json.loads((folder / "seed-1" / "run.json").read_text())
    [path] = record["data"]["train"]["files"]
    record["data"]["train"]["files"][path] = "cd34"
    (folder / "seed-1" / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError) as caught:
        train_seeds(settings_for(tiny, moods, folder), 3, progress=False)
    assert (caught.value.path, caught.value.key) == (folder / "seed-1", "training files (sha256)")


def test_a_model_that_changed_since_is_refused(group, tiny, moods, tmp_path, no_training):
    folder = tmp_path / "runs"
    shutil.copytree(group.folder, folder)
    record = json.loads((folder / "seed-2" / "run.json").read_text())
    record["model"]["files"]["weights"] = ["cd34"]
    (folder / "seed-2" / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError) as caught:
        train_seeds(settings_for(tiny, moods, folder), 3, progress=False)
    assert (caught.value.path, caught.value.key) == (folder / "seed-2", "model")


def test_a_half_finished_run_is_resumed(group, tiny, moods, tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    shutil.copytree(group.folder, folder)
    record = json.loads((folder / "seed-1" / "run.json").read_text())
    (folder / "seed-1" / "run.json").write_text(json.dumps({**record, "status": "unfinished"}))
    asked = []

    def go_on(where, **given):
        assert given["train"] == str(moods / "train.csv")
        asked.append(where)
        (folder / "seed-1" / "run.json").write_text(json.dumps(record))

    monkeypatch.setattr(module, "resume", go_on)
    monkeypatch.setattr(module, "finetune", lambda *_, **__: pytest.fail("trained again"))
    train_seeds(settings_for(tiny, moods, folder), 2, progress=False)
    assert asked == [str(folder / "seed-1")]


def test_a_folder_with_something_else_in_it_is_refused(tiny, moods, tmp_path, no_training):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError) as caught:
        train_seeds(settings_for(tiny, moods, tmp_path), 2, progress=False)
    assert caught.value.key == "output" and "thesis.txt" in str(caught.value)


def test_a_run_that_is_resumed_is_one_run(group, capsys):
    folder = group.folder / "seed-1"
    assert main(["train", "--resume", str(folder), "--seeds", "3"]) == 2
    assert "seeds asks for several" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 0, -3])
def test_one_seed_has_no_spread(tiny, moods, tmp_path, count):
    with pytest.raises(ConfigError) as caught:
        train_seeds(settings_for(tiny, moods, tmp_path / "runs"), count, progress=False)
    assert caught.value.key == "seeds"
    assert not (tmp_path / "runs").exists()


def test_the_command_trains_compares_and_numbers_its_folder(tiny, moods, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train = [
        *("train", "--quiet", "--model", str(tiny), "--train", str(moods / "train.csv")),
        *("--test", str(moods / "test.csv"), "--epochs", "1", "--precision", "fp32"),
    ]
    assert main([*train, "--seeds", "2", "--learning-rate", "3e-3"]) == 0
    assert "2 seeds (2 trained now, 0 finished before)" in capsys.readouterr().out
    assert sorted(path.name for path in Path("runs/001").iterdir()) == ["seed-0", "seed-1", "seeds.json"]
    assert main([*train, "--seeds", "2", "--output", "other", "--data-seed", "7"]) == 0
    capsys.readouterr()
    assert main(["compare", "runs/001", "other"]) == 0
    assert "B - A" in capsys.readouterr().out
    found = compare(["runs/001", "other"])
    assert found.settings["data_seed"] == ["0", "7"]
    assert main([*train, "--seeds", "1"]) == 2
