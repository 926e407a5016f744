"""Charts as SVG: lines over steps and epochs, and the reliability diagram, drawn by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from minibert.workbench.scores.calibration import Bin

WIDTH, HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 12, 38  # what surrounds the plot
_MOST_POINTS = 800  # of a line: more than the screen has columns


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name: for the legend.
        points: (x, y), in the order of x.
        style: a class of the page's style sheet: "first", "second", "third" or "faint".
        dots: whether each point has a dot.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: str = "first"
    dots: bool = False


def lines(
    title: str,
    drawn: Sequence[Line],
    *,
    x: str,
    y: str,
    from_zero: bool = True,
) -> str:
    """A chart of lines with axes, ticks and a legend. Points that are not finite are left out.

    Args:
        title: what a screen reader says of it.
        x, y: names of the axes.
        from_zero: whether the vertical axis starts at zero.
    """
    kept = [
        Line(line.name, [p for p in line.points if math.isfinite(p[1])], line.style, line.dots)
        for line in drawn
    ]
    kept = [line for line in kept if line.points]
    if not kept:
        return ""
    across = [point[0] for line in kept for point in line.points]
    up = [point[1] for line in kept for point in line.points]
    margin = 0.0 if from_zero else 0.06 * (max(up) - min(up) or 1.0)
    low = 0.0 if from_zero else min(up) - margin
    whole = all(value == round(value) for value in across)
    plot = _Plot(min(across), max(across), low, max(up) + margin, whole)
    parts = [plot.axes(x, y)]
    for line in kept:
        places = [plot.place(*point) for point in _thinned(line.points)]
        path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
        parts.append(f'<polyline class="line {line.style}" points="{path}"/>')
        if line.dots:
            parts += [
                f'<circle class="dot {line.style}" cx="{left:.1f}" cy="{top:.1f}" r="3.5">'
                f"<title>{escape(line.name)} {_short(point[1])} at {_short(point[0])}</title>"
                "</circle>"
                for (left, top), point in zip(places, _thinned(line.points), strict=True)
            ]
    legend = "".join(f'<span class="key {line.style}">{escape(line.name)}</span>' for line in kept)
    return f"{_svg(title, parts)}<p class='legend'>{legend}</p>"


def reliability(title: str, table: Sequence[Bin]) -> str:
    """Accuracy over confidence, a bar for each bin, beside the diagonal of a calibrated model."""
    plot = _Plot(0.0, 1.0, 0.0, 1.0)
    parts = [plot.axes("confidence", "accuracy")]
    for each in table:
        if each.accuracy is None or each.confidence is None:
            continue
        left, top = plot.place(each.low, each.accuracy)
        right, bottom = plot.place(each.high, 0.0)
        parts.append(
            f'<rect class="bar" x="{left + 1:.1f}" y="{top:.1f}" width="{right - left - 2:.1f}" '
            f'height="{max(0.5, bottom - top):.1f}"><title>{each.count:,} predictions from '
            f"{each.low:.1f} to {each.high:.1f}: mean confidence {each.confidence:.3f}, accuracy "
            f"{each.accuracy:.3f}</title></rect>"
        )
        across, up = plot.place(each.confidence, each.accuracy)
        parts.append(f'<circle class="dot second" cx="{across:.1f}" cy="{up:.1f}" r="3.5"/>')
    start, end = plot.place(0, 0), plot.place(1, 1)
    parts.append(
        f'<line class="diagonal" x1="{start[0]}" y1="{start[1]}" x2="{end[0]}" y2="{end[1]}"/>'
    )
    return _svg(title, parts)


def scatter(title: str, points: Sequence[tuple[float, float]], *, x: str, y: str) -> str:
    """A dot for each pair of numbers of one kind, beside the diagonal on which they are equal.

    Pairs that are not finite are left out, and of many every n-th is drawn.
    """
    kept = [point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])]
    if not kept:
        return ""
    values = [value for point in kept for value in point]
    low, high = min(values), max(values)
    plot = _Plot(low, high, low, high)
    start, end = plot.place(low, low), plot.place(high, high)
    parts = [
        plot.axes(x, y),
        f'<line class="diagonal" x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" '
        f'y2="{end[1]:.1f}"/>',
    ]
    for left, top in (plot.place(*point) for point in _thinned(kept)):
        parts.append(f'<circle class="point" cx="{left:.1f}" cy="{top:.1f}" r="3"/>')
    return _svg(title, parts)


@dataclass(frozen=True)
class _Plot:
    """Where values fall on the picture."""

    left: float
    right: float
    low: float
    high: float
    whole: bool = False  # whether there is nothing between whole numbers on the horizontal axis

    def place(self, across: float, up: float) -> tuple[float, float]:
        wide, tall = self.right - self.left or 1.0, self.high - self.low or 1.0
        return (
            _LEFT + (across - self.left) / wide * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - (up - self.low) / tall * (HEIGHT - _TOP - _BOTTOM),
        )

    def axes(self, x: str, y: str) -> str:
        parts = []
        for value in _ticks(self.low, self.high):
            _, top = self.place(self.left, value)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" y1="{top:.1f}" x2="{WIDTH - _RIGHT}" '
                f'y2="{top:.1f}"/><text x="{_LEFT - 6}" y="{top + 4:.1f}" text-anchor="end">'
                f"{_short(value)}</text>"
            )
        for value in _ticks(self.left, self.right):
            if self.whole and value != round(value):
                continue
            across, _ = self.place(value, self.low)
            parts.append(
                f'<text x="{across:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
                f"{_short(value)}</text>"
            )
        middle = (_TOP + HEIGHT - _BOTTOM) / 2
        parts.append(
            f'<text x="{(_LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x)}'
            f'</text><text x="12" y="{middle}" text-anchor="middle" '
            f'transform="rotate(-90 12 {middle})">{escape(y)}</text>'
        )
        return "".join(parts)


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """About five round values between two."""
    if high <= low:
        return [low]
    rough = (high - low) / 5
    step = 10 ** math.floor(math.log10(rough))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= rough)
    first = math.ceil(low / step - 1e-9)
    return [step * number for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    return points[:: max(1, math.ceil(len(points) / _MOST_POINTS))]


def _short(value: float) -> str:
    return f"{value:.4g}"
