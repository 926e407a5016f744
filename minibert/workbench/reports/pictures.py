"""Pictures of a run, for those who would rather look; with the `plots` extra (matplotlib)."""

from __future__ import annotations

import io
import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minibert.examples import Example
from minibert.io.files import atomic_path
from minibert.workbench.reports import error_analysis
from minibert.workbench.reports.error_analysis import Row
from minibert.workbench.runs.folders import SavedRun, read_run
from minibert.workbench.tasks.features import extract_features

_INK, _GOLD = "#2a4d8f", "#c2701c"
_MOST_CLASSES = 30
_MOST_FEATURES = 2_000  # texts whose features are drawn
_FEW = 400  # examples of a class that are still told apart as dots

Draw = Callable[[Any, SavedRun, Sequence[Row]], Any]


def pictures(folder: str | Path) -> list[Path]:
    """Draws what a finished run has written: curves, confusion, reliability, classes, lengths.

    Draws nothing where matplotlib is not installed. A picture that cannot be drawn is a warning:
    the numbers of a run do not hang on it.

    Returns:
        The files.
    """
    wanted: dict[str, tuple[Draw, tuple[float, float]]] = {"curves.png": (_curves, (9, 3.6))}
    run = _read(folder)
    if run is None:
        return []
    count = len(run.record.get("labels") or ())
    if run.record["problem_type"] == "single_label_classification" and count <= _MOST_CLASSES:
        size = 2.6 + 0.55 * count
        wanted |= {
            "confusion.png": (_confusion, (size + 1, size)),
            "reliability.png": (_reliability, (4.6, 4.2)),
            "classes.png": (_frequencies, (7, 0.9 + 0.32 * count)),
        }
        if _boxes(run, error_analysis.rows_of(run.rows, run.folder)):
            wanted["lengths.png"] = (_lengths, (7, 1.3 + 0.36 * count))
    return _drawn(run, wanted)


def picture_of_features(folder: str | Path, *, progress: bool = True) -> list[Path]:
    """Draws features.png: where the texts of each class lie among all, seen from two directions.

    The hidden states of [CLS] after the last layer, of up to 2,000 examples of the run's last
    split, scaled to 0..1 and projected on their two principal components, or laid out by UMAP if
    that is installed. The model runs for it.
    """
    run = _read(folder)
    if run is None or run.record["problem_type"] != "single_label_classification":
        return []

    def draw(figure: Any, run: SavedRun, rows: Sequence[Row]) -> Any:
        return _features(figure, run, rows, progress)

    return _drawn(run, {"features.png": (draw, (9, 5.4))})


def picture_of_pretraining(folder: str | Path) -> list[Path]:
    """Draws the curves.png of a finished run of pre-training.

    Returns:
        The file; none without matplotlib.
    """
    run = _read(folder, "pretrain")
    return [] if run is None else _drawn(run, {"curves.png": (_pretraining, (9, 3.6))})


def _read(folder: str | Path, command: str = "train") -> SavedRun | None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return None
    return read_run(folder, command)


def _drawn(run: SavedRun, wanted: dict[str, tuple[Draw, tuple[float, float]]]) -> list[Path]:
    from matplotlib.figure import Figure

    rows = error_analysis.rows_of(run.rows, run.folder)
    files = []
    for name, (draw, size) in wanted.items():
        try:
            figure = draw(Figure(figsize=size, layout="constrained"), run, rows)
            files.append(_save(figure, run.folder / name))
        except Exception as error:  # whatever matplotlib makes of fonts, labels and backends
            problem = f"{type(error).__name__}: {error}".splitlines()[0]
            warnings.warn(f"{run.folder / name} could not be drawn: {problem}.", stacklevel=3)
    return files


