"""The pictures in a run folder: its charts as PNG files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from minibert.io.errors import ConfigError
from minibert.io.files import atomic_path
from minibert.workbench.kinds import KINDS
from minibert.workbench.reports import charts, error_analysis
from minibert.workbench.runs.folders import SavedRun, read_run

Draw = Callable[[], charts.Figure]

_MOST_CLASSES = 30  # of a chart with a row for each


def pictures(folder: str | Path) -> list[Path]:
    """Draws the charts of a finished training run into its folder.

    Without matplotlib, or where a chart cannot be drawn, this is a warning: a run does not depend
    on its pictures.

    Returns:
        The files.
    """
    run = read_run(folder)
    wanted: dict[str, Draw] = {"curves.png": lambda: charts.curves(run, "loss", "scores")}
    kind, rows = KINDS[run.record["problem_type"]], error_analysis.rows_of(run)
    labels = error_analysis.outside_last(run.record["labels"] or ())
    few = len(labels) <= _MOST_CLASSES
    if few and (kind.one_class or kind.of_words):
        pairs = error_analysis.tags_of(rows) if kind.of_words else [(row.label, row.prediction) for row in rows]
        counts = error_analysis.confusion_counts(pairs, labels)  # (C, C)
        wanted["confusion.png"] = lambda: charts.confusion(counts, labels, run.split)
    if kind.calibrated:
        wanted["reliability.png"] = lambda: charts.reliability(error_analysis.calibration(rows), run.split)
    if kind.numeric:
        wanted["scatter.png"] = lambda: charts.scatter(error_analysis.numbers(rows))
    if few and labels:
        wanted["classes.png"] = lambda: charts.frequencies(run.record["data"]["train"]["labels"])
    if (boxes := known_lengths(run)) and len(boxes) <= _MOST_CLASSES:
        wanted["lengths.png"] = lambda: charts.lengths(boxes)
    return _draw(run.folder, wanted)


def picture_of_features(run: SavedRun, vectors: np.ndarray, classes: Sequence[str]) -> list[Path]:
    """Draws features.png: where the texts of each class lie among all.

    Args:
        vectors: (texts, D), the [CLS] hidden state of each text after the last layer.
        classes: of each text.
    """
    title = f"{run.split}: [CLS] of the last layer"
    labels = run.record["labels"]
    return _draw(run.folder, {"features.png": lambda: charts.features(vectors, classes, labels, title)})


def picture_of_pretraining(folder: str | Path) -> list[Path]:
    """Draws curves.png for a finished pre-training run; returns the file."""
    run = read_run(folder, "pretrain")
    return _draw(run.folder, {"curves.png": lambda: charts.pretraining(run, *charts.objectives(run))})


def known_lengths(run: SavedRun) -> dict[str, Mapping[str, float]]:
    """Quantiles of the lengths of the training texts of each class, or where texts have no class of each split."""
    found = {name: part["lengths"] for name, part in run.record["data"].items() if "lengths" in part}
    by_class = found.get("train", {}).get("by_class", {})
    return {name: each for name, each in by_class.items() if each} or {
        name: each["all"] for name, each in found.items()
    }


def _draw(folder: Path, wanted: Mapping[str, Draw]) -> list[Path]:
    try:
        charts.require_matplotlib()
    except ConfigError as missing:
        warnings.warn(f"No pictures of the run: {missing}", stacklevel=3)
        return []
    files = []
    for name, draw in wanted.items():
        path = folder / name
        try:
            content = charts.png(draw())
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
            files.append(path)
        except Exception as error:  # fonts, labels, backends, the disk
            problem = f"{type(error).__name__}: {error}".splitlines()[0]
            warnings.warn(f"{path} could not be drawn: {problem}.", stacklevel=3)
    return files
