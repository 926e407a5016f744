"""Checkpoints: whole or not there, by name, exact, and nothing lost when the disk fails."""

from __future__ import annotations

import copy
import errno
import json
import math
import os
import resource
from pathlib import Path

import pytest
import safetensors.torch
import torch

from minibert.io.errors import CheckpointError, DiskError
from minibert.io.files import MANIFEST, sha256
from minibert.training import Step, optimizer_step, train
from minibert.workbench.runs import state
from minibert.workbench.runs.history import EpochRecord, StepRecord
from minibert.workbench.runs.state import (
    RunState,
    check_checkpoint,
    checkpoints,
    newest_checkpoint,
    random_states,
    restore_state,
    save_state,
)
from tests.lesson.test_loop import Tagger, assert_same, make_examples, split, training_of, weights_of

EXAMPLES = make_examples(12)
NAMES = {name: f"official.{name}" for name in Tagger().state_dict()}
FILES = [state.WEIGHTS, state.BEST, state.OPTIMIZER, state.RANDOM, state.STATE, MANIFEST]


class Stop(Exception):
    """Ends a training where a test wants it."""


def training(seed=1, dropout=0.3) -> RunState:
    torch.manual_seed(seed)
    model = Tagger(dropout)
    return RunState(model, training_of(model, total=40, warmup=5), NAMES)


def save(folder: Path, made: RunState, keep: int = 2) -> Path:
    return save_state(folder, made, keep=keep, random=random_states())


def taken(made: RunState, steps: int) -> RunState:
    """The run after some more steps, with a best epoch."""
    for _ in range(steps):
        step(made)
    made.best_weights = weights_of(made.model)
    return made


def step(made: RunState):
    made.training.position.step += 1
    return optimizer_step(made.training, split(EXAMPLES, [4, 4, 4]))


@pytest.fixture
def saved(tmp_path) -> Path:
    """A folder with the checkpoints of steps 3 and 5."""
    made = taken(training(), 3)
    save(tmp_path, made)
    save(tmp_path, taken(made, 2))
    return tmp_path


def test_a_checkpoint_holds_everything_that_decides_the_next_step(tmp_path):
    made = taken(training(), 3)
    made.history.best_loss = math.inf
    made.history.best_epoch, made.history.best_value, made.history.epochs_without_gain = 2, 0.75, 3
    made.training.position.skipped_in_a_row = 4
    path, stood = save(tmp_path, made), copy.deepcopy((made.history, made.training.position))
    losses = [step(made).terms for _ in range(4)]
    other = training(seed=7)
    restore_state(path, other)
    assert (other.history, other.training.position) == stood and stood[1].step == 3
    assert other.training.schedule.updates == 3
    assert [step(other).terms for _ in range(4)] == losses
    assert_same(weights_of(made.model), weights_of(other.model))
    assert_same(made.best_weights, other.best_weights)
    assert sorted(file.name for file in path.iterdir()) == sorted(FILES)


def test_tensors_have_the_names_that_were_handed_in(saved):
    with safetensors.safe_open(checkpoints(saved)[0] / state.OPTIMIZER, "pt") as file:
        assert "official.table.weight/exp_avg" in list(file.keys())


def test_numbers_that_json_lacks_come_back(tmp_path):
    made = training()
    for loss in (0.1, math.nan, math.inf, -math.inf):
        made.history.steps.append(StepRecord(1, 1, loss, 1e-3, loss, 7, 9.5, True, {"tags": loss}))
    made.history.epochs.append(EpochRecord(1, math.nan, 2.5, 7, {"accuracy": math.nan}, False))
    made.training.position.terms.sums["tags"] = math.inf
    made.training.position.terms.counts["tags"] = 3
    path = save(tmp_path, made)
    other = training()
    restore_state(path, other)
    assert repr(other.history) == repr(made.history)
    assert other.training.position == made.training.position


# -- damage ----------------------------------------------------------------------------------------

DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "flipped at the start": lambda path: flip(path, 0),
    "flipped at the end": lambda path: flip(path, -1),
    "foreign": lambda path: path.write_bytes((path.parent.parent / "step-0000003" / path.name).read_bytes()),
}


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0b100
    path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_recognised_and_the_one_before_used(saved, name, damage):
    older, newest = checkpoints(saved)
    assert newest_checkpoint(saved) == newest
    DAMAGES[damage](newest / name)
    # A foreign manifest is one that all other files disagree with: the first of them is named.
    named = state.BEST if (name, damage) == (MANIFEST, "foreign") else name
    with pytest.raises(CheckpointError):
        check_checkpoint(newest)
    with pytest.warns(UserWarning, match=rf"{newest.name}.*{named}"):
        assert newest_checkpoint(saved) == older


def test_without_any_whole_checkpoint_there_is_none(saved):
    for path in checkpoints(saved):
        (path / MANIFEST).unlink()
    with pytest.warns(UserWarning, match="passed over"):
        assert newest_checkpoint(saved) is None


# -- another training ------------------------------------------------------------------------------


def permute(made):
    for key in ("params", "param_names"):
        made.training.optimizer.param_groups[0][key].reverse()


def rename_group(made):
    made.training.optimizer.param_groups[0]["name"] = "other"


def move_parameter(made):
    first, second = made.training.optimizer.param_groups
    for key in ("params", "param_names"):
        second[key].append(first[key].pop())


def decay(made):
    made.training.optimizer.param_groups[0]["weight_decay"] = 0.5


def lengthen(made):
    made.training.schedule.total = 50


