"""Lines of text files, read one by one: no file fills the memory, and every fault has a place.

A line has a largest length, and so has what a packed file unpacks to.
"""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from minibert.io.errors import DataError
from minibert.io.files import size_of_file

# Bytes. A text of a million characters, the longest that is tokenised, takes 12 MB of JSON at most.
LONGEST_LINE = 32 * 2**20

# Text packs to a third or a tenth of its size. Above 100 MB, a file that unpacks to more than 200
# times its size was made to fill a memory. A line counts for what a record takes beside its text.
_MOST_UNPACKED = 200
_NEVER_TOO_MUCH = 100 * 2**20
BYTES_OF_A_LINE = 100


class Place(NamedTuple):
    """Where something stands in a file: on a line, or inside its JSON."""

    path: Path
    line: int | None = None
    inside: str = ""

    def __str__(self) -> str:
        line = "" if self.line is None else f", line {self.line}"
        return f"{self.path}{line}{self.inside}"

    @property
    def guid(self) -> str:
        """The place as the id of an example."""
        return str(self) if self.line is None else f"{self.path}:{self.line}"

    def item(self, key: str, number: int) -> Place:
        """The place of an item of a list in here."""
        return self._replace(inside=f"{self.inside}, {key}[{number}]")

    def column(self, number: int) -> Place:
        return self._replace(inside=f", column {number}")

    def fault(self, what: str, *, key: str | None = None, hint: str | None = None) -> DataError:
        """The error of what is wrong here; `what` continues the sentence."""
        if key is None and self.line is not None:
            key = f"line {self.line}"
        return DataError(f"{self} {what}", path=self.path, key=key, hint=hint)


def raw_lines(path: Path, longest: int = LONGEST_LINE) -> Iterator[tuple[Place, str]]:
    """Place and text of each line with its end, unpacked if the file ends in .gz.

    Only a line feed ends a line. A byte-order mark at the beginning is not part of the text.
    """
    unpacked = 0
    try:
        size_of_file(path, DataError)
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            for line in itertools.count(1):
                raw = file.readline(longest + 1)
                if not raw:
                    return
                unpacked += len(raw) + BYTES_OF_A_LINE
                check_unpacked(path, unpacked)
                place = Place(path, line)
                yield place, _decoded(place, raw, longest)
    except (OSError, EOFError, zlib.error) as problem:
        raise DataError(f"{path} could not be read: {problem}.", path=path) from problem


def lines(path: Path) -> Iterator[tuple[Place, str]]:
    """Place and text of each line, without the line feed and a carriage return before it."""
    blank = True
    for place, text in raw_lines(path):
        text = text.removesuffix("\n").removesuffix("\r")
        blank = blank and not text.strip()
        yield place, text
    if blank:
        raise Place(path).fault("is empty.")


def check_unpacked(path: Path, unpacked: int) -> None:
    """Refuses a file that unpacks to far more bytes than text does."""
    if unpacked <= _NEVER_TOO_MUCH:
        return
    size = path.stat().st_size
    largest = max(_NEVER_TOO_MUCH, _MOST_UNPACKED * size)
    if unpacked > largest:
        raise Place(path).fault(
            f"has {size} bytes and unpacks to more than {largest}.", hint="If that is right, unpack it first."
        )


def empty_line(place: Place) -> DataError:
    return place.fault("is empty.", hint="Remove it, or fill it in.")


def _decoded(place: Place, raw: bytes, longest: int) -> str:
    if len(raw) > longest:
        raise place.fault(
            f"has more than {longest} bytes.",
            hint="Is it a text file? A text on one line may have a million characters.",
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        column = len(raw[: problem.start].decode("utf-8")) + 1
        raise place.column(column).fault(
            f"is not UTF-8: byte 0x{raw[problem.start]:02x}.", hint="Convert the file (iconv -t utf-8)."
        ) from problem
    return text.removeprefix("\ufeff") if place.line == 1 else text
