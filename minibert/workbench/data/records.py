"""Records: what a row of a file says, checked, before labels become indices."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from minibert.io.errors import DataError
from minibert.io.files import half_a_pair
from minibert.io.text_input import MOST_CHARACTERS
from minibert.workbench.data.examples import Answer
from minibert.workbench.data.label_rules import is_whole, whole_name
from minibert.workbench.data.lines import Place

_QUESTION_COLUMNS = "A table of questions has the columns id, question, context, answers."
_NAME_THE_COLUMNS = (
    "Name the columns to read: text, text_pair, label (on the command line --text, --text-pair, --label)."
)
_NAME_THE_TEXT = "Name the column of the text (on the command line --text, to pretrain --column)."

# Names that columns go by, in small letters and joined by _, the most usual first.
_USUAL_TEXTS = (
    *("text", "sentence", "review", "review_text", "content", "comment", "tweet", "body", "message"),
    *("document", "description", "title", "question", "sentence1", "text_a", "premise"),
)
_USUAL_LABELS = ("label", "labels", "class", "sentiment", "target", "category", "emotion", "rating", "stars", "score")


class Columns(NamedTuple):
    """The names of the columns to read."""

    text: str = "text"
    text_pair: str | None = None
    label: str | None = "label"
    classes: tuple[str, ...] = ()  # in place of a label, columns that say whether a class applies
    choices: tuple[str, ...] = ()  # one column with a list, or several with a text each
    question: str | None = None
    part: str = "part"  # read where it is there
    others: bool = False  # whether to keep the other columns, too

    @property
    def wanted(self) -> list[str]:
        named = (self.text, self.text_pair, self.label, *self.classes, *self.choices, self.question)
        return [column for column in named if column is not None]


# The columns of SQuAD on the Hub, and of data sets like it; there is an optional `id`, too.
QUESTIONS = Columns(text="context", label="answers", question="question")


class Record(NamedTuple):
    """What a file says of one example.

    Attributes:
        where: file and line; of a question its id, if it has one.
        text: a text, or the words of a tagged sentence.
        label: as the file spells it, one for each word of a tagged sentence; for a question its
            answers, for choices the place of the right one.
        names: the names of the classes in order, where the file has them.
        part: the part of the data that it belongs to, where the file has such a column.
        row: all columns, if `Columns.others` asks for them.
    """

    where: str
    text: str | tuple[str, ...]
    text_pair: str | None = None
    label: Any = None
    choices: tuple[str, ...] | None = None
    question: str | None = None
    names: tuple[str, ...] | None = None
    part: str | None = None
    row: Mapping[str, Any] | None = None

    @property
    def sentence(self) -> str:
        """The text, of words with a space between them."""
        return self.text if isinstance(self.text, str) else " ".join(self.text)


class MissingColumnError(DataError):
    """A column that is asked for is not there; `names` are those that are."""

    def __init__(self, message: str, *, names: Collection[str], **more: Any):
        super().__init__(message, **more)
        self.names = tuple(names)

    def usual_text(self) -> str | None:
        """The column that holds the text, by its name; or the only one, unless it is a line of several."""
        alone = [name for name in self.names if len(self.names) == 1 and not any(mark in name for mark in ",;\t|")]
        return _usual(self.names, _USUAL_TEXTS) or next(iter(alone), None)


Row = Record | DataError  # what a reader makes of a row: a record, or what is wrong with it


def usable(make: Callable[..., Record], *arguments: Any) -> Row:
    """What a function makes of a row."""
    try:
        return make(*arguments)
    except DataError as problem:
        return problem.with_traceback(None)


def tokenisable(row: Row) -> Row:
    """A row, or what is wrong with it if its text is longer than a tokenizer takes."""
    if isinstance(row, DataError):
        return row
    longest = max(len(row.sentence), len(row.text_pair or ""))
    if longest <= MOST_CHARACTERS:
        return row
    return DataError(
        f"{row.where} has {longest:,} characters, and a text may have {MOST_CHARACTERS:,}.",
        key=row.where,
        hint="Split it into several texts, or keep only its beginning.",
    )


def require_usable(rows: Iterable[Row]) -> Iterator[Record]:
    """The records of rows; raises what is wrong with the first one that cannot be used."""
    for row in rows:
        if isinstance(row, DataError):
            raise row
        yield row


def record(place: Place, values: Mapping[str, Any], columns: Columns) -> Row:
    """The columns that are asked for, of one row."""
    part = values.get(columns.part)
    known = isinstance(part, (str, int)) and part != "" and columns.part not in columns.wanted
    row = values if columns.others else None
    found = usable(_record, place, values, columns)
    return found._replace(part=str(part) if known else None, row=row) if isinstance(found, Record) else found


def _record(place: Place, values: Mapping[str, Any], columns: Columns) -> Record:
    require_columns(place, values, columns)
    if columns.question is not None:
        return question(place, values)
    for column in columns.wanted:
        _check_surrogates(place, column, values[column])
    text, label = values[columns.text], values[columns.label] if columns.label else None
    if _are_texts(text) and not columns.classes and (columns.label is None or isinstance(label, list)):
        return _tagged(place, text, label, columns)
    for column in filter(None, (columns.text, columns.text_pair)):
        if not isinstance(values[column], str):
            raise place.fault(f"has {values[column]!r:.50} as {column!r}, which is not text.")
    if columns.choices:
        return _with_choices(place, values, columns)
    if place.line == 1 and type(label) is int:
        _warn_of_choices(place, values, columns)
    pair = values[columns.text_pair] if columns.text_pair else None
    if columns.classes:
        applied = [name for name in columns.classes if _applies(place, name, values[name])]
        return Record(place.guid, text, pair, applied, names=columns.classes)
    return Record(place.guid, text, pair, "" if columns.label and label is None else label)


def _applies(place: Place, name: str, value: Any) -> bool:
    """Whether a class applies, by the value in its column."""
    spelt = str(value).strip().lower()
    if spelt not in ("0", "0.0", "false", "1", "1.0", "true"):
        raise place.fault(
            f"has {value!r:.50} in the column {name!r}, which is neither 0 nor 1.",
            hint="Several columns of labels hold 0 or 1 each, for a class that applies or does not.",
        )
    return spelt in ("1", "1.0", "true")


def question(place: Place, values: Mapping[str, Any]) -> Record:
    """A question with its context and answers, as a row of a table or as SQuAD's JSON has it."""
    guid = str(values["id"]) if values.get("id") else place.guid
    texts = {"question": values.get("question"), "context": values.get("context"), "id": guid}
    for name, value in texts.items():
        if not isinstance(value, str) or not value.strip() or half_a_pair(value) is not None:
            raise place.fault(f"has {value!r:.50} as its {name}, which is not a readable text.", key=name)
    context = values["context"]
    answers = tuple(_answer(place, context, text, start) for text, start in _answers(place, values.get("answers")))
    return Record(guid, context, label=answers, question=values["question"])


