"""Resuming a run: the same bits as without an interruption, and only the same run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from minibert import BertForMaskedLM
from minibert.io.errors import ConfigError, DataError, MinibertError, TrainingError
from minibert.io.files import read_json, write_json
from minibert.training import optimizer_step
from minibert.workbench import cli
from minibert.workbench.runs import lock
from minibert.workbench.runs import session as sessions
from minibert.workbench.runs import state as state_module
from minibert.workbench.runs.folders import require_free
from minibert.workbench.tasks import finetune as finetune_module
from minibert.workbench.tasks.finetune import finetune, resume
from tests.conftest import refused
from tests.workbench.tasks.test_finetune import log_without_speed, settings_for, weights_of


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr(finetune_module, "pictures", lambda *_: [])


VARIANTS = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "gradient checkpointing": {"gradient_checkpointing": True},
}


def small(tiny: Path, moods: Path, output: Path, **changes):
    """24 steps with dropout, accumulation and a checkpoint after every fifth of them."""
    values = {"accumulate": 2, "save_every": 5, "test": None, **changes}
    return settings_for(tiny, moods, output, **values)


class Interruption(Exception):
    """Stands in for the end of the process."""


def break_at(monkeypatch, step: int, error: type[BaseException] = Interruption) -> None:
    """Lets the run end in the middle of a step, by its number from now."""
    calls = iter(range(1, step + 1))

    def broken(*arguments, **options):
        if next(calls) == step:
            raise error
        return optimizer_step(*arguments, **options)

    monkeypatch.setattr("minibert.training.optimizer_step", broken)


def unbroken(monkeypatch) -> None:
    monkeypatch.setattr("minibert.training.optimizer_step", optimizer_step)


@pytest.fixture(scope="module")
def whole(tiny, moods, tmp_path_factory):
    """Uninterrupted runs, by variant."""
    done: dict[str, Path] = {}

    def run(variant: str) -> Path:
        if variant not in done:
            output = tmp_path_factory.mktemp("whole") / "run"
            finetune(small(tiny, moods, output, **VARIANTS[variant]), progress=False)
            done[variant] = output
        return done[variant]

    return run


def assert_same_run(one: Path, other: Path) -> None:
    assert log_without_speed(one) == log_without_speed(other)
    assert weights_of(one) == weights_of(other)
    old, new = read_json(one / "run.json"), read_json(other / "run.json")
    for record in (old, new):
        assert record["status"] == "finished" and record["seconds"] >= 0
        for epoch in record["epochs"]:
            del epoch["seconds"]
    assert old["epochs"] == new["epochs"] and old["best_epoch"] == new["best_epoch"]
    assert not (other / "state").exists() and not (other / lock.LOCK).exists()


@pytest.mark.parametrize("variant, step", [("fp32", 1), *((name, 13) for name in VARIANTS)])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tiny, moods, tmp_path, monkeypatch, whole, variant, step):
    expected = whole(variant)
    break_at(monkeypatch, step)
    with pytest.raises(Interruption):
        finetune(small(tiny, moods, tmp_path / "run", **VARIANTS[variant]), progress=False)
    unbroken(monkeypatch)
    torch.manual_seed(999)
    resume(tmp_path / "run", progress=False)
    assert_same_run(expected, tmp_path / "run")


def test_a_kill_between_the_last_checkpoint_and_its_log_costs_no_line(tiny, moods, tmp_path, monkeypatch, whole):
    real = sessions.write_log

    def broken(folder, steps):
        if len(steps) == 24:
            raise Interruption
        real(folder, steps)

    expected = whole("fp32")
    monkeypatch.setattr(sessions, "write_log", broken)
    with pytest.raises(Interruption):
        finetune(small(tiny, moods, tmp_path / "run"), progress=False)
    monkeypatch.setattr(sessions, "write_log", real)
    resume(tmp_path / "run", progress=False)
    assert_same_run(expected, tmp_path / "run")


# Where a signal comes, at which call of that, and the step of the newest checkpoint afterwards. The
# run saves after steps 5, 8, 10, 15, 16, 20 and 24; 8, 16 and 24 are ends of epochs.
SIGNALS = [
    *[("step", at, at) for at in (1, 2, 5, 8, 13, 24)],
    *[("save", at, step) for at, step in ((1, 6), (2, 8), (3, 11), (5, 16), (6, 21), (7, 24))],
    *[("evaluation", at, step) for at, step in ((1, 8), (2, 16), (3, 24), (4, 24))],
    *[("data", at, step) for at, step in ((1, 1), (4, 2), (9, 5))],
]
TARGETS = {
    "step": "minibert.training.optimizer_step",
    "save": "minibert.workbench.runs.session.save_state",
    "evaluation": "minibert.workbench.tasks.finetune.evaluate",
    "data": "minibert.workbench.tasks.common.collate",
}


def signal_at(monkeypatch, place: str, at: int, *numbers: int) -> None:
    """The signals come when `place` is about to be called for the `at`-th time."""
    module, _, name = TARGETS[place].rpartition(".")
    real = getattr(sys.modules[module], name)
    calls = []

    def signalled(*arguments, **options):
        calls.append(1)
        if len(calls) == at:
            for number in numbers:
                signal.raise_signal(number)
        return real(*arguments, **options)

    monkeypatch.setattr(TARGETS[place], signalled)


def train_command(tiny, settings) -> list[str]:
    given = {"model": tiny, "train": settings.train, "validation": settings.validation}
    given |= {"output": settings.output, "batch-size": 8, "learning-rate": 3e-3, "accumulate": 2}
    given |= {"precision": "fp32", "save-every": 5, "epochs": 3}
    arguments = [str(part) for key, value in given.items() for part in (f"--{key}", value)]
    return ["train", *arguments, "--quiet"]


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("place, at, step", SIGNALS)
def test_a_signal_saves_and_says_how_to_resume(
    tiny, moods, tmp_path, monkeypatch, capsys, whole, number, code, place, at, step
):
    expected = whole("fp32")
    before = signal.getsignal(number)
    with monkeypatch.context() as patches:
        signal_at(patches, place, at, number)
        assert cli.main(train_command(tiny, small(tiny, moods, tmp_path / "run"))) == code
    assert signal.getsignal(number) is before
    assert f"minibert train --resume {tmp_path / 'run'}" in capsys.readouterr().err
    newest = state_module.newest_checkpoint(tmp_path / "run/state")
    assert newest is not None and newest.name == f"step-{step:07}"
    assert cli.main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert_same_run(expected, tmp_path / "run")


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("place, at", [("step", 3), ("save", 1), ("data", 14)])
def test_a_second_signal_does_not_wait(tiny, moods, tmp_path, monkeypatch, capsys, whole, number, code, place, at):
    """The step that runs is given up: what is left is the checkpoint before it."""
    expected = whole("fp32")
    with monkeypatch.context() as patches:
        signal_at(patches, place, at, signal.SIGINT, number)
        assert cli.main(train_command(tiny, small(tiny, moods, tmp_path / "run"))) == code
    assert f"minibert train --resume {tmp_path / 'run'}" in capsys.readouterr().err
    newest = state_module.newest_checkpoint(tmp_path / "run/state")
    assert (newest and newest.name) == ("step-0000005" if place == "data" else None)
    assert cli.main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert_same_run(expected, tmp_path / "run")


@pytest.fixture
def unfinished(tiny, moods, tmp_path, monkeypatch) -> Path:
    break_at(monkeypatch, 13)
    with pytest.raises(Interruption):
        finetune(small(tiny, moods, tmp_path / "run"), progress=False)
    unbroken(monkeypatch)
    return tmp_path / "run"


@pytest.mark.parametrize(
    "given",
    [
        {"epochs": 4},
        {"batch_size": 4},
        {"learning_rate": 1e-3},
        {"accumulate": 1},
        {"seed": 1},
        {"threads": 64},
        {"validation_fraction": 0.5},
        {"gradient_checkpointing": True},
    ],
)
def test_another_setting_is_refused_by_name(unfinished, given):
    with pytest.raises(ConfigError) as caught:
        resume(unfinished, progress=False, **given)
    [(key, value)] = given.items()
    assert caught.value.key == key
    assert f"and is {value!r}" in str(caught.value)


@pytest.mark.parametrize(
    "key, value",
    [
        ("data.train.examples", 7),
        ("model.config.num_attention_heads", 2),
        ("model.vocabulary", 7),
        ("processes", 2),
        ("labels", ["a", "b"]),
        ("precision.name", "bf16"),
    ],
)
def test_what_is_no_longer_as_it_was_is_refused_by_name(unfinished, key, value):
    record = read_json(unfinished / "run.json")
    place = record
    *above, last = key.split(".")
    for part in above:
        place = place[part]
    place[last] = value
    write_json(unfinished / "run.json", record)
    with pytest.raises(ConfigError) as caught:
        resume(unfinished, progress=False)
    assert caught.value.key == key and repr(value) in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt"])
def test_another_model_in_its_folder_is_refused(name, tiny, moods, tmp_path, monkeypatch):
    model = tmp_path / "model"
    shutil.copytree(tiny, model)
    break_at(monkeypatch, 13)
    with pytest.raises(Interruption):
        finetune(small(model, moods, tmp_path / "run"), progress=False)
    unbroken(monkeypatch)
    if name == "model.safetensors":
        other = BertForMaskedLM.from_pretrained(model)
        with torch.no_grad():
            other.body.encoder.layers[0].attention.query.bias.add_(1)
        other.save_pretrained(model)
    else:
        *others, one, last = (model / name).read_text().splitlines()
        (model / name).write_text("\n".join([*others, last, one]) + "\n")
    with pytest.raises(ConfigError, match=r"model\.files\.(weights|tokenizer)"):
        resume(tmp_path / "run", progress=False)


def test_a_run_is_resumed_from_another_directory(tiny, moods, tmp_path, monkeypatch, whole):
    """It was started with relative paths, which name nothing where it is resumed."""
    for name in ("train.csv", "validation.csv"):
        shutil.copy(moods / name, tmp_path / name)
    shutil.copytree(tiny, tmp_path / "model")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    break_at(monkeypatch, 13)
    with pytest.raises(Interruption):
        relative = {"train": "train.csv", "validation": "validation.csv"}
        finetune(replace(small(Path("model"), moods, Path("run")), **relative), progress=False)
    unbroken(monkeypatch)
    record = read_json(tmp_path / "run/run.json")
    for key in ("train", "validation", "model", "output"):
        assert Path(record["settings"][key]).is_absolute() and Path(record["settings"][key]).exists()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resume("../run", progress=False)
    assert_same_run(whole("fp32"), tmp_path / "run")


def test_inputs_that_were_moved_are_asked_for_and_may_be_named(tiny, moods, tmp_path, monkeypatch, whole):
    """In an order of their own, with a second interruption after the move."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    for name in ("train.csv", "validation.csv"):
        shutil.copy(moods / name, old / name)
    shutil.copytree(tiny, old / "model")
    break_at(monkeypatch, 6)
    with pytest.raises(Interruption):
        given = {"train": old / "train.csv", "validation": old / "validation.csv"}
        finetune(replace(small(old / "model", moods, tmp_path / "run"), **given), progress=False)
    old.rename(new)
    (new / "train.csv").rename(new / "other name.csv")
    named: dict[str, Path] = {}
    for key, name in (("model", "model"), ("train", "other name.csv"), ("validation", "validation.csv")):
        with refused(DataError, key) as caught:
            resume(tmp_path / "run", progress=False, **named)
        assert f"--{key}" in caught.value.hint
        named[key] = new / name
    monkeypatch.chdir(new)
    break_at(monkeypatch, 6)
    with pytest.raises(Interruption):
        resume(tmp_path / "run", progress=False, **{key: path.name for key, path in named.items()})
    unbroken(monkeypatch)
    monkeypatch.chdir(tmp_path)
    resume(tmp_path / "run", progress=False)  # the new places are known now
    assert_same_run(whole("fp32"), tmp_path / "run")
    assert read_json(tmp_path / "run/run.json")["settings"]["train"] == str(new / "other name.csv")


