"""Charts of a run: each is a function of its data that returns a matplotlib figure.

The same figures are written as PNG beside a run (`reports.pictures`) and as SVG into its page
(`reports.page`). They need the `plots` extra, so matplotlib is imported where it is used.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from html import escape
from typing import Any, ParamSpec, TypeVar

import numpy as np

from minibert.io.errors import ConfigError
from minibert.workbench.runs.folders import SavedRun
from minibert.workbench.scores.calibration import Bin
from minibert.workbench.scores.metrics import HIGHER_IS_BETTER

Figure = Any  # matplotlib.figure.Figure
Axes = Any  # matplotlib.axes.Axes
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# The page's colours in light mode by the name of their CSS variable.
COLOURS = {"first": "#2a4d8f", "second": "#c2701c", "third": "#3d8062", "quiet": "#65717f", "rule": "#dfe3e6"}
_FIRST, _SECOND, _THIRD, _QUIET, _RULE = COLOURS.values()
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": _QUIET,
    "text.parse_math": False,  # "$" in a label is a dollar
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _QUIET,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _RULE,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "minibert",  # the same chart has the same ids
}
_WIDTH, _HEIGHT = 4.8, 2.6  # of one panel, in inches
_MOST_POINTS = 1_000  # of a scatter plot
_FEW = 400  # points of a class that can be told apart


def require_matplotlib() -> None:
    """Raises ConfigError, with the command to install it, where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "Charts need matplotlib, which is not installed.",
            key="plots",
            hint="Install it: pip install 'minibert[plots]'",
        ) from error


def _styled(draw: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Runs a function that draws or saves a figure with the style that all charts share."""

    @wraps(draw)
    def styled(*args: Parameters.args, **options: Parameters.kwargs) -> Result:
        import matplotlib

        with matplotlib.rc_context(_STYLE):
            return draw(*args, **options)

    return styled


@_styled
def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


@_styled
def svg(figure: Figure, title: str) -> str:
    """A figure as an SVG element for a page whose style sheet has the variables of COLOURS.

    Args:
        title: what a screen reader says.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the browser draws what our font lacks
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    [box] = re.findall(r'viewBox="[\d. ]+"', text)
    body = text[text.index("</defs>") + len("</defs>") :]  # after the head and its style sheet
    body = re.sub(r'<g id="[^"]*">', "<g>", body)  # "axes_1" is in every chart
    body = re.sub(r"font-family: [^;\"]*;", "", body)  # the page's
    for name, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{name})")
    return f'<svg {box} role="img" aria-label="{escape(title)}">{body}'


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _panels(count: int) -> Sequence[Axes]:
    """Axes beside each other, in a figure of their own."""
    return _figure(_WIDTH * count, _HEIGHT).subplots(1, count, squeeze=False)[0]


def _legend(axes: Axes) -> None:
    """A legend above the axes, where it hides nothing: three entries in a row, or two rows of two."""
    columns = 2 if len(axes.get_legend_handles_labels()[0]) == 4 else 3
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)


# --- training ------------------------------------------------------------------------------------


@_styled
def curves(run: SavedRun, *panels: str) -> Figure:
    """How training went, with a panel for each name: "loss", "scores" or "rate"."""
    draw = {"loss": _loss, "scores": _scores, "rate": _rate}
    row = _panels(len(panels))
    for axes, panel in zip(row, panels, strict=True):
        draw[panel](axes, run)
    return row[0].figure


def objectives(run: SavedRun) -> list[str]:
    """What a run of pre-training learned: "masked_lm" and perhaps "next_sentence"."""
    return [name for name in ("masked_lm", "next_sentence") if f"{name}_loss" in run.metrics["validation"]]


@_styled
def pretraining(run: SavedRun, *panels: str) -> Figure:
    """A panel for each of these objectives, with a line at the loss of a guess that sees no context."""
    guess = run.metrics["baselines"]["unigram"]["masked_lm_loss"]
    floors = {"masked_lm": (guess, "unigram frequencies"), "next_sentence": (math.log(2), "coin flip")}
    row = _panels(len(panels))
    for axes, name in zip(row, panels, strict=True):
        floor, label = floors[name]
        axes.axhline(floor, linestyle="--", color=_QUIET, linewidth=1, label=label)
        _loss(axes, run, name if len(objectives(run)) > 1 else "loss", f"{name}_loss")
        axes.set(ylabel=f"{name.replace('_', ' ')} loss")
    return row[0].figure


