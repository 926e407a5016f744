"""Tables: aligned columns and colours for a terminal, comma-separated values for a file."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path

COLOURS = ("36", "33", "35", "32", "34", "31")  # cyan, yellow, magenta, green, blue, red (ECMA-48)


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Rows as text in aligned columns.

    A column that holds no strings is right-aligned, its integers with thousands separators.
    """
    numeric = [all(not isinstance(row[column], str) for row in rows) for column in range(len(header))]
    cells = [list(header), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    )


def _text(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def shorten(text: str, width: int = 60) -> str:
    """A text on one line of at most `width` characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 3] + "..."


def coloured(text: str, colour: str) -> str:
    """A text between the codes that make a terminal show it in one of COLOURS."""
    return f"\x1b[{colour}m{text}\x1b[0m"


def printable(text: str) -> str:
    """A text without the control characters that a terminal would obey."""
    return "".join(
        "\ufffd" if unicodedata.category(letter) == "Cc" and not letter.isspace() else letter for letter in text
    )


def write_csv(path: Path, header: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    """Writes a comma-separated table with LF line ends, atomically."""
    from minibert.io.files import write_text  # imports torch, which a table on a terminal need not

    write_text(path, "".join(csv_line(row) for row in (header, *rows)))


def csv_line(row: Sequence[object], sep: str = ",") -> str:
    """A row of separated values, with its LF."""
    # The writer quotes a text that holds a character of its own line end. With LF alone a bare CR
    # would not be quoted, and a reader would split the row there.
    line = io.StringIO()
    csv.writer(line, delimiter=sep, lineterminator="\r\n").writerow(row)
    return line.getvalue().removesuffix("\r\n") + "\n"
