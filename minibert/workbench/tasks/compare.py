"""Comparing runs: side by side, and tested on the examples that all of them predicted.

A difference of two scores says little alone: it may be reversed on other examples or with another
seed. Single runs are tested over examples (McNemar 1947; paired bootstrap), groups of runs
(`minibert train --seeds`) over seeds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minibert.io.errors import ConfigError
from minibert.io.files import finite
from minibert.io.tables import shorten, table
from minibert.workbench.kinds import KINDS
from minibert.workbench.reports.columns import Column, read_column, require_comparable
from minibert.workbench.reports.pairs import Pair, compare_columns
from minibert.workbench.scores.significance import holm

_EXAMPLES = 5
_ALL_PAIRS = 4  # of more columns the first is tested against each other one


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        split, examples: what all were measured on.
        columns: the runs, in the order in which they were given.
        settings: setting -> its value in each column, where these are not all the same.
        pairs: all pairs of up to 4 columns, otherwise the first with each other.
    """

    split: str
    examples: int
    problem_type: str
    columns: tuple[Column, ...]
    settings: dict[str, list[str]]
    pairs: tuple[Pair, ...]

    @property
    def metrics(self) -> list[str]:
        run = self.columns[0].runs[0]
        return [name for name in KINDS[self.problem_type].metrics if name in run.metrics[run.split]]

    def summary(self) -> str:
        """The whole comparison as text."""
        rows = [
            ("folder", *(str(column.folder) for column in self.columns)),
            *((key, *(shorten(value, 40) for value in row)) for key, row in self.settings.items()),
            *((name, *(_score(column, name) for column in self.columns)) for name in self.metrics),
            *(
                (key.replace("_", " "), *(_numbers(column, key) for column in self.columns))
                for key in ("best_epoch", "seconds")
            ),
        ]
        lines = [
            f"{self.split}: {self.examples} examples, the same for all",
            "",
            table(rows, ("", *(column.name for column in self.columns))),
        ]
        for pair in self.pairs:
            lines += ["", *pair.lines()]
        tested = [pair for pair in self.pairs if pair.p is not None]
        if len(tested) > 1:
            lines += [
                "",
                f"The p values of these sentences are corrected for {len(tested)} pairs "
                "(Holm 1979); intervals, and the p values below them, are not.",
            ]
        if any(not pair.seeds for pair in tested):
            lines += [
                "",
                "Tests of single runs are about these models alone: another seed may give another "
                "result (minibert train --seeds).",
            ]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The whole comparison for JSON."""
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
                        "scores": {metric: column.values(metric) for metric in self.metrics},
                        "best_epoch": [run.record["best_epoch"] for run in column.runs],
                        "seconds": [run.record["seconds"] for run in column.runs],
                    }
                    for column in self.columns
                ],
                "settings": self.settings,
                "pairs": [{**asdict(pair), "sentence": pair.sentence()} for pair in self.pairs],
            }
        )


def compare(folders: Sequence[str | Path], *, examples: int | None = None) -> Comparison:
    """Reads runs and tests their differences.

    Args:
        folders: run folders, or those of `--seeds`; two or more.
        examples: how many to show of those that only one run of a pair has right, by default 5;
            only single runs have such examples.

    Raises:
        ConfigError: there is only one folder, or `examples` is negative or has no effect.
        DataError: a folder does not hold a finished run, or the runs were not measured on the same
            examples with the same labels.
    """
    if len(folders) < 2:
        raise ConfigError(f"Name 2 runs or more to compare, not {len(folders)}.", key="run")
    if examples is not None and examples < 0:
        raise ConfigError(f"examples is {examples}, but it must be 0 or more.", key="examples")
    columns = [read_column(_letter(place), Path(folder)) for place, folder in enumerate(folders)]
    if examples is not None and sum(not column.is_group for column in columns) < 2:
        raise ConfigError("examples are of two single runs, and these are groups of seeds.", key="examples")
    first, *others = [run for column in columns for run in column.runs]
    for other in others:
        require_comparable(first, other)
    pairs = [
        compare_columns(one, other, _EXAMPLES if examples is None else examples)
        for one, other in itertools.combinations(columns, 2)
        if len(columns) <= _ALL_PAIRS or one is columns[0]
    ]
    corrected = iter(holm([pair.p for pair in pairs if pair.p is not None]))
    return Comparison(
        first.split,
        len(first.rows),
        first.record["problem_type"],
        tuple(columns),
        _differing([column.facts for column in columns]),
        tuple(pair if pair.p is None else replace(pair, corrected=next(corrected)) for pair in pairs),
    )


def _differing(facts: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The facts that are not the same in all columns."""
    rows = {key: [each.get(key) for each in facts] for key in dict.fromkeys(itertools.chain(*facts))}
    return {
        key: ["-" if value is None else str(value) for value in row]
        for key, row in rows.items()
        if any(value != row[0] for value in row)
    }


def _numbers(column: Column, key: str) -> str:
    values = [run.record[key] for run in column.runs]
    return ", ".join("-" if value is None else f"{value:.0f}" for value in values)


def _score(column: Column, metric: str) -> str:
    values = column.values(metric)
    if column.is_group:
        return f"{np.mean(values):.4f} +- {np.std(values, ddof=1):.4f}"
    [run] = column.runs
    found = run.metrics[run.split].get(metric, {})
    interval = f" ({found['low']:.4f} to {found['high']:.4f})" if "low" in found else ""
    return f"{values[0]:.4f}{interval}"


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else f"R{place + 1}"
