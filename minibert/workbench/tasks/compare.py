"""Comparing runs: side by side, and tested on the very examples that all of them predicted.

A difference of two scores says little alone: on other examples, or with another seed, it may be the
other way round. Single runs are tested over examples (McNemar 1947; paired bootstrap), groups of
runs that differ in the seed (`minibert train --seeds`) over seeds.
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
from minibert.workbench.reports.pairs import Pair, held_against
from minibert.workbench.scores.significance import holm

_ALL_PAIRS = 4  # of more runs the first is tested against each other


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

    def _metrics(self) -> list[str]:
        run = self.columns[0].runs[0]
        return [name for name in KINDS[self.problem_type].metrics if name in run.metrics[run.split]]

    def summary(self) -> str:
        """All of it as text for people."""
        metrics = self._metrics()
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
            lines += ["", *pair.lines()]
        tested = sum(pair.p is not None for pair in self.pairs)
        if tested > 1:
            lines += [
                "",
                f"The p values of these sentences are corrected for {tested} pairs (Holm 1979); "
                "intervals, and the p values below them, are not.",
            ]
        if any(pair.p is not None and not pair.seeds for pair in self.pairs):
            lines += [
                "",
                "Tests of single runs are about these very models: another seed may tell otherwise "
                "(minibert train --seeds).",
            ]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON."""
        metrics = self._metrics()
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
        ConfigError: there is one folder only, or `examples` is negative.
        DataError: a folder holds no finished run, or the runs were not measured on the same
            examples with the same labels.
    """
    if len(folders) < 2:
        raise ConfigError(
            f"Comparing takes 2 runs or more, not {len(folders)}.",
            key="run",
        )
    if examples < 0:
        raise ConfigError(
            f"examples is {examples}, but it must be 0 or more.",
            key="examples",
        )
    columns = [read_column(_letter(place), Path(folder)) for place, folder in enumerate(folders)]
    runs = [run for column in columns for run in column.runs]
    for other in runs[1:]:
        require_comparable(runs[0], other)
    chosen = [
        held_against(first, second, examples)
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
        _differing([column.facts() for column in columns]),
        tuple(pairs),
    )


def _differing(facts: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    keys = list(dict.fromkeys(key for each in facts for key in each))
    rows = {key: [each.get(key) for each in facts] for key in keys}
    return {
        key: ["-" if value is None else str(value) for value in row]
        for key, row in rows.items()
        if any(value != row[0] for value in row)
    }


def _each(column: Column, key: str) -> str:
    values = [run.record[key] for run in column.runs]
    return ", ".join("-" if value is None else f"{value:.0f}" for value in values)


def _score(column: Column, metric: str) -> str:
    values = column.values(metric)
    if column.is_group:
        return f"{np.mean(values):.4f} +- {np.std(values, ddof=1):.4f}"
    found = column.runs[0].metrics[column.runs[0].split].get(metric, {})
    interval = f" ({found['low']:.4f} to {found['high']:.4f})" if "low" in found else ""
    return f"{values[0]:.4f}{interval}"


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else f"R{place + 1}"
