"""Reports: what a model made of one split, whatever kind of task it was."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from minibert.data import Rows
from minibert.io.files import write_json, write_text
from minibert.io.tables import table
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.scores import metrics
from minibert.workbench.tasks.common import shorten

BOOTSTRAP_SEED = 0  # intervals of F1 and correlation are drawn; the same numbers give the same ones


@dataclass(frozen=True)
class Report:
    """What a model made of one split.

    Attributes:
        split: its name, such as "test".
        problem_type: a key of KINDS.
        label_names: the classes, in order.
        metrics: name -> {"value", "low", "high"} (95% interval), {"value"} alone where no interval
            is to be had, or a plain number; "classes" holds the scores of each class.
        confusion: (C, C) counts, rows are labels and columns predictions; None for other problems.
        rows: one mapping an example (for tags, a sentence), the highest loss first.
        tables: further tables by the name of their file, each a list of mappings.
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
        """The scores and the confusion matrix as text for people."""
        lines = [f"{self.split}: {self.metrics['examples']} examples"]
        width = max([14, *map(len, self.values())])
        for name, metric in self.metrics.items():
            if isinstance(metric, Mapping) and "value" in metric:
                interval = ""
                if "low" in metric:
                    interval = f"  (95% interval {metric['low']:.4f} to {metric['high']:.4f})"
                lines.append(f"  {name:<{width}} {metric['value']:.4f}{interval}")
            elif isinstance(metric, Mapping) and "examples" in metric:  # a part of the examples
                parts = "  ".join(f"{key} {value:.4g}" for key, value in metric.items())
                lines.append(f"  {name:<{width}} {parts}")
            elif isinstance(metric, (int, float)) and name != "examples":
                lines.append(f"  {name:<{width}} {metric:.6g}")
        classes = self.metrics.get("classes", {})
        if 0 < len(classes) <= 30:
            rows = [
                (name, *(f"{scores[key]:.3f}" for key in ("precision", "recall", "f1")))
                + (int(scores["support"]),)
                for name, scores in classes.items()
            ]
            lines += ["", table(rows, ("class", "precision", "recall", "f1", "support"))]
        return "\n".join(lines)

    def worst(self, count: int = 5) -> str:
        """The examples of the highest loss, as text for people."""
        rows = [
            (
                f"{row['loss']:.3f}",
                _cell(row["label"]),
                _cell(row["prediction"]),
                shorten(row["text"]),
            )
            for row in self.rows[:count]
        ]
        return table(rows, ("loss", "label", "prediction", "text"))

    def write(self, folder: Path) -> None:
        """Writes metrics.json, confusion.csv and errors.csv."""
        write_json(folder / "metrics.json", {self.split: finite(self.metrics)})
        self.write_tables(folder)

    def write_tables(self, folder: Path) -> None:
        """Writes confusion.csv (if there is a matrix), errors.csv, and what the kind adds."""
        if self.confusion is not None:
            counts = zip(self.label_names, self.confusion.tolist(), strict=True)
            header = ["label \\ prediction", *self.label_names]
            write_csv(folder / "confusion.csv", header, [[name, *row] for name, row in counts])
        for name, rows in {"errors.csv": self.rows, **self.tables}.items():
            if rows:
                write_csv(folder / name, list(rows[0]), [list(row.values()) for row in rows])


@dataclass(frozen=True)
class Measured:
    """A split and what a model has said of it, from which a report is made.

    Attributes:
        split: what to call the data.
        names: the classes, in order; () where there are none.
        loss: the mean over the labels, in the model's own terms.
        logits: of each row of `rows`, in their order.
        lengths: tokens of each example.
        rows: the examples as rows of ids; None for a probe, which sees features.
        intervals: whether to draw the intervals that need a thousand resamples.
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
        """A score with its interval, if intervals are drawn."""
        value = metric(truth, predicted)
        if not self.intervals:
            return {"value": value}
        interval = metrics.bootstrap_interval(metric, truth, predicted, seed=BOOTSTRAP_SEED)
        return with_interval(value, interval)

    def row(
        self,
        number: int,
        loss: float,
        label: Any,
        prediction: Any,
        probability: float | None,
        **more: Any,
    ) -> dict[str, Any]:
        """The line of errors.csv for example `number`; `more` are columns of the kind's own."""
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
        return row | ({"text_pair": " | ".join(second)} if second else {}) | more

    def report(
        self,
        problem_type: str,
        result: dict[str, Any],
        rows: list[dict[str, Any]],
        confusion: np.ndarray | None = None,
        tables: Mapping[str, list[dict[str, Any]]] | None = None,
    ) -> Report:
        """The report, its rows and those of further tables sorted by loss."""
        tables = tables or {}
        for each in (rows, *tables.values()):
            each.sort(key=lambda row: -row["loss"])
        return Report(self.split, problem_type, self.names, result, confusion, rows, tables)


def finite(value: Any) -> Any:
    """A value for JSON, which has no NaN and no infinity: None (null) where one of them is."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(path: Path, header: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    """Writes a comma-separated table with LF line ends, atomically."""
    lines: list[str] = []
    # The writer quotes a text for the line ends in it that it writes itself: were that LF alone, a
    # lone CR would stay bare, and a reader would tear the row there.
    for row in (header, *rows):
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(row)
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    write_text(path, "".join(lines))


def _cell(value: Any) -> str:
    """A label or a prediction, short enough that the text beside it stays in sight."""
    return f"{value:.4f}" if isinstance(value, float) else shorten(str(value), width=24)


def with_interval(value: float, interval: tuple[float, float]) -> dict[str, float]:
    return {"value": value, "low": interval[0], "high": interval[1]}