def require_columns(place: Place, names: Collection[str], columns: Columns, hint: str = "") -> None:
    """Raises MissingColumnError for a column that is asked for; `hint` is for a header that has none of them."""
    for column in columns.wanted:
        if column not in names:
            # Without a header line the names may be a whole text.
            listed = ", ".join(filter(None, names)) or "none with a name"
            raise MissingColumnError(
                f"{place} has no column {column!r}; there are {listed:.200}.",
                names=names,
                path=place.path,
                key=column,
                hint=_hint_at_columns(column, names, columns, hint),
            )


def _hint_at_columns(missing: str, names: Collection[str], columns: Columns, more: str) -> str:
    if columns.question:
        return _QUESTION_COLUMNS
    for key, known in {"text": _USUAL_TEXTS, "label": _USUAL_LABELS}.items():
        if missing == getattr(columns, key) and (meant := _usual(names, known)):
            option = f"--{key} {meant!r}" + f", to pretrain --column {meant!r}" * (columns.label is None)
            return f"Is it {meant!r}? Then say so (on the command line {option})."
    usual = _NAME_THE_TEXT if columns.label is None else _NAME_THE_COLUMNS
    return usual if {*names} & {*columns.wanted} else f"{usual} {more}".rstrip()


def _usual(names: Iterable[str], known: Sequence[str]) -> str | None:
    """The column with the most usual of some names."""
    spelt = {re.sub(r"[\W_]+", "_", name.strip().lower()): name for name in reversed(list(names))}
    return next((spelt[name] for name in known if name in spelt), None)


