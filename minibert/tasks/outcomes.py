"""What each row of errors.csv adds to a score, so that two runs can be held against each other.

n is the number of rows, C of classes. A score here is a function of sums over examples, which is
what `training.significance.paired_bootstrap` draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minibert.training.metrics import Floats, entities

Row = dict[str, str]


@dataclass(frozen=True)
class Score:
    """A score as a function of sums: (..., K) -> (...), and what each row adds to them, (n, K)."""

    of_sums: Callable[[NDArray[Any]], NDArray[Any]]
    added: NDArray[Any]


def scores_of(problem_type: str, labels: Sequence[str], rows: Sequence[Row]) -> dict[str, Score]:
    """The scores of a kind of problem that its rows give, the main one first.

    Args:
        problem_type: a key of `evaluate.METRICS`.
        labels: the names of the classes; none for regression.
        rows: of errors.csv.

    Returns:
        Metric -> Score; empty where the rows cannot be read back: a name of several labels has
        the comma in it that stands between names, or a tag a blank.

    Raises:
        ValueError: a label or prediction is no number, or none of `labels`.
    """
    truth = [row["label"] for row in rows]
    guesses = [row["prediction"] for row in rows]
    if problem_type == "regression":
        return _numbers(np.array(truth, np.float64), np.array(guesses, np.float64))
    if problem_type == "token_classification":
        return {} if any(" " in name for name in labels) else _tags(truth, guesses)
    if problem_type == "multi_label_classification":
        if any(", " in name for name in labels):
            return {}
        split = [[cell.split(", ") if cell else [] for cell in cells] for cells in (truth, guesses)]
        there, predicted = (_memberships(names, labels) for names in split)
        return {
            "micro_f1": Score(
                _f1, np.stack([(there & predicted).sum(1), predicted.sum(1), there.sum(1)], axis=1)
            )
        }
    there, predicted = (
        _memberships([[cell] for cell in cells], labels) for cells in (truth, guesses)
    )
    right = (there & predicted).sum(axis=1, keepdims=True)  # (n, 1)
    return {
        "accuracy": Score(lambda sums: sums[..., 0] / len(rows), right),
        "macro_f1": Score(_macro_f1, np.hstack([there & predicted, predicted, there])),
    }


def _memberships(names: Sequence[Sequence[str]], labels: Sequence[str]) -> NDArray[np.bool_]:
    """(n, C): which of the classes each row names."""
    places = {label: place for place, label in enumerate(labels)}
    found = np.zeros((len(names), len(labels)), bool)
    for row, of_row in enumerate(names):
        for name in of_row:
            if name not in places:
                raise ValueError(f"{name!r} is none of the labels")
            found[row, places[name]] = True
    return found


def _numbers(truth: Floats, predicted: Floats) -> dict[str, Score]:
    # Pearson's correlation does not change with the origin, its rounding does.
    x, y = truth - truth.mean(), predicted - truth.mean()
    added = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    return {
        "pearson": Score(_pearson, added),
        "mse": Score(lambda sums: sums[..., 0] / len(x), ((x - y) ** 2)[:, None]),
    }


def _tags(truth: Sequence[str], guesses: Sequence[str]) -> dict[str, Score]:
    counts = []
    for labels, tags in zip(truth, guesses, strict=True):
        there, predicted = entities(labels.split()), entities(tags.split())
        counts.append((len(there & predicted), len(predicted), len(there)))
    return {"entity_f1": Score(_f1, np.array(counts))}


def _f1(sums: NDArray[Any]) -> NDArray[Any]:
    """F1 of sums of what is right, predicted and there, (..., 3); 0 where nothing is."""
    return 2 * sums[..., 0] / np.maximum(1, sums[..., 1] + sums[..., 2])


def _macro_f1(sums: NDArray[Any]) -> NDArray[Any]:
    """Mean F1 over the classes that occur, of the same three sums for each class, (..., 3C)."""
    right, predicted, there = np.split(sums, 3, axis=-1)  # (..., C) each
    occurs = predicted + there > 0
    scores = 2 * right / np.maximum(1, predicted + there)
    return scores.sum(axis=-1) / np.maximum(1, occurs.sum(axis=-1))


def _pearson(sums: NDArray[Any]) -> NDArray[Any]:
    """The correlation of x and y, of the sums of 1, x, y, xx, yy and xy; 0 with a constant."""
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = (xx - x * x / count) * (yy - y * y / count)
    return np.where(spread > 0, (xy - x * y / count) / np.sqrt(np.where(spread > 0, spread, 1)), 0)
