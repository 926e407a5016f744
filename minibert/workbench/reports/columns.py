"""The columns of a comparison: runs read back, and refused where they were not measured alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minibert.io.errors import DataError
from minibert.io.files import inside, read_object
from minibert.workbench.kinds import KINDS
from minibert.workbench.reports.error_analysis import rows_of
from minibert.workbench.runs.folders import Row, SavedRun, read_run


@dataclass(frozen=True)
class Column:
    """A run, or the runs of `--seeds`.

    Attributes:
        name: a letter.
        folder: as it was given.
        runs: one run, or one for each seed, in the order of the seeds.
        facts: setting -> value, and what else decides the result of a run.
    """

    name: str
    folder: Path
    runs: tuple[SavedRun, ...]
    facts: dict[str, Any]

    @property
    def is_group(self) -> bool:
        return len(self.runs) > 1

    @property
    def seeds(self) -> list[int]:
        return _seeds(self.runs)

    def values(self, metric: str) -> list[float]:
        """The score of each run; NaN where metrics.json has none."""
        found = [run.metrics[run.split].get(metric, {}).get("value") for run in self.runs]
        return [math.nan if value is None else value for value in found]


def read_column(name: str, folder: Path) -> Column:
    """Reads a run, or the runs of a group.

    Raises:
        DataError: a file is missing or damaged, or a run is not finished.
    """
    group = folder / "seeds.json"
    try:
        folders = [folder]
        if group.exists():
            names = read_object(group, DataError)["runs"]
            folders = [inside(folder, item, DataError) for item in names]
        runs = sorted(map(_read, folders), key=lambda run: run.record["settings"]["seed"])
        return Column(name, folder, tuple(runs), _facts(runs))
    except (KeyError, TypeError, AttributeError, IndexError) as problem:
        raise DataError(
            f"{folder} does not hold the record of a run: {type(problem).__name__} {problem}.",
            path=folder,
            key=str(problem),
        ) from problem


def _read(folder: Path) -> SavedRun:
    """A run whose rows are in an order that all runs on the same examples share."""
    run = read_run(folder)
    if not run.rows:
        path = folder / "errors.csv"
        raise DataError(f"{path} has no examples.", path=path, key="examples")
    rows_of(run)  # refuses damaged rows
    for key in ("best_epoch", "seconds", "labels"):
        run.record[key]  # a missing key is an error here, where the folder is known
    KINDS[run.record["problem_type"]], run.metrics[run.split].items()
    return replace(run, rows=sorted(run.rows, key=_key))


def _facts(runs: Sequence[SavedRun]) -> dict[str, Any]:
    record = runs[0].record
    settings = {key: value for key, value in record["settings"].items() if key != "output"}
    # The data seed has an effect where a validation split or a subset is drawn.
    drawn = settings.get("validation") is None or any(
        settings.get(key) is not None for key in ("train_subset", "test_subset")
    )
    chosen = settings.get("data_seed")
    settings["data_seed"] = (settings["seed"] if chosen is None else chosen) if drawn else None
    settings["seed"] = ", ".join(map(str, _seeds(runs)))
    threads = record["threads"]
    return {
        **settings,
        "commit": record["model"]["commit"],
        "training examples": record["data"]["train"]["examples"],
        "training files": ", ".join(digest[:8] for digest in sums_of(runs[0], "train")),
        "computed in": f"{record['precision']['name']} on {record['device']}, {threads} thread{'s' * (threads > 1)}",
        "torch": record["versions"]["torch"],
        "minibert": record["versions"]["minibert"],
    }


def _seeds(runs: Sequence[SavedRun]) -> list[int]:
    return [run.record["settings"]["seed"] for run in runs]


def require_comparable(first: SavedRun, other: SavedRun) -> None:
    """Raises DataError if two runs were not measured on the same examples with the same labels."""
    require_same(
        first,
        other,
        {
            "problem type": lambda run: run.record["problem_type"],
            "labels": lambda run: sorted(run.record["labels"] or []),
            "split": lambda run: run.split,
            "number of examples": lambda run: len(run.rows),
            "data files (sha256)": lambda run: sums_of(run, run.split),
        },
    )
    ours, theirs = (sorted(map(_key, run.rows)) for run in (first, other))
    if ours != theirs:
        raise DataError(
            f"{first.folder} and {other.folder} were measured on different examples of the same "
            f"file: of {len(ours)} and {len(theirs)}, {len(set(ours) & set(theirs))} are in both.",
            path=other.folder,
            key="examples",
            hint="The validation split and subsets depend on --seed unless --data-seed is given.",
        )


def require_same(
    first: SavedRun, other: SavedRun, facts: Mapping[str, Callable[[SavedRun], object]], hint: str | None = None
) -> None:
    """Raises DataError at the first of some facts that two runs differ in."""
    for what, of in facts.items():
        if of(first) != of(other):
            raise DataError(
                f"{first.folder} and {other.folder} differ in {what}: {of(first)} and {of(other)}.",
                path=other.folder,
                key=what,
                hint=hint,
            )


def sums_of(run: SavedRun, split: str) -> list[str]:
    """The sha256 sums of the files of a split, wherever the files were."""
    files = run.record["data"][split]["files"]
    return [files["sha256"]] if "sha256" in files else sorted(files.values())


def _key(row: Row) -> tuple[str, ...]:
    """What identifies an example, without the folder of its file."""
    place = row["guid"].replace("\\", "/").rpartition("/")[2]
    return place, row["text"], row.get("text_pair") or "", row["label"]
