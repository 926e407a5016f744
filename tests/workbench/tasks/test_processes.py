"""`minibert train` as torchrun starts it: one folder, one voice, the result of one process."""

from __future__ import annotations

import csv
import os
import signal
import sys

import pytest

from minibert import training as loop
from minibert.io.files import read_json, sha256, write_json
from minibert.workbench.cli import main
from tests.conftest import BOUNDS
from tests.workbench.conftest import save_model
from tests.workbench.runs import processes


def command(rank, folder, arguments):
    """One command, with standard output and error in files of this rank."""
    for number, name in ((1, "out"), (2, "err")):
        target = os.open(folder / f"{name} {rank}", os.O_WRONLY | os.O_CREAT)
        os.dup2(target, number)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    code = 1
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def command_that_is_killed(rank, folder, arguments, step):
    """The same, but rank 1 is killed in the middle of a step."""
    take = loop.optimizer_step

    def step_or_die(training, window):
        if rank == 1 and training.position.step == step - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return take(training, window)

    loop.optimizer_step = step_or_die
    command(rank, folder, arguments)


def command_that_is_asked_to_stop(rank, folder, arguments, step):
    """The same, but SIGTERM comes to rank 1 alone, in the middle of a step."""
    take = loop.optimizer_step

    def step_and_signal(training, window):
        if rank == 1 and training.position.step == step - 1:
            signal.raise_signal(signal.SIGTERM)
        return take(training, window)

    loop.optimizer_step = step_and_signal
    command(rank, folder, arguments)


def said(folder, name):
    """What each rank wrote, but for torch's own log, which misses names without a network."""
    texts = [(folder / f"{name} {rank}").read_text() for rank in range(2)]
    return ["".join(line for line in text.splitlines(True) if "[c10d]" not in line) for text in texts]


def arguments_for(model, moods, output, **changes):
    values = {
        "model": model,
        "train": moods / "train.csv",
        "validation": moods / "validation.csv",
        "test": moods / "test.csv",
        "output": output,
        "epochs": 2,
        "batch-size": 7,
        "accumulate": 2,
        "learning-rate": 3e-3,
        "precision": "fp32",
        "device": "cpu",
        **changes,
    }
    return ["train", *(str(part) for key, value in values.items() for part in (f"--{key}", value))]


def test_two_processes_write_the_run_of_one(moods, tmp_path):
    model = save_model(tmp_path / "model", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    assert main([*arguments_for(model, moods, tmp_path / "one"), "--quiet"]) == 0
    arguments = arguments_for(model, moods, tmp_path / "two")
    assert processes.run(command, tmp_path, arguments) == [0, 0]
    first, second = said(tmp_path, "out")
    assert first.count("use it:") == 1 and second == ""
    first, second = said(tmp_path, "err")
    assert first.count("epoch 2:") == 1 and second == ""
    one, two = (read_json(tmp_path / name / "run.json") for name in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["steps"] == two["steps"] and one["best_epoch"] == two["best_epoch"]
    rows = [list(csv.DictReader((tmp_path / name / "log.csv").open())) for name in ("one", "two")]
    assert len(rows[0]) == len(rows[1]) == one["steps"]
    for alone, shared in zip(*rows, strict=True):
        assert alone["tokens"] == shared["tokens"]
    assert float(rows[0][0]["loss"]) == pytest.approx(float(rows[1][0]["loss"]), abs=BOUNDS["module fp32"])
    assert read_json(tmp_path / "two" / "metrics.json")["test"]["examples"] == 36
    assert len(list(csv.DictReader((tmp_path / "two" / "errors.csv").open()))) == 36


def losses(folder):
    with open(folder / "log.csv", newline="") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("size", [2, 3])
def test_processes_that_lost_one_resume_bit_for_bit(size, moods, tiny, tmp_path):
    """Of three, as many are there as it takes for the order of a sum to matter."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    every, well = {"save-every": 3}, [0] * size
    arguments = arguments_for(tiny, moods, whole, **every)
    assert processes.run(command, tmp_path, arguments, size=size) == well
    arguments = arguments_for(tiny, moods, broken, **every)
    codes = processes.run(command_that_is_killed, tmp_path, arguments, 13, size=size)
    assert codes == [1, -signal.SIGKILL, 1][:size]
    saved = sorted(path.name for path in (broken / "state").iterdir())
    assert saved[-1] == "step-0000012" and not (broken / "run.lock").exists()
    assert main(["train", "--resume", str(broken), "--quiet"]) == 2  # one process where two began
    again = tmp_path / "again"
    again.mkdir()
    assert processes.run(command, again, ["train", "--resume", str(broken)], size=size) == well
    assert said(again, "err")[0].count("resumes from") == 1
    assert losses(broken) == losses(whole) and len(losses(whole)) == read_json(whole / "run.json")["steps"]
    weights = [folder / "model" / "model.safetensors" for folder in (whole, broken)]
    assert sha256(weights[0]) == sha256(weights[1])


def test_a_signal_to_one_process_stops_all_as_it_would_stop_one(moods, tiny, tmp_path):
    folder = tmp_path / "run"
    arguments = arguments_for(tiny, moods, folder)
    codes = processes.run(command_that_is_asked_to_stop, tmp_path, arguments, 13)
    assert codes == [128 + signal.SIGTERM] * 2
    assert f"minibert train --resume {folder}" in said(tmp_path, "err")[0]
    assert (folder / "state" / "step-0000013").exists()


def test_another_number_of_processes_is_refused_by_name(moods, tiny, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main([*arguments_for(tiny, moods, folder, epochs=1), "--quiet"]) == 0
    record = read_json(folder / "run.json")
    write_json(folder / "run.json", {**record, "status": "unfinished", "processes": 2})
    assert main(["train", "--resume", str(folder), "--quiet"]) == 2
    assert "processes was 2 and is 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, words",
    [
        ({"train": "/nowhere.csv"}, "/nowhere.csv"),
        ({"epochs": 0}, "--epochs: it must be 1 or more"),
        ({"device": "cuda:0"}, "cannot share the device"),
        ({"nonsense": 1}, "--nonsense"),
    ],
    ids=str,
)
def test_a_wrong_input_is_told_once_and_ends_all_with_2(change, words, moods, tiny, tmp_path):
    arguments = arguments_for(tiny, moods, tmp_path / "run", **change)
    assert processes.run(command, tmp_path, arguments) == [2, 2]
    told = "".join(said(tmp_path, "err"))
    assert told.count(words) == 1 and "Traceback" not in told
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_ends_all(moods, tiny, tmp_path):
    (tmp_path / "file").touch()
    arguments = arguments_for(tiny, moods, tmp_path / "file" / "run")
    assert 0 not in processes.run(command, tmp_path, arguments)
    assert "".join(said(tmp_path, "err")).count("could not be made") == 1


def test_other_commands_run_once(tiny, tmp_path):
    assert processes.run(command, tmp_path, ["tokenize", str(tiny), "happy day"]) == [0, 0]
    first, second = said(tmp_path, "out")
    assert "happy" in first and second == ""