def scale(made):
    made.training.scaler = torch.amp.GradScaler("cpu")


def grow(made):
    made.model.classifier.weight = torch.nn.Parameter(torch.zeros(4, 5))


@pytest.mark.parametrize("change", [permute, rename_group, move_parameter, decay, lengthen, scale, grow])
def test_the_state_of_another_training_is_refused_and_changes_nothing(saved, change):
    made = training()
    change(made)
    before, random = weights_of(made.model), torch.get_rng_state()
    with pytest.raises(CheckpointError):
        restore_state(checkpoints(saved)[0], made)
    assert_same(before, weights_of(made.model))
    assert torch.equal(random, torch.get_rng_state()) and not made.training.optimizer.state


# -- a disk that fails -----------------------------------------------------------------------------


def failing(monkeypatch, at: int, number: int):
    """Every file operation is counted; the one with this number, from 0, fails."""
    counted = iter(range(10_000))
    last = [0]

    def wrap(real):
        def operation(*arguments, **options):
            last[0] = next(counted)
            if last[0] == at:
                raise OSError(number, os.strerror(number))
            return real(*arguments, **options)

        return operation

    for owner, name in [
        (os, "open"),
        (os, "fsync"),
        (os, "replace"),
        (os, "mkdir"),
        (os, "unlink"),
        (os, "chmod"),
        (Path, "write_text"),
        (Path, "touch"),
        (safetensors.torch, "save_file"),
    ]:
        monkeypatch.setattr(owner, name, wrap(getattr(owner, name)))
    return last


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EXDEV])
def test_a_save_that_fails_anywhere_says_so_and_leaves_the_one_before(saved, monkeypatch, number):
    made = taken(training(), 3)
    made.training.position.step = 6
    with monkeypatch.context() as patch:
        last = failing(patch, -1, number)
        save(saved, made, keep=3)
    assert last[0] >= 30
    state.remove_folder(saved / "step-0000006")
    sums = {path: sha256(path) for path in saved.glob("step-*/*")}
    for at in range(last[0] + 1):
        with monkeypatch.context() as patch:
            failing(patch, at, number)
            try:
                save(saved, made, keep=3)
                failed = False  # what failed was not needed: the folder is there, the file gone
            except DiskError as error:
                failed = True
                assert error.path == saved / "step-0000006" and os.strerror(number) in str(error)
                assert error.hint and error.exit_code == 1
        newest = newest_checkpoint(saved)
        assert newest is not None
        assert newest.name == "step-0000006" or (failed and newest.name == "step-0000005")
        assert {path: sha256(path) for path in sums} == sums
        if newest.name == "step-0000006":
            state.remove_folder(newest)


def test_a_file_that_may_not_grow_is_a_full_disk(saved):
    made = taken(training(), 1)
    made.training.position.step = 6
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 100, 1000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(DiskError) as caught:
                save(saved, made)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert caught.value.path == saved / "step-0000006"
        assert newest_checkpoint(saved) == saved / "step-0000005"
        assert len(list(saved.iterdir())) == 2


# -- how many stay ---------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_stay(tmp_path, keep):
    made = training()
    for _ in range(5):
        save(tmp_path, taken(made, 1), keep)
        (tmp_path / ".step-0000001.dead.tmp").mkdir()
    (tmp_path / ".step-0000001.dead.tmp").rmdir()
    numbers = [json.loads((p / state.STATE).read_text())["updates"] for p in checkpoints(tmp_path)]
    assert numbers == list(range(6 - keep, 6))
    for path in checkpoints(tmp_path):
        check_checkpoint(path)


def test_a_deletion_that_is_cut_short_leaves_nothing_that_counts(saved, monkeypatch):
    made = taken(training(), 1)
    made.training.position.step = 6

    def killed(*_, **__):
        raise Stop

    with monkeypatch.context() as patch:
        real = state.remove_folder
        patch.setattr("minibert.io.files.shutil.rmtree", killed)
        with pytest.raises(Stop):
            real(checkpoints(saved)[0])
    assert [path.name for path in checkpoints(saved)] == ["step-0000003", "step-0000005"]
    assert newest_checkpoint(saved) == saved / "step-0000005"
    save(saved, made)
    assert [path.name for path in checkpoints(saved)] == ["step-0000005", "step-0000006"]


# -- the scaler ------------------------------------------------------------------------------------


def test_the_scale_of_fp16_survives_and_skipped_steps_do_not_count(tmp_path):
    """From a scale of 2**40: the run is interrupted while steps are still skipped."""

    def go(seed, *, save_at=None, restore=None):
        torch.manual_seed(seed)
        model = Tagger(0.3)
        made = training_of(model, total=30, warmup=5, dtype=torch.float16)
        made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
        run = RunState(model, made, NAMES)
        if restore is not None:
            restore_state(restore, run)
        losses = {}
        for record in train(made, lambda _: split(EXAMPLES, [4, 4, 4]), 10):
            if isinstance(record, Step):
                losses[record.step] = record.terms.mean().hex()
            if made.position.step == save_at:
                save(tmp_path, run)
        return losses, run

    losses, whole = go(3, save_at=4)
    later, again = go(99, restore=tmp_path / "step-0000004")
    updates = whole.training.schedule.updates
    assert 0 < updates < 26 and again.training.schedule.updates == updates
    assert whole.training.scaler.state_dict() == again.training.scaler.state_dict()
    assert later == {step: loss for step, loss in losses.items() if step > 4}
    assert_same(weights_of(whole.model), weights_of(again.model))
