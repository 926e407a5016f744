"""Two runs, or two groups of runs, held against each other: is the difference more than chance?

Single runs are tested over the examples that both predicted, groups of runs that differ in the
seed over their seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minibert.io.errors import DataError
from minibert.io.tables import shorten, table
from minibert.workbench.kinds import KINDS
from minibert.workbench.reports.columns import Column
from minibert.workbench.reports.error_analysis import is_right
from minibert.workbench.runs.folders import Row
from minibert.workbench.scores.significance import (
    Difference,
    mcnemar,
    paired_bootstrap,
    paired_t,
    t_quantile,
)

LEVEL = 0.05  # a p value below it counts as a difference that is seen
BOOTSTRAP_SEED = 0  # the same runs give the same numbers


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
        seeds: over how many the test was; 0: over examples.
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
    seeds: int = 0
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
                f"({_interval(found)}), {_p(p)}."
            )
        if found.value > 0:
            better, by, low, high = self.second, found.value, found.low, found.high
        else:
            better, by, low, high = self.first, -found.value, -found.high, -found.low
        return f"{better} is better by {by:.4f} ({low:.4f} to {high:.4f}), {_p(p)}."

    def lines(self) -> list[str]:
        """All of it as lines of text for people."""
        first, second = self.first, self.second
        found = [f"{first} and {second}", f"  {self.sentence()}"]
        if self.counts is not None:
            counts = [
                (f"{first} {word}", *row)
                for word, row in zip(("right", "wrong"), self.counts, strict=True)
            ]
            found += ["", *_indented(table(counts, ("", f"{second} right", f"{second} wrong")))]
        if self.differences:
            values = [
                (name, f"{item.value:+.4f}", _interval(item), _p(item.p))
                for name, item in self.differences.items()
            ]
            rows = table(values, ("", f"{second} - {first}", "95% interval", ""))
            found += ["", *_indented(rows)]
        if self.p is not None:
            found += [f"  {self.test}: {_p(self.p)}"]
        if self.seeds:
            found += [f"  {_weakness(self.seeds)}"]
        better = "{} right, {} wrong" if self.counts is not None else "{} nearer than {}"
        for names, examples in (
            ((first, second), self.only_first),
            ((second, first), self.only_second),
        ):
            if examples:
                found += ["", f"  {better.format(*names)}, the furthest apart first:"]
                found += _indented(self._texts(examples))
        return found

    def _texts(self, examples: Sequence[Row]) -> str:
        keys = ("label", self.first, self.second)
        rows = [
            (*(shorten(row[key], 24) for key in keys), shorten(row["text"])) for row in examples
        ]
        return table(rows, (*keys, "text"))


def held_against(first: Column, second: Column, examples: int) -> Pair:
    """Tests the difference of two columns that were measured on the same examples.

    Args:
        examples: how many to show of those that one has right and the other wrong, and the reverse.

    Raises:
        DataError: errors.csv has labels, predictions or losses that cannot be read.
    """
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
    run = first.runs[0]
    known = KINDS[run.record["problem_type"]].metrics
    metrics = [name for name in known if name in run.metrics[run.split]][:2]
    found = {name: paired_t(first.values(name), second.values(name)) for name in metrics}
    p = found[metrics[0]].p
    if math.isnan(p):
        reason = "every seed differs by the same, which leaves no spread to hold that against"
        return Pair(first.name, second.name, None, found, reason, None)
    count = len(first.runs)
    test = f"paired t-test over {count} seeds, on these examples alone"
    return Pair(first.name, second.name, None, found, test, p, seeds=count)


def _weakness(count: int) -> str:
    visible = t_quantile(1 - LEVEL / 2, count - 1) / math.sqrt(count)
    return (
        f"{count} seeds show a difference only where its mean is above {visible:.1f} times its "
        "standard deviation"
    )


def _pair_of_runs(first: Column, second: Column, examples: int) -> Pair:
    """The same examples, one by one."""
    kind = first.runs[0].record["problem_type"]
    counts = None
    if kind == "regression":
        gains = _losses(second) - _losses(first)
        alone = (gains > 0, gains < 0)
    else:
        right, too = (_right(column.runs[0].rows) for column in (first, second))
        alone = (right & ~too, ~right & too)
        counts = (
            (int((right & too).sum()), int(alone[0].sum())),
            (int(alone[1].sum()), int((~right & ~too).sum())),
        )
    found = _differences(first, second)
    p = None
    if not found:
        test = "the names of the labels hold what stands between them in errors.csv"
    elif "accuracy" in found:  # each example is right or wrong, and that is what is counted
        test, p = "McNemar's test, exact", mcnemar(int(alone[0].sum()), int(alone[1].sum()))
    else:
        test, p = "paired bootstrap, 1,000 resamples", next(iter(found.values())).p
    only = [_shown(mask, first, second, examples) for mask in alone]
    return Pair(
        first.name,
        second.name,
        counts,
        found,
        test,
        p,
        only_first=only[0],
        only_second=only[1],
    )


def _differences(first: Column, second: Column) -> dict[str, Difference]:
    scores = []
    for column in (first, second):
        [run] = column.runs
        path = run.folder / "errors.csv"
        try:
            kind = KINDS[run.record["problem_type"]]
            found = kind.outcomes(run.record["labels"] or (), run.rows)
        except ValueError as problem:
            message = f"{path} has a label or prediction that cannot be read: {problem}."
            raise DataError(message, path=path, key="prediction") from problem
        scores.append(found)
    return {
        name: paired_bootstrap(
            score.of_sums, score.added, scores[1][name].added, seed=BOOTSTRAP_SEED
        )
        for name, score in scores[0].items()
    }


def _right(rows: Sequence[Row]) -> np.ndarray:
    return np.array([is_right(row) for row in rows])


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


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def _interval(found: Difference) -> str:
    return "none" if math.isnan(found.low) else f"{found.low:+.4f} to {found.high:+.4f}"


def _p(value: float) -> str:
    if math.isnan(value):
        return "no test"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
