"""Tables as JSON: an object on each line, or one value that holds every row.

pandas and datasets write both, under `.json` and `.jsonl` alike, so the content decides: a list of
objects, a list under some key, or what `DataFrame.to_json` writes with orient "columns" (its
default), "index", "split" and "table".
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from minibert.io.errors import DataError
from minibert.workbench.data.lines import Place, empty_line, lines, opened, raw_lines, without_blanks
from minibert.workbench.data.records import Columns, require_once, usable

LONGEST_JSON = 256 * 2**20  # bytes, of a file that is one value; SQuAD 2.0 has 42 MB

_FORMS = "As JSON a table is an object on each line, or a list of objects; questions are in the form of SQuAD."
_HEAD = 2**16  # bytes
_PARAGRAPHS = re.compile(rb'(?<!\\)"paragraphs"\s*:\s*\[')  # in a text its quotes would be escaped


def is_squad(path: Path) -> bool:
    """Whether a file of JSON begins as SQuAD's do: one object, with paragraphs in it."""
    with opened(path) as file:
        head = file.read(_HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith(b"{") and _PARAGRAPHS.search(head) is not None


def rows(
    path: Path, columns: Columns, encoding: str | None = None
) -> Iterator[tuple[Place, Mapping[str, Any] | DataError]]:
    """The rows of a table, or what is wrong with one, each with its place."""
    for place, values in _values(path, columns, encoding):
        if not isinstance(values, (dict, DataError)):
            values = place.fault(f"is {type(values).__name__}, not a JSON object.", hint=_FORMS)
        yield place, values


def _values(path: Path, columns: Columns, encoding: str | None) -> Iterator[tuple[Place, Any]]:
    with opened(path, encoding) as file:
        is_list = file.read(_HEAD).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    content = lines(path, encoding)
    first = None if is_list else next(content)
    if first is None or _goes_on(first[1]):
        text = "".join(part for _, part in raw_lines(path, LONGEST_JSON, encoding)).rstrip()
        whole = _table(_decoded(Place(path), text, columns), columns)
        if whole is None:
            raise Place(path).fault("holds no table.", hint=_FORMS)
        yield from _numbered(path, whole)
        return
    second = next(content, None)
    values = _decoded(*first, columns)
    if second is None and (whole := _table(values, columns)) is not None:
        yield from _numbered(path, whole)
        return
    yield first[0], values
    for place, line in without_blanks(itertools.chain([second] if second else [], content), _is_blank):
        yield place, line if isinstance(line, DataError) else usable(_decoded, place, line, columns)


def _is_blank(text: str) -> bool:
    return not text.strip()


def _goes_on(line: str) -> bool:
    """Whether the JSON that begins on a line ends on a later one."""
    try:
        json.loads(line)
    except json.JSONDecodeError as problem:
        return bool(line.strip()) and problem.pos >= len(line.rstrip())
    except (ValueError, RecursionError):
        pass
    return False


def _decoded(place: Place, text: str, columns: Columns) -> Any:
    """One value; a key that is asked for must not be there twice."""
    if not text.strip():
        raise empty_line(place)
    asked = {*columns.wanted, "text", "answer_start"}  # the last two are keys of an answer

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            require_once(place, [key for key, _ in pairs], asked)
        return values

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as problem:
        line = place if place.line else place._replace(line=problem.lineno)
        raise line.column(problem.colno).fault(f"is not JSON: {problem.msg}.") from problem
    except (ValueError, RecursionError) as problem:  # a number of 5,000 digits; too deep
        raise place.fault(f"is not JSON: {problem}.") from problem


def _table(whole: Any, columns: Columns) -> Sequence[Any] | None:
    """The rows of a table that is one value; None if it is something else, such as a row."""
    if isinstance(whole, list):
        return whole
    if not isinstance(whole, dict) or not whole:
        return None
    names, cells = whole.get("columns"), whole.get("data")
    if isinstance(cells, list) and _are(list, cells) and isinstance(names, list):  # orient="split"
        return [dict(zip(names, row, strict=False)) for row in cells]
    if _are(dict, list(whole.values())):
        if columns.text in whole:  # orient="columns"
            return [{name: whole[name].get(key) for name in whole} for key in whole[columns.text]]
        return list(whole.values())  # orient="index"
    if _are(list, list(whole.values())) and any(" " in str(text) for text in whole.get(columns.text, ())):
        # A list for each column; without a space they would be the words of one row, and their tags.
        return [dict(zip(whole, row, strict=True)) for row in itertools.zip_longest(*whole.values())]
    lists = [value for value in whole.values() if _are(dict, value)]
    # orient="table", and {"version": ..., "data": [...]}
    return lists[0] if len(lists) == 1 and columns.text not in whole else None


def _are(kind: type, values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, kind) for value in values)


def _numbered(path: Path, values: Sequence[Any]) -> Iterator[tuple[Place, Any]]:
    if not values:
        raise Place(path).fault("holds no rows.")
    for number, row in enumerate(values, start=1):
        yield Place(path, number, unit="row"), row
