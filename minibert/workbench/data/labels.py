"""Labels: from the names or numbers that a file spells to indices into the names of classes."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from typing import Any

from minibert.io.errors import DataError
from minibert.workbench.data.records import Record
from minibert.workbench.data.tag_schemes import both_tags_of_each_type, is_iob

_NAMES_LISTED = 6  # of the label names in a warning


def from_names(
    records: Sequence[Record], names: Sequence[str] | None, problem_type: str | None
) -> tuple[list[Any], tuple[str, ...] | None]:
    """The label of each record as an example holds it, and the names that indices stand for.

    Args:
        names: the classes in order; None for those that the file has, or else all labels, sorted.
    """
    first, labels = records[0], [record.label for record in records]
    if first.label is None or first.question is not None or first.choices is not None:
        return labels, None
    for record in records:
        if isinstance(record.label, list) != isinstance(first.label, list):
            raise DataError(
                f"{record.where} has the label {record.label!r:.50}, but {first.where} has "
                f"{first.label!r:.50}: either all are lists of labels, or none are.",
                key=record.where,
            )
    names = names or first.names
    if problem_type is None and names is None and _are_numbers(labels):
        problem_type = "regression"
    if problem_type == "regression":
        return [_number(record) for record in records], None
    names = tuple(names or _sorted_names(records))
    indices = [_indices(record, names) for record in records]
    _warn_of_numbers(records, names)
    return indices, names


def _are_numbers(labels: Sequence[Any]) -> bool:
    """Whether the labels are for regression: numbers, and not all of them whole."""
    if all(isinstance(label, str) for label in labels):
        return all(map(_NUMBER.fullmatch, labels)) and not all(map(_WHOLE.fullmatch, labels))
    return any(isinstance(label, float) for label in labels)


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"-?\d{1,4000}")  # Python refuses to count with more digits


def _number(record: Record) -> float:
    try:
        number = float(record.label)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{record.where} has the label {record.label!r:.50} among numbers.", key=record.where)
    return number


def _sorted_names(records: Sequence[Record]) -> list[str]:
    names = {name for record in records for name in _names(record)}
    if isinstance(records[0].text, tuple) and is_iob(sorted(names)):
        return both_tags_of_each_type(sorted(names))
    whole = all(map(_WHOLE.fullmatch, names))
    return sorted(names, key=int if whole else None)


def _names(record: Record) -> list[str]:
    """The label, or each of several, as text."""
    several = record.label if isinstance(record.label, (list, tuple)) else [record.label]
    for label in several:
        if not isinstance(label, (str, int)):
            raise DataError(
                f"{record.where} has the label {label!r:.50}, which is neither a name nor a whole number.",
                key=record.where,
            )
    return [str(label) for label in several]


def _indices(record: Record, names: tuple[str, ...]) -> int | tuple[int, ...] | tuple[float, ...]:
    numbered = not any(map(_WHOLE.fullmatch, names))
    found = []
    for name in _names(record):
        if name in names:
            found.append(names.index(name))
        elif numbered and name.isdecimal() and _WHOLE.fullmatch(name) and int(name) < len(names):
            found.append(int(name))
        else:
            raise DataError(
                f"{record.where} has the label {name!r:.50}, which is not one of {', '.join(names):.200}.",
                key=record.where,
            )
    if isinstance(record.text, tuple):
        return tuple(found)
    if isinstance(record.label, list):
        return tuple(float(index in found) for index in range(len(names)))
    return found[0]


def _warn_of_numbers(records: Sequence[Record], names: tuple[str, ...]) -> None:
    """Says which name each number was taken for: the file may number its classes otherwise."""
    for record in records:
        if not set(_names(record)).issubset(names):
            file = record.where.rpartition(":")[0]
            read_as = [f"{index} = {name}" for index, name in enumerate(names[:_NAMES_LISTED])]
            rest = ", ..." if len(names) > _NAMES_LISTED else ""
            warnings.warn(f"labels of {file} are numbers: read as {', '.join(read_as)}{rest}", stacklevel=4)
            return
