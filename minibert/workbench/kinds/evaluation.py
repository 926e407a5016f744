"""Evaluation of a model on one split: its outputs, and the report made from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from minibert.io.files import finite, write_json
from minibert.io.rows import Rows
from minibert.io.tables import shorten, table, write_csv
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.scores.metrics import bootstrap_interval, wilson_interval

_BOOTSTRAP_SEED = 0  # the same predictions give the same intervals
_MOST_CLASSES = 30  # in the summary
_CLASS_SCORES = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Report:
    """The scores of a model on one split, and what it made of each example.

    Attributes:
        split: its name, such as "test".
        problem_type: a key of KINDS.
        label_names: the classes, in order.
        metrics: name -> {"value", "low", "high"} (95% interval), {"value"} alone where there is no
            interval, or a plain number; "classes" holds the scores of each class, "parts" of each part of the data.
        confusion: (C, C) counts, rows are labels and columns predictions; None for other problems.
        rows: one mapping for each example (a sentence, for tags), the highest loss first.
        tables: further tables by file name, each a list of mappings.
    """

    split: str
    problem_type: str
    label_names: tuple[str, ...]
    metrics: dict[str, Any]
    confusion: np.ndarray | None
    rows: list[dict[str, Any]] = field(repr=False)
    tables: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict, repr=False)

    def values(self) -> dict[str, float]:
        """Metric -> value, without intervals."""
        return {
            name: metric["value"]
            for name, metric in self.metrics.items()
            if isinstance(metric, Mapping) and "value" in metric
        }

    def summary(self) -> str:
        """The scores, overall and by class, as text."""
        width = max([14, *map(len, self.values())])
        lines = [f"{self.split}: {self.metrics['examples']} examples"]
        lines += [
            f"  {name:<{width}} {shown}"
            for name, metric in self.metrics.items()
            if name != "examples" and (shown := _shown(metric))
        ]
        classes = self.metrics.get("classes", {})
        if 0 < len(classes) <= _MOST_CLASSES:
            rows = [
                (name, *(f"{scores[key]:.3f}" for key in _CLASS_SCORES), int(scores["support"]))
                for name, scores in classes.items()
            ]
            lines += ["", table(rows, ("class", *_CLASS_SCORES, "support"))]
        if parts := self.metrics.get("parts"):
            names = list(next(iter(parts.values())))
            rows = [
                (part, found["examples"], *(f"{found[key]:.4f}" for key in names[1:])) for part, found in parts.items()
            ]
            lines += ["", table(rows, ("part", *names))]
        return "\n".join(lines)

    def worst(self, count: int = 5) -> str:
        """The examples with the highest loss, as text."""
        rows = [
            (f"{row['loss']:.3f}", _cell(row["label"]), _cell(row["prediction"]), shorten(row["text"]))
            for row in self.rows[:count]
        ]
        return table(rows, ("loss", "label", "prediction", "text"))

    def write(self, folder: Path) -> None:
        """Writes metrics.json and the tables."""
        write_json(folder / "metrics.json", {self.split: finite(self.metrics)})
        self.write_tables(folder)

    def write_tables(self, folder: Path) -> None:
        """Writes confusion.csv (if there is a matrix), errors.csv and the kind's own tables."""
        if self.confusion is not None:
            counts = zip(self.label_names, self.confusion.tolist(), strict=True)
            header = ["label \\ prediction", *self.label_names]
            write_csv(folder / "confusion.csv", header, [[name, *row] for name, row in counts])
        for name, rows in {"errors.csv": self.rows, **self.tables}.items():
            if rows:
                write_csv(folder / name, list(rows[0]), [list(row.values()) for row in rows])


@dataclass(frozen=True)
class Measured:
    """The outputs of a model on one split, from which a kind of task makes its report.

    Attributes:
        split: what to call the data.
        names: the classes, in order; empty where there are none.
        loss: the mean over the labels, as the model computes it.
        logits: one for each row of `rows`, in their order.
        lengths: tokens of each example.
        rows: the examples as rows of ids; None for a probe, which reads features.
        intervals: whether to compute intervals that need a thousand resamples.
    """

    split: str
    corpus: Corpus
    names: tuple[str, ...]
    loss: float
    logits: Sequence[Tensor]
    lengths: Sequence[int]
    rows: Rows | None = None
    intervals: bool = True

    def resampled(
        self, metric: Callable[[Any, Any], float], truth: np.ndarray, predicted: np.ndarray
    ) -> dict[str, float]:
        """A score, with its bootstrap interval if intervals are wanted."""
        value = metric(truth, predicted)
        if not self.intervals:
            return {"value": value}
        interval = bootstrap_interval(metric, truth, predicted, seed=_BOOTSTRAP_SEED)
        return _with_interval(value, interval)

    def row(
        self, number: int, loss: float, label: Any, prediction: Any, probability: float | None, **more: Any
    ) -> dict[str, Any]:
        """The line of errors.csv for example `number`; `more` are columns of one kind of task."""
        example = self.corpus[number]
        first, *second = example.texts
        row = {
            "loss": loss,
            "label": label,
            "prediction": prediction,
            "probability": probability,
            "tokens": self.lengths[number],
            "guid": example.guid,
            "text": first,
        }
        row |= {"text_pair": " | ".join(second)} if second else {}
        row |= {"part": self.corpus.parts.get(example.guid, "")} if self.corpus.parts else {}
        return row | more

    def rows_of(self, *columns: Sequence[Any]) -> list[dict[str, Any]]:
        """The lines of errors.csv, of columns: loss, label, prediction, probability."""
        return [self.row(number, *cells) for number, cells in enumerate(zip(*columns, strict=True))]

    def report(
        self,
        problem_type: str,
        metrics: dict[str, Any],
        rows: list[dict[str, Any]],
        confusion: np.ndarray | None = None,
        tables: Mapping[str, list[dict[str, Any]]] | None = None,
    ) -> Report:
        """The report, with its rows and those of further tables sorted by loss."""
        tables = tables or {}
        for each in (rows, *tables.values()):
            each.sort(key=lambda row: -row["loss"])
        return Report(self.split, problem_type, self.names, metrics, confusion, rows, tables)


def share(right: int, total: int) -> dict[str, float]:
    """How many of a total are right, with its interval."""
    return _with_interval(right / total, wilson_interval(right, total))


def _with_interval(value: float, interval: tuple[float, float]) -> dict[str, float]:
    return {"value": value, "low": interval[0], "high": interval[1]}


def _shown(metric: Any) -> str:
    """A score as text; empty for what has a table of its own."""
    if not isinstance(metric, Mapping):
        return f"{metric:.6g}"
    if "value" in metric:
        interval = f"  (95% interval {metric['low']:.4f} to {metric['high']:.4f})" if "low" in metric else ""
        return f"{metric['value']:.4f}{interval}"
    if "examples" in metric:  # scores of a part of the examples
        return "  ".join(f"{key} {value:.4g}" for key, value in metric.items())
    return ""


def _cell(value: Any) -> str:
    """A label or prediction, short enough that the text beside it stays in sight."""
    return f"{value:.4f}" if isinstance(value, float) else shorten(str(value), width=24)
