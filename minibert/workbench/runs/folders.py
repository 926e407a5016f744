"""Run folders: made for a run, written as it goes, and read back by those who compare runs."""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from minibert.io.errors import ConfigError, DataError, DiskError
from minibert.io.files import read_object
from minibert.io.source import Source
from minibert.io.tables import write_csv
from minibert.workbench.data.lines import LONGEST_LINE
from minibert.workbench.runs import lock
from minibert.workbench.runs.history import StepRecord

RECORD = "run.json"
STATE = "state"  # the folder of the checkpoints
Row = dict[str, str]  # one row of a table


@dataclass(frozen=True)
class SavedRun:
    """The contents of a run folder, read back.

    Attributes:
        record: run.json.
        metrics: metrics.json: split -> metric -> value, with intervals where examples have labels;
            and "baselines".
        steps: log.csv, one mapping per optimizer step.
        rows: errors.csv, one mapping per example of the last split, the highest loss first; empty
            for a run of pre-training.
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
        """The split of `rows`: "test" if there was one, else "validation"."""
        return str(self.record["errors_and_confusion_are_of"])


def read_run(folder: str | Path, *commands: str) -> SavedRun:
    """Reads a finished run of one of these commands, by default of train.

    Raises:
        DataError: it is not a run folder of this command, or the run was not finished.
    """
    folder = Path(folder)
    if not begun(folder):
        raise DataError(
            f"{folder} is not a run folder: it has no {RECORD}.",
            path=folder,
            hint="Name a folder that minibert train or pretrain wrote, such as runs/001.",
        )
    record = read_object(folder / RECORD, DataError)
    made_by = record.get("command", "train")
    if record.get("status") != "finished":
        raise DataError(
            f"The run in {folder} is not finished.",
            path=folder / RECORD,
            key="status",
            hint=f"Resume it: minibert {made_by} --resume {folder}.",
        )
    if made_by not in (commands or ("train",)):
        raise DataError(
            f"The run in {folder} was started by minibert {made_by}, not by minibert train.",
            path=folder / RECORD,
            key="command",
            hint=f"Its results are in {folder}: metrics.json, log.csv and its pictures.",
        )
    metrics, steps = read_object(folder / "metrics.json", DataError), _rows(folder / "log.csv")
    rows = _rows(folder / "errors.csv") if made_by == "train" else []
    entities = folder / "entities.csv"
    return SavedRun(folder, record, metrics, steps, rows, _rows(entities) if entities.exists() else [])


def record_of(source: Source) -> dict[str, Any]:
    """run.json of the run that a model is from; empty for any other model."""
    path = source.folder.parent / RECORD
    return read_object(path, DataError) if source.folder.name == "model" and path.is_file() else {}


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
    """Whether a run was started in a folder: its record is there."""
    return (Path(folder) / RECORD).exists()


def require_free(output: str | Path | None) -> None:
    """Refuses an output folder that is not empty.

    Raises:
        TrainingError: another process is using it.
        ConfigError: it holds something else.
    """
    if output is not None and _is_taken(Path(output)):
        lock.require_unlocked(Path(output))
        require_empty(Path(output))


def require_empty(output: Path) -> None:
    """Raises ConfigError if a folder holds anything besides the lock of a run."""
    if _is_taken(output):
        raise ConfigError(
            f"{output} is not empty.",
            path=output,
            key="output",
            hint="Choose another --output, resume the run there (--resume), or move it away.",
        )


def _is_taken(folder: Path) -> bool:
    if not folder.is_dir():
        return folder.exists()
    # A run that was killed before it wrote its record leaves at most a temporary file.
    ignored = (lock.LOCK, lock.HOLDER)
    return any(path.name not in ignored and path.suffix != ".tmp" for path in folder.iterdir())


def make_folder(output: str | Path | None) -> Path:
    """Creates the run folder: the one named, or the next free number in runs/."""
    try:
        if output is not None:
            Path(output).mkdir(parents=True, exist_ok=True)
            return Path(output)
        Path("runs").mkdir(exist_ok=True)
        for number in itertools.count(1):
            folder = Path("runs", f"{number:03}")
            with contextlib.suppress(FileExistsError):  # also if another run has just made it
                folder.mkdir()
                break
        return folder
    except OSError as error:
        where = output or "runs"
        raise DiskError(f"The run folder {where} could not be made: {error.strerror}.", path=where) from error


def write_log(folder: Path, log: Sequence[StepRecord]) -> None:
    """Writes log.csv: a row per step, with a column for each term of a loss that has several."""
    header = [item.name for item in fields(StepRecord) if item.name != "terms"]
    terms = list(log[0].terms) if log and len(log[0].terms) > 1 else []
    rows = [[*(getattr(record, name) for name in header), *(record.terms[term] for term in terms)] for record in log]
    write_csv(folder / "log.csv", [*header, *terms], rows)
