"""Resuming a run: its settings, proof that nothing has changed, its newest checkpoint."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from minibert.io.errors import ConfigError, DataError, DiskError, TrainingError
from minibert.io.files import read_object
from minibert.workbench.runs.differences import differences
from minibert.workbench.runs.folders import RECORD, STATE
from minibert.workbench.runs.settings import TrainingSettings, check, inputs_of, with_absolute_paths
from minibert.workbench.runs.state import check_checkpoint, newest_checkpoint

# The parts of run.json that must be the same when the run is resumed.
_SAME = ("problem_type", "labels", "model", "precision", "device", "threads", "processes", "data")

S = TypeVar("S", bound=TrainingSettings)


@dataclass(frozen=True)
class Unfinished(Generic[S]):
    """A run that was not finished.

    Attributes:
        folder: the run folder.
        record: its run.json.
        settings: those it was started with.
        chosen: the checkpoint that was asked for; None for the newest.
    """

    folder: Path
    record: dict[str, Any]
    settings: S
    chosen: Path | None

    def checkpoint(self) -> Path | None:
        """The checkpoint to resume from; None to start from the beginning.

        Raises:
            CheckpointError: the checkpoint that was asked for is damaged.
        """
        if self.chosen is not None:
            check_checkpoint(self.chosen)
            return self.chosen
        return newest_checkpoint(self.folder / STATE)

    def require_same(self, record: Mapping[str, Any]) -> None:
        """Compares data, model, device and the like with those the run was started with.

        Files are the same if their sums are, wherever they are now. Other versions of the packages
        are only a warning.

        Raises:
            ConfigError: something is not the same; names everything that differs.
        """
        now = _as_json(record)
        before = {**self.record, "data": _at_new_places(self.record.get("data"), now["data"])}
        _require_same(self.folder, before, now, _SAME)
        changed = differences(self.record.get("versions"), now.get("versions"))
        if changed:
            warnings.warn(
                f"The run in {self.folder} was started with other versions, which may change the "
                f"last bits of its numbers: {_listed(changed)}.",
                stacklevel=2,
            )


def read_unfinished(
    folder: str | Path, given: Mapping[str, Any], kind: type[S], objects: Sequence[str] = ()
) -> Unfinished[S]:
    """Reads the run that is to be resumed.

    Args:
        folder: the run folder, or one checkpoint in it (RUN/state/step-N).
        given: settings that the caller expects the run to have, and where its inputs are now.
        kind: of its settings.
        objects: what the caller gives as objects, such as "model".

    Raises:
        DataError: it is not a run folder of this command, or one of its inputs is not there.
        TrainingError: the run is finished.
        ConfigError: a given setting is not that of the run, or it was started with objects that are
            not given now.
    """
    folder, chosen = Path(folder), None
    if folder.parent.name == STATE and folder.name.startswith("step-"):
        folder, chosen = folder.parent.parent, folder
    path = folder / RECORD
    record = read_object(path, DataError)
    if record.get("status") == "finished":
        raise TrainingError(
            f"The run in {folder} is finished, so it cannot be resumed.",
            path=path,
            key="status",
            hint=f"Train its model further in a new run: minibert {kind.command} --model {folder}.",
        )
    command = record.get("command", "train")
    if command != kind.command:
        raise DataError(
            f"The run in {folder} was started by minibert {command}, not {kind.command}.",
            path=path,
            key="command",
            hint=f"Resume it: minibert {command} --resume {folder}.",
        )
    started_with = record.get("objects", [])
    if started_with != list(objects):
        raise ConfigError(
            f"The run in {folder} was started with these objects: {_names(started_with)}; it is "
            f"resumed with {_names(objects)}.",
            path=path,
            key="objects",
            hint="Call minibert.workbench.resume(folder, model=..., ...) with the same objects.",
        )
    stored = record.get("settings")
    known = {item.name for item in fields(kind)}
    required = {item.name for item in fields(kind) if item.default is item.default_factory is MISSING}
    if not isinstance(stored, dict) or not required <= stored.keys() <= known:
        raise DataError(f"The settings in {path} are not those of a run.", path=path, key="settings")
    # If the number of threads was left to torch, its choice then holds now.
    before = {**stored, "threads": record.get("threads"), "output": str(folder)}
    moved = {key: given[key] for key in inputs_of(kind) if key in given and stored.get(key) is not None}
    _require_same(folder, before, _as_json(given), given.keys() - moved.keys())
    settings = with_absolute_paths(replace(kind(**stored), **moved))
    check(settings)
    _require_inputs(folder, settings)
    return Unfinished(folder, record, settings, chosen)


def _require_inputs(folder: Path, settings: TrainingSettings) -> None:
    """Raises DataError if a file or folder that the run was started with has been moved."""
    for key in inputs_of(type(settings)):
        value = getattr(settings, key)
        for path in value if isinstance(value, (list, tuple)) else [value]:
            if path is not None and os.path.isabs(path) and not os.path.lexists(path):
                raise DataError(
                    f"The run in {folder} was started with {path}, which is no longer there.",
                    path=path,
                    key=key,
                    hint=f"Say where it is now: {settings.command} --resume {folder} --{key} PATH.",
                )


def _at_new_places(before: Any, now: Any) -> Any:
    """The data of a record with the files named as they are now, if they are as many."""
    if not isinstance(before, Mapping):
        return before
    renamed = dict(before)
    for split, part in before.items():
        found = now.get(split)
        if isinstance(part, Mapping) and isinstance(found, Mapping) and "files" in part and "files" in found:
            files = part["files"]
            if len(files) == len(found["files"]):
                files = dict(zip(found["files"], files.values(), strict=True))
            renamed[split] = {**part, "source": found.get("source"), "files": files}
    return renamed


@contextlib.contextmanager
def hint_at_resuming(folder: Path, command: str) -> Iterator[None]:
    """Adds to whatever ends a run from outside, a signal or a full disk, how to resume it."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, DiskError) or not isinstance(error, Exception):
            error.add_note(f"Resume it: minibert {command} --resume {folder}")
        raise


def _names(objects: Sequence[str]) -> str:
    return ", ".join(objects) or "none"


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _listed(changed: Mapping[str, tuple[Any, Any]]) -> str:
    return "; ".join(f"{key} was {old!r:.80} and is {new!r:.80}" for key, (old, new) in changed.items())


def _require_same(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any], keys: Iterable[str]) -> None:
    changed = differences({key: old.get(key) for key in keys}, {key: new.get(key) for key in keys})
    if changed:
        raise ConfigError(
            f"The run in {folder} cannot be resumed: {_listed(changed)}.",
            path=folder,
            key=next(iter(changed)),
            hint="Undo the change, or start another run.",
        )
