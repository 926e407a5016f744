"""Tables that are read for one column and written again with more: predictions beside each row.

    table = open_table("reviews.csv", Columns(), find=True)
    with written("predictions.jsonl") as write:          by the ending: .csv, .tsv, .jsonl, .parquet
        for records in table.parts():
            write([{**record.row, "prediction": ...} for record in records])

A row stays a row, whatever line breaks its text holds, and its other columns are kept as they are.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minibert.io.errors import ConfigError, DataError
from minibert.io.files import atomic_path, finite
from minibert.io.tables import csv_line
from minibert.workbench.data.readers import FORMATS, SUFFIXES, Options, require_effect
from minibert.workbench.data.records import Columns, MissingColumnError, Record, require_usable, tokenisable
from minibert.workbench.data.sources import format_of

ROWS_AT_ONCE = 50_000  # in memory together, sorted by length: enough for batches without padding

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")

Row = Mapping[str, Any]
Write = Callable[[Sequence[Row]], None]


@dataclass(frozen=True)
class Table:
    """A file of rows, opened: its format is known, and its columns are there."""

    path: Path
    format: str
    options: Options

    @property
    def has_names(self) -> bool:
        """Whether its columns have names, unlike those of tagged words and SQuAD's questions."""
        return not FORMATS[self.format].nameless

    def parts(self) -> Iterator[list[Record]]:
        """All rows, so many at a time that they fit into memory."""
        records = require_usable(map(tokenisable, FORMATS[self.format].read(self.path, self.options)))
        while part := list(itertools.islice(records, ROWS_AT_ONCE)):
            yield part


def is_table(path: str | Path, reading: Mapping[str, Any]) -> bool:
    """Whether a file has columns, by its ending or what `reading` says; other files have a text on each line."""
    ending = Path(Path(path).name.lower().removesuffix(".gz")).suffix
    return bool({"format", "sep", "names"} & reading.keys()) or SUFFIXES.get(ending, "lines") != "lines"


def open_table(path: str | Path, columns: Columns, *, find: bool, format: str | None = None, **reading: Any) -> Table:
    """Opens a table, and looks at its first row.

    Args:
        columns: the columns to read; all others are kept.
        find: whether another column may hold the text where there is no `columns.text`: the first
            with a usual name, or the only one.
        format: one of FORMATS; by default by the file's ending and content.
        reading: `sep`, `names` and `quoting`, as in `corpora.read`.

    Raises:
        DataError: the file cannot be read, is empty, or lacks a column.
        ConfigError: an option has no effect on this format.
    """
    path = Path(path)
    chosen = format or format_of(path, is_table=bool(reading.get("sep") or reading.get("names")))
    table = Table(path, chosen, Options(columns._replace(label=None, others=True), **reading))
    require_effect(path, chosen, table.options)
    try:
        next(require_usable(FORMATS[chosen].read(path, table.options)), None)
    except MissingColumnError as problem:
        name = problem.usual_text() if find and problem.key == columns.text else None
        if name is None:
            raise
        table = replace(table, options=replace(table.options, columns=table.options.columns._replace(text=name)))
        next(require_usable(FORMATS[chosen].read(path, table.options)), None)
    return table


def with_more(records: Sequence[Record], more: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows with more columns each.

    Raises:
        DataError: a row has such a column already.
    """
    rows = []
    for record, new in zip(records, more, strict=True):
        row = record.row or {"id": record.where}
        taken = sorted(row.keys() & new.keys())
        if taken:
            raise DataError(
                f"{record.where} has a column {taken[0]!r} already, which would be written over.",
                key=taken[0],
                hint="Rename it, or remove it from the file.",
            )
        rows.append({**row, **new})
    return rows


def require_writable(output: str | Path, source: str | Path | None = None, others: Sequence[str] = ()) -> None:
    """Refuses an output that is not a table (or ends in one of `others`), or is the file that is read.

    Raises:
        ConfigError: naming what it can be.
    """
    path = Path(output)
    endings = (*others, *ENDINGS)
    if path.suffix.lower() not in endings:
        message = f"{path} has the ending {path.suffix!r}, not one of {', '.join(endings)}."
        raise ConfigError(message, path=path, key="output")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, not a file.", path=path, key="output")
    if source is not None and path.exists() and Path(source).exists() and path.samefile(source):
        raise ConfigError(f"{path} is the file that is read: name another.", path=path, key="output")


@contextlib.contextmanager
def written(output: str | Path) -> Iterator[Write]:
    """Gives a function that writes rows; the file appears when all are written, or not at all."""
    path = Path(output)
    ending = path.suffix.lower()
    with atomic_path(path) as temporary:
        if ending == ".parquet":
            with _parquet(path, temporary) as write:
                yield write
            return
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            if ending == ".jsonl":
                yield lambda rows: file.writelines(_json(row) + "\n" for row in rows)
                return
            header: list[str] = []

            def write(rows: Sequence[Row]) -> None:
                if not header:
                    header.extend(dict.fromkeys(name for row in rows for name in row))
                    file.write(csv_line(header, sep))
                for row in rows:
                    _require_known(path, row, header)
                    file.write(csv_line([cell(row.get(name)) for name in header], sep))

            sep = "\t" if ending == ".tsv" else ","
            yield write


def cell(value: Any) -> str:
    """A value as a cell of a table of text: names one after another, other lists and objects as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(finite(value), ensure_ascii=False, default=str)


def _require_known(path: Path, row: Row, names: Sequence[str]) -> None:
    unknown = sorted(row.keys() - set(names))
    if unknown:
        raise DataError(
            f"A row has a column {unknown[0]!r}, which the rows before it have not: {path} cannot hold it.",
            path=path,
            key=unknown[0],
            hint="Write a .jsonl file.",
        )


@contextlib.contextmanager
def _parquet(path: Path, temporary: Path) -> Iterator[Write]:
    try:
        import pyarrow.lib
        import pyarrow.parquet
    except ImportError as problem:
        message = f"{path} is to be a parquet file, and pyarrow is not installed."
        raise ConfigError(message, path=path, key="output", hint="pip install 'minibert[parquet]'") from problem
    writer: Any = None

    def write(rows: Sequence[Row]) -> None:
        nonlocal writer
        try:
            if writer is None:
                part = pyarrow.Table.from_pylist([dict(row) for row in rows])
                writer = pyarrow.parquet.ParquetWriter(temporary, part.schema)
            else:
                for row in rows:
                    _require_known(path, row, writer.schema.names)
                part = pyarrow.Table.from_pylist([dict(row) for row in rows], schema=writer.schema)
            writer.write_table(part)
        except pyarrow.lib.ArrowException as problem:
            message = f"{path} cannot hold these rows: {problem}."
            raise DataError(message, path=path, key="output", hint="Write a .jsonl file.") from problem

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
