"""The state of a run on disk: saved between two steps, read back bit for bit.

Nothing here is about BERT. A checkpoint is a folder:

    step-0000040/
      weights.safetensors    the parameters
      best.safetensors       those of the best epoch so far, if an epoch was measured
      optimizer.safetensors  what AdamW remembers of each parameter: NAME/exp_avg, ...
      random.safetensors     states of torch's generators: rank-0/cpu, rank-0/cuda
      state.json             place in the run, schedule, scaler, every step and epoch so far
      manifest.json          size and sha256 of each file, written last

Tensors have the names that the caller gives them, for a BERT those of the official files, and are
found again by name, never by position. The folder appears under its name when it is whole, and one
whose manifest does not hold is not used.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minibert.io.errors import CheckpointError, DiskError
from minibert.io.files import (
    MANIFEST,
    atomic_folder,
    check_manifest,
    read_object,
    read_tensors,
    remove_folder,
    write_json,
    write_tensors,
)
from minibert.training import EpochRecord, History, LossSums, State, StepRecord, Training
from minibert.workbench.runs.ranks import Ranks

WEIGHTS, BEST, OPTIMIZER = "weights.safetensors", "best.safetensors", "optimizer.safetensors"
RANDOM, STATE = "random.safetensors", "state.json"

LARGEST_STATE = 2**30  # bytes of state.json, which grows by 150 with every step

Names = Mapping[str, str]  # name of a parameter in the model -> its name on disk


def save_state(
    folder: str | Path,
    training: Training,
    names: Names,
    *,
    keep: int,
    random: Mapping[str, Tensor],
) -> Path:
    """Writes the checkpoint `step-N` into a folder, then deletes all but the newest `keep`.

    While it is written there is room needed for one more.

    Args:
        names: for every tensor of the model's state dict.
        random: the states of the generators of every process, as `random_states_of` gives them.

    Returns:
        The checkpoint.

    Raises:
        DiskError: it could not be written; those before it are then as they were.
    """
    folder = Path(folder)
    path = folder / f"step-{training.history.state.step:07}"
    with atomic_folder(path) as place:
        write_tensors(place / WEIGHTS, _renamed(training.model.state_dict(), names))
        if training.best_weights is not None:
            write_tensors(place / BEST, _renamed(training.best_weights, names))
        write_tensors(place / OPTIMIZER, _moments(training.optimizer, names))
        write_tensors(place / RANDOM, random)
        write_json(place / STATE, _numbers(training, names))
    _delete_older(folder, path, keep)
    return path


def checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints of a folder, the oldest first, whole or not."""
    return sorted(Path(folder).glob("step-*[0-9]"), key=_step_of)


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The newest checkpoint that is whole, None if there is none; warns of each that is not."""
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
        CheckpointError: a file is missing or is not what was written, naming it.
    """
    listed = check_manifest(path)
    for name in (WEIGHTS, OPTIMIZER, RANDOM, STATE):
        if name not in listed:
            raise CheckpointError(
                f"{Path(path) / MANIFEST} does not list {name}, so this is no checkpoint.",
                path=Path(path) / MANIFEST,
                key=name,
            )


def remove_damaged(folder: str | Path, after: Path) -> None:
    """Removes the checkpoints later than `after` that are not whole: none of them is kept."""
    for path in checkpoints(folder):
        if _step_of(path) > _step_of(Path(after)):
            try:
                check_checkpoint(path)
            except CheckpointError:
                remove_folder(path)


def remove_states(folder: str | Path) -> None:
    """Removes the checkpoints of a run that is finished.

    Raises:
        DiskError: they could not be removed.
    """
    folder = Path(folder)
    for path in checkpoints(folder):
        remove_folder(path)
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise DiskError(f"{folder} could not be removed: {error.strerror}.", path=folder) from error


