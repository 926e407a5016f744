"""Readers: files of labelled text to records, one function for each format.

A file is taken to be wrong until it is read: nothing is dropped in silence, and what cannot be used
is an error that names the file, the line and the column. Files are read line by line, and a line
has a largest length, as has what a packed file unpacks to, so that no file fills the memory.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minibert.io.errors import ConfigError, DataError
from minibert.io.files import half_a_pair, size_of_file
from minibert.workbench.data.examples import Answer

# Bytes. A text of a million characters, the most that is tokenised, takes 12 MB at worst, in JSON.
LONGEST_LINE = 32 * 2**20
LONGEST_JSON = 256 * 2**20  # of questions, in a file of one line; SQuAD 2.0 has 42 MB

# Text packs to a third or a tenth of its size. Above 100 MB, a file that unpacks to more than 200
# times its size was made to fill a memory. A line counts for what a record takes beside its text.
_MOST_UNPACKED = 200
_NEVER_TOO_MUCH = 100 * 2**20
_BYTES_OF_A_LINE = 100

_ROWS_AT_ONCE = 64  # of a parquet file, where a few bytes can stand for many long texts

_NAME_THE_COLUMNS = (
    "Name the columns to read: text, text_pair, label "
    "(on the command line --text, --text-pair, --label)."
)
_NAME_THE_TEXT = "Name the column of the text (on the command line --column or --text)."
_NO_HEADER = (
    "Has the file no header line? Then name its columns: names "
    "(on the command line --names text label)."
)


class Columns(NamedTuple):
    """The names of the columns to read."""

    text: str
    text_pair: str | None
    label: str | None
    choices: tuple[str, ...] = ()  # one column with a list, or several with a text each
    question: str | None = None

    @property
    def wanted(self) -> list[str]:
        named = (self.text, self.text_pair, self.label, *self.choices, self.question)
        return [column for column in named if column is not None]


# The columns of the Hub's SQuAD and of data sets made like it; there is an `id`, too.
QUESTIONS = Columns(text="context", text_pair=None, label="answers", question="question")


class Record(NamedTuple):
    """What a file says, before labels become indices."""

    where: str  # file and line; of a question its id, if it has one
    text: str | tuple[str, ...]
    text_pair: str | None
    # As the file spells it; one for each word of a tagged sentence. What needs no names is as an
    # example holds it: the answers to a question, the place of a choice.
    label: Any
    choices: tuple[str, ...] | None = None
    question: str | None = None


def lines(path: Path) -> list[Record]:
    """A text on each line, no labels."""
    return [Record(f"{path}:{line}", text, None, None) for line, text in _lines(path)]


def review(path: Path, label: str | None) -> Record:
    """One text, the whole file, with its label."""
    return Record(str(path), "".join(text for _, text in _raw_lines(path)), None, label)


def separated(
    path: Path, columns: Columns, sep: str, names: Sequence[str] | None, quoting: bool
) -> list[Record]:
    """Values with a separator between them; a header line, unless `names` are given."""
    if quoting and (len(sep) != 1 or sep in '"\r\n'):
        raise ConfigError(
            f"The separator is {sep!r}, and has to be one character in a file where '\"' quotes.",
            key="sep",
            hint="quoting=False (on the command line --no-quoting) takes any.",
        )
    rows = _split_rows(path, sep, quoting)
    if names is None:
        line, names = next(rows)
        if not "".join(names).strip():
            raise _empty_line(path, line)
        _check_once(path, names)
        _require_columns(path, line, names, columns, hint=f"{_NAME_THE_COLUMNS} {_NO_HEADER}")
    records = []
    for line, row in rows:
        if len(row) != len(names):
            if len(row) < 2 and not "".join(row).strip():
                raise _empty_line(path, line)
            raise DataError(
                f"{path}, line {line} has {len(row)} columns, not {len(names)}.",
                path=path,
                key=f"line {line}",
                hint=f"Is {sep!r} the separator, and does a text hold it?",
            )
        records.append(_record(path, line, dict(zip(names, row, strict=True)), columns))
    if not records:
        raise DataError(
            f"{path} has a header line and no rows.",
            path=path,
        )
    return records


def jsonl(path: Path, columns: Columns) -> list[Record]:
    """A JSON object on each line."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            _check_once(path, [key for key, _ in pairs], f", line {line}")
        return result

    decoder = json.JSONDecoder(object_pairs_hook=unique)  # json.loads would make one for each line
    records = []
    for line, content in _lines(path):
        if not content.strip():
            raise _empty_line(path, line)
        value = _json_of_line(path, line, content, decoder)
        if not isinstance(value, dict):
            raise DataError(
                f"{path}, line {line} is {type(value).__name__}, not a JSON object.",
                path=path,
                key=f"line {line}",
            )
        records.append(_record(path, line, value, columns))
    return records


