"""The state of a run on disk: saved between two steps, read back bit for bit.

Nothing here is about BERT. A checkpoint is a folder:

    step-0000040/
      weights.safetensors    the model's tensors
      best.safetensors       those of the best epoch so far, if an epoch was evaluated
      optimizer.safetensors  AdamW's running means per parameter: NAME/exp_avg, ...
      random.safetensors     states of torch's generators: rank-0/cpu, rank-0/cuda
      state.json             position, schedule, scaler, every step and epoch so far
      manifest.json          size and sha256 of each file, written last

Tensors are stored under the names that the caller gives them (the official ones for a BERT) and
found again by name, never by position. The folder appears under its name once it is complete, and
one that does not agree with its manifest is not used.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minibert.io.errors import CheckpointError
from minibert.io.files import (
    MANIFEST,
    atomic_folder,
    check_manifest,
    finite,
    read_object,
    read_tensors,
    remove_folder,
    write_json,
    write_tensors,
)
from minibert.training import LossSums, Position, Trainable, Training
from minibert.workbench.runs.differences import differences
from minibert.workbench.runs.history import EpochRecord, History, StepRecord
from minibert.workbench.runs.ranks import Ranks

WEIGHTS, BEST, OPTIMIZER = "weights.safetensors", "best.safetensors", "optimizer.safetensors"
RANDOM, STATE = "random.safetensors", "state.json"

LARGEST_STATE = 2**30  # bytes of state.json, which grows by 150 with every step

Tensors = Mapping[str, Tensor]
_GENERATORS: dict[str, Any] = {"cpu": torch.random, "cuda": torch.cuda, "mps": torch.mps}


@dataclass
class RunState:
    """Everything that a checkpoint holds, except torch's random state.

    Attributes:
        model: the bare model, whose tensors are stored; `training.model` may wrap it.
        names: for every tensor of the model's state dict, its name on disk.
        best_weights: the model's tensors after the best epoch so far, on the CPU.
    """

    model: Trainable
    training: Training
    names: Mapping[str, str]
    history: History = field(default_factory=History)
    best_weights: dict[str, Tensor] | None = None


def save_state(folder: str | Path, state: RunState, *, keep: int, random: Tensors) -> Path:
    """Writes the checkpoint `step-N` into a folder, then deletes all but the newest `keep`.

    While it is being written, the disk needs room for one more.

    Args:
        random: the states of the generators of every process, from `random_states_of`.

    Returns:
        The checkpoint.

    Raises:
        DiskError: it could not be written. The earlier checkpoints are unchanged.
    """
    folder = Path(folder)
    path = folder / f"step-{state.training.position.step:07}"
    with atomic_folder(path) as place:
        write_tensors(place / WEIGHTS, _renamed(state.model.state_dict(), state.names))
        if state.best_weights is not None:
            write_tensors(place / BEST, _renamed(state.best_weights, state.names))
        write_tensors(place / OPTIMIZER, _moments(state))
        write_tensors(place / RANDOM, random)
        # A word stands for each number that JSON lacks; other floats survive exactly.
        write_json(place / STATE, finite(_numbers(state), replacement=str))
    _delete_older(folder, path, keep)
    return path


def restore_state(path: str | Path, state: RunState, *, rank: int = 0) -> None:
    """Sets a run to a checkpoint, torch's random state included.

    Everything is read and compared before anything is changed.

    Args:
        path: a checkpoint that `check_checkpoint` accepts.
        state: the same model, optimizer and schedule, freshly built.
        rank: the process whose random state to restore.

    Raises:
        CheckpointError: it belongs to another model, optimizer or schedule; names the difference.
    """
    path, training = Path(path), state.training
    stored = read_object(path / STATE, largest=LARGEST_STATE)
    weights = _weights(path / WEIGHTS, state)
    best = _weights(path / BEST, state) if (path / BEST).exists() else None
    random = read_tensors(path / RANDOM)
    moments = _moments_by_position(path / OPTIMIZER, state)
    try:
        _compare(path / STATE, stored["groups"], _groups(state))
        _compare(path / STATE, stored["schedule"], _schedule(state))
        history = _history(_number(stored["history"]))
        position = _position(_number(stored["position"]))
        updates, scaler = int(stored["updates"]), stored["scaler"]
        if bool(scaler) != training.scaler.is_enabled():
            raise KeyError("scaler")
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        message = f"{path / STATE} is not the state of this run: {problem!r}."
        raise CheckpointError(message, path=path / STATE) from problem
    state.model.load_state_dict(weights)
    groups = training.optimizer.state_dict()["param_groups"]
    training.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    training.schedule.go_to(updates)
    if training.scaler.is_enabled():  # a disabled one has no state
        training.scaler.load_state_dict(scaler)
    training.position = position
    state.history, state.best_weights = history, best
    set_random_states(random, rank)


# --- the folder of the checkpoints ----------------------------------------------------------------


def checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first, complete or not."""
    return sorted(Path(folder).glob("step-*[0-9]"), key=_step_of)


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The newest undamaged checkpoint, None if there is none; warns of each damaged one."""
    for path in reversed(checkpoints(folder)):
        try:
            check_checkpoint(path)
        except CheckpointError as fault:
            warnings.warn(f"{path} is passed over: {fault}", stacklevel=2)
        else:
            return path
    return None


def check_checkpoint(path: str | Path) -> None:
    """Compares every file of a checkpoint with its manifest.

    Raises:
        CheckpointError: a file is missing or differs from what was written; names the file.
    """
    listed = check_manifest(path)
    manifest = Path(path) / MANIFEST
    for name in (WEIGHTS, OPTIMIZER, RANDOM, STATE):
        if name not in listed:
            message = f"{manifest} does not list {name}, so this is not a checkpoint."
            raise CheckpointError(message, path=manifest, key=name)


def remove_damaged(folder: str | Path, after: Path) -> None:
    """Removes the damaged checkpoints later than `after`."""
    for path in checkpoints(folder):
        if _step_of(path) > _step_of(Path(after)):
            try:
                check_checkpoint(path)
            except CheckpointError:
                remove_folder(path)


def remove_states(folder: str | Path) -> None:
    """Removes all checkpoints, once the run is finished.

    Raises:
        DiskError: they could not be removed.
    """
    for path in [*checkpoints(folder), Path(folder)]:
        if path.exists():
            remove_folder(path)


def _delete_older(folder: Path, newest: Path, keep: int) -> None:
    """Keeps `keep` complete checkpoints up to the newest, and removes what killed saves left.

    Later ones, of a run resumed from an earlier checkpoint, stay until their step comes again.
    """
    older = [path for path in checkpoints(folder) if _step_of(path) < _step_of(newest)]
    complete = [path for path in older if (path / MANIFEST).exists()]
    kept = complete[::-1][: keep - 1]
    for path in older:
        if path not in kept:
            remove_folder(path)
    for rest in folder.glob(".step-*.tmp"):
        shutil.rmtree(rest, ignore_errors=True)


def _step_of(path: Path) -> int:
    digits = path.name.removeprefix("step-")
    return int(digits) if digits.isdecimal() else -1


# --- random states --------------------------------------------------------------------------------


def random_states(rank: int = 0) -> dict[str, Tensor]:
    """The state of torch's default generator of each device of this process, "rank-R/DEVICE"."""
    in_use = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and torch.cuda.is_initialized(),
        "mps": torch.backends.mps.is_available(),
    }
    return {f"rank-{rank}/{name}": _GENERATORS[name].get_rng_state() for name, used in in_use.items() if used}


