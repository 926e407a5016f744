"""Runs made ready to be compared: read back, and refused where they were measured unlike."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minibert.io.errors import DataError
from minibert.io.files import inside, read_object
from minibert.workbench.kinds import KINDS
from minibert.workbench.runs.folders import Row, SavedRun, read_run

_NEEDED = ("loss", "label", "prediction", "guid", "text")  # columns of errors.csv


@dataclass(frozen=True)
class Column:
    """What stands in one column: a run, or the runs of `--seeds`.

    Attributes:
        name: a letter, by which the others are told of it.
        folder: as it was named.
        runs: one; of a group one for each seed, by seed.
    """

    name: str
    folder: Path
    runs: tuple[SavedRun, ...]

    @property
    def is_group(self) -> bool:
        return len(self.runs) > 1

    @property
    def seeds(self) -> list[int]:
        return [run.record["settings"]["seed"] for run in self.runs]

    def values(self, metric: str) -> list[float]:
        """The score of each run; NaN where metrics.json has none."""
        found = [run.metrics[run.split].get(metric, {}).get("value") for run in self.runs]
        return [math.nan if value is None else value for value in found]

    def facts(self) -> dict[str, Any]:
        """Setting -> value, and what else decides a run."""
        record = self.runs[0].record
        settings = {key: value for key, value in record["settings"].items() if key != "output"}
        draws = settings.get("validation") is None or any(
            settings.get(key) is not None for key in ("train_subset", "test_subset")
        )
        if not draws:
            settings["data_seed"] = None
        elif settings.get("data_seed") is None:
            settings["data_seed"] = settings["seed"]
        settings["seed"] = ", ".join(map(str, self.seeds))
        training = record["data"]["train"]
        return {
            **settings,
            "commit": record["model"]["commit"],
            "training examples": training["examples"],
            "training files": ", ".join(sum_[:8] for sum_ in sums_of(self.runs[0], "train")),
            "computed in": f"{record['precision']['name']} on {record['device']}, "
            f"{record['threads']} thread{'s' * (record['threads'] > 1)}",
            "torch": record["versions"]["torch"],
            "minibert": record["versions"]["minibert"],
        }


def read_column(name: str, folder: Path) -> Column:
    """Reads a run, or the runs of a group.

    Raises:
        DataError: a file is missing or damaged, or a run is not finished.
    """
    names = folder / "seeds.json"
    try:
        if names.exists():
            found = [
                inside(folder, item, DataError) for item in read_object(names, DataError)["runs"]
            ]
        else:
            found = [folder]
        runs = [_read(item) for item in found]
        runs.sort(key=lambda run: run.record["settings"]["seed"])
        column = Column(name, folder, tuple(runs))
        column.facts()  # here, where what is missing in a record is still told by its folder
    except (KeyError, TypeError, AttributeError, IndexError) as problem:
        raise DataError(
            f"The record of {folder} is not that of a run: {type(problem).__name__} {problem}.",
            path=folder,
            key=str(problem),
        ) from problem
    return column


def require_comparable(first: SavedRun, other: SavedRun) -> None:
    """Raises DataError if two runs were not measured on the same examples with the same labels."""

    def refuse(what: str, ours: object, theirs: object) -> None:
        raise DataError(
            f"{first.folder} and {other.folder} cannot be compared: {what} {ours} in the "
            f"first, {theirs} in the second.",
            path=other.folder,
            key=what,
        )

    for what, of in (
        ("the problem type is", lambda run: run.record["problem_type"]),
        ("the labels are", lambda run: sorted(run.record["labels"] or [])),
        ("the split measured is", lambda run: run.split),
        ("the number of examples is", lambda run: len(run.rows)),
    ):
        if of(first) != of(other):
            refuse(what, of(first), of(other))
    if sums_of(first, first.split) != sums_of(other, other.split):
        count = len(first.rows)
        refuse(
            f"the files of {first.split} differ (sha256), with {count} and {len(other.rows)} "
            "examples, and are",
            ", ".join(sums_of(first, first.split)),
            ", ".join(sums_of(other, other.split)),
        )
    ours, theirs = (sorted(map(_key, run.rows)) for run in (first, other))
    if ours != theirs:
        shared = len(set(ours) & set(theirs))
        raise DataError(
            f"{first.folder} and {other.folder} were measured on other examples of the same file: "
            f"of {len(ours)} and {len(theirs)}, {shared} are in both.",
            path=other.folder,
            key="examples",
            hint="The validation split and subsets are drawn by --seed; --data-seed keeps them.",
        )


def sums_of(run: SavedRun, split: str) -> list[str]:
    """The sha256 sums of the files that a split came from, wherever these lay."""
    files = run.record["data"][split]["files"]
    return [files["sha256"]] if "sha256" in files else sorted(files.values())


def _read(folder: Path) -> SavedRun:
    """A run, its rows in an order that is the same for every run on the same examples."""
    run = read_run(folder)
    path = folder / "errors.csv"
    if not run.rows:
        raise DataError(
            f"{path} has no examples.",
            path=path,
        )
    missing = [name for name in _NEEDED if run.rows[0].get(name) is None]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}.",
            path=path,
            key=missing[0],
        )
    for key in ("best_epoch", "seconds", "labels"):
        run.record[key]  # what is missing is missed here, where the folder is known
    KINDS[run.record["problem_type"]]
    run.metrics[run.split].items()
    return replace(run, rows=sorted(run.rows, key=_key))


def _key(row: Row) -> tuple[str, ...]:
    """What tells an example from the others, without the folder that its file lay in."""
    place = row["guid"].replace("\\", "/").rpartition("/")[2]
    return place, row["text"], row.get("text_pair") or "", row["label"]