def conll(path: Path, sep: str, tagged: bool) -> list[Record]:
    """Sentences: the first column is the word, the last one its tag; a blank line ends one.

    Lines that begin with -DOCSTART-, which part documents in CoNLL-2003, are no words.
    """
    records: list[Record] = []
    rows: list[list[str]] = []
    start = width = 0

    def sentence() -> Record:
        tags = tuple(row[-1].strip() for row in rows) if tagged else None
        return Record(f"{path}:{start}", tuple(row[0] for row in rows), None, tags)

    for line, content in _lines(path):
        if content.strip() and not content.startswith("-DOCSTART-"):
            row = content.split(sep)
            width = width or len(row)
            _check_word(path, line, row, sep, width, tagged)
            start = line if not rows else start
            rows.append(row)
        elif rows:
            records.append(sentence())
            rows = []
    return [*records, sentence()] if rows else records


def squad(path: Path) -> list[Record]:
    """Questions with their contexts and answers, in the JSON of SQuAD 1.1 and 2.0.

    Rajpurkar et al. 2016 and 2018: data > paragraphs (context) > qas (question, id, answers, and in
    2.0 is_impossible).
    """
    content = "".join(text for _, text in _raw_lines(path, LONGEST_JSON))
    if not content.strip():
        raise DataError(f"{path} is empty.", path=path)
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{path} is not JSON: {problem}.", path=path) from problem
    records: list[Record] = []
    seen: set[str] = set()
    for article, at in _items(path, whole, "data", str(path)):
        for paragraph, under in _items(path, article, "paragraphs", at):
            for item, here in _items(path, paragraph, "qas", under):
                values = {**item, "context": paragraph.get("context")}
                record = _question(path, None, values, here)
                said = item.get("is_impossible")
                if isinstance(said, bool) and said == bool(record.label):
                    raise DataError(
                        f"{here} has is_impossible {said} and {len(record.label)} answers.",
                        path=path,
                        key="is_impossible",
                    )
                if record.where in seen:
                    raise DataError(
                        f"{here} has the id {record.where!r:.50}, which an earlier one has.",
                        path=path,
                        key="id",
                    )
                seen.add(record.where)
                records.append(record)
    if not records:
        raise DataError(
            f"{path} holds no questions.",
            path=path,
        )
    return records


def _items(path: Path, parent: Any, key: str, where: str) -> Iterator[tuple[Mapping, str]]:
    """The objects of the list parent[key], each with its place in the file for messages."""
    items = parent.get(key) if isinstance(parent, Mapping) else None
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        raise DataError(
            f"{where} has no list {key!r} of objects: it is not in the form of SQuAD.",
            path=path,
            key=key,
            hint="A .json file is read as questions and answers; a table of texts as JSON is "
            ".jsonl, an object on each line.",
        )
    for number, item in enumerate(items):
        yield item, f"{where}, {key}[{number}]"


