"""`minibert train` without a model and data: what ships with the project, with a tiny stand-in."""

from __future__ import annotations

import pytest

from minibert.io import bundled
from minibert.io.errors import CheckpointError
from minibert.io.files import read_json
from minibert.io.source import open_source
from minibert.workbench.cli import main
from tests.workbench.conftest import save_model
from tests.workbench.runs.test_resume import break_at


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """A model in the second of the places."""
    places = (tmp_path / "package/weights", tmp_path / "weights")
    monkeypatch.setattr(bundled, "PLACES", places)
    monkeypatch.chdir(tmp_path)
    return save_model(places[1] / bundled.MODEL)


def test_it_trains_reports_and_says_what_is_next(shipped, tmp_path, capsys):
    assert main(["train", "--epochs", "1", "--precision", "fp32", "--max-length", "12"]) == 0
    out, messages = capsys.readouterr()
    assert "minibert-small" in messages
    for words in ("minibert predict runs/001", "minibert report runs/001", "report.html", "--recipe"):
        assert words in out
    settings = read_json(tmp_path / "runs/001/run.json")["settings"]
    assert (settings["model"], settings["train"], settings["test"]) == ("minibert-small", "samples", "samples")
    assert settings["epochs"] == 1 and (tmp_path / "runs/001/report.html").is_file()


def test_a_resumed_run_reports_as_well(shipped, tmp_path, capsys):
    how = ["--epochs", "1", "--precision", "fp32", "--max-length", "12", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        break_at(patch, 2, KeyboardInterrupt)
        assert main(["train", "--output", "run", *how]) == 130
    assert not (tmp_path / "run/report.html").exists()
    assert main(["train", "--resume", "run", "--quiet"]) == 0
    assert "written:\n" in capsys.readouterr().out and (tmp_path / "run/report.html").is_file()


def test_data_takes_the_samples_by_name(capsys):
    assert main(["data", "samples", "--quiet"]) == 0
    by_option = main(["data", "--train", "samples", "--quiet"])
    shown = capsys.readouterr().out
    assert by_option == 0 and shown[: len(shown) // 2] == shown[len(shown) // 2 :]


def test_the_package_comes_first(shipped, tmp_path):
    assert open_source("minibert-small").folder == shipped
    inside = save_model(tmp_path / "package/weights" / bundled.MODEL)
    assert bundled.bundled() == inside


def test_without_the_weights_the_error_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bundled, "PLACES", (tmp_path / "a", tmp_path / "b"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        bundled.bundled()
    assert caught.value.path == tmp_path / "b/minibert-small/config.json"
    assert main(["train"]) == 2
    assert "--model names another model." in capsys.readouterr().err
