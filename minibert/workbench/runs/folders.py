"""Run folders: made for a run, written as it goes, and read back by those who compare runs."""

from __future__ import annotations

import csv
import importlib.metadata
import itertools
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from minibert.io.errors import ConfigError, DataError, DiskError
from minibert.io.files import read_object
from minibert.io.tables import write_csv
from minibert.io.version import __version__
from minibert.training import StepRecord
from minibert.workbench.data.lines import LONGEST_LINE
from minibert.workbench.runs import lock
from minibert.workbench.runs.lock import require_unlocked

RECORD = "run.json"
Row = dict[str, str]  # a line of a table


@dataclass(frozen=True)
class SavedRun:
    """What a run folder holds, read back.

    Attributes:
        folder: where it is.
        record: run.json.
        metrics: metrics.json: split -> metric -> value, with intervals where examples have labels;
            and "baselines".
        steps: log.csv, a mapping for each optimizer step.
        rows: errors.csv, a mapping for each example of the last split, the highest loss first;
            empty for a run of pre-training.
        entities: entities.csv, the same for each entity; empty where words are not tagged.
    """

    folder: Path
    record: dict[str, Any]
    metrics: dict[str, Any]
    steps: list[Row]
    rows: list[Row]
    entities: list[Row] = field(default_factory=list)

    @property
    def split(self) -> str:
        """The split that `rows` are of: "test" if there was one, else "validation".

        A run of pre-training has none.
        """
        return str(self.record["errors_and_confusion_are_of"])


def read_run(folder: str | Path, command: str = "train") -> SavedRun:
    """Reads a finished run of a command; one of pre-training has no `rows`.

    Raises:
        DataError: it is no run folder, or the run was not finished.
    """
    folder = Path(folder)
    if not begun(folder):
        raise DataError(
            f"{folder} is no run folder: there is no {RECORD} in it.",
            path=folder,
            hint="Name what minibert train or pretrain wrote, such as runs/001.",
        )
    record = read_object(folder / RECORD, DataError)
    if record.get("status") != "finished":
        raise DataError(
            f"The run in {folder} is not finished.",
            path=folder / RECORD,
            key="status",
            hint=f"Go on with it: minibert {record.get('command', 'train')} --resume {folder}.",
        )
    made_by = record.get("command", "train")
    if made_by != command:
        raise DataError(
            f"The run in {folder} is one of minibert {made_by}, and one of minibert {command} is "
            "needed.",
            path=folder / RECORD,
            key="command",
            hint=f"What it has is in {folder}: metrics.json, log.csv and its pictures.",
        )
    metrics = read_object(folder / "metrics.json", DataError)
    entities = folder / "entities.csv"
    return SavedRun(
        folder,
        record,
        metrics,
        _rows(folder / "log.csv"),
        _rows(folder / "errors.csv") if command == "train" else [],
        _rows(entities) if entities.exists() else [],
    )


def _rows(path: Path) -> list[Row]:
    before = csv.field_size_limit(LONGEST_LINE)  # a text may be as long as where it was read from
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"{path} could not be read: {problem}.", path=path) from problem
    finally:
        csv.field_size_limit(before)


def begun(folder: str | Path) -> bool:
    """Whether a run was begun in a folder: its record is there."""
    return (Path(folder) / RECORD).exists()


def require_free(output: str | Path | None) -> None:
    """Refuses the folder named for a run if it holds something already.

    Raises:
        TrainingError: another process is at work in it.
        ConfigError: it holds something else.
    """
    if output is not None and _is_taken(Path(output)):
        require_unlocked(Path(output))
        require_empty(Path(output))


def require_empty(output: Path) -> None:
    """Raises ConfigError if a folder holds more than the lock of a run."""
    if _is_taken(output):
        raise ConfigError(
            f"{output} holds something already.",
            path=output,
            key="output",
            hint="Choose another --output, go on with the run there (--resume), or move it away.",
        )


def _is_taken(folder: Path) -> bool:
    if not folder.is_dir():
        return folder.exists()
    # A run that was killed before its record stood there leaves a temporary file at most.
    return any(path.name != lock.NAME and path.suffix != ".tmp" for path in folder.iterdir())


def make_folder(output: str | Path | None) -> Path:
    """Creates the run folder: the one named, or the next free number in runs/."""
    try:
        if output is not None:
            folder = Path(output)
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        Path("runs").mkdir(exist_ok=True)
        for number in itertools.count(1):
            folder = Path("runs") / f"{number:03}"
            try:
                folder.mkdir()
                break
            except FileExistsError:
                continue  # also where another run has just made it
        return folder
    except OSError as error:
        where = output or "runs"
        raise DiskError(
            f"The run folder in {where} could not be made: {error.strerror}.", path=where
        ) from error


def write_log(folder: Path, log: Sequence[StepRecord]) -> None:
    """Writes log.csv: a line for each step, with a column for each term of a loss of several."""
    header = [item.name for item in fields(StepRecord) if item.name != "terms"]
    terms = list(log[0].terms) if log and len(log[0].terms) > 1 else []
    rows = [
        [*(getattr(record, name) for name in header), *(record.terms[term] for term in terms)]
        for record in log
    ]
    write_csv(folder / "log.csv", [*header, *terms], rows)


def versions() -> dict[str, str]:
    packages = ("torch", "numpy", "tokenizers", "safetensors", "huggingface-hub")
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"minibert": __version__, "python": platform.python_version(), **found}