@pytest.mark.parametrize("key", ["train", "validation"])
def test_other_data_is_refused_by_name_wherever_it_is(unfinished, moods, tmp_path, key):
    before = (unfinished / "run.json").read_bytes()
    copy = tmp_path / "copy.csv"
    copy.write_text((moods / f"{key}.csv").read_text().replace("the", "one", 1))
    with pytest.raises(ConfigError) as caught:
        resume(unfinished, progress=False, **{key: copy})
    assert caught.value.key == f"data.{key}.files.{copy}"
    assert (unfinished / "run.json").read_bytes() == before


def test_a_finished_run_is_refused(whole):
    with pytest.raises(TrainingError):
        resume(whole("fp32"), progress=False)


def test_a_damaged_checkpoint_is_passed_over_and_refused_when_asked_for(unfinished, whole):
    older, newest = state_module.checkpoints(unfinished / "state")
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    with refused(MinibertError, "weights.safetensors"):
        resume(newest, progress=False)
    with pytest.warns(UserWarning, match=r"passed over: .*weights\.safetensors"):
        resume(unfinished, progress=False)
    assert_same_run(whole("fp32"), unfinished)


def test_a_damaged_checkpoint_takes_no_place_of_a_good_one(unfinished, monkeypatch):
    older, newest = state_module.checkpoints(unfinished / "state")
    (newest / "weights.safetensors").unlink()
    newest.rename(newest.with_name("step-0000012"))  # as a signal between two saves leaves it
    break_at(monkeypatch, 16)
    with pytest.warns(UserWarning, match="passed over"), pytest.raises(Interruption):
        resume(unfinished, progress=False)
    kept = state_module.checkpoints(unfinished / "state")
    assert len(kept) == 2 and "step-0000012" not in [path.name for path in kept]
    for path in kept:
        state_module.check_checkpoint(path)


