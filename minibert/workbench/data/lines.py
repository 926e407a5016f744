"""Lines of text files, read one by one: no file fills the memory, and every fault has a place.

A line has a largest length, and so has what a packed file unpacks to. What a file is, packed, UTF-16
(as Excel writes it) or not text at all, is told by its first bytes, not by its name.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from minibert.io.errors import ConfigError, DataError
from minibert.io.files import require_content, size_of_file

# Bytes. A text of a million characters, the longest that is tokenised, takes 12 MB of JSON at most.
LONGEST_LINE = 32 * 2**20

# Text packs to a third or a tenth of its size. Above 100 MB, a file that unpacks to more than 200
# times its size was made to fill a memory. A line counts for what a record takes beside its text.
_MOST_UNPACKED = 200
_NEVER_TOO_MUCH = 100 * 2**20
BYTES_OF_A_LINE = 100

# How files begin that are not text -> what they are, and what to do about it.
_NOT_TEXT = {
    rb"PK\x03\x04": ("a zip archive or an Excel workbook", "Unpack it, or save the sheet as CSV UTF-8."),
    rb"\xd0\xcf\x11\xe0": ("an Excel workbook", "Save the sheet as CSV UTF-8."),
    rb"BZh[1-9]1AY&SY|\xfd7zXZ|\x28\xb5\x2f\xfd": ("packed by another program than gzip", "Unpack it."),
    rb"PAR1": ("a parquet file", "Say so: format='parquet' (on the command line --format parquet)."),
    rb"%PDF-": ("a PDF document", "Save its text as plain text."),
}


T = TypeVar("T")


class Place(NamedTuple):
    """Where something stands in a file: on a line (or in a row, the `unit`), or inside its JSON."""

    path: Path
    line: int | None = None
    inside: str = ""
    unit: str = "line"

    def __str__(self) -> str:
        line = "" if self.line is None else f", {self.unit} {self.line}"
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
            key = f"{self.unit} {self.line}"
        return DataError(f"{self} {what}", path=self.path, key=key, hint=hint)


@contextlib.contextmanager
def opened(path: Path, encoding: str | None = None) -> Iterator[Any]:
    """A text file, unpacked if it was packed by gzip, whose `read` and `readline` give UTF-8.

    Args:
        encoding: of the file; by default UTF-8, or UTF-16 where it begins with that mark.

    Raises:
        DataError: it cannot be read, or its first bytes are those of another kind of file.
    """
    try:
        size_of_file(path, DataError)
        with open(path, "rb") as raw:
            require_content(path, raw.peek(64), DataError)
            packed = path.name.lower().endswith(".gz") or raw.peek(2).startswith(b"\x1f\x8b")
            file: Any = gzip.GzipFile(fileobj=raw) if packed else raw
            head = file.peek(64)
            for begins, (what, hint) in _NOT_TEXT.items():
                if re.match(begins, head):
                    raise Place(path).fault(f"is {what}.", hint=hint)
            if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                encoding = "utf-16"
            old_mac = b"\r" in head and b"\n" not in head  # lines that end in \r alone
            converted = encoding is not None or old_mac
            yield _AsUtf8(file, encoding or "utf-8", None if old_mac else "\n") if converted else file
    except (OSError, EOFError, zlib.error, UnicodeError) as problem:
        why = getattr(problem, "strerror", None) or problem
        raise DataError(f"{path} could not be read: {why}.", path=path) from problem


def _utf16_without_mark(head: bytes) -> str | None:
    """The encoding of a file whose every second byte is 0, as that of Western text is in UTF-16; None for others."""
    pairs = head[: len(head) // 2 * 2]
    nuls = [pairs[start::2].count(0) / max(1, len(pairs) // 2) for start in (0, 1)]
    if max(nuls) < 0.8 or min(nuls) > 0:
        return None
    return "utf-16-be" if nuls[0] > nuls[1] else "utf-16-le"


class _AsUtf8:
    """A file in another encoding, or with other ends of lines, read as UTF-8."""

    def __init__(self, file: Any, encoding: str, newline: str | None):
        try:
            self._text = io.TextIOWrapper(file, encoding, newline=newline)
        except (LookupError, ValueError) as problem:
            raise ConfigError(f"encoding is {encoding!r:.50}, which Python does not know.", key="encoding") from problem

    def read(self, size: int) -> bytes:
        return self._text.read(size).encode()

    def readline(self, size: int) -> bytes:
        return self._text.readline(size).encode()


def raw_lines(path: Path, longest: int = LONGEST_LINE, encoding: str | None = None) -> Iterator[tuple[Place, str]]:
    """Place and text of each line with its end.

    Only a line feed ends a line, or in a file without any a carriage return. A byte-order mark at
    the beginning is not part of the text.
    """
    unpacked = 0
    with opened(path, encoding) as file:
        for line in itertools.count(1):
            raw = file.readline(longest + 1)
            if not raw:
                return
            unpacked += len(raw) + BYTES_OF_A_LINE
            check_unpacked(path, unpacked)
            place = Place(path, line)
            if line == 1 and encoding is None and (guess := _utf16_without_mark(raw)):
                hint = f"Name its encoding: encoding='{guess}' (on the command line --encoding {guess})."
                raise Place(path).fault(f"has a NUL in every second byte, as {guess} without a mark has.", hint=hint)
            yield place, _decoded(place, raw, longest)


def lines(path: Path, encoding: str | None = None) -> Iterator[tuple[Place, str]]:
    """Place and text of each line, without the line feed and a carriage return before it."""
    blank = True
    for place, text in raw_lines(path, encoding=encoding):
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


def without_blanks(
    rows: Iterable[tuple[Place, T]], is_blank: Callable[[T], bool]
) -> Iterator[tuple[Place, T | DataError]]:
    """Rows without blank ones, which do no harm at the end of a file; before other rows the first is a fault."""
    blank = None
    for place, row in rows:
        if is_blank(row):
            blank = blank or place
            continue
        if blank is not None:
            yield blank, empty_line(blank)
            blank = None
        yield place, row


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
            f"is not UTF-8: byte 0x{raw[problem.start]:02x}.",
            hint="Convert it to UTF-8, or say its encoding: encoding='windows-1252' (to train and evaluate: "
            "--encoding windows-1252).",
        ) from problem
    return text.removeprefix("\ufeff") if place.line == 1 else text
