"""Text for a terminal: rows of values in aligned columns, and colours."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

COLOURS = ("36", "33", "35", "32", "34", "31")  # cyan, yellow, magenta, green, blue, red (ECMA-48)


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Rows as text in aligned columns.

    A column without a text in it is one of numbers: it stands to the right, and its whole numbers
    have their thousands apart, as in 22,713,216.
    """
    numbers = [
        all(not isinstance(row[column], str) for row in rows) for column in range(len(header))
    ]
    cells = [list(header), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in cells
    )


def _text(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def coloured(text: str, colour: str) -> str:
    """A text with the codes around it that make a terminal write it in one of COLOURS."""
    return f"\x1b[{colour}m{text}\x1b[0m"


def printable(text: str) -> str:
    """A text without the control characters that a terminal would obey."""
    return "".join(
        "\ufffd" if unicodedata.category(letter) == "Cc" and not letter.isspace() else letter
        for letter in text
    )