def _loss(axes: Axes, run: SavedRun, of_step: str = "loss", of_epoch: str = "loss") -> None:
    """The training loss of each step, its trend, and the validation loss after each epoch."""
    steps, losses = _column(run, of_step)
    window = max(1, len(losses) // 30)
    if window == 1:
        axes.plot(steps, losses, color=_FIRST, label="training")
    else:
        axes.plot(steps, losses, color=_FIRST, alpha=0.3, linewidth=0.8, label="training")
        trend = np.convolve(losses, np.ones(window) / window, mode="valid")
        axes.plot(steps[window - 1 :], trend, color=_FIRST, label=f"mean of {window} steps")
    last = {int(step["epoch"]): int(step["step"]) for step in run.steps}
    epochs = run.record["epochs"]
    ends = [last.get(epoch["epoch"], epoch["epoch"]) for epoch in epochs]
    values = [_number(epoch["metrics"].get(of_epoch)) for epoch in epochs]
    axes.plot(ends, values, "o-", color=_SECOND, label="validation")
    _label(axes, "step", "loss")
    low, high = axes.dataLim.intervaly
    if low < high / 2:  # from zero, with a margin above
        axes.set_ylim(bottom=0)
    _legend(axes)


def _scores(axes: Axes, run: SavedRun) -> None:
    """The validation scores after each epoch, apart from those where less is better."""
    epochs = run.record["epochs"]
    numbers = [epoch["epoch"] for epoch in epochs]
    names = [name for name in epochs[0]["metrics"] if HIGHER_IS_BETTER.get(name)]
    styles = itertools.cycle(("o-", "s--", "^:", "d-."))  # curves may coincide
    colours = itertools.cycle((_FIRST, _SECOND, _THIRD, _QUIET))
    for name, style, colour in zip(names, styles, colours, strict=False):
        values = [_number(epoch["metrics"][name]) for epoch in epochs]
        axes.plot(numbers, values, style, color=colour, label=name.replace("_", " "))
    _label(axes, "epoch", "validation score")
    _legend(axes)


def _rate(axes: Axes, run: SavedRun) -> None:
    axes.plot(*_column(run, "learning_rate"), color=_FIRST)
    axes.ticklabel_format(axis="y", scilimits=(-2, 2))
    _label(axes, "step", "learning rate")


def _column(run: SavedRun, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which a column of log.csv is finite, and its values there."""
    steps = np.array([int(step["step"]) for step in run.steps])
    values = np.array([float(step[name]) for step in run.steps])
    known = np.isfinite(values)
    return steps[known], values[known]


def _number(value: float | None) -> float:
    return math.nan if value is None else value  # null stands for NaN in run.json


def _label(axes: Axes, x: str, y: str) -> None:
    """Names the axes of a curve over steps or epochs."""
    axes.set(xlabel=x, ylabel=y)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y")


# --- predictions ---------------------------------------------------------------------------------


@_styled
def confusion(counts: np.ndarray, labels: Sequence[str], split: str) -> Figure:
    """A confusion matrix: labels down, predictions across, coloured by the share of each label.

    Args:
        counts: (C, C).
    """
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)  # (C, C)
    size = 2.6 + 0.55 * len(labels)
    axes = _figure(size + 1, size).subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="prediction", ylabel="label", title=f"{split}: share of each label")
    for (row, column), share in np.ndenumerate(shares):
        axes.text(
            column,
            row,
            f"{share:.2f}\n{counts[row, column]}" if counts[row, column] else "",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if share > 0.65 else "black",
        )
    return axes.figure


@_styled
def reliability(bins: Sequence[Bin], split: str) -> Figure:
    """Accuracy in each bin of confidence, beside the diagonal of a calibrated model."""
    known = [each for each in bins if each.count]
    axes = _figure(_WIDTH, 3.2).subplots()
    axes.bar(
        [each.low for each in known],
        [each.accuracy for each in known],
        width=[each.high - each.low for each in known],
        align="edge",
        color=_FIRST,
        alpha=0.55,
        linewidth=0,
        label="accuracy",
    )
    axes.plot(
        [each.confidence for each in known],
        [each.accuracy for each in known],
        "o",
        color=_SECOND,
        label="mean confidence",
    )
    axes.plot([0, 1], [0, 1], "--", color=_QUIET, linewidth=1, label="calibrated")
    axes.set(xlabel="confidence", ylabel=f"accuracy on {split}", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(axis="y")
    _legend(axes)
    return axes.figure


@_styled
def scatter(pairs: Sequence[tuple[float, float]]) -> Figure:
    """A dot for each (label, prediction), at most 1,000 of them, beside the diagonal."""
    points = np.array(pairs)  # (examples, 2)
    points = points[np.isfinite(points).all(axis=1)]
    points = points[:: -(-len(points) // _MOST_POINTS) or 1]
    axes = _figure(_WIDTH, 3.2).subplots()
    if len(points):
        ends = [points.min(), points.max()]
        axes.plot(ends, ends, "--", color=_QUIET, linewidth=1)
    axes.plot(*points.T, "o", color=_FIRST, alpha=0.45, markersize=4, markeredgewidth=0)
    axes.set(xlabel="label", ylabel="prediction")
    axes.grid()
    return axes.figure


@_styled
def histogram(pairs: Sequence[tuple[float, float]]) -> Figure:
    """How often labels and predictions fall into each of 20 ranges."""
    points = np.array(pairs)  # (examples, 2)
    points = points[np.isfinite(points).all(axis=1)]
    axes = _figure(_WIDTH, 3.2).subplots()
    edges = np.histogram_bin_edges(points, bins=20)
    axes.hist(points[:, 0], edges, color=_FIRST, alpha=0.4, label="labels")
    axes.hist(points[:, 1], edges, histtype="step", color=_SECOND, linewidth=1.5, label="predictions")
    axes.set(xlabel="value", ylabel="examples")
    axes.grid(axis="y")
    _legend(axes)
    return axes.figure


# --- data ----------------------------------------------------------------------------------------


@_styled
def frequencies(counts: dict[str, int]) -> Figure:
    """The number of training examples of each class, the largest class at the top."""
    ordered = sorted(reversed(counts.items()), key=lambda item: item[1])  # ties keep their order
    axes = _figure(7, 0.9 + 0.32 * len(counts)).subplots()
    bars = axes.barh([name for name, _ in ordered], [n for _, n in ordered], color=_FIRST)
    axes.bar_label(bars, [f"{count:,}" for _, count in ordered], padding=3)
    axes.set(xlabel="training examples")
    axes.margins(x=0.12)
    return axes.figure


@_styled
def lengths(by_class: dict[str, Mapping[str, float]]) -> Figure:
    """A box plot of text lengths by class or split: quartiles, whiskers from the shortest to 95%.

    Args:
        by_class: name -> "min", "q1", "median", "q3" and "p95" of its lengths in tokens.
    """
    boxes = [
        {
            "label": name,
            "med": found["median"],
            "q1": found["q1"],
            "q3": found["q3"],
            "whislo": found["min"],
            "whishi": found["p95"],
        }
        for name, found in reversed(by_class.items())
    ]
    lines = dict.fromkeys(("boxprops", "whiskerprops", "capprops"), {"color": _QUIET})
    axes = _figure(_WIDTH, 0.8 + 0.3 * len(boxes)).subplots()
    axes.bxp(boxes, orientation="horizontal", showfliers=False, medianprops={"color": _SECOND}, **lines)
    axes.set(xlabel="tokens of a text (whiskers: shortest to 95%)")
    axes.grid(axis="x")
    return axes.figure


@_styled
def features(vectors: np.ndarray, classes: Sequence[str], labels: Sequence[str], title: str) -> Figure:
    """A panel for each class: where its texts lie among all, projected on two dimensions.

    By UMAP if it is installed, else by principal components, both of vectors scaled to 0..1.

    Args:
        vectors: (texts, D).
        classes: of each text.
        labels: the classes, in order.
    """
    places, method = _projected(vectors)  # (texts, 2)
    own = np.array(classes)
    columns = min(3, len(labels))
    rows = -(-len(labels) // columns)
    figure = _figure(9, 0.6 + 2.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[], visible=False)
    extent = [*np.stack([places.min(axis=0), places.max(axis=0)], axis=1).ravel()]
    for panel, label in zip(panels.flat, labels, strict=False):
        panel.set_visible(True)
        panel.scatter(*places.T, s=3, color="lightgrey", linewidths=0)
        mine = places[own == label]
        if len(mine) <= _FEW:
            panel.scatter(*mine.T, s=9, color=_FIRST, alpha=0.6, linewidths=0)
        else:
            panel.hexbin(*mine.T, gridsize=22, cmap="Blues", mincnt=1, extent=extent)
        panel.set_title(f"{label} ({len(mine)})")
    figure.suptitle(f"{title}, {method}")
    return figure


def _projected(vectors: np.ndarray) -> tuple[np.ndarray, str]:
    """(texts, D) -> (texts, 2), and the name of the method."""
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    scaled = (vectors - low) / np.where(high > low, high - low, 1)  # (texts, D)
    try:
        import umap
    except ImportError:
        centred = scaled - scaled.mean(axis=0)  # (texts, D)
        _, spread, directions = np.linalg.svd(centred, full_matrices=False)
        share = (spread[:2] ** 2).sum() / max((spread**2).sum(), 1e-12)
        return centred @ directions[:2].T, f"two principal components, {share:.0%} of the variance"
    return umap.UMAP(metric="cosine", random_state=0).fit_transform(scaled), "UMAP"