def require_once(place: Place, names: Sequence[str], asked: Collection[str]) -> None:
    """Raises DataError for a column that is asked for and is there twice; others do no harm."""
    for name, count in Counter(names).items():
        if count > 1 and name in asked:
            raise place.fault(f"has the column {name!r:.50} twice.", key=name)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _check_surrogates(place: Place, column: str, value: Any) -> None:
    """JSON can spell half of a surrogate pair, which is not text and cannot be written."""
    for text in map(str, value if isinstance(value, list) else [value]):
        at = half_a_pair(text)
        if at is not None:
            raise place.fault(
                f"has half of a surrogate pair (U+{ord(text[at]):04X}) in the column {column!r}, at character {at}.",
                hint="Write the file again from the original text.",
            )


def _tagged(place: Place, words: Sequence[str], tags: Sequence[Any] | None, columns: Columns) -> Record:
    """A row whose text is a list of words, and whose label is a list of tags."""
    if tags is None:
        return Record(place.guid, tuple(words))
    if len(tags) != len(words) or not words:
        raise place.fault(
            f"has {len(words)} words and {len(tags)} tags.",
            hint=f"{columns.label!r} has to be a list with a tag for each word.",
        )
    return Record(place.guid, tuple(words), label=tuple(tags))


def _with_choices(place: Place, values: Mapping[str, Any], columns: Columns) -> Record:
    """A row with texts to choose from: a list in one column, or a column for each."""
    named = [values[name] for name in columns.choices]
    choices = named[0] if len(named) == 1 else named
    if not _are_texts(choices) or len(choices) < 2:
        raise place.fault(
            f"has {choices!r:.50} as {', '.join(columns.choices)}, which is not a list of 2 texts "
            "or more to choose from."
        )
    right = None
    if columns.label is not None:
        right = _place_of_choice(place, values[columns.label], choices)
    if columns.text_pair is not None:
        choices = [f"{values[columns.text_pair]} {choice}" for choice in choices]
    return Record(place.guid, values[columns.text], label=right, choices=tuple(choices))


def _place_of_choice(place: Place, label: Any, choices: Sequence[str]) -> int:
    """The place of the right choice, from 0; the file gives it, or the choice itself."""
    place_given = whole_name(label) if is_whole(label) else None
    found = [number for number, choice in enumerate(choices) if label == choice or place_given == str(number)]
    if len(found) != 1:
        fault = "is the text or the place of several" if found else "is not a choice"
        raise place.fault(
            f"has the label {label!r:.50}, which {fault} of its {len(choices)}.",
            hint="In .jsonl a whole number is always a place.",
        )
    return found[0]


def _warn_of_choices(place: Place, values: Mapping[str, Any], columns: Columns) -> None:
    """Warns of a list of texts that is not read, where a label may be the place of one of them."""
    for name, value in values.items():
        if name not in columns.wanted and _are_texts(value) and value:
            warnings.warn(
                f"{place.path} has a list of texts in the column {name!r}, which is not read: if "
                f"the label is the place of the right one, name it (--choices {name}).",
                stacklevel=2,
            )


def _answers(place: Place, stored: Any) -> list[tuple[Any, Any]]:
    """(text, start) of each answer: SQuAD's JSON has a list of them, its tables two lists."""
    if isinstance(stored, list) and all(isinstance(one, Mapping) for one in stored):
        return [(one.get("text"), one.get("answer_start")) for one in stored]
    if isinstance(stored, Mapping):
        texts, starts = stored.get("text"), stored.get("answer_start")
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            return list(zip(texts, starts, strict=True))
    raise place.fault(
        f"has {stored!r:.50} as its answers, which is not a list of text and answer_start.",
        key="answers",
        hint="A question without an answer has an empty list.",
    )


def _answer(place: Place, context: str, text: Any, start: Any) -> Answer:
    if not isinstance(text, str) or not text or type(start) is not int:
        raise place.fault(f"has an answer with the text {text!r:.50} and the start {start!r:.20}.", key="answers")
    found = context[start : start + len(text)] if start >= 0 else ""
    if found != text:
        at = context.find(text)
        raise place.fault(
            f"has the answer {text!r:.50} at character {start}, but {found!r:.50} stands there.",
            key="answer_start",
            hint=f"It stands at {at}." if at >= 0 else "It is nowhere in the context.",
        )
    return Answer(text, start)
