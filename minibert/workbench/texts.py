"""The texts of a command: arguments, lines, or a column of a table; and where the results go.

predict, embed, fill-mask and tokenize all take their texts from here, as records in parts, so that
a table of any length goes through a model in the same memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from minibert.io.errors import ConfigError, DataError

if TYPE_CHECKING:  # these import torch, for which --help does not wait
    from minibert.workbench.data.records import Columns, Record

# Options that say how to read a table.
READING = ("format", "sep", "names", "quoting")
COLUMNS = ("text", "choices")


class Result(Protocol):
    """What a command finds for one text; `str` turns it into text for people."""

    def columns(self) -> Mapping[str, Any]:
        """The same as cells of a table."""


@dataclass(frozen=True)
class Texts:
    """Texts to work on.

    Attributes:
        parts: the records, so many at a time as fit into memory.
        is_table: whether they are rows of a table, whose other columns are kept.
    """

    parts: Iterable[list[Record]]
    is_table: bool = False


def texts_of(options: argparse.Namespace, columns: Columns) -> Texts:
    """The texts that a command was given.

    Args:
        columns: those of a table, where no option names others.

    Raises:
        DataError: a file cannot be read or lacks a column, or a text is the name of a file.
        ConfigError: an option has no effect on these texts.
    """
    from minibert.workbench.data import tables

    if options.texts and options.file:
        raise DataError("Give texts or --file, not both.", key="--file")
    if options.texts and options.encoding:
        raise ConfigError("encoding is that of a file.", key="encoding", hint="Leave it out.")
    reading = {key: value for key in READING if (value := getattr(options, key)) is not None}
    if options.file in (None, "-") or not tables.is_table(options.file, reading):
        for key in (*READING, *COLUMNS):
            if getattr(options, key, None) is not None:
                raise ConfigError(
                    f"{key} is about a table, and these are plain texts.",
                    key=key,
                    hint="A table is a --file that ends in .csv, .tsv, .jsonl or .parquet, or has a --format.",
                )
        return Texts([_records(options)])
    if getattr(options, "pairs", False):
        raise ConfigError("pairs is about plain texts: of a table --pair names the second column.", key="pairs")
    second = getattr(options, "pair", None)
    wanted = columns._replace(
        text=options.text or columns.text,
        text_pair=second or columns.text_pair,
        choices=tuple(getattr(options, "choices", None) or columns.choices),
    )
    table = tables.open_table(options.file, wanted, find=options.text is None, encoding=options.encoding, **reading)
    found = table.options.columns
    if options.text is None and table.has_names:
        pair = f", second texts in {found.text_pair!r}" if found.text_pair else ""
        say(options, f"{options.file}: texts in the column {found.text!r}{pair} (--text names another)")
    return Texts(table.parts(), is_table=True)


def deliver(
    options: argparse.Namespace,
    texts: Texts,
    answer: Callable[[Sequence[Record]], Sequence[Result]],
    show: Callable[[Any], object],
) -> None:
    """Puts the results of all texts where they belong: a file, JSON lines, or a terminal.

    Args:
        answer: the result of each record, in their order.
        show: prints one result.
    """
    from minibert.workbench.data import tables

    with contextlib.ExitStack() as stack:
        write = None if options.output is None else stack.enter_context(tables.written(options.output))
        count = empty = 0
        for records in texts.parts:
            found = answer(records)
            count += len(records)
            empty += sum(not record.sentence.strip() for record in records)
            if write is not None:
                write(tables.with_more(records, [one.columns() for one in found]))
            elif texts.is_table and options.json:
                print(*map(as_json, tables.with_more(records, [one.columns() for one in found])), sep="\n")
            else:
                for one in found:
                    show(one)
    if empty:
        say(options, f"Empty texts, whose results mean nothing: {empty} of {count}.")
    if options.output is not None:
        say(options, f"{options.output}: {count} row{'s' * (count != 1)}")


def require_output(options: argparse.Namespace, *others: str) -> None:
    """Refuses an --output that cannot be written, before a model is opened.

    Args:
        others: endings that are possible beside those of tables.
    """
    from minibert.workbench.data import tables

    if options.output is None:
        return
    if options.json:
        raise ConfigError("json is a way to print results, and output writes them.", key="json", hint="Leave it out.")
    tables.require_writable(options.output, options.file if options.file != "-" else None, others)


def _records(options: argparse.Namespace) -> list[Record]:
    """Plain texts, each with its second text: that of --pair, or with --pairs the one after a tab."""
    from minibert.workbench.data.records import Record

    texts, pair = lines_of(options), getattr(options, "pair", None)
    rows = [[text] if pair is None else [text, pair] for text in texts]
    if getattr(options, "pairs", False):
        rows = [text.split("\t") for text in texts]
        for number, row in enumerate(rows, start=1):
            if len(row) != 2:
                raise DataError(
                    f"Text {number} has {len(row) - 1} tabs, but --pairs needs one, between two texts.", key="--pairs"
                )
    kept = [dict(zip(("text", "text_pair"), row, strict=False)) for row in rows]
    places = (f"text {number} of {len(rows)}" for number in range(1, len(rows) + 1))
    return [Record(place, row["text"], row.get("text_pair"), row=row) for place, row in zip(places, kept, strict=True)]


def lines_of(options: argparse.Namespace) -> list[str]:
    """The texts of the command line, or the lines of a file or of standard input."""
    from minibert.workbench.data.lines import raw_lines

    if options.texts:
        _refuse_names_of_files(options.texts)
        return list(options.texts)
    # A blank line is an empty text, so that the n-th result is that of the n-th line.
    name = "standard input" if options.file in (None, "-") else options.file
    encoding = getattr(options, "encoding", None)
    if name is options.file and Path(name).is_file():
        whole = (line for _, line in raw_lines(Path(name), encoding=encoding))
        lines = [line.removesuffix("\n").removesuffix("\r") for line in whole]
    else:
        content = _piped(options, name, encoding or "utf-8-sig")
        lines = [line.removesuffix("\r") for line in content.removesuffix("\n").split("\n")] if content else []
    if not lines:
        raise DataError(f"{name} holds no text.", path=name)
    return lines


def _piped(options: argparse.Namespace, name: str, encoding: str) -> str:
    """The whole of standard input, or of a pipe."""
    if name is not options.file and sys.stdin.isatty():
        end = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
        say(options, f"Type a text per line; {end} ends.")
    try:
        content = Path(name).read_bytes() if name is options.file else sys.stdin.buffer.read()
        return content.decode(encoding)
    except OSError as error:
        raise DataError(f"{name} could not be read: {error.strerror}.", path=name) from error
    except LookupError as error:
        raise ConfigError(f"encoding is {encoding!r}, which Python does not know.", key="encoding") from error
    except UnicodeDecodeError as error:
        hint = "Say its encoding, such as --encoding windows-1252."
        raise DataError(f"{name} is not UTF-8 text: {error}.", path=name, hint=hint) from error


def _refuse_names_of_files(texts: Sequence[str]) -> None:
    for text in texts:
        with contextlib.suppress(OSError, ValueError):  # too long for a name, or with a NUL
            if Path(text).is_file():
                raise DataError(
                    f"{text} is a file, and was given as a text.",
                    path=text,
                    key="--file",
                    hint=f"To read it: --file {text}. To take its name as a text, give it on standard input.",
                )


def say(options: argparse.Namespace, line: str) -> None:
    """A message for people, on standard error."""
    if not options.quiet:
        print(line, file=sys.stderr)


def print_result(result: Any, options: argparse.Namespace) -> None:
    """A result, as JSON or for people."""
    print(as_json(asdict(result)) if options.json else result)


def as_json(value: Any) -> str:
    """JSON, with its own escapes where the terminal may lack a letter."""
    in_unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    return json.dumps(value, ensure_ascii=not in_unicode, default=str)