def test_a_folder_in_use_is_refused_and_names_its_process(unfinished, tiny, moods):
    with lock.locked(unfinished):
        holder = json.loads((unfinished / lock.HOLDER).read_text())
        for begin in (
            lambda: resume(unfinished, progress=False),
            lambda: finetune(small(tiny, moods, unfinished), progress=False),
        ):
            with refused(TrainingError, "output") as caught:
                begin()
            assert f"pid {holder['pid']} on {holder['host']}" in str(caught.value)


def test_the_lock_of_a_dead_process_is_taken_over(unfinished, whole):
    (unfinished / lock.HOLDER).write_text('{"pid": 1, "host": "gone", "started": "then"}')
    with pytest.warns(UserWarning, match="pid 1 on gone"):
        resume(unfinished, progress=False)
    assert_same_run(whole("fp32"), unfinished)


def test_of_four_processes_that_want_a_folder_one_has_it(tmp_path):
    """20 races of processes that take the lock alone; who has it holds it until all have tried."""
    parent = os.getpid()
    for _ in range(20):
        begin, told, end = os.pipe(), os.pipe(), os.pipe()
        children = [os.fork() for _ in range(4) if os.getpid() == parent]
        if os.getpid() != parent:
            _try_to_lock(tmp_path, begin, told, end)
        os.close(begin[1])
        outcomes = b"".join(os.read(told[0], 1) for _ in children)
        os.close(end[1])
        for child in children:
            os.waitpid(child, 0)
        for handle in (begin[0], *told, end[0]):
            os.close(handle)
        assert sorted(outcomes) == sorted(b"1000")
        assert not list(tmp_path.iterdir())


def _try_to_lock(folder: Path, begin, told, end) -> NoReturn:
    """Tells 1 if it has the lock, 0 if it is refused by the pid of another, then ends."""
    try:
        os.close(begin[1])
        os.close(end[1])
        os.read(begin[0], 1)  # nothing comes: the parent lets go, and all begin
        try:
            with lock.locked(folder):
                os.write(told[1], b"1")
                os.read(end[0], 1)
        except TrainingError as error:
            os.write(told[1], b"0" if f"pid {os.getpid()} " not in str(error) else b"?")
    finally:
        os._exit(0)


def test_kills_at_any_moment_cost_no_bit():
    """The short form of `python -m tests.programs.kills --kills 100`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.programs.kills", "--kills", "4", "--variants", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
        timeout=600,  # a guard against hanging alone
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gradient checkpointing" in done.stdout


def test_a_run_killed_before_it_wrote_its_record_is_started_again(tmp_path):
    (tmp_path / ".run.json.0123456789abcdef.tmp").write_text("{")
    require_free(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError):
        require_free(tmp_path)
