"""Error analysis of a run: slices of the examples, confusions, and labels that may be wrong.

All of it is computed from errors.csv, so it works for any finished run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minibert.io.errors import DataError
from minibert.workbench.runs.folders import SavedRun
from minibert.workbench.scores.calibration import Bin, reliability
from minibert.workbench.scores.metrics import wilson_interval

OUTSIDE = "O"
SURE = 0.9  # a wrong prediction with this probability makes its label suspect


@dataclass(frozen=True)
class Row:
    """One example and the model's prediction for it.

    Attributes:
        label, prediction: as in errors.csv: a class, a number, several labels separated by ", ", a
            tag for each word separated by spaces, or the answers to a question separated by " | ".
        probability: of the prediction; None for regression.
        right: whether the prediction is right, as `is_right` says.
        marks: (start, end, "answer" or "guess"): characters of the second text.
        tokens: how many the model read; None in tables without that column.
    """

    loss: float
    label: str
    prediction: str
    probability: float | None
    tokens: int | None
    guid: str
    text: str
    text_pair: str | None = None
    right: bool = False
    marks: tuple[tuple[int, int, str], ...] = ()


@dataclass(frozen=True)
class Slice:
    """A part of the examples: its size, its accuracy with the 95% interval, its mean loss.

    `confidence` is the mean probability of the predictions; None where there are none.
    """

    name: str
    count: int
    right: int
    low: float
    high: float
    loss: float
    confidence: float | None

    @property
    def accuracy(self) -> float:
        return self.right / self.count


def rows_of(run: SavedRun) -> list[Row]:
    """The rows of a run's errors.csv, in their order.

    Raises:
        DataError: a column is missing, or a value is not a number.
    """
    try:
        return [
            Row(
                loss=float(row["loss"]),
                label=row["label"],
                prediction=row["prediction"],
                probability=float(row["probability"]) if row["probability"] else None,
                tokens=int(row["tokens"]) if row.get("tokens") else None,
                guid=row["guid"],
                text=row["text"],
                text_pair=row.get("text_pair"),
                right=is_right(row),
                marks=_marks(row),
            )
            for row in run.rows
        ]
    except (KeyError, TypeError, ValueError) as problem:
        path = run.folder / "errors.csv"
        raise DataError(f"{path} is not a table of examples: {problem!r}.", path=path) from problem


def _marks(row: Mapping[str, str]) -> tuple[tuple[int, int, str], ...]:
    """Where the answer to a question and the model's guess are, if they are in the text."""
    found = []
    for key, kind in (("right_at", "answer"), ("predicted_at", "guess")):
        if row.get(key):
            start, end = map(int, row[key].split("-"))
            found.append((start, end, kind))
    return tuple(found)


def is_right(row: Mapping[str, str]) -> bool:
    """Whether a prediction is right: what the column "right" says, else whether it is the label.

    A question has such a column, as any of several answers is right.
    """
    return row["right"] == "1" if "right" in row else row["label"] == row["prediction"]


def by_label(rows: Iterable[Row]) -> list[Slice]:
    """A slice for each label, in alphabetical order."""
    return sorted(_slices(rows, lambda row: row.label), key=lambda part: part.name)


def by_length(rows: Sequence[Row], parts: int = 4) -> list[Slice]:
    """Slices of about equal size by the number of tokens, the shortest texts first."""
    return [_slice(name, group) for name, group in grouped(rows, ranges_of_length(rows, parts)).items()]


def ranges_of_length(rows: Sequence[Row], parts: int = 4) -> list[tuple[int, int]]:
    """The range of tokens that each row is in, of a few that hold about as many rows; empty if they are not known."""
    lengths = [row.tokens for row in rows if row.tokens is not None]
    if len(lengths) < len(rows) or not lengths:
        return []
    ordered = sorted(lengths)
    limits = sorted({ordered[len(ordered) * part // parts - 1] for part in range(1, parts + 1)} | {ordered[-1]})
    starts = [ordered[0], *(limit + 1 for limit in limits)]
    places = [next(number for number, limit in enumerate(limits) if length <= limit) for length in lengths]
    return [(starts[place], limits[place]) for place in places]


def grouped(rows: Iterable[Any], ranges: Sequence[tuple[int, int]]) -> dict[str, list[Any]]:
    """The rows in each range, such as "3 to 10", the smallest first."""
    found: dict[str, list[Any]] = {f"{start} to {end}": [] for start, end in sorted(set(ranges))}
    for row, (start, end) in zip(rows, ranges, strict=False):
        found[f"{start} to {end}"].append(row)
    return found


def numbers(rows: Iterable[Row]) -> list[tuple[float, float]]:
    """(label, prediction) of rows whose labels are numbers."""
    return [(float(row.label), float(row.prediction)) for row in rows]


def outside_last(labels: Sequence[str]) -> list[str]:
    """The labels, with the tag of words outside of all entities at the end."""
    return sorted(labels, key=lambda label: label == OUTSIDE)


def confusions(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str, int]]:
    """(label, prediction, count) of the pairs that differ, the most frequent first."""
    counts = Counter((label, prediction) for label, prediction in pairs if label != prediction)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(label, prediction, count) for (label, prediction), count in ordered]


def confusion_counts(pairs: Iterable[tuple[str, str]], labels: Sequence[str]) -> np.ndarray:
    """(C, C) counts of (label, prediction) pairs: labels are rows, predictions columns."""
    counts = Counter(pairs)
    return np.array([[counts[label, guess] for guess in labels] for label in labels], dtype=int)


def tags_of(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """(tag, predicted tag) of every word of tagged sentences."""
    return [pair for row in rows for pair in zip(row.label.split(), row.prediction.split(), strict=False)]


def suspects(rows: Iterable[Row], most: int = 50) -> list[Row]:
    """Examples whose label may be wrong: the model is at least 90% confident in another class.

    They may as well be hard examples, or blind spots of the model.
    """
    found = [row for row in rows if not row.right and (row.probability or 0) >= SURE]
    return sorted(found, key=lambda row: -(row.probability or 0))[:most]


def easiest(rows: Sequence[Row], most: int = 10) -> list[Row]:
    """The examples with the lowest loss; a wrong label that the model has learned is among them."""
    return sorted(rows, key=lambda row: row.loss)[:most]


def calibration(rows: Iterable[Row]) -> tuple[Bin, ...]:
    """The reliability table of single-label predictions; empty where there are no probabilities."""
    known = [row for row in rows if row.probability is not None and math.isfinite(row.probability)]
    if not known:
        return ()
    return reliability([row.probability or 0.0 for row in known], [row.right for row in known])


def _slices(rows: Iterable[Row], key: Callable[[Row], str]) -> list[Slice]:
    """A slice for each value of the key, in the order in which they first occur."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return [_slice(name, group) for name, group in groups.items()]


def _slice(name: str, rows: Sequence[Row]) -> Slice:
    right = sum(row.right for row in rows)
    known = [row.probability for row in rows if row.probability is not None]
    return Slice(
        name,
        len(rows),
        right,
        *wilson_interval(right, len(rows)),
        loss=math.fsum(row.loss for row in rows) / len(rows),
        confidence=math.fsum(known) / len(known) if known else None,
    )
