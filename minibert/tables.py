"""Tables: rows of values as text in aligned columns."""

from __future__ import annotations

from collections.abc import Sequence


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
