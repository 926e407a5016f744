"""Readers: files of labelled text to records, one function for each format.

Nothing is dropped silently: what cannot be used is an error that names file, line and column. To
add a format, write a function of (path, options) that yields records, and add it to FORMATS with
the ending of its files, and its name to FORMATS in runs/settings.py for the command line.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from minibert.io.errors import ConfigError, DataError
from minibert.io.files import require_content, size_of_file
from minibert.workbench.data import json_tables
from minibert.workbench.data.lines import (
    BYTES_OF_A_LINE,
    LONGEST_LINE,
    Place,
    check_unpacked,
    empty_line,
    lines,
    raw_lines,
    without_blanks,
)
from minibert.workbench.data.records import (
    Columns,
    Record,
    Row,
    question,
    record,
    require_columns,
    require_once,
    usable,
)

_ROWS_AT_ONCE = 64  # of a parquet file, where a few bytes can stand for many long texts

_NO_HEADER = "Has the file no header line? Then name its columns: names (on the command line --names text label)."


@dataclass(frozen=True)
class Options:
    """How to read a file.

    Attributes:
        columns: the columns to read.
        sep: what separates columns; None for the usual of the format.
        names: the columns of a table without a header line.
        quoting: whether a '"' quotes; None for "in .csv files, and where a table is written so".
        encoding: of texts; None for UTF-8.
    """

    columns: Columns = Columns()
    sep: str | None = None
    names: Sequence[str] | None = None
    quoting: bool | None = None
    encoding: str | None = None


def text_lines(path: Path, options: Options) -> Iterator[Record]:
    """A text on each line, no labels."""
    for place, text in lines(path, options.encoding):
        yield Record(place.guid, text)


def one_text(path: Path, options: Options) -> Iterator[Record]:
    """One text, the whole file; its label is the name of its folder."""
    label = path.parent.name if options.columns.label else None
    yield Record(str(path), "".join(text for _, text in raw_lines(path, encoding=options.encoding)), label=label)


def comma_separated(path: Path, options: Options) -> Iterator[Row]:
    return _separated(path, options, ",")


def tab_separated(path: Path, options: Options) -> Iterator[Row]:
    return _separated(path, options, "\t")


def _separated(path: Path, options: Options, usual: str) -> Iterator[Row]:
    """Values with a separator between them; a header line, unless the names are given."""
    content = lines(path, options.encoding)
    first = next(content)
    stated = _SEP_OF_EXCEL.fullmatch(first[1])
    sep = (options.sep or (stated[1] if stated else usual)).replace("\\t", "\t")
    first = next(content, first) if stated else first
    quoting = options.quoting
    if quoting is None:
        quoting = ".csv" in path.name.lower() or _is_quoted(path, sep, options, by_default=usual == ",")
    if quoting and (len(sep) != 1 or sep in '"\r\n'):
        raise ConfigError(
            f"The separator is {sep!r}, and has to be one character in a file where '\"' quotes.",
            key="sep",
            hint="quoting=False (on the command line --no-quoting) takes any.",
        )
    content = itertools.chain([first], content)
    rows = _quoted_rows(content, first[0], sep) if quoting else ((place, row.split(sep)) for place, row in content)
    names, header = options.names, None
    if names is None:
        place, header = next(rows)
        names = [name.strip() for name in header]
        if not any(names):
            raise empty_line(place)
        require_once(place, names, options.columns.wanted)
        names = _told_apart(names) if options.columns.others else names
        require_columns(place, names, options.columns, hint=_hint_at_separator(first[1], sep) or _NO_HEADER)
    width, empty = len(names), True
    for place, row in without_blanks(rows, lambda row: len(row) < min(width, 2) and not "".join(row).strip()):
        empty = False
        if isinstance(row, DataError):
            yield row
        elif row == header and len(row) > 1:
            yield place.fault("repeats the header line.", hint="Are several files in this one?")
        elif len(row) == width:
            yield record(place, dict(zip(names, row, strict=True)), options.columns)
        else:
            hint = f"Is {sep!r} the separator, and does a text hold it?"
            yield place.fault(f"has {len(row)} columns, not {width}.", hint=hint)
    if empty:
        raise Place(path).fault("has a header line and no rows.")


def _told_apart(names: Sequence[str]) -> list[str]:
    """Column names; one that is there already has a number."""
    return [name if name not in names[:at] else f"{name}.{names[:at].count(name)}" for at, name in enumerate(names)]


_SEP_OF_EXCEL = re.compile(r"sep=(.)", re.IGNORECASE)  # on the first line, for Excel alone


def _hint_at_separator(header: str, sep: str) -> str:
    """What to say where another separator is more frequent in a header line."""
    other = max(",;\t|", key=header.count)
    if header.count(other) <= header.count(sep):
        return ""
    return f"Do {other!r} separate the columns? Then say sep={other!r} (on the command line --sep {other!r})."


def _is_quoted(path: Path, sep: str, options: Options, by_default: bool) -> bool:
    """Whether the '"' of a table are those of a program that quotes cells, and not of its texts.

    A program opens and closes cells with them, and doubles those inside. One '"' elsewhere, as in
    GLUE's tables, and all are plain characters. Programs quote all texts, or the cells that have to
    be: without their quotes rows would have more columns or fewer. If only some cells stand in
    quotes, and none had to, either reading may be right: a warning says which one is taken. (What
    seems a cell of several lines is then two texts: one opens a quote and the other closes one.)
    """
    cell = rf'"[^"]*+(?:""[^"]*+)*+"|[^"{re.escape(sep)}]*+'
    whole_row = re.compile(rf"(?:{cell})(?:{re.escape(sep)}(?:{cell}))*+")
    parts: list[str] = []  # the lines of a row
    opened = rows = quoted = 0
    several_lines = doubled = False
    widths = {len(options.names)} if options.names else set()
    for place, line in lines(path, options.encoding):
        parts.append(line)
        opened += line.count('"')
        if line.strip():
            widths.add(line.count(sep) + 1)
        if opened % 2:
            continue  # the cell goes on
        rows += 1
        if opened:
            row = "\n".join(parts)
            if not whole_row.fullmatch(row):
                if quoted > 1 and 2 * quoted >= rows:
                    warnings.warn(
                        f"{place} is not quoted like the rows above, so quotes are part of texts", stacklevel=2
                    )
                return False
            quoted += 1
            several_lines = several_lines or len(parts) > 1
            doubled = doubled or any('"' in text for text in _QUOTED.findall(row))
        parts, opened = [], 0
    if parts or not quoted:
        return False
    all_rows = quoted == rows or (quoted == rows - 1 and not several_lines)  # the header may have no quotes
    if len(widths) > 1 or all_rows or (doubled and not several_lines):
        return True
    removed = by_default and not several_lines
    warnings.warn(
        f"{path} has cells in double quotes, which are {'not ' if removed else ''}part of the text as it is read; "
        f"{'--no-quoting keeps' if removed else '--quoting removes'} them",
        stacklevel=2,
    )
    return removed


_QUOTED = re.compile(r'"([^"]*+(?:""[^"]*+)*+)"')


def _quoted_rows(content: Iterable[tuple[Place, str]], first: Place, sep: str) -> Iterator[tuple[Place, list[str]]]:
    """The place where each row begins, and its columns."""
    before = csv.field_size_limit(LONGEST_LINE)
    rows = csv.reader((line + "\n" for _, line in content), delimiter=sep, strict=True)
    place, above = first, (first.line or 1) - 1
    try:
        for row in rows:
            yield place, row
            place = first._replace(line=above + rows.line_num + 1)
    except csv.Error as problem:
        raise place.fault(
            f"cannot be parsed: {problem}.",
            hint="Is a quote left open? quoting=False (on the command line --no-quoting) takes a "
            "quote as a plain character.",
        ) from problem
    finally:
        csv.field_size_limit(before)


def json_table(path: Path, options: Options) -> Iterator[Row]:
    """Rows as JSON, an object on each line or in one of the forms in json_tables.py."""
    for place, values in json_tables.rows(path, options.columns, options.encoding):
        yield values if isinstance(values, DataError) else record(place, values, options.columns)


def conll(path: Path, options: Options) -> Iterator[Row]:
    """Sentences: the first column is the word, the last one its tag; a blank line ends one.

    Tabs separate the columns, or spaces if the first word has no tab after it.
    Lines that begin with -DOCSTART-, which separate documents in CoNLL-2003, are not words.
    """
    sep, tagged = options.sep, options.columns.label is not None
    rows: list[list[str]] = []
    first = Place(path)
    width = 0
    wrong: DataError | None = None  # what is wrong with the sentence

    def sentence() -> Row:
        if wrong is not None:
            return wrong
        tags = tuple(row[-1].strip() for row in rows) if tagged else None
        return Record(first.guid, tuple(row[0] for row in rows), label=tags)

    for place, content in lines(path, options.encoding):
        if content.strip() and not content.startswith("-DOCSTART-"):
            if sep is None:  # without a tab a word has no tag, so white space is what separates them
                sep = "\t" if "\t" in content or not tagged else " "
            row = content.split(None if sep == " " else sep)
            width = width or len(row)
            wrong = wrong or _wrong_word(place, row, sep, width, tagged)
            first = first if rows else place
            rows.append(row)
        elif rows:
            yield sentence()
            rows, wrong = [], None
    if rows:
        yield sentence()


def _wrong_word(place: Place, row: Sequence[str], sep: str, width: int, tagged: bool) -> DataError | None:
    """What is wrong with a line: it has a word, its tag, as many columns as the lines before."""
    fault = None
    if not row[0].strip():
        fault = "a tag without a word"
    elif tagged and (len(row) < 2 or not row[-1].strip()):
        fault = "a word without a tag"
    elif len(row) != width:
        fault = f"{len(row)} columns, not {width}"
    if fault is None:
        return None
    return place.fault(f"has {fault}: {sep.join(row)!r:.50}.", hint=f"Is {sep!r} the separator?")


def squad(path: Path, options: Options) -> Iterator[Row]:
    """Questions with their contexts and answers, in the JSON of SQuAD 1.1 and 2.0.

    Rajpurkar et al. 2016 and 2018: data > paragraphs (context) > qas (question, id, answers, and in
    2.0 is_impossible).
    """
    file = Place(path)
    content = "".join(text for _, text in raw_lines(path, json_tables.LONGEST_JSON, options.encoding))
    if not content.strip():
        raise file.fault("is empty.")
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise file.fault(f"is not JSON: {problem}.") from problem
    seen: set[str] = set()
    for article, at in _items(whole, "data", file):
        for paragraph, under in _items(article, "paragraphs", at):
            for item, place in _items(paragraph, "qas", under):
                found = usable(_of_squad, place, {**item, "context": paragraph.get("context")})
                if isinstance(found, Record) and found.where in seen:
                    found = place.fault(f"has the id {found.where!r:.50}, which an earlier one has.", key="id")
                seen.add(found.where if isinstance(found, Record) else str(place))
                yield found
    if not seen:
        raise file.fault("holds no questions.")


def _of_squad(place: Place, item: Mapping[str, Any]) -> Record:
    found = question(place, item)
    impossible = item.get("is_impossible")
    if isinstance(impossible, bool) and impossible == bool(found.label):
        raise place.fault(f"has is_impossible {impossible} and {len(found.label)} answers.", key="is_impossible")
    return found


def _items(parent: Any, key: str, place: Place) -> Iterator[tuple[Mapping, Place]]:
    """The objects of the list parent[key], each with its place."""
    items = parent.get(key) if isinstance(parent, Mapping) else None
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        raise place.fault(
            f"has no list {key!r} of objects: it is not in the form of SQuAD.",
            key=key,
            hint="A table of texts as JSON has an object on each line, or is a list of objects.",
        )
    for number, item in enumerate(items):
        yield item, place.item(key, number)


def parquet(path: Path, options: Options) -> Iterator[Row]:
    """The rows of a table, with the class names that data sets of the Hub have in its metadata."""
    columns = options.columns
    try:
        import pyarrow.lib
        import pyarrow.parquet
    except ImportError as problem:
        raise Place(path).fault(
            "is a parquet file, and pyarrow is not installed.", hint="pip install 'minibert[parquet]'"
        ) from problem
    try:
        size_of_file(path, DataError)
        with open(path, "rb") as beginning:
            require_content(path, beginning.read(64), DataError)
        file = pyarrow.parquet.ParquetFile(path)
        names = file.schema_arrow.names
        require_once(Place(path), names, columns.wanted)
        require_columns(Place(path, 1), names, columns)
        more = (columns.part, *(["id"] if columns.question else []))
        wanted = [*columns.wanted, *(name for name in more if name in names and name not in columns.wanted)]
        stored = _stored_names(path, file.schema_arrow.metadata or {}, columns.label)
        by_number = dict(enumerate(stored or ()))
        named = stored is not None and not columns.choices and columns.question is None
        found, unpacked = None, 0
        places = (Place(path, number) for number in itertools.count(1))
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=None if columns.others else wanted):
            rows = batch.to_pylist()
            unpacked += sum(map(_size_of_row, rows))
            check_unpacked(path, unpacked)
            for values in rows:
                found = record(next(places), values, columns)
                if named and isinstance(found, Record):
                    found = found._replace(label=_named(found.label, by_number), names=stored)
                yield found
    except (OSError, ValueError, pyarrow.lib.ArrowException) as problem:
        raise DataError(f"{path} could not be read: {problem}.", path=path) from problem
    if found is None:
        raise Place(path).fault("has no rows.")


def _size_of_row(row: Mapping[str, Any]) -> int:
    return BYTES_OF_A_LINE + sum(map(_size_of, row.values()))


def _size_of(value: Any) -> int:
    """Characters of a text, or of all the texts in a list or a mapping of lists."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return len(value) + sum(map(_size_of, value))
    return len(value) if isinstance(value, str) else 0


