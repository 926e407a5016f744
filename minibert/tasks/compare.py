"""Comparing runs: side by side, and tested on the very examples that all of them predicted.

A difference of two scores says little alone: on other examples, or with another seed, it may be the
other way round. Single runs are tested over examples (McNemar 1947; paired bootstrap), groups of
runs that differ in the seed (`minibert train --seeds`) over seeds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minibert.errors import ConfigError, DataError
from minibert.files import inside, read_object
from minibert.tables import table
from minibert.tasks.common import shorten
from minibert.tasks.evaluate import METRICS, finite
from minibert.tasks.outcomes import Row, scores_of
from minibert.tasks.runs import SavedRun, read_run
from minibert.training.significance import (
    Difference,
    holm,
    mcnemar,
    paired_bootstrap,
    paired_t,
    t_quantile,
)

LEVEL = 0.05  # a p value below it counts as a difference that is seen
BOOTSTRAP_SEED = 0  # the same runs give the same numbers
_ALL_PAIRS = 4  # of more runs the first is tested against each other
_COLUMNS = ("loss", "label", "prediction", "guid", "text")


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


@dataclass(frozen=True)
class Pair:
    """Two columns held against each other; differences are second minus first.

    Attributes:
        first, second: names of the columns.
        counts: examples by right (0) and wrong (1) of the first (row) and the second (column);
            None for groups and for numbers, which are not right or wrong.
        differences: metric -> difference, the main metric first; empty if nothing could be tested.
        test: which test `p` comes from, or why there is none.
        p: of the main metric; None where nothing could be tested.
        by_seed: whether the test was over seeds, not over examples.
        corrected: the same as p, corrected for the number of pairs.
        only_first, only_second: examples that it has right and the other wrong (of numbers: that it
            is nearer to), the greatest difference in loss first.
    """

    first: str
    second: str
    counts: tuple[tuple[int, int], tuple[int, int]] | None
    differences: dict[str, Difference]
    test: str
    p: float | None
    by_seed: bool = False
    corrected: float | None = None
    only_first: tuple[Row, ...] = ()
    only_second: tuple[Row, ...] = ()

    def sentence(self) -> str:
        """The result in plain words."""
        if not self.differences or self.p is None:
            return f"{self.first} and {self.second} were not tested: {self.test}."
        found = next(iter(self.differences.values()))
        p = self.p if self.corrected is None else self.corrected
        if p >= LEVEL:
            return (
                f"No difference can be seen: {self.second} - {self.first} is {found.value:+.4f} "
                f"({found.low:+.4f} to {found.high:+.4f}), {_p(p)}."
            )
        if found.value > 0:
            better, by, low, high = self.second, found.value, found.low, found.high
        else:
            better, by, low, high = self.first, -found.value, -found.high, -found.low
        return f"{better} is better by {by:.4f} ({low:.4f} to {high:.4f}), {_p(p)}."


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        split, examples: what all were measured on.
        columns: the runs, as they were named.
        settings: setting -> its value in each column, of those that are not the same in all.
        pairs: all pairs of up to 4 columns, else the first against each other.
    """

    split: str
    examples: int
    problem_type: str
    columns: tuple[Column, ...]
    settings: dict[str, list[str]]
    pairs: tuple[Pair, ...]

    def summary(self) -> str:
        """All of it as text for people."""
        metrics = METRICS[self.problem_type]
        rows = [
            ("folder", *(str(column.folder) for column in self.columns)),
            *((key, *(shorten(value, 40) for value in row)) for key, row in self.settings.items()),
            *((name, *(_score(column, name) for column in self.columns)) for name in metrics),
            ("best epoch", *(_each(column, "best_epoch") for column in self.columns)),
            ("seconds", *(_each(column, "seconds") for column in self.columns)),
        ]
        lines = [
            f"{self.split}: {self.examples} examples, the same for all",
            "",
            table(rows, ("", *(column.name for column in self.columns))),
        ]
        for pair in self.pairs:
            lines += ["", *_lines_of(pair)]
        tested = sum(pair.p is not None for pair in self.pairs)
        if tested > 1:
            lines += [
                "",
                f"The p values of these sentences are corrected for {tested} pairs (Holm 1979); "
                "intervals, and the p values below them, are not.",
            ]
        if any(pair.p is not None and not pair.by_seed for pair in self.pairs):
            lines += [
                "",
                "Tests of single runs are about these very models: another seed may tell otherwise "
                "(minibert train --seeds).",
            ]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON."""
        metrics = METRICS[self.problem_type]
        return finite(
            {
                "split": self.split,
                "examples": self.examples,
                "problem_type": self.problem_type,
                "runs": [
                    {
                        "name": column.name,
                        "folder": str(column.folder),
                        "seeds": column.seeds,
                        "scores": {metric: column.values(metric) for metric in metrics},
                        "best_epoch": [run.record["best_epoch"] for run in column.runs],
                        "seconds": [run.record["seconds"] for run in column.runs],
                    }
                    for column in self.columns
                ],
                "settings": self.settings,
                "pairs": [{**asdict(pair), "sentence": pair.sentence()} for pair in self.pairs],
            }
        )


def compare(folders: Sequence[str | Path], *, examples: int = 5) -> Comparison:
    """Reads runs and tests their differences.

    Args:
        folders: run folders, or those of `--seeds`; two or more.
        examples: how many to show of those that one has right and the other wrong, and the reverse.

    Raises:
        ConfigError: there is one folder only.
        DataError: a folder holds no finished run, or the runs were not measured on the same
            examples with the same labels.
    """
    if len(folders) < 2:
        raise ConfigError(
            f"Comparing takes 2 runs or more, not {len(folders)}.",
            key="run",
            expected="2 or more",
            found=len(folders),
        )
    columns = [_column(_letter(place), Path(folder)) for place, folder in enumerate(folders)]
    runs = [run for column in columns for run in column.runs]
    for other in runs[1:]:
        require_comparable(runs[0], other)
    chosen = [
        _pair(first, second, examples)
        for first, second in itertools.combinations(columns, 2)
        if len(columns) <= _ALL_PAIRS or first is columns[0]
    ]
    corrected = iter(holm([pair.p for pair in chosen if pair.p is not None]))
    pairs = [
        pair if pair.p is None else replace(pair, corrected=next(corrected)) for pair in chosen
    ]
    return Comparison(
        runs[0].split,
        len(runs[0].rows),
        runs[0].record["problem_type"],
        tuple(columns),
        _differing([_facts(column) for column in columns]),
        tuple(pairs),
    )


def require_comparable(first: SavedRun, other: SavedRun) -> None:
    """Raises DataError if two runs were not measured on the same examples with the same labels."""

    def refuse(what: str, ours: object, theirs: object) -> None:
        raise DataError(
            f"{first.folder} and {other.folder} cannot be compared: {what} {ours} there and "
            f"{theirs} here.",
            path=other.folder,
            key=what,
            expected=ours,
            found=theirs,
        )

    for what, of in (
        ("the problem type is", lambda run: run.record["problem_type"]),
        ("the labels are", lambda run: sorted(run.record["labels"] or [])),
        ("the split measured is", lambda run: run.split),
        ("the number of examples is", lambda run: len(run.rows)),
    ):
        if of(first) != of(other):
            refuse(what, of(first), of(other))
    if _sums(first) != _sums(other):
        count = len(first.rows)
        refuse(
            f"the files of {first.split} differ (sha256), with {count} and {len(other.rows)} "
            "examples, and are",
            ", ".join(_sums(first)),
            ", ".join(_sums(other)),
        )
    ours, theirs = (sorted(map(_key, run.rows)) for run in (first, other))
    if ours != theirs:
        shared = len(set(ours) & set(theirs))
        raise DataError(
            f"{first.folder} and {other.folder} were measured on other examples of the same file: "
            f"of {len(ours)} and {len(theirs)}, {shared} are in both.",
            path=other.folder,
            key="examples",
            expected=len(ours),
            found=shared,
            hint="The validation split and subsets are drawn by --seed; --data-seed keeps them.",
        )


def _column(name: str, folder: Path) -> Column:
    """Reads a run, or the runs of a group."""
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
        _facts(column)  # here, where what is missing in a record is still told by its folder
    except (KeyError, TypeError, AttributeError, IndexError) as problem:
        raise DataError(
            f"The record of {folder} is not that of a run: {type(problem).__name__} {problem}.",
            path=folder,
            key=str(problem),
        ) from problem
    return column


def _read(folder: Path) -> SavedRun:
    """A run, its rows in an order that is the same for every run on the same examples."""
    run = read_run(folder)
    path = folder / "errors.csv"
    if not run.rows:
        raise DataError(f"{path} has no examples.", path=path, expected="at least 1", found=0)
    missing = [name for name in _COLUMNS if run.rows[0].get(name) is None]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}.",
            path=path,
            key=missing[0],
            expected=_COLUMNS,
            found=tuple(run.rows[0]),
        )
    for key in ("best_epoch", "seconds", "labels"):
        run.record[key]
    METRICS[run.record["problem_type"]]
    run.metrics[run.split].items()
    return replace(run, rows=sorted(run.rows, key=_key))


def _sums(run: SavedRun) -> list[str]:
    """The sha256 sums of the files that the measured split came from, wherever these lay."""
    files = run.record["data"][run.split]["files"]
    return [files["sha256"]] if "sha256" in files else sorted(files.values())


def _key(row: Row) -> tuple[str, ...]:
    """What tells an example from the others, without the folder that its file lay in."""
    place = row["guid"].replace("\\", "/").rpartition("/")[2]
    return place, row["text"], row.get("text_pair") or "", row["label"]


# --- what differs ---------------------------------------------------------------------------------


def _facts(column: Column) -> dict[str, Any]:
    """Setting -> value, and what else decides a run."""
    record = column.runs[0].record
    settings = {key: value for key, value in record["settings"].items() if key != "output"}
    draws = settings.get("validation") is None or any(
        settings.get(key) is not None for key in ("train_subset", "test_subset")
    )
    if not draws:
        settings["data_seed"] = None
    elif settings.get("data_seed") is None:
        settings["data_seed"] = settings["seed"]
    settings["seed"] = ", ".join(map(str, column.seeds))
    training = record["data"]["train"]
    return {
        **settings,
        "commit": record["model"]["commit"],
        "training examples": training["examples"],
        "training files": ", ".join(str(value)[:8] for value in training["files"].values()),
        "computed in": f"{record['precision']['name']} on {record['device']}, "
        f"{record['threads']} threads",
        "torch": record["versions"]["torch"],
        "minibert": record["versions"]["minibert"],
    }


def _differing(facts: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    keys = list(dict.fromkeys(key for each in facts for key in each))
    rows = {key: [each.get(key) for each in facts] for key in keys}
    return {
        key: ["-" if value is None else str(value) for value in row]
        for key, row in rows.items()
        if any(value != row[0] for value in row)
    }


def _each(column: Column, key: str) -> str:
    return ", ".join(f"{run.record[key]:.0f}" for run in column.runs)


def _score(column: Column, metric: str) -> str:
    values = column.values(metric)
    if column.is_group:
        return f"{np.mean(values):.4f} +- {np.std(values, ddof=1):.4f}"
    found = column.runs[0].metrics[column.runs[0].split].get(metric, {})
    interval = f" ({found['low']:.4f} to {found['high']:.4f})" if "low" in found else ""
    return f"{values[0]:.4f}{interval}"


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else f"R{place + 1}"


# --- tests ----------------------------------------------------------------------------------------


def _pair(first: Column, second: Column, examples: int) -> Pair:
    if first.is_group and second.is_group:
        return _pair_of_groups(first, second)
    if first.is_group or second.is_group:
        reason = "one is a single run, the other several seeds"
        return Pair(first.name, second.name, None, {}, reason, None)
    return _pair_of_runs(first, second, examples)


def _pair_of_groups(first: Column, second: Column) -> Pair:
    """Means over seeds, by the seeds that both have."""
    if first.seeds != second.seeds:
        reason = f"their seeds are {_listed(first.seeds)} and {_listed(second.seeds)}"
        return Pair(first.name, second.name, None, {}, reason, None)
    metrics = METRICS[first.runs[0].record["problem_type"]][:2]
    found = {name: paired_t(first.values(name), second.values(name)) for name in metrics}
    p = found[metrics[0]].p
    if math.isnan(p):
        reason = "every seed differs by the same, which leaves no spread to hold that against"
        return Pair(first.name, second.name, None, found, reason, None)
    return Pair(first.name, second.name, None, found, _weakness(len(first.runs)), p, True)


def _weakness(count: int) -> str:
    visible = t_quantile(1 - LEVEL / 2, count - 1) / math.sqrt(count)
    return (
        f"paired t-test over {count} seeds, on these examples alone; so few show a difference only "
        f"where it is more than {visible:.1f} times its own standard deviation"
    )


def _pair_of_runs(first: Column, second: Column, examples: int) -> Pair:
    """The same examples, one by one."""
    record = first.runs[0].record
    kind, labels = record["problem_type"], record["labels"] or ()
    ours, theirs = first.runs[0].rows, second.runs[0].rows
    if kind == "regression":
        counts, mcnemars_p = None, None
        gains = _losses(second) - _losses(first)
        better = (gains > 0, gains < 0)
    else:
        right, rights = _right(ours), _right(theirs)
        both, neither = int((right & rights).sum()), int((~right & ~rights).sum())
        better = (right & ~rights, ~right & rights)
        alone, alones = (int(one.sum()) for one in better)
        counts = ((both, alone), (alones, neither))
        mcnemars_p = mcnemar(alone, alones)
    try:
        scores = [scores_of(kind, labels, rows) for rows in (ours, theirs)]
    except ValueError as problem:
        raise DataError(
            f"{first.folder} and {second.folder} hold a label or prediction that cannot be read: "
            f"{problem}.",
            path=second.folder / "errors.csv",
            key="prediction",
        ) from problem
    found = {
        name: paired_bootstrap(
            score.of_sums, score.added, scores[1][name].added, seed=BOOTSTRAP_SEED
        )
        for name, score in scores[0].items()
    }
    if not found:
        test, p = "the names of the labels hold what stands between them in errors.csv", None
    elif kind == "single_label_classification":
        test, p = "McNemar's test, exact", mcnemars_p
    else:
        test, p = "paired bootstrap, 1,000 resamples", next(iter(found.values())).p
    only = [_shown(mask, first, second, examples) for mask in better]
    return Pair(first.name, second.name, counts, found, test, p, False, None, *only)


def _right(rows: Sequence[Row]) -> np.ndarray:
    return np.array([row["label"] == row["prediction"] for row in rows])


def _losses(column: Column) -> np.ndarray:
    try:
        return np.array([float(row["loss"]) for row in column.runs[0].rows])
    except ValueError as problem:
        path = column.runs[0].folder / "errors.csv"
        raise DataError(f"{path}: a loss is no number: {problem}.", path=path, key="loss") from None


def _shown(mask: np.ndarray, first: Column, second: Column, count: int) -> tuple[Row, ...]:
    """The examples of the mask on which losses differ most."""
    gaps = np.nan_to_num(np.abs(_losses(second) - _losses(first)))
    chosen = np.flatnonzero(mask)
    chosen = chosen[np.argsort(-gaps[chosen], kind="stable")][:count]
    rows, others = first.runs[0].rows, second.runs[0].rows
    return tuple(
        {
            "guid": rows[place]["guid"],
            "label": rows[place]["label"],
            first.name: rows[place]["prediction"],
            second.name: others[place]["prediction"],
            "text": rows[place]["text"],
        }
        for place in chosen.tolist()
    )


# --- words ----------------------------------------------------------------------------------------


def _lines_of(pair: Pair) -> list[str]:
    first, second = pair.first, pair.second
    lines = [f"{first} and {second}", f"  {pair.sentence()}"]
    if pair.counts is not None:
        counts = [
            (f"{first} {word}", *row)
            for word, row in zip(("right", "wrong"), pair.counts, strict=True)
        ]
        lines += ["", *_indented(table(counts, ("", f"{second} right", f"{second} wrong")))]
    if pair.differences:
        values = [
            (name, f"{item.value:+.4f}", f"{item.low:+.4f} to {item.high:+.4f}", _p(item.p))
            for name, item in pair.differences.items()
        ]
        lines += ["", *_indented(table(values, ("", f"{second} - {first}", "95% interval", "")))]
    if pair.p is not None:
        lines += [f"  {pair.test}: {_p(pair.p)}"]
    better = "{} right, {} wrong" if pair.counts is not None else "{} nearer than {}"
    for name, other, rows in ((first, second, pair.only_first), (second, first, pair.only_second)):
        if rows:
            texts = [
                (*(shorten(row[key], 24) for key in ("label", first, second)), shorten(row["text"]))
                for row in rows
            ]
            lines += ["", f"  {better.format(name, other)}, the furthest apart first:"]
            lines += _indented(table(texts, ("label", first, second, "text")))
    return lines


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def _p(value: float) -> str:
    if math.isnan(value):
        return "no p"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
