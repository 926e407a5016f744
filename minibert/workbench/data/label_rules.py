"""Rules: what the labels of a whole file are, one table that the first rule to hold decides by.

Files spell the same thing in many ways: a class as 1, "1" or 1.0 (pandas, beside a missing value),
several classes as names or as a vector of zeros and ones, a number with a decimal comma. The reason
for a reading is printed, with the option that changes it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from minibert.io.errors import DataError

# pandas reads these as missing, and writes some of them.
MISSING = {"", "NaN", "nan", "-NaN", "-nan", "NA", "<NA>", "N/A", "n/a", "#NA", "#N/A", "#N/A N/A"}
MISSING |= {"None", "null", "NULL", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"}

_SINGLE, _MULTI, _NUMBER = "single_label_classification", "multi_label_classification", "regression"

_POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_COMMA = re.compile(r"[+-]?\d+(,\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
WHOLE = re.compile(r"-?\d{1,4000}")  # Python refuses to count with more digits
_SCALARS = (str, int, float, type(None))
_LIST_AS_TEXT = re.compile(r"[\[({](\s*|.*[,'\"].*|[\d.\s]+)[\])}]", re.DOTALL)


class Reading(NamedTuple):
    """How the labels of a file are read.

    Attributes:
        problem_type: what they are.
        reason: why, a clause.
        convert: from a label to what it says: for regression a number, else the name of a class (of
            vectors its place), or a list of them; ValueError says what is wrong with a label.
        width: of vectors, the number of classes.
    """

    problem_type: str
    reason: str
    convert: Callable[[Any], Any]
    width: int | None = None


class _Rule(NamedTuple):
    holds: Callable[[Sequence[Any]], bool]
    problem_type: str
    reason: str
    convert: Callable[[Any], Any]
    otherwise: str = ""  # the option for those who mean something else


def reading_of(labels: Sequence[Any], asked: str | None, classes: int | None) -> Reading:
    """The first rule that holds, of those for the problem type that is asked for, if there are any.

    Args:
        labels: of a file, all lists or none; names without white space around them.
        classes: how many there are, where that is known.
    """
    first = next((rule for rule in _RULES if rule.holds(labels)), _RULES[-1])
    of_type = [rule for rule in _RULES if rule.problem_type == asked and rule.holds(labels)]
    rule = of_type[0] if of_type else first
    width = _width(labels) if rule.holds is _are_vectors else None
    if width is not None and classes not in (None, width):
        if not _repeat(labels):  # such as [0, 1] where there are three classes
            return Reading(_MULTI, _LISTS.reason, _LISTS.convert)
        raise DataError(
            f"The labels are vectors of {width} zeros and ones, but there are {classes} classes.", key="label"
        )
    reason = rule.reason if rule is first else "as asked for"
    if asked is None and rule.otherwise:
        reason = f"{reason}; {rule.otherwise}"
    return Reading(rule.problem_type, reason, _of_width(rule.convert, width), width)


def name_of(label: Any) -> str:
    """A label as the name of a class; a whole number has no decimals.

    Raises:
        ValueError: it is neither text nor a number.
    """
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    if isinstance(label, (str, int, float)):
        return str(label)
    raise ValueError("which is neither a name nor a whole number")


def whole_name(label: Any) -> str:
    """The number that a label spells, without decimals: "1" for "1.0"; other labels as they are."""
    number = None if isinstance(label, str) and WHOLE.fullmatch(label) else _number(label)
    return name_of(label) if number is None or not number.is_integer() else str(int(number))


def is_whole(label: Any) -> bool:
    if isinstance(label, str) and WHOLE.fullmatch(label):
        return True
    number = _number(label)
    return number is not None and number.is_integer()


def is_missing(label: Any) -> bool:
    return label in MISSING if isinstance(label, str) else isinstance(label, float) and math.isnan(label)


def objection(labels: Sequence[Any], asked: str | None) -> tuple[str, str] | None:
    """What keeps a whole column from being labels, a clause, and what to do about it."""
    texts = [label for label in labels if isinstance(label, str)]
    if _most(labels, [text for text in texts if _LIST_AS_TEXT.fullmatch(text)]):
        return (
            "a list saved as text",
            "Save the table as .jsonl or .parquet, where lists stay lists; or write names with a separator "
            "(on the command line --label-sep), or a column of 0 and 1 for each class (--label A B C).",
        )
    of_spans = [label for label in labels if isinstance(label, list) and label and not isinstance(label[0], _SCALARS)]
    if _most(labels, of_spans):
        return (
            "a list of spans",
            "Entities are read as a tag for each word: a .conll file, or lists of words and of tags.",
        )
    numbers = [text for text in texts if _POINT.fullmatch(text) or _COMMA.fullmatch(text) or _THOUSANDS.fullmatch(text)]
    commas = [text for text in numbers if "," in text]
    if asked != _SINGLE and commas and _most(labels, numbers):
        points = [text for text in numbers if "." in text]
        if points or all(map(_THOUSANDS.fullmatch, commas)):
            return (
                "a number whose comma may be that of decimals or of thousands",
                f"Write numbers with a decimal point alone; {_AS_NAMES}.",
            )
    return None


# --- numbers --------------------------------------------------------------------------------------


def _number(label: Any) -> float | None:
    """The number that a label is or spells, with a decimal point or comma; None for other labels."""
    if isinstance(label, str) and _POINT.fullmatch(label):
        return float(label)
    if isinstance(label, str) and _COMMA.fullmatch(label):
        return float(label.replace(",", "."))
    if isinstance(label, (int, float)) and not isinstance(label, bool):
        return float(label) if abs(label) < 1e308 else math.inf
    return None


def _to_number(label: Any) -> float:
    number = _number(label)
    if number is None or not math.isfinite(number):
        raise ValueError("which is not a number that can be used")
    return number


def _truth(label: Any) -> bool | None:
    """The boolean that a label is or spells; None for other labels."""
    if isinstance(label, str):
        return {"true": True, "false": False}.get(label.lower())
    return label if isinstance(label, bool) else None


def _mix_truths_and_bits(labels: Sequence[Any]) -> bool:
    """True and False beside 1 and 0, as in tables joined from two programs."""
    if _are_lists(labels):
        return False
    truths = [label for label in labels if _truth(label) is not None]
    bits = [label for label in labels if _number(label) in (0, 1)]
    return bool(truths and bits) and len(truths) + len(bits) == len(labels)


def _bit(label: Any) -> str:
    if _truth(label) is None and _number(label) not in (0, 1):
        raise ValueError("which is neither true or false nor 1 or 0")
    return "1" if _truth(label) or _number(label) == 1 else "0"


def _are_whole(labels: Sequence[Any]) -> bool:
    return all(map(is_whole, labels))


def _are_real(labels: Sequence[Any]) -> bool:
    """Numbers for the most part, and not all of them whole."""
    numbers = [label for label in labels if _number(label) is not None]
    return _most(labels, numbers) and not all(map(is_whole, numbers))


def _have_commas(labels: Sequence[Any]) -> bool:
    return _are_real(labels) and any(isinstance(label, str) and "," in label and _number(label) for label in labels)


def _most(labels: Sequence[Any], some: Sequence[Any]) -> bool:
    return len(some) > len(labels) / 2


# --- lists ----------------------------------------------------------------------------------------


def _are_lists(labels: Sequence[Any]) -> bool:
    return isinstance(labels[0], list)


def _are_vectors(labels: Sequence[Any]) -> bool:
    """Lists of zeros and ones of one length: all of them, or most and one holds a value twice."""
    if not _are_lists(labels):
        return False
    width = _width(labels)
    vectors = [label for label in labels if _is_vector(label, width)]
    return width > 1 and (len(vectors) == len(labels) or (_most(labels, vectors) and _repeat(vectors)))


def _is_vector(label: Sequence[Any], width: int) -> bool:
    return len(label) == width and all(_number(one) in (0, 1) or isinstance(one, bool) for one in label)


def _width(labels: Sequence[Any]) -> int:
    """The most frequent length."""
    return Counter(map(len, labels)).most_common(1)[0][0]


def _repeat(labels: Sequence[Any]) -> bool:
    return any(len(label) > len({str(one) for one in label}) for label in labels)


def _of_width(convert: Callable[[Any], Any], width: int | None) -> Callable[[Any], Any]:
    if width is None:
        return convert

    def checked(label: Any) -> Any:
        if not _is_vector(label, width):
            raise ValueError(f"which is not a vector of {width} zeros and ones")
        return convert(label)

    return checked


def _applied(vector: Sequence[Any]) -> list[int]:
    return [place for place, one in enumerate(vector) if one is True or _number(one) == 1]


def _only_one(vector: Sequence[Any]) -> int:
    found = _applied(vector)
    if len(found) != 1:
        raise ValueError(f"which has {len(found)} ones, not one")
    return found[0]


def names_in(label: Sequence[Any]) -> list[str]:
    """The names in a list, or the tags of the words of a sentence; ValueError as for `name_of`."""
    for one in label:
        if not isinstance(one, (str, int)) and not (isinstance(one, float) and one.is_integer()):
            raise ValueError(f"where {one!r:.50} is neither a name nor a whole number")
    return list(map(name_of, label))


def _different(label: Sequence[Any]) -> list[str]:
    names = names_in(label)
    if "" in names:
        raise ValueError("which holds an empty name")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"which holds {twice[0]!r:.50} twice")
    return names


def _sole(label: Sequence[Any]) -> str:
    names = names_in(label)
    if len(names) != 1:
        raise ValueError(f"which holds {len(names)} names, not one")
    return names[0]


_LISTS = _Rule(
    _are_lists,
    _MULTI,
    "each label is a list of names",
    _different,
    f"--problem-type {_SINGLE} takes the name in a list of one",
)
_AS_NAMES = f"--problem-type {_SINGLE} takes them as names"

# A rule below another of its kind is for what is asked for, such as numbers that are all whole.
_RULES = (
    _Rule(
        _are_vectors,
        _MULTI,
        "each label is a vector of zeros and ones: place i says whether class i applies",
        _applied,
        f"--problem-type {_SINGLE} takes the place of a single one as the class",
    ),
    _Rule(_are_vectors, _SINGLE, "", _only_one),
    _LISTS,
    _Rule(_are_lists, _SINGLE, "", _sole),
    _Rule(_mix_truths_and_bits, _SINGLE, "true and false stand beside 1 and 0, and mean the same", _bit),
    _Rule(
        _are_whole,
        _SINGLE,
        "all labels are whole numbers",
        whole_name,
        f"--problem-type {_NUMBER} takes them as numbers",
    ),
    _Rule(_have_commas, _NUMBER, "the labels are numbers with a decimal comma", _to_number, _AS_NAMES),
    _Rule(_are_real, _NUMBER, "the labels are numbers, not all of them whole", _to_number, _AS_NAMES),
    _Rule(lambda labels: not _are_lists(labels), _SINGLE, "each label is a name", name_of),
    _Rule(lambda labels: not _are_lists(labels), _NUMBER, "", _to_number),
)