def _curves(figure: Any, run: SavedRun, _: Sequence[Row]) -> Any:
    """Left the loss, of every step and on validation; right the validation scores."""
    left, right = figure.subplots(1, 2)
    _losses(left, run, "loss", "loss")
    epochs = run.record["epochs"]
    numbers = [epoch["epoch"] for epoch in epochs]
    names = (name for name in epochs[0]["metrics"] if name not in ("loss", "mse"))
    for name, style in zip(names, itertools.cycle(("o-", "s--", "^:", "d-."))):  # some coincide
        right.plot(numbers, [epoch["metrics"][name] for epoch in epochs], style, label=name)
    right.set(xlabel="epoch", ylabel="validation score", xticks=numbers)
    right.legend(frameon=False)
    right.spines[["top", "right"]].set_visible(False)
    return figure


def _losses(axes: Any, run: SavedRun, of_step: str, of_epoch: str) -> None:
    """A loss of every step, its trend, and the same on validation after each epoch."""
    steps = [int(step["step"]) for step in run.steps]
    losses = np.array([float(step[of_step]) for step in run.steps])
    axes.plot(steps, losses, color=_INK, alpha=0.25, linewidth=0.8, label="training, each step")
    window = max(1, len(losses) // 30)
    if window > 1:
        trend = np.convolve(losses, np.ones(window) / window, mode="valid")
        axes.plot(steps[window - 1 :], trend, color=_INK, label=f"training, mean of {window}")
    last = {int(step["epoch"]): int(step["step"]) for step in run.steps}
    epochs = run.record["epochs"]
    ends = [last.get(epoch["epoch"], epoch["epoch"]) for epoch in epochs]
    values = [epoch["metrics"][of_epoch] for epoch in epochs]
    axes.plot(ends, values, "o-", color=_GOLD, label="validation")
    axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _pretraining(figure: Any, run: SavedRun, _: Sequence[Row]) -> Any:
    """A panel for each loss, with a line at what a guess has that looks at no context."""
    guess = run.metrics["baselines"]["unigram"]["masked_lm_loss"]
    panels = {"masked_lm": ("masked LM", guess, "how often each piece occurs")}
    if "next_sentence_loss" in run.metrics["validation"]:
        panels["next_sentence"] = ("next sentence", math.log(2), "a coin")
    both = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, (title, floor, words)) in zip(both, panels.items(), strict=True):
        axes.axhline(floor, linestyle="--", color="grey", linewidth=1, label=words)
        _losses(axes, run, name if len(panels) > 1 else "loss", f"{name}_loss")
        axes.set(title=title)
    return figure


def _confusion(figure: Any, run: SavedRun, rows: Sequence[Row]) -> Any:
    """Rows are labels, columns predictions; shares of each row by colour, with the counts."""
    labels = run.record["labels"]
    place = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), dtype=int)  # (C, C)
    for row in rows:
        counts[place[row.label], place[row.prediction]] += 1
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)  # (C, C)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = _names(labels)
    axes.set_xticks(range(len(labels)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), names)
    axes.set(xlabel="prediction", ylabel="label", title=f"{run.split}: share of each label")
    for (up, across), share in np.ndenumerate(shares):
        axes.text(
            across,
            up,
            f"{share:.2f}\n{counts[up, across]}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if share > 0.5 else "black",
        )
    return figure