def parquet(path: Path, columns: Columns) -> tuple[list[Record], tuple[str, ...] | None]:
    """The rows, and the label names that data sets of the Hub keep in the file's metadata."""
    try:
        import pyarrow.lib
        import pyarrow.parquet
    except ImportError as problem:
        raise DataError(
            f"{path} is a parquet file, and pyarrow is not installed.",
            path=path,
            hint="pip install 'minibert[parquet]'",
        ) from problem
    try:
        size_of_file(path, DataError)
        file = pyarrow.parquet.ParquetFile(path)
        names = file.schema_arrow.names
        _check_once(path, names)
        _require_columns(path, 1, names, columns, hint=_NAME_THE_COLUMNS)
        wanted = [*columns.wanted, *(["id"] if columns.question and "id" in names else [])]
        rows: list[dict[str, Any]] = []
        unpacked = 0
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=wanted):
            rows += batch.to_pylist()
            unpacked += sum(map(_size_of_row, rows[-batch.num_rows :]))
            _check_unpacked(path, unpacked)
    except (OSError, ValueError, pyarrow.lib.ArrowException) as problem:
        raise DataError(f"{path} could not be read: {problem}.", path=path) from problem
    records = [_record(path, row, values, columns) for row, values in enumerate(rows, start=1)]
    if not records:
        raise DataError(
            f"{path} has no rows.",
            path=path,
        )
    stored = _stored_names(path, file.schema_arrow.metadata or {}, columns.label)
    if stored is None or columns.choices or columns.question is not None:
        return records, None  # a place has no name, whatever the file says
    named = dict(enumerate(stored))
    return [record._replace(label=_replaced(record.label, named)) for record in records], stored


# Lines


def _raw_lines(path: Path, longest: int = LONGEST_LINE) -> Iterator[tuple[int, str]]:
    """Number and text of each line with its end, unpacked if the file ends in .gz.

    Only a line feed ends a line. A byte-order mark at the beginning is no part of the text.
    """
    unpacked = 0
    try:
        size_of_file(path, DataError)
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            for line in itertools.count(1):
                raw = file.readline(longest + 1)
                if not raw:
                    return
                unpacked += len(raw) + _BYTES_OF_A_LINE
                _check_unpacked(path, unpacked)
                yield line, _decoded(path, line, raw, longest)
    except (OSError, EOFError, zlib.error) as problem:
        raise DataError(f"{path} could not be read: {problem}.", path=path) from problem