def random_states_of(ranks: Ranks) -> dict[str, Tensor]:
    """The random states of all processes of a run."""
    own = {name: state.tolist() for name, state in random_states(ranks.rank).items()}
    every = [item for states in ranks.gather_json(own) for item in states.items()]
    return {name: torch.tensor(state, dtype=torch.uint8) for name, state in every}


def set_random_states(states: Tensors, rank: int = 0) -> None:
    """Sets the generators of this process to the states that `random_states` took.

    Raises:
        CheckpointError: there are none of this rank.
    """
    if f"rank-{rank}/cpu" not in states:
        message = f"The checkpoint has no random state of rank {rank}; it has {', '.join(states)}."
        raise CheckpointError(message, key=f"rank-{rank}/cpu")
    for device, generator in _GENERATORS.items():
        state = states.get(f"rank-{rank}/{device}")
        if state is not None:
            generator.set_rng_state(state)


# --- tensors --------------------------------------------------------------------------------------


def _renamed(tensors: Tensors, names: Mapping[str, str]) -> dict[str, Tensor]:
    return {names[name]: tensor for name, tensor in tensors.items()}


def _weights(path: Path, state: RunState) -> dict[str, Tensor]:
    """The model's tensors, if the file has exactly those, in their shapes and dtypes."""
    stored = read_tensors(path)
    expected = state.model.state_dict()
    _compare(path, _shapes(stored), _shapes(_renamed(expected, state.names)))
    return {name: stored[state.names[name]] for name in expected}