def restore_state(path: str | Path, training: Training, names: Names, *, rank: int = 0) -> None:
    """Puts a training where a checkpoint was saved, torch's random state included.

    Everything is read and compared before anything is changed.

    Args:
        path: a checkpoint that `check_checkpoint` has passed.
        training: the same model, optimizer and schedule, as they were built.
        rank: whose random state to take on.

    Raises:
        CheckpointError: it belongs to another model, optimizer or schedule; names what differs.
    """
    path = Path(path)
    numbers = read_object(path / STATE, largest=LARGEST_STATE)
    weights = _weights(path / WEIGHTS, training, names)
    best = _weights(path / BEST, training, names) if (path / BEST).exists() else None
    random = read_tensors(path / RANDOM)
    try:
        history = _history(numbers["history"])
        _compare(path / STATE, numbers["groups"], _groups(training, names))
        _compare(path / STATE, numbers["schedule"], _schedule(training))
        updates, scaler = int(numbers["updates"]), numbers["scaler"]
        if bool(scaler) != training.scaler.is_enabled():
            raise KeyError("scaler")
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise CheckpointError(
            f"{path / STATE} is not the state of this run: {problem!r}.", path=path / STATE
        ) from problem
    moments = _moments_by_position(path / OPTIMIZER, training.optimizer, names)
    training.model.load_state_dict(weights)
    training.best_weights = best
    training.optimizer.load_state_dict(
        {"state": moments, "param_groups": training.optimizer.state_dict()["param_groups"]}
    )
    training.schedule.go_to(updates)
    if training.scaler.is_enabled():  # one that does nothing has no state
        training.scaler.load_state_dict(scaler)
    training.history = history
    set_random_states(random, rank)


def random_states(rank: int = 0) -> dict[str, Tensor]:
    """The state of torch's default generator of every device of this process, "rank-R/DEVICE"."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return {f"rank-{rank}/{device}": state for device, state in states.items()}


def random_states_of(ranks: Ranks) -> dict[str, Tensor]:
    """The random states of all processes that train together."""
    own = random_states(ranks.rank)
    names = ranks.gather_json(list(own))
    lengths = ranks.gather_json([len(state) for state in own.values()])
    joined = ranks.gather(torch.cat(list(own.values())))
    return {
        name: state
        for there, sizes, states in zip(names, lengths, joined, strict=True)
        for name, state in zip(there, states.split(sizes), strict=True)
    }


def set_random_states(states: Mapping[str, Tensor], rank: int = 0) -> None:
    """Gives the generators of this process the states that `random_states` took.

    Raises:
        CheckpointError: there is none of this rank.
    """
    setters = {
        "cpu": torch.set_rng_state,
        "cuda": torch.cuda.set_rng_state,
        "mps": torch.mps.set_rng_state,
    }
    if f"rank-{rank}/cpu" not in states:
        raise CheckpointError(
            f"The checkpoint has no random state of rank {rank}; it has {', '.join(states)}.",
            key=f"rank-{rank}/cpu",
        )
    for device, set_state in setters.items():
        state = states.get(f"rank-{rank}/{device}")
        if state is not None:
            set_state(state)


# --- what is written ------------------------------------------------------------------------------


def _renamed(tensors: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    return {names[name]: tensor for name, tensor in tensors.items()}


def _moments(optimizer: torch.optim.Optimizer, names: Names) -> dict[str, Tensor]:
    """What the optimizer remembers, by parameter; nothing before its first update."""
    return {
        f"{names[name]}/{key}": torch.as_tensor(value)
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _numbers(training: Training, names: Names) -> dict[str, Any]:
    history = training.history
    columns = {
        item.name: [getattr(record, item.name) for record in history.steps]
        for item in fields(StepRecord)
    }
    return _for_json(
        {
            "groups": _groups(training, names),
            "schedule": _schedule(training),
            "updates": training.schedule.updates,
            "scaler": training.scaler.state_dict(),
            "history": {
                "state": asdict(history.state),
                "steps": columns,
                "epochs": [asdict(record) for record in history.epochs],
                "stopped_early": history.stopped_early,
            },
        }
    )


def _groups(training: Training, names: Names) -> list[dict[str, Any]]:
    """The parameter groups: settings, but for the learning rate of the moment, and names."""
    return [
        {
            "name": group.get("name"),
            "learning_rate": peak,
            "weight_decay": group["weight_decay"],
            "betas": list(group["betas"]),
            "eps": group["eps"],
            "parameters": [names[name] for name in group["param_names"]],
        }
        for group, peak in zip(
            training.optimizer.param_groups, training.schedule.peaks, strict=True
        )
    ]


def _schedule(training: Training) -> dict[str, Any]:
    schedule = training.schedule
    return {"name": schedule.name, "warmup": schedule.warmup, "total": schedule.total}


def _for_json(value: Any) -> Any:
    """The value with a word for what JSON has no number for; other floats survive it exactly."""
    if isinstance(value, Mapping):
        return {key: _for_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_for_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _delete_older(folder: Path, newest: Path, keep: int) -> None:
    """Leaves `keep` whole checkpoints up to the newest, and no rest of a save that was killed.

    Later ones, of a run that went back to an earlier one, are left until their step comes again.
    """
    older = [path for path in checkpoints(folder) if _step_of(path) < _step_of(newest)]
    whole = [path for path in older if (path / MANIFEST).exists()]
    kept = whole[len(whole) - keep + 1 :] if keep > 1 else []
    for path in older:
        if path not in kept:
            remove_folder(path)
    for rest in folder.glob(".step-*.tmp"):
        shutil.rmtree(rest, ignore_errors=True)


def _step_of(path: Path) -> int:
    digits = path.name.removeprefix("step-")
    return int(digits) if digits.isdecimal() else -1


# --- what is read ---------------------------------------------------------------------------------


def _weights(path: Path, training: Training, names: Names) -> dict[str, Tensor]:
    """The model's tensors, if the file has just those, in their shapes and dtypes."""
    stored = read_tensors(path)
    expected = training.model.state_dict()
    _compare(path, _shapes(stored), _shapes(_renamed(expected, names)))
    return {name: stored[names[name]] for name in expected}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{tuple(t.shape)} {t.dtype}" for name, t in sorted(tensors.items())}


