"""Going on with a run: its settings, proof that nothing has changed, its newest checkpoint."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from minibert.io.errors import ConfigError, DataError, DiskError, TrainingError
from minibert.io.files import read_object
from minibert.workbench.runs.settings import TrainingSettings, check
from minibert.workbench.runs.state import check_checkpoint, newest_checkpoint

STATE = "state"  # the folder of a run's checkpoints

# What has to be now as it was when the run began, of its run.json.
_SAME = ("problem_type", "labels", "model", "precision", "device", "threads", "processes", "data")

S = TypeVar("S", bound=TrainingSettings)


@dataclass(frozen=True)
class Unfinished(Generic[S]):
    """A run that was not finished.

    Attributes:
        folder: the run folder.
        record: its run.json.
        settings: those it was started with.
        chosen: the checkpoint that was asked for; None: the newest.
    """

    folder: Path
    record: dict[str, Any]
    settings: S
    chosen: Path | None

    def checkpoint(self) -> Path | None:
        """Where to go on from; None: from the beginning.

        Raises:
            CheckpointError: the checkpoint that was asked for is damaged.
        """
        if self.chosen is not None:
            check_checkpoint(self.chosen)
            return self.chosen
        return newest_checkpoint(self.folder / STATE)

    def require_same(self, record: Mapping[str, Any]) -> None:
        """Compares what the run is made of with what it was made of.

        Other versions of the packages are a warning.

        Raises:
            ConfigError: data, labels, model, device or the like are not the same, naming each.
        """
        now = json.loads(json.dumps(record, default=str))
        old = {key: self.record.get(key) for key in _SAME}
        _refuse(self.folder, _differences(old, {key: now.get(key) for key in _SAME}))
        changed = _differences(self.record.get("versions"), now.get("versions"))
        if changed:
            warnings.warn(
                f"The run in {self.folder} was started with other versions, which may change its "
                f"last bits: {_listed(changed)}.",
                stacklevel=2,
            )


def read_unfinished(folder: str | Path, given: Mapping[str, Any], kind: type[S]) -> Unfinished[S]:
    """Reads the run that is to be gone on with.

    Args:
        folder: the run folder, or one checkpoint in it (RUN/state/step-N).
        given: settings that the caller takes the run to have.
        kind: of its settings.

    Raises:
        DataError: it is no run folder.
        TrainingError: the run is finished.
        ConfigError: a setting that is given is not that of the run.
    """
    folder, chosen = Path(folder), None
    if folder.parent.name == STATE and folder.name.startswith("step-"):
        folder, chosen = folder.parent.parent, folder
    path = folder / "run.json"
    record = read_object(path, DataError)
    if record.get("status") == "finished":
        raise TrainingError(
            f"The run in {folder} is finished: there is nothing to go on with.",
            path=path,
            key="status",
            hint=f"Train it further as a run of its own: minibert {kind.command} --model {folder}.",
        )
    command = record.get("command", "train")
    if command != kind.command:
        raise DataError(
            f"The run in {folder} was started by minibert {command}, not {kind.command}.",
            path=path,
            key="command",
            hint=f"Go on with it: minibert {command} --resume {folder}.",
        )
    stored = record.get("settings")
    known = {item.name for item in fields(kind)}
    needed = {
        item.name
        for item in fields(kind)
        if item.default is MISSING and item.default_factory is MISSING
    }
    if not isinstance(stored, dict) or not needed <= stored.keys() <= known:
        raise DataError(
            f"{path} has no settings that a run can be gone on with.", path=path, key="settings"
        )
    # Where the run was left to torch's choice of threads, that choice holds.
    before = {**stored, "threads": record.get("threads"), "output": str(folder)}
    now = json.loads(json.dumps(given, default=str))
    _refuse(folder, _differences({key: before.get(key) for key in now}, now))
    settings = kind(**stored)
    check(settings)
    return Unfinished(folder, record, settings, chosen)


@contextlib.contextmanager
def way_to_go_on(folder: Path, command: str) -> Iterator[None]:
    """Adds to what ends a run from outside, a signal or a full disk, how to go on with it."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, DiskError) or not isinstance(error, Exception):
            error.add_note(f"Go on with it: minibert {command} --resume {folder}")
        raise


def _differences(old: Any, new: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two values differ -> (old, new)."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = {}
        for name in {**old, **new}:
            found.update(_differences(old.get(name), new.get(name), f"{key}.{name}".strip(".")))
        return found
    return {} if old == new else {key: (old, new)}


def _listed(changed: Mapping[str, tuple[Any, Any]]) -> str:
    return "; ".join(
        f"{key} was {old!r:.80} and is {new!r:.80}" for key, (old, new) in changed.items()
    )


def _refuse(folder: Path, changed: Mapping[str, tuple[Any, Any]]) -> None:
    if changed:
        key, (old, new) = next(iter(changed.items()))
        raise ConfigError(
            f"The run in {folder} cannot be gone on with, since not all is as it was: "
            f"{_listed(changed)}.",
            path=folder,
            key=key,
            hint="Put that back as it was, or start another run.",
        )
