"""Pictures of a run, for those who would rather look; with the `plots` extra (matplotlib)."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from minibert.files import atomic_path
from minibert.tasks.evaluate import Report
from minibert.training.loop import History

_INK, _GOLD = "#2a4d8f", "#c2701c"


def pictures(history: History, report: Report, folder: Path) -> list[Path]:
    """Draws curves.png and confusion.png; draws nothing where matplotlib is not installed.

    A picture that cannot be drawn is a warning: the numbers of a run do not hang on it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    drawn = []
    try:
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        drawn.append(_save(_curves(figure, history), folder / "curves.png"))
        if report.confusion is not None and len(report.label_names) <= 30:
            size = 2.6 + 0.55 * len(report.label_names)
            figure = Figure(figsize=(size + 1, size), layout="constrained")
            drawn.append(_save(_confusion(figure, report), folder / "confusion.png"))
    except Exception as error:  # whatever matplotlib makes of fonts, labels and backends
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(f"A picture of {folder} could not be drawn: {problem}.", stacklevel=2)
    return drawn


def _curves(figure: Any, history: History) -> Any:
    """Left the loss, of every step and on validation; right the validation scores."""
    left, right = figure.subplots(1, 2)
    steps = [record.step for record in history.steps]
    losses = np.array([record.loss for record in history.steps])
    left.plot(steps, losses, color=_INK, alpha=0.25, linewidth=0.8, label="training, each step")
    window = max(1, len(losses) // 30)
    if window > 1:
        trend = np.convolve(losses, np.ones(window) / window, mode="valid")
        left.plot(steps[window - 1 :], trend, color=_INK, label=f"training, mean of {window}")
    ends = _last_step_of_each_epoch(history)
    validation = [record.metrics["loss"] for record in history.epochs]
    left.plot(ends, validation, "o-", color=_GOLD, label="validation")
    left.set(xlabel="step", ylabel="loss", ylim=(0, None))
    left.legend(frameon=False)
    epochs = [record.epoch for record in history.epochs]
    scores = [name for name in history.epochs[0].metrics if name not in ("loss", "mse")]
    for name in scores:
        values = [record.metrics[name] for record in history.epochs]
        right.plot(epochs, values, "o-", label=name)
    right.set(xlabel="epoch", ylabel="validation score", xticks=epochs)
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _last_step_of_each_epoch(history: History) -> list[int]:
    last = {record.epoch: record.step for record in history.steps}
    return [last[record.epoch] for record in history.epochs]


def _confusion(figure: Any, report: Report) -> Any:
    """Rows are labels, columns predictions; shares of each row by colour, with the counts."""
    assert report.confusion is not None
    counts = report.confusion
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(report.label_names))
    names = [name.replace("$", r"\$") for name in report.label_names]  # "$" begins a formula
    axes.set_xticks(places, names, rotation=45, ha="right")
    axes.set_yticks(places, names)
    axes.set(xlabel="prediction", ylabel="label", title=f"{report.split}: share of each label")
    for row in places:
        for column in places:
            axes.text(
                column,
                row,
                f"{shares[row, column]:.2f}\n{counts[row, column]}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if shares[row, column] > 0.5 else "black",
            )
    return figure


def _save(figure: Any, path: Path) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return path