def _reliability(figure: Any, run: SavedRun, rows: Sequence[Row]) -> Any:
    """Accuracy of the predictions in each bin of confidence, beside the diagonal."""
    table = [each for each in error_analysis.calibration(rows) if each.count]
    axes = figure.subplots()
    axes.bar(
        [each.low for each in table],
        [each.accuracy for each in table],
        width=[each.high - each.low for each in table],
        align="edge",
        color=_INK,
        alpha=0.55,
        edgecolor="white",
        label="accuracy",
    )
    axes.plot(
        [each.confidence for each in table],
        [each.accuracy for each in table],
        "o",
        color=_GOLD,
        label="at the mean confidence",
    )
    axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="calibrated")
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=run.split)
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _frequencies(figure: Any, run: SavedRun, _: Sequence[Row]) -> Any:
    """How often each class occurs in the training data, the commonest at the top."""
    labels = run.record["data"]["train"]["labels"]
    counts = sorted(reversed(labels.items()), key=lambda item: item[1])  # equal ones in their order
    axes = figure.subplots()
    bars = axes.barh(_names([name for name, _ in counts]), [n for _, n in counts], color=_INK)
    axes.bar_label(bars, [f"{count:,}" for _, count in counts], padding=3, fontsize=9)
    axes.set(xlabel="training examples")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _lengths(figure: Any, run: SavedRun, rows: Sequence[Row]) -> Any:
    """A box plot of the lengths of each class: quartiles, median, and whiskers to 95% of texts.

    Of the training data; of the measured examples where a run has no record of it.
    """
    drawn = [
        {
            "label": _names([box["label"]])[0],
            "med": box["median"],
            "q1": box["q1"],
            "q3": box["q3"],
            "whislo": box["min"],
            "whishi": box["p95"],
        }
        for box in reversed(_boxes(run, rows))
    ]
    axes = figure.subplots()
    axes.bxp(drawn, orientation="horizontal", showfliers=False, medianprops={"color": _GOLD})
    axes.set(xlabel="WordPieces of a text, whiskers from the shortest to 95% of them")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _boxes(run: SavedRun, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The quantiles of each class; none where neither record nor rows know of lengths."""
    recorded = (run.record["data"]["train"].get("lengths") or {}).get("by_class")
    if recorded:
        return [{"label": name, **values} for name, values in recorded.items() if values]
    return [box for box in (_box(name, rows) for name in run.record["labels"]) if box]


def _box(label: str, rows: Sequence[Row]) -> dict[str, Any]:
    known = [row.tokens for row in rows if row.label == label and row.tokens is not None]
    if not known:
        return {}
    names = ("min", "q1", "median", "q3", "p95")
    values = np.quantile(known, (0, 0.25, 0.5, 0.75, 0.95)).tolist()
    return {"label": label, **dict(zip(names, values, strict=True))}


def _features(figure: Any, run: SavedRun, rows: Sequence[Row], progress: bool) -> Any:
    """A panel for each class: where its texts lie among all."""
    every = max(1, -(-len(rows) // _MOST_FEATURES))
    chosen = rows[::every]
    texts = [Example(row.text, row.text_pair) for row in chosen]
    vectors = extract_features(run.folder, texts, cache=False, progress=progress)  # (texts, D)
    places, how = _flattened(vectors)
    labels = run.record["labels"]
    columns = min(3, len(labels))
    panels = figure.subplots(-(-len(labels) // columns), columns, squeeze=False)
    own = np.array([row.label for row in chosen])
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
        panel.set_visible(False)
    for panel, label, name in zip(panels.flat, labels, _names(labels), strict=False):
        panel.set_visible(True)
        panel.scatter(*places.T, s=3, color="lightgrey", linewidths=0)
        mine = places[own == label]
        if len(mine) <= _FEW:
            panel.scatter(*mine.T, s=9, color="tab:blue", alpha=0.6, linewidths=0)
        else:
            extent = [*np.column_stack([places.min(axis=0), places.max(axis=0)]).ravel()]
            panel.hexbin(*mine.T, gridsize=22, cmap="Blues", mincnt=1, extent=extent)
        panel.set_title(f"{name} ({len(mine)})", fontsize=10)
    figure.suptitle(f"{run.split}: [CLS] of the last layer, {how}", fontsize=11)
    return figure


def _flattened(vectors: np.ndarray) -> tuple[np.ndarray, str]:
    """(n, D) -> (n, 2), each column of the vectors scaled to 0..1 before."""
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    scaled = (vectors - low) / np.where(high > low, high - low, 1)  # (n, D)
    try:
        import umap
    except ImportError:
        centred = scaled - scaled.mean(axis=0)  # (n, D)
        _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
        share = (lengths[:2] ** 2).sum() / max((lengths**2).sum(), 1e-12)
        return centred @ directions[:2].T, f"two principal components, {share:.0%} of the variance"
    return umap.UMAP(metric="cosine", random_state=0).fit_transform(scaled), "UMAP"


def _names(labels: Sequence[str]) -> list[str]:
    return [label.replace("$", r"\$") for label in labels]  # "$" begins a formula


def _save(figure: Any, path: Path) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return path