def _decoded(path: Path, line: int, raw: bytes, longest: int) -> str:
    if len(raw) > longest:
        raise DataError(
            f"{path}, line {line} has more than {longest} bytes.",
            path=path,
            key=f"line {line}",
            hint="Is it a text file? A text on one line may have a million characters.",
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        column = len(raw[: problem.start].decode("utf-8")) + 1
        raise DataError(
            f"{path}, line {line}, column {column} is not UTF-8: byte 0x{raw[problem.start]:02x}.",
            path=path,
            key=f"line {line}",
            hint="Convert the file (iconv -t utf-8).",
        ) from problem
    return text.removeprefix("\ufeff") if line == 1 else text


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line, without the line feed and a return before it."""
    blank = True
    for line, text in _raw_lines(path):
        text = text.removesuffix("\n").removesuffix("\r")
        blank = blank and not text.strip()
        yield line, text
    if blank:
        raise DataError(f"{path} is empty.", path=path)


def _split_rows(path: Path, sep: str, quoting: bool) -> Iterator[tuple[int, list[str]]]:
    """Number of the line that a row begins on, and the columns of the row."""
    if not quoting:
        yield from ((line, row.split(sep)) for line, row in _lines(path))
        return
    before = csv.field_size_limit(LONGEST_LINE)
    rows = csv.reader((line + "\n" for _, line in _lines(path)), delimiter=sep, strict=True)
    start = 1
    try:
        for row in rows:
            yield start, row
            start = rows.line_num + 1
    except csv.Error as problem:
        raise DataError(
            f"{path}, line {start} cannot be parsed: {problem}.",
            path=path,
            key=f"line {start}",
            hint="Is a quote left open? quoting=False (on the command line --no-quoting) takes a "
            "quote as a plain character.",
        ) from problem
    finally:
        csv.field_size_limit(before)


def _json_of_line(path: Path, line: int, content: str, decoder: json.JSONDecoder) -> Any:
    try:
        return decoder.decode(content)
    except json.JSONDecodeError as problem:
        where = f"{path}, line {line}, column {problem.colno}"
        raise DataError(
            f"{where} is not JSON: {problem.msg}.", path=path, key=f"line {line}"
        ) from problem
    except (ValueError, RecursionError) as problem:  # a number of 5,000 digits; too deep
        raise DataError(
            f"{path}, line {line} is not JSON: {problem}.", path=path, key=f"line {line}"
        ) from problem


# Faults


def _check_unpacked(path: Path, unpacked: int) -> None:
    if unpacked <= _NEVER_TOO_MUCH:
        return
    largest = max(_NEVER_TOO_MUCH, _MOST_UNPACKED * path.stat().st_size)
    if unpacked > largest:
        raise DataError(
            f"{path} has {path.stat().st_size} bytes and unpacks to more than {largest}.",
            path=path,
            hint="If that is right, unpack it first.",
        )


def _size_of_row(row: Mapping[str, Any]) -> int:
    return _BYTES_OF_A_LINE + sum(map(_size_of, row.values()))


def _size_of(value: Any) -> int:
    """Characters of a text, or of all the texts in a list or a mapping of lists."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return len(value) + sum(map(_size_of, value))
    return len(value) if isinstance(value, str) else 0


def _check_once(path: Path, names: Sequence[str], where: str = "") -> None:
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise DataError(f"{path}{where} has the column {name!r:.50} twice.", path=path, key=name)


def _check_word(
    path: Path, line: int, row: Sequence[str], sep: str, width: int, tagged: bool
) -> None:
    """One line of a CoNLL file: a word, its tag, as many columns as the lines before."""
    fault = None
    if not row[0].strip():
        fault = "a tag without a word"
    elif tagged and (len(row) < 2 or not row[-1].strip()):
        fault = "a word without a tag"
    elif len(row) != width:
        fault = f"{len(row)} columns, not {width}"
    if fault:
        raise DataError(
            f"{path}, line {line} has {fault}: {sep.join(row)!r:.50}.",
            path=path,
            key=f"line {line}",
            hint=f"Is {sep!r} the separator?",
        )


def _empty_line(path: Path, line: int) -> DataError:
    return DataError(
        f"{path}, line {line} is empty.",
        path=path,
        key=f"line {line}",
        hint="Remove it, or fill it in.",
    )


def _require_columns(
    path: Path, line: int, names: Sequence[str], columns: Columns, hint: str
) -> None:
    if columns.question is not None:
        hint = "A table of questions has the columns id, question, context, answers."
    for column in columns.wanted:
        if column not in names:
            # Without a header line the names are a whole text.
            raise DataError(
                f"{path}, line {line} has no column {column!r}; there are {', '.join(names):.200}.",
                path=path,
                key=column,
                hint=hint,
            )


# Records


def _record(path: Path, line: int, values: Mapping[str, Any], columns: Columns) -> Record:
    """The columns that were asked for, of one row."""
    hint = _NAME_THE_COLUMNS if columns.label is not None else _NAME_THE_TEXT
    _require_columns(path, line, list(values), columns, hint=hint)
    if columns.question is not None:
        return _question(path, line, values, f"{path}:{line}")
    tags = values[columns.label] if columns.label else []
    if _is_list_of_texts(values[columns.text]) and isinstance(tags, list):
        return _tagged(path, line, values, columns)
    for column in (columns.text, columns.text_pair):
        if column is not None:
            _check_text(path, line, column, values[column])
    if columns.choices:
        return _with_choices(path, line, values, columns)
    if line == 1:
        _warn_of_choices(path, values, columns)
    label = values[columns.label] if columns.label else None
    if columns.label and label in (None, ""):
        raise DataError(
            f"{path}, line {line} has no label in the column {columns.label!r}.",
            path=path,
            key=f"line {line}",
            hint="Fill it in, or remove the line; from Python label=None reads texts alone.",
        )
    for column in columns.wanted:
        _check_surrogates(path, line, column, values[column])
    pair = values[columns.text_pair] if columns.text_pair else None
    return Record(f"{path}:{line}", values[columns.text], pair, label)


def _check_text(path: Path, line: int, column: str, value: Any) -> None:
    if not isinstance(value, str):
        raise DataError(
            f"{path}, line {line} has {value!r:.50} as {column!r}, which is not text.",
            path=path,
            key=f"line {line}",
        )


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _tagged(path: Path, line: int, values: Mapping[str, Any], columns: Columns) -> Record:
    """A row whose text is a list of words, and whose label is a list of tags."""
    words: list[str] = values[columns.text]
    tags: list[Any] = values[columns.label] if columns.label else []
    for column in columns.wanted:
        _check_surrogates(path, line, column, values[column])
    if columns.label is None:
        return Record(f"{path}:{line}", tuple(words), None, None)
    if len(tags) != len(words) or not words:
        raise DataError(
            f"{path}, line {line} has {len(words)} words and {len(tags)} tags.",
            path=path,
            key=f"line {line}",
            hint=f"{columns.label!r} has to be a list with a tag for each word.",
        )
    return Record(f"{path}:{line}", tuple(words), None, tuple(tags))


def _with_choices(path: Path, line: int, values: Mapping[str, Any], columns: Columns) -> Record:
    """A row with texts to choose from: a list in one column, or a column for each."""
    one = values[columns.choices[0]]
    choices = one if len(columns.choices) == 1 else [values[name] for name in columns.choices]
    if not _is_list_of_texts(choices) or len(choices) < 2:
        raise DataError(
            f"{path}, line {line} has {choices!r:.50} as {', '.join(columns.choices)}, which is no "
            "list of 2 texts or more to choose from.",
            path=path,
            key=f"line {line}",
        )
    for column in columns.wanted:
        _check_surrogates(path, line, column, values[column])
    place = None
    if columns.label is not None:
        place = _place_of_choice(path, line, values[columns.label], choices)
    if columns.text_pair is not None:
        choices = [f"{values[columns.text_pair]} {choice}" for choice in choices]
    text = values[columns.text]
    return Record(f"{path}:{line}", text, None, place, choices=tuple(choices))


def _warn_of_choices(path: Path, values: Mapping[str, Any], columns: Columns) -> None:
    """Says of a list of texts that is not read where a whole number is the label of a text."""
    label = values[columns.label] if columns.label else None
    for name, value in values.items():
        if type(label) is int and name not in columns.wanted and _is_list_of_texts(value) and value:
            warnings.warn(
                f"{path} has a list of texts in the column {name!r}, which is not read: if the "
                f"label is the place of the right one, name it (--choices {name}).",
                stacklevel=2,
            )


def _place_of_choice(path: Path, line: int, label: Any, choices: Sequence[str]) -> int:
    """The place of the right choice, from 0; the file gives it, or the choice itself."""
    places = [
        place for place, choice in enumerate(choices) if label == choice or str(label) == str(place)
    ]
    if len(places) != 1:
        fault = "is the text or the place of several" if places else "is no choice"
        raise DataError(
            f"{path}, line {line} has the label {label!r:.50}, which {fault} of its "
            f"{len(choices)}.",
            path=path,
            key=f"line {line}",
            hint="In .jsonl a whole number is always a place.",
        )
    return places[0]


def _question(path: Path, line: int | None, values: Mapping[str, Any], where: str) -> Record:
    """A question with its context and answers, as a row of a table or as SQuAD's JSON has it."""
    here = f"{path}, line {line}" if line is not None else where
    guid = str(values["id"]) if values.get("id") else where
    texts = {"question": values.get("question"), "context": values.get("context"), "id": guid}
    for name, text in texts.items():
        place = half_a_pair(text) if isinstance(text, str) else None
        if not isinstance(text, str) or not text.strip() or place is not None:
            raise DataError(
                f"{here} has {text!r:.50} as its {name}, which is no text that can be read.",
                path=path,
                key=name,
            )
    answers = [
        _answer(path, here, values["context"], text, start)
        for text, start in _answers(path, here, values.get("answers"))
    ]
    return Record(guid, values["context"], None, tuple(answers), question=values["question"])


def _answers(path: Path, here: str, stored: Any) -> list[tuple[Any, Any]]:
    """(text, start) of each answer: SQuAD's JSON has a list of them, its tables two lists."""
    if isinstance(stored, list) and all(isinstance(one, Mapping) for one in stored):
        return [(one.get("text"), one.get("answer_start")) for one in stored]
    if isinstance(stored, Mapping):
        texts, starts = stored.get("text"), stored.get("answer_start")
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            return list(zip(texts, starts, strict=True))
    raise DataError(
        f"{here} has {stored!r:.50} as its answers, which is no list of text and answer_start.",
        path=path,
        key="answers",
        hint="A question without an answer has an empty list.",
    )


def _answer(path: Path, here: str, context: str, text: Any, start: Any) -> Answer:
    if not isinstance(text, str) or not text or type(start) is not int:
        raise DataError(
            f"{here} has an answer with the text {text!r:.50} and the start {start!r:.20}.",
            path=path,
            key="answers",
        )
    found = context[start : start + len(text)] if start >= 0 else ""
    if found != text:
        at = context.find(text)
        raise DataError(
            f"{here} has the answer {text!r:.50} at character {start}, but {found!r:.50} stands "
            "there.",
            path=path,
            key="answer_start",
            hint=f"It stands at {at}." if at >= 0 else "It is nowhere in the context.",
        )
    return Answer(text, start)


def _check_surrogates(path: Path, line: int, column: str, value: Any) -> None:
    """JSON can spell half of a surrogate pair, which is no text and cannot be written."""
    for text in map(str, value if isinstance(value, list) else [value]):
        place = half_a_pair(text)
        if place is not None:
            raise DataError(
                f"{path}, line {line} has half of a surrogate pair (U+{ord(text[place]):04X}) in "
                f"the column {column!r}, at character {place}.",
                path=path,
                key=f"line {line}",
                hint="Write the file again from the text that it was made of.",
            )


def _stored_names(
    path: Path, metadata: Mapping[bytes, bytes], column: str | None
) -> tuple[str, ...] | None:
    """The names of a class label, or of a list of them, in the metadata of a Hub data set."""
    try:
        feature = json.loads(metadata.get(b"huggingface", b"{}"))
        for key in ("info", "features", column):
            feature = feature.get(key, {})
        while "names" not in feature and "feature" in feature:
            feature = feature["feature"]
        names = feature.get("names")
    except (ValueError, RecursionError, AttributeError, TypeError) as problem:
        raise _no_features(path) from problem
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _no_features(path)
    return tuple(names)


def _no_features(path: Path) -> DataError:
    return DataError(
        f"{path} has metadata 'huggingface' in which the columns are not described.",
        path=path,
        key="huggingface",
    )


def _replaced(label: Any, names: Mapping[int, str]) -> Any:
    if isinstance(label, (list, tuple)):
        return type(label)(_replaced(one, names) for one in label)
    return names.get(label, label) if isinstance(label, int) else label
