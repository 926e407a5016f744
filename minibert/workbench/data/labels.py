"""Labels: from what a file spells to numbers, or to indices into the names of classes.

What the labels of a file are is decided by the rules in label_rules.py, over all of them.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from minibert.io.errors import ConfigError, DataError
from minibert.workbench.data import label_rules
from minibert.workbench.data.records import Record
from minibert.workbench.data.tag_schemes import both_tags_of_each_type, is_iob

_LISTED = 6  # of the names or labels in a message


class Labels(NamedTuple):
    """The labels of a file.

    Attributes:
        values: of each record, as an example holds it; a DataError where it cannot be used.
        names: the classes that indices stand for; None where there are none.
        reason: why the labels are taken for what they are, for people.
    """

    values: list[Any]
    names: tuple[str, ...] | None = None
    reason: str = ""


def read_labels(
    records: Sequence[Record],
    names: Sequence[str] | None = None,
    problem_type: str | None = None,
    sep: str | None = None,
) -> Labels:
    """The label of each record.

    Args:
        names: the classes in order; None for those that the file has, or else all labels, sorted.
        problem_type: what the labels are; None to tell by their looks (see label_rules.py).
        sep: what separates several names in one text.

    Raises:
        DataError: the labels as a whole cannot be read, or one of them is not among `names`.
        ConfigError: `sep` separates nothing.
    """
    first, labels = records[0], [record.label for record in records]
    if sep is not None and names is None and not any(isinstance(label, str) and sep in label for label in labels):
        raise ConfigError(f"label_sep is {sep!r}, which separates nothing in the labels.", key="label_sep")
    if first.label is None:
        return Labels(labels)
    if first.question is not None:
        return Labels(labels, reason="questions have answers")
    if first.choices is not None:
        return Labels(labels, reason="texts have choices")
    names = names or first.names
    if isinstance(first.text, tuple):
        return _tags(records, names)
    return _of_texts(records, _tidy(records, sep), names, problem_type)


def _tidy(records: Sequence[Record], sep: str | None) -> list[Any]:
    """The labels without white space around names, which one warning counts, and split at `sep`."""
    labels = [record.label for record in records]
    if sep is not None:
        labels = [_split(label, sep) for label in labels]
    spaced: Counter[str] = Counter()

    def stripped(label: Any) -> Any:
        if isinstance(label, list):
            return [stripped(one) for one in label]
        if not isinstance(label, str) or label == label.strip():
            return label
        spaced[label] += 1
        return label.strip()

    tidy = [stripped(label) for label in labels]
    if spaced and sep is None:
        warnings.warn(
            f"labels of {_file(records[0])} have white space around them, which is left out: {_counted(spaced)}",
            stacklevel=4,
        )
    return tidy


def _split(label: Any, sep: str) -> Any:
    if not isinstance(label, str) or label_rules.is_missing(label.strip()):
        return label
    return [name for name in label.split(sep) if name.strip()]


def _of_texts(
    records: Sequence[Record], labels: Sequence[Any], names: Sequence[str] | None, problem_type: str | None
) -> Labels:
    values = [
        _missing(record) if label_rules.is_missing(label) and label not in (names or ()) else label
        for record, label in zip(records, labels, strict=True)
    ]
    there = [row for row, value in enumerate(values) if not isinstance(value, DataError)]
    if not there:
        return Labels(values)
    given = [labels[row] for row in there]
    _require_readable(records[there[0]], given, problem_type)
    reading = label_rules.reading_of(given, problem_type, len(names) if names else None)
    for row in there:
        try:
            values[row] = reading.convert(labels[row])
        except ValueError as problem:
            values[row] = _fault(records[row], labels[row], f"{problem}.")
    if reading.problem_type == "regression":
        return Labels(values, None, reading.reason)
    read = {row: values[row] for row in there if not isinstance(values[row], DataError)}
    if names is None:
        found = range(reading.width) if reading.width else (name for value in read.values() for name in _several(value))
        names = _sorted(set(map(str, found)))
        _warn_of_separator(records[0], names)
        if is_iob(names):
            warnings.warn(
                f"labels of {_file(records[0])} tag entities, but each row is read as a text of its own; words in "
                "sentences are a .conll file, or lists of words and of tags",
                stacklevel=5,
            )
    several = reading.problem_type == "multi_label_classification"
    for row, places in _places(records, read, names).items():
        values[row] = tuple(float(place in places) for place in range(len(names))) if several else places[0]
    return Labels(values, tuple(names), reading.reason)


def _require_readable(first: Record, labels: Sequence[Any], problem_type: str | None) -> None:
    """Raises DataError if the labels are not all lists, or none, or are no labels at all."""
    lists = [isinstance(label, list) for label in labels]
    if any(lists) and not all(lists):
        other = labels[lists.index(not lists[0])]
        raise _fault(
            first, labels[0], f"but others are like {other!r:.50}: either all are lists of labels, or none are."
        )
    found = label_rules.objection(labels, problem_type)
    if found is not None:
        what, hint = found
        raise _fault(first, labels[0], f"{what}, as in the other rows.", hint)


def _places(records: Sequence[Record], values: Mapping[int, Any], names: Sequence[str]) -> dict[int, list[int]]:
    """The places of labels among the names of the classes, by row.

    Raises:
        DataError: a label is not among them.
    """
    place_of = {label_rules.whole_name(name): place for place, name in enumerate(names)}
    place_of |= {name: place for place, name in enumerate(names)}
    by_number = not any(map(label_rules.WHOLE.fullmatch, names))  # the places of names, in a file without them
    unknown: Counter[str] = Counter()
    places: dict[int, list[int]] = {}
    numbers, first = False, None
    for row, value in values.items():
        places[row] = []
        for name in _several(value):
            whole = label_rules.whole_name(name)
            place = name if isinstance(name, int) else place_of.get(name, place_of.get(whole))
            if place is None and by_number and whole.isdecimal() and int(whole) < len(names):
                place, numbers = int(whole), True
            if place is None:
                unknown[name] += 1
                first = records[row] if first is None else first
            else:
                places[row].append(place)
    if first is not None:
        raise _unknown(first, unknown, names)
    if numbers:
        _warn_of_numbers(records[0], names)
    return places


def _unknown(first: Record, found: Counter[str], names: Sequence[str]) -> DataError:
    """The error of labels that are not among the names of the classes."""
    label = next(iter(found))
    alike = [name for name in names if name.casefold() == label.casefold()]
    more = "" if found.total() == 1 else f" {found.total():,} rows have such labels: {_counted(found)}."
    return _fault(
        first,
        label,
        f"which is not one of {', '.join(names):.200}.{more}",
        f"Is it {alike[0]!r:.50}, spelt otherwise?" if alike else None,
    )


def _warn_of_numbers(first: Record, names: Sequence[str]) -> None:
    """Says which name each number was taken for: the file may number its classes otherwise."""
    read_as = [f"{index} = {name}" for index, name in enumerate(names[:_LISTED])]
    rest = ", ..." if len(names) > _LISTED else ""
    warnings.warn(f"labels of {_file(first)} are numbers: read as {', '.join(read_as)}{rest}", stacklevel=6)


def _warn_of_separator(first: Record, names: Sequence[str]) -> None:
    """Says so where names look like several names in one, such as "joy,sadness" beside "joy"."""
    for sep in ",;|":
        joined = [[part.strip() for part in name.split(sep)] for name in names if sep in name]
        parts = Counter(part for name in joined for part in name)
        known = [part for part, count in parts.items() if part in names or count > 1]
        if joined and 2 * len(known) >= len(parts):
            label = next(name for name in names if sep in name)
            warnings.warn(
                f"labels of {_file(first)} such as {label!r:.50} are read as one class each; --label-sep {sep!r} takes "
                "them as several labels",
                stacklevel=6,
            )
            return


def _tags(records: Sequence[Record], names: Sequence[str] | None) -> Labels:
    """Of tagged sentences, a tag for each word."""
    values = {}
    for row, record in enumerate(records):
        try:
            values[row] = label_rules.names_in(record.label)
        except ValueError as problem:
            raise _fault(record, record.label, f"{problem}.") from problem
    if names is None:
        found = sorted({tag for tags in values.values() for tag in tags})
        names = both_tags_of_each_type(found) if is_iob(found) else _sorted(found)
    return Labels([*map(tuple, _places(records, values, names).values())], tuple(names), "each word has a tag")


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _sorted(names: Iterable[str]) -> list[str]:
    names = list(names)
    return sorted(names, key=int if all(map(label_rules.WHOLE.fullmatch, names)) else None)


def _missing(record: Record) -> DataError:
    spelt = record.label.strip() if isinstance(record.label, str) else ""
    only = f", only {spelt!r} (a class needs another name)" if spelt else ""
    hint = "Fill it in, or remove the line; from Python label=None reads texts alone."
    return DataError(f"{record.where} has no label{only}.", key=record.where, hint=hint)


def _fault(record: Record, label: Any, what: str, hint: str | None = None) -> DataError:
    return DataError(f"{record.where} has the label {label!r:.50}, {what}", key=record.where, hint=hint)


def _file(record: Record) -> str:
    return record.where.rpartition(":")[0]


def _counted(labels: Counter[str]) -> str:
    listed = [f"{label!r:.50} ({count:,})" for label, count in labels.most_common(_LISTED)]
    return ", ".join(listed) + ", ..." * (len(labels) > _LISTED)
