"""Two runs, or two groups of runs, and the test of whether they differ by more than chance.

Single runs are tested over the examples that both predicted, groups over their seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from minibert.io.errors import DataError
from minibert.io.tables import shorten, table
from minibert.workbench.kinds import KINDS
from minibert.workbench.kinds.kind import Score
from minibert.workbench.reports.columns import Column
from minibert.workbench.reports.error_analysis import rows_of
from minibert.workbench.runs.folders import Row, SavedRun
from minibert.workbench.scores.metrics import HIGHER_IS_BETTER
from minibert.workbench.scores.significance import Difference, mcnemar, paired_bootstrap, paired_t, t_quantile

LEVEL = 0.05  # a p value below it is a significant difference
_BOOTSTRAP_SEED = 0  # the same runs give the same numbers


@dataclass(frozen=True)
class Pair:
    """Two columns and the test of their difference; differences are second minus first.

    Attributes:
        first, second: names of the columns.
        test: the test that `p` comes from, or the reason why there is none.
        p: of the main metric; None without a test.
        corrected: p, corrected for the number of pairs.
        differences: metric -> difference, the main metric first.
        counts: of examples that the first column (rows) and the second (columns) have right (0) and
            wrong (1); None for groups, and for numbers, which are not right or wrong.
        seeds: how many the test is over; 0 for a test over examples.
        only_first, only_second: examples that only this column has right (of numbers: that it is
            nearer to), the largest difference in loss first.
    """

    first: str
    second: str
    test: str
    p: float | None = None
    corrected: float | None = None
    differences: dict[str, Difference] = field(default_factory=dict)
    counts: tuple[tuple[int, int], tuple[int, int]] | None = None
    seeds: int = 0
    only_first: tuple[Row, ...] = ()
    only_second: tuple[Row, ...] = ()

    def sentence(self) -> str:
        """The result in a sentence or two: the main metric, then those whose verdict is another."""
        if not self.differences or self.p is None:
            return f"{self.first} and {self.second} were not tested: {self.test}."
        (metric, found), *others = self.differences.items()
        p = self.p if self.corrected is None else self.corrected
        better = self._better(metric, found, p)
        start = f"No significant difference in {metric}" if better is None else f"{better} has the better {metric}"
        corrected = "" if p == self.p else ", corrected"
        text = f"{start}: {self.second} - {self.first} is {found.value:+.4f} ({_interval(found)}), {_p(p)}{corrected}."
        if (p < LEVEL) != (found.low > 0 or found.high < 0):
            text += " The interval alone would say otherwise."
        for name, each in others:
            winner = self._better(name, each, each.p)
            text += f" But {winner} has the better {name}." if winner not in (None, better) else ""
        return text

    def _better(self, metric: str, found: Difference, p: float) -> str | None:
        """The column that is better by a metric, if p and the interval say that one is."""
        if not p < LEVEL or found.low <= 0 <= found.high:
            return None
        return self.second if (found.value > 0) == HIGHER_IS_BETTER.get(metric, True) else self.first

    def lines(self) -> Iterator[str]:
        """The whole result as lines of text."""
        first, second = self.first, self.second
        yield f"{first} and {second}"
        yield f"  {self.sentence()}"
        if self.counts is not None:
            right, wrong = self.counts
            rows = [(f"{first} right", *right), (f"{first} wrong", *wrong)]
            yield from _indented(rows, ("", f"{second} right", f"{second} wrong"))
        if self.differences:
            values = [
                (name, f"{found.value:+.4f}", _interval(found), _p(found.p)) for name, found in self.differences.items()
            ]
            if self.p is not None:  # that of the main metric may come from another test than its interval
                values[0] = (*values[0][:-1], _p(self.p))
            yield from _indented(values, ("", f"{second} - {first}", "95% interval", ""))
        if self.p is not None:
            yield f"  {self.test}: {_p(self.p)}"
        if self.seeds:
            visible = t_quantile(1 - LEVEL / 2, self.seeds - 1) / math.sqrt(self.seeds)
            yield (
                f"  {self.seeds} seeds show a difference only where its mean is above "
                f"{visible:.1f} times its standard deviation"
            )
        words = "{} right, {} wrong" if self.counts is not None else "{} nearer than {}"
        for names, examples in (((first, second), self.only_first), ((second, first), self.only_second)):
            if examples:
                yield ""
                yield f"  {words.format(*names)}, the largest difference in loss first:"
                keys = ("label", first, second)
                texts = [(*(shorten(row[key], 24) for key in keys), shorten(row["text"])) for row in examples]
                yield from _indented(texts, (*keys, "text"))[1:]


def compare_columns(first: Column, second: Column, examples: int) -> Pair:
    """Tests the difference of two columns that were measured on the same examples.

    Args:
        examples: how many to show of those that only one of them has right.

    Raises:
        DataError: errors.csv has labels or predictions that cannot be read.
    """
    if first.is_group and second.is_group:
        return _compare_groups(first, second)
    if first.is_group or second.is_group:
        return Pair(first.name, second.name, "one is a single run, the other several seeds")
    return _compare_runs(first, second, examples)


def _compare_groups(first: Column, second: Column) -> Pair:
    """A test over seeds, which both groups have to share."""
    names, count = (first.name, second.name), len(first.runs)
    if first.seeds != second.seeds:
        ours, theirs = (", ".join(map(str, column.seeds)) for column in (first, second))
        return Pair(*names, f"their seeds are {ours} and {theirs}")
    run = first.runs[0]
    known = KINDS[run.record["problem_type"]].metrics
    metrics = [name for name in known if name in run.metrics[run.split]][:2]
    found = {name: paired_t(first.values(name), second.values(name)) for name in metrics}
    p = found[metrics[0]].p
    if math.isnan(p):
        reason = "the difference is the same for every seed, so it has no spread to be tested by"
        return Pair(*names, reason, differences=found)
    test = f"paired t-test over {count} seeds, on these examples alone"
    return Pair(*names, test, p, differences=found, seeds=count)


def _compare_runs(first: Column, second: Column, examples: int) -> Pair:
    """A test over examples."""
    [ours], [theirs] = first.runs, second.runs
    rows = list(zip(rows_of(ours), rows_of(theirs), strict=True))
    gains = np.array([other.loss - one.loss for one, other in rows])
    counts = None
    if KINDS[ours.record["problem_type"]].numeric:
        alone = (gains > 0, gains < 0)
    else:
        right, too = np.array([[one.right, other.right] for one, other in rows]).T
        alone = (right & ~too, ~right & too)
        both, neither = int((right & too).sum()), int((~right & ~too).sum())
        counts = ((both, int(alone[0].sum())), (int(alone[1].sum()), neither))
    differences = {
        name: paired_bootstrap(score.of_sums, score.added, other.added, seed=_BOOTSTRAP_SEED)
        for (name, score), other in zip(_outcomes(ours).items(), _outcomes(theirs).values(), strict=True)
    }
    p = None
    if not differences:
        test = "the names of the labels hold the separator that errors.csv writes between labels"
    elif "accuracy" in differences:  # the mean over examples that are right or wrong
        test, p = "McNemar's test, exact", mcnemar(int(alone[0].sum()), int(alone[1].sum()))
    else:
        test, p = "paired bootstrap, 1,000 resamples", next(iter(differences.values())).p

    def shown(mask: np.ndarray) -> tuple[Row, ...]:
        gaps = np.where(mask, np.nan_to_num(np.abs(gains)), -1)
        largest = np.argsort(-gaps, kind="stable")[: min(examples, mask.sum())]
        return tuple(
            {
                "guid": one.guid,
                "label": one.label,
                first.name: one.prediction,
                second.name: other.prediction,
                "text": one.text,
            }
            for one, other in (rows[place] for place in largest)
        )

    return Pair(
        first.name,
        second.name,
        test,
        p,
        differences=differences,
        counts=counts,
        only_first=shown(alone[0]),
        only_second=shown(alone[1]),
    )


def _outcomes(run: SavedRun) -> dict[str, Score]:
    kind, path = KINDS[run.record["problem_type"]], run.folder / "errors.csv"
    try:
        return kind.outcomes(run.record["labels"] or (), run.rows)
    except ValueError as problem:
        raise DataError(
            f"{path} has a label or prediction that cannot be read: {problem}.", path=path, key="prediction"
        ) from problem


def _indented(rows: Sequence[Sequence[object]], header: Sequence[str]) -> list[str]:
    """A table with a blank line before it."""
    return ["", *(f"  {line}" for line in table(rows, header).splitlines())]


def _interval(found: Difference) -> str:
    return "none" if math.isnan(found.low) else f"{found.low:+.4f} to {found.high:+.4f}"


def _p(value: float) -> str:
    if math.isnan(value):
        return "no test"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
