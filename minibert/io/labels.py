"""The names of the classes in a config.json, which three keys hold between them.

`id2label` maps "0", "1", ... to names, `label2id` the names back, `num_labels` counts them. A file
may have any of the three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minibert.io.errors import ConfigError
from minibert.io.rules import wrong

MOST_LABELS = 100_000


def read_labels(values: Mapping[str, Any]) -> dict[int, Any] | None:
    """Number -> name, 0 to C - 1 in order; None where none of the keys is there.

    A name that is a number counts as its text, and a number that is text as the number.

    Raises:
        ConfigError: the keys disagree, or one of them does not number its names.
    """
    count, names, numbers = (values.get(key) for key in ("num_labels", "id2label", "label2id"))
    if count is not None and (type(count) is not int or not 1 <= count <= MOST_LABELS):
        raise wrong("num_labels", count, f"from 1 to {MOST_LABELS}")
    if names is None and numbers is not None:
        names = _turned_round(numbers)
    if names is None:
        return None if count is None else {number: f"LABEL_{number}" for number in range(count)}
    id2label = _in_order(names)
    if id2label is None:
        raise wrong("id2label", names, "a mapping of 0, 1, 2, ... to names")
    first: dict[Any, int] = {}
    for number, name in id2label.items():
        if not isinstance(name, str):
            raise wrong("id2label", name, "a name")
        if first.setdefault(name, number) != number:
            both = f"the name {name!r:.50} to the ids {first[name]} and {number}"
            raise ConfigError(f"The configuration gives {both} (id2label).", key="id2label", hint="Give each its own.")
    if count not in (None, len(id2label)):
        raise ConfigError(
            f"The configuration has {len(id2label)} names in id2label and num_labels {count}.", key="num_labels"
        )
    if numbers is not None and _as_text(numbers) != {name: str(number) for number, name in id2label.items()}:
        raise ConfigError(
            f"The configuration has id2label {id2label} and label2id {numbers}, which disagree.", key="label2id"
        )
    return id2label


def other_labels(asked: Mapping[int, str], stored: Mapping[int, str], shape: Sequence[int]) -> str | None:
    """How the classes of a stored head with a matrix of this shape differ from those asked for; None if they do not."""
    if shape[:1] != (len(asked),):
        return f"the stored head has {(*shape, 0)[0]} classes, and {len(asked)} were asked for"
    placeholders = all(name == f"LABEL_{number}" for number, name in stored.items())
    return None if asked == stored or placeholders else f"the stored head's classes are {', '.join(stored.values())}"


def _turned_round(numbers: Any) -> dict[str, Any]:
    """The id2label that a label2id stands for, in a file that has only the latter."""
    names = {str(number): name for name, number in _as_text(numbers).items()}
    if _in_order(names) is None or len(names) != len(numbers):
        raise wrong("label2id", numbers, "a mapping of names to 0, 1, 2, ...")
    return names


def _as_text(values: object) -> dict[str, Any]:
    """A mapping with its numbers as text; {} for anything else."""
    return {str(key): _named(values[key]) for key in values} if isinstance(values, Mapping) else {}


def _named(name: object) -> Any:
    return str(name) if isinstance(name, (int, float)) else name


def _in_order(names: object) -> dict[int, Any] | None:
    """A mapping of "0", "1", "2", ... to names, with numbers as keys; None if it is not one."""
    by_number = _as_text(names)
    if not by_number or by_number.keys() != {str(number) for number in range(len(by_number))}:
        return None
    return {number: by_number[str(number)] for number in range(len(by_number))}