def _shapes(tensors: Tensors) -> dict[str, str]:
    return {name: f"{tuple(t.shape)} {t.dtype}" for name, t in sorted(tensors.items())}


def _named_parameters(state: RunState) -> list[tuple[str, Tensor]]:
    """The optimizer's parameters in its order, with their names on disk."""
    return [
        (state.names[name], parameter)
        for group in state.training.optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    ]


def _moments(state: RunState) -> dict[str, Tensor]:
    """The optimizer's state by parameter; empty before its first update."""
    return {
        f"{name}/{key}": torch.as_tensor(value)
        for name, parameter in _named_parameters(state)
        for key, value in state.training.optimizer.state.get(parameter, {}).items()
    }


def _moments_by_position(path: Path, state: RunState) -> dict[int, dict[str, Tensor]]:
    """The stored state as torch wants it: by the current position of the parameter."""
    stored = read_tensors(path)
    moments: dict[int, dict[str, Tensor]] = {}
    for position, (name, parameter) in enumerate(_named_parameters(state)):
        for key in [key for key in stored if key.rpartition("/")[0] == name]:
            tensor = stored.pop(key)
            if tensor.ndim and tensor.shape != parameter.shape:
                _compare(path, {key: list(tensor.shape)}, {key: list(parameter.shape)})
            moments.setdefault(position, {})[key.rpartition("/")[2]] = tensor
    _compare(path, dict.fromkeys(stored, "stored"), {})
    return moments


# --- numbers --------------------------------------------------------------------------------------


def _numbers(state: RunState) -> dict[str, Any]:
    history, training = state.history, state.training
    columns = {item.name: [getattr(record, item.name) for record in history.steps] for item in fields(StepRecord)}
    return {
        "groups": _groups(state),
        "schedule": _schedule(state),
        "updates": training.schedule.updates,
        "scaler": training.scaler.state_dict(),
        "position": asdict(training.position),
        "history": {**asdict(replace(history, steps=[])), "steps": columns},
    }


def _groups(state: RunState) -> dict[str, Any]:
    """The parameter groups: names and settings, without the current learning rate."""
    groups, peaks = state.training.optimizer.param_groups, state.training.schedule.peaks
    return {
        group["name"]: {
            "learning_rate": peak,
            "weight_decay": group["weight_decay"],
            "betas": list(group["betas"]),
            "eps": group["eps"],
            "parameters": [state.names[name] for name in group["param_names"]],
        }
        for group, peak in zip(groups, peaks, strict=True)
    }


def _schedule(state: RunState) -> dict[str, Any]:
    schedule = state.training.schedule
    return {"name": schedule.name, "warmup": schedule.warmup, "total": schedule.total}


def _history(stored: Any) -> History:
    columns = [stored["steps"][item.name] for item in fields(StepRecord)]
    steps = [StepRecord(*row) for row in zip(*columns, strict=True)]
    epochs = [EpochRecord(**record) for record in stored["epochs"]]
    return History(**{**stored, "steps": steps, "epochs": epochs})


def _position(stored: Any) -> Position:
    return Position(**{**stored, "terms": LossSums(**stored["terms"])})


def _number(value: Any) -> Any:
    """A value that holds numbers alone, with those that were written as words."""
    if isinstance(value, Mapping):
        return {key: _number(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_number(item) for item in value]
    return float(value) if isinstance(value, str) else value


def _compare(path: Path, stored: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises CheckpointError naming the first place where two records differ."""
    for key, (found, wanted) in differences(stored, expected).items():
        raise CheckpointError(
            f"{path} belongs to another run: {key} is {found!r:.80} there and {wanted!r:.80} here.",
            path=path,
            key=key,
            hint="Resume with the settings, model and code that the run was started with.",
        )