def _moments_by_position(
    path: Path, optimizer: torch.optim.Optimizer, names: Names
) -> dict[int, dict[str, Tensor]]:
    """The optimizer's memory as torch wants it: by the position of the parameter now."""
    stored = read_tensors(path)
    parameters = [
        (names[name], parameter)
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    ]
    moments: dict[int, dict[str, Tensor]] = {}
    for position, (name, parameter) in enumerate(parameters):
        for key in [key for key in stored if key.rpartition("/")[0] == name]:
            tensor = stored.pop(key)
            if tensor.ndim and tensor.shape != parameter.shape:
                _compare(path, {key: list(tensor.shape)}, {key: list(parameter.shape)})
            moments.setdefault(position, {})[key.rpartition("/")[2]] = tensor
    _compare(path, dict.fromkeys(stored, "stored"), {})
    return moments


def _history(stored: Any) -> History:
    steps = stored["steps"]
    columns = [map(_number, steps[item.name]) for item in fields(StepRecord)]
    state = {key: _number(value) for key, value in stored["state"].items()}
    return History(
        state=State(**{**state, "terms": LossSums(**state["terms"])}),
        steps=[StepRecord(*row) for row in zip(*columns, strict=True)],
        epochs=[EpochRecord(**_number(record)) for record in stored["epochs"]],
        stopped_early=stored["stopped_early"],
    )


def _number(value: Any) -> Any:
    """What `_for_json` made of numbers, turned back."""
    if isinstance(value, Mapping):
        return {key: _number(item) for key, item in value.items()}
    return float(value) if isinstance(value, str) else value


def _compare(path: Path, stored: Any, expected: Any) -> None:
    """Refuses what differs, naming the first place where it does."""
    difference = _difference(stored, expected, "")
    if difference is not None:
        key, found, wanted = difference
        raise CheckpointError(
            f"{path} belongs to another run: {key} is {found!r:.80} there and {wanted!r:.80} here.",
            path=path,
            key=key,
            hint="Go on with the settings, model and code that the run was started with.",
        )


def _difference(stored: Any, expected: Any, key: str) -> tuple[str, Any, Any] | None:
    """(where, what is stored, what is expected) of the first difference; None if there is none."""
    if isinstance(stored, Mapping) and isinstance(expected, Mapping):
        places: Sequence[Any] = [*expected, *(name for name in stored if name not in expected)]
        pairs = [(name, stored.get(name), expected.get(name)) for name in places]
    elif isinstance(stored, list) and isinstance(expected, list):
        length = max(len(stored), len(expected))
        rows = [[*values, *[None] * (length - len(values))] for values in (stored, expected)]
        pairs = list(zip(map(str, range(length)), *rows, strict=True))
    else:
        return None if stored == expected else (key, stored, expected)
    found = (_difference(old, new, f"{key}.{name}".strip(".")) for name, old, new in pairs)
    return next(filter(None, found), None)
