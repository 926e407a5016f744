"""What a model gets wrong: slices of its errors, confusions, labels that may be wrong themselves.

All of it is told from the rows of errors.csv, so any finished run can be looked at.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from minibert.io.errors import DataError
from minibert.workbench.scores.calibration import Bin, reliability
from minibert.workbench.scores.metrics import wilson_interval

SURE = 0.9  # a prediction with this probability contradicts its label strongly


@dataclass(frozen=True)
class Row:
    """One example and what was made of it.

    Attributes:
        label, prediction: as errors.csv spells them: a class, a number, several labels with ", "
            between, or a tag for each word with spaces between; of a question all right answers
            with " | " between.
        probability: of the prediction; None where there is none (regression).
        noted: whether the prediction is right, where its kind of task says so: of a question any of
            several answers is.
        marks: (from, to, "answer" or "guess"): where in the second text, in characters.
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

    noted: bool | None = None
    marks: tuple[tuple[int, int, str], ...] = ()

    @property
    def right(self) -> bool:
        return self.label == self.prediction if self.noted is None else self.noted


@dataclass(frozen=True)
class Slice:
    """Some of the examples: how many, how many of them right, with the 95% interval of the share.

    `loss` and `confidence` are means; `confidence` is None where there are no probabilities.
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


def rows_of(table: Sequence[Mapping[str, str]], source: object) -> list[Row]:
    """The rows of errors.csv, in its order: the highest loss first.

    Raises:
        DataError: a column is missing or holds no number.
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
                noted=is_right(row) if "right" in row else None,
                marks=_marks(row),
            )
            for row in table
        ]
    except (KeyError, TypeError, ValueError) as problem:
        raise DataError(
            f"{source}/errors.csv is not a table of examples: {problem!r}.", path=str(source)
        ) from problem


def _marks(row: Mapping[str, str]) -> tuple[tuple[int, int, str], ...]:
    """Where the answer to a question and the model's guess stand, if they stand anywhere."""
    found = []
    for key, kind in (("right_at", "answer"), ("predicted_at", "guess")):
        if row.get(key):
            start, end = map(int, row[key].split("-"))
            found.append((start, end, kind))
    return tuple(found)


def is_right(row: Mapping[str, str]) -> bool:
    """Whether a prediction is right: as its kind of task has noted, else if it is the label."""
    return row["right"] == "1" if "right" in row else row["label"] == row["prediction"]


def by_label(rows: Iterable[Row]) -> list[Slice]:
    """A slice for each label, in alphabetical order."""
    return _slices(rows, lambda row: row.label)


def by_length(rows: Sequence[Row], parts: int = 4) -> list[Slice]:
    """Slices of about equal size by the number of tokens, the shortest texts first."""
    known = sorted((row for row in rows if row.tokens is not None), key=lambda row: row.tokens or 0)
    if not known:
        return []
    limits = sorted(
        {known[len(known) * part // parts - 1].tokens or 0 for part in range(1, parts + 1)}
        | {known[-1].tokens or 0}
    )
    starts = [known[0].tokens or 0, *(limit + 1 for limit in limits)]

    def name(row: Row) -> str:
        place = next(number for number, limit in enumerate(limits) if (row.tokens or 0) <= limit)
        return f"{starts[place]} to {limits[place]}"

    order = {name(row): None for row in known}
    slices = {part.name: part for part in _slices(known, name)}
    return [slices[each] for each in order]


def confusions(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str, int]]:
    """(label, prediction, count) of the pairs that differ, the commonest first."""
    counts = Counter((label, prediction) for label, prediction in pairs if label != prediction)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(label, prediction, count) for (label, prediction), count in ordered]


def words_of(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """(tag, predicted tag) of every word, of the rows of tagged sentences."""
    return [
        pair
        for row in rows
        for pair in zip(row.label.split(), row.prediction.split(), strict=False)
    ]


def suspects(rows: Iterable[Row], most: int = 50) -> list[Row]:
    """Examples whose label may be wrong: the model is at least 90% sure of another one.

    It may as well be a hard example or a blind spot of the model: only reading tells.
    """
    found = [row for row in rows if not row.right and (row.probability or 0) >= SURE]
    return sorted(found, key=lambda row: -(row.probability or 0))[:most]


def easiest(rows: Sequence[Row], most: int = 10) -> list[Row]:
    """The examples of the lowest loss.

    They are worth reading too: a wrong label that the model has learned to repeat costs nothing.
    """
    return sorted(rows, key=lambda row: row.loss)[:most]


def calibration(rows: Iterable[Row]) -> tuple[Bin, ...]:
    """The reliability table of single-label predictions; empty where there are no probabilities."""
    known = [row for row in rows if row.probability is not None and math.isfinite(row.probability)]
    if not known:
        return ()
    return reliability([row.probability or 0.0 for row in known], [row.right for row in known])


def _slices(rows: Iterable[Row], key: Callable[[Row], str]) -> list[Slice]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return [_slice(name, groups[name]) for name in sorted(groups)]


def _slice(name: str, rows: Sequence[Row]) -> Slice:
    right = sum(row.right for row in rows)
    sure = [row.probability for row in rows if row.probability is not None]
    return Slice(
        name,
        len(rows),
        right,
        *wilson_interval(right, len(rows)),
        loss=math.fsum(row.loss for row in rows) / len(rows),
        confidence=math.fsum(sure) / len(sure) if sure else None,
    )