def _stored_names(path: Path, metadata: Mapping[bytes, bytes], column: str | None) -> tuple[str, ...] | None:
    """The names of a class label, or of a list of them, in the metadata of a Hub data set."""
    fault = Place(path).fault("has metadata 'huggingface' that do not describe the columns.", key="huggingface")
    try:
        feature = json.loads(metadata.get(b"huggingface", b"{}"))
        for key in ("info", "features", column):
            feature = feature.get(key, {})
        while "names" not in feature and "feature" in feature:
            feature = feature["feature"]
        names = feature.get("names")
    except (ValueError, RecursionError, AttributeError, TypeError) as problem:
        raise fault from problem
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise fault
    return tuple(names)


def _named(label: Any, names: Mapping[int, str]) -> Any:
    """A label, or each of several, with its name in place of its number."""
    if isinstance(label, (list, tuple)):
        return type(label)(_named(one, names) for one in label)
    if isinstance(label, int):
        return "" if label == -1 else names.get(label, label)  # -1 is what the Hub writes for a missing label
    return label


class Format(NamedTuple):
    """A format of files.

    Attributes:
        read: its function.
        suffixes: what names of such files end in, in small letters.
        nameless: what such files hold, where columns cannot be chosen by name.
        takes: the `Options` that have an effect on how such files are read, beside the columns.
    """

    read: Callable[[Path, Options], Iterable[Row]]
    suffixes: tuple[str, ...] = ()
    nameless: str = ""
    takes: tuple[str, ...] = ()


