"""Pictures of the study tools, drawn with matplotlib (the `plots` extra), each with a text alternative.

In a notebook a `Picture` shows itself; `save` writes a file.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from minibert.io.errors import ConfigError


class Picture:
    """A matplotlib figure and its alternative text.

    Attributes:
        figure: the matplotlib.figure.Figure.
        alt: what it shows, in a sentence.
    """

    def __init__(self, figure: Any, alt: str):
        self.figure, self.alt = figure, alt

    def save(self, path: str | Path) -> None:
        """Writes the picture in the format of the path's suffix, such as .png, .svg or .pdf."""
        self.figure.savefig(path, bbox_inches="tight", dpi=150)

    def __repr__(self) -> str:
        return f"Picture: {self.alt}"

    def _repr_html_(self) -> str:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", bbox_inches="tight", dpi=110)
        data = base64.b64encode(buffer.getvalue()).decode()
        return f'<img alt="{escape(self.alt)}" src="data:image/png;base64,{data}">'


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, sizes in inches; ConfigError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        hint = "Install it: pip install 'minibert[plots]'."
        raise ConfigError("Pictures need matplotlib, which is not installed.", key="matplotlib", hint=hint) from error
    return Figure(figsize=(width, height), layout="constrained")


def heat_map(
    axes: Any,
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    texts: Sequence[Sequence[str]] | None = None,
    signed: bool = True,
    most: float | None = None,
) -> Any:
    """Draws a table of numbers as colours; returns the image, for a colour bar.

    Args:
        values: (rows, columns).
        texts: what to write into the cells.
        signed: red and blue around zero; otherwise white to blue from zero.
        most: the number with the full colour, by default the largest magnitude.
    """
    values = np.asarray(values, dtype=float)  # (rows, columns)
    most = most or float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    limits = {"vmin": -most if signed else 0.0, "vmax": most}
    image = axes.imshow(values, cmap="RdBu_r" if signed else "Blues", aspect="auto", **limits)
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if max(map(len, columns), default=0) > 3 else {}
    axes.set_xticks(range(len(columns)), columns, parse_math=False, **turned)
    for row, line in enumerate(texts or []):
        for column, text in enumerate(line):
            colour = "white" if abs(values[row, column]) > 0.6 * most else "black"
            axes.text(
                column, row, text, ha="center", va="center", color=colour, fontsize="x-small", parse_math=False
            )  # fmt: skip
    return image


def grid(values: Tensor, rows: Sequence[str], columns: Sequence[str], title: str, **options: Any) -> Picture:
    """One heat map with a title and a colour bar; options as for `heat_map`."""
    figure = new_figure(2 + 0.45 * len(columns), 1.4 + 0.3 * len(rows))
    axes = figure.subplots()
    figure.colorbar(heat_map(axes, values.tolist(), rows, columns, **options))
    axes.set_title(title, fontsize="medium", parse_math=False)
    place = int(values.nan_to_num().abs().argmax())
    row, column = divmod(place, len(columns))
    extreme = f"{values[row, column].item():.3g} at {rows[row]}, {columns[column]}"
    return Picture(figure, f"{title}: {len(rows)} rows by {len(columns)} columns; the largest is {extreme}.")