_TABLE = ("sep", "names", "quoting", "encoding")
FORMATS = {
    "csv": Format(comma_separated, (".csv",), takes=_TABLE),
    "tsv": Format(tab_separated, (".tsv",), takes=_TABLE),
    "lines": Format(text_lines, (".txt",), "Plain lines", ("encoding",)),
    "jsonl": Format(json_table, (".jsonl", ".json", ".ndjson"), takes=("encoding",)),
    "parquet": Format(parquet, (".parquet",)),
    "conll": Format(conll, (".conll",), "Tagged words", ("sep", "encoding")),
    "squad": Format(squad, nameless="Questions", takes=("encoding",)),  # a .json file whose content says so
    "folder": Format(one_text, nameless="Files of one text", takes=("encoding",)),
}
SUFFIXES = {suffix: name for name, format in FORMATS.items() for suffix in format.suffixes}


def require_effect(path: Path, chosen: str, options: Options, format: str | None = None) -> None:
    """Raises ConfigError if an option was given that has no effect on files of a format."""
    given = {key: getattr(options, key) for key in _TABLE}
    unused = [key for key, value in given.items() if value is not None and key not in FORMATS[chosen].takes]
    unused += ["format"] if format not in (None, chosen) else []
    for key in unused:
        raise ConfigError(
            f"{key} has no effect on {path}, which is read as {chosen}.", path=path, key=key, hint="Leave it out."
        )
