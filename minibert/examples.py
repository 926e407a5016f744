"""Examples: one thing to learn from, in each of the forms that labelled text has.

A form says which texts it holds (`texts`), what is to be found out about them (`target`), and with
which other examples it belongs together when data are parted (`group`). All else about a form is in
the module that makes rows of ids of it: batches.py, windows.py for questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Label = int | float | tuple[float, ...]


class Form:
    """What all forms have alike: an example belongs together with no other, unless it says so."""

    @property
    def group(self) -> Any:
        return None


@dataclass(frozen=True)
class Example(Form):
    """One text, or a pair of texts, with its label.

    Args:
        text, text_pair: the text, and the second one of a pair.
        label: an index into the corpus's `label_names`; for several labels at once a tuple with
            1.0 at each that holds, as long as `label_names`; for regression a number; None if
            there is none.
        guid: where it came from: file and line, or file name.
    """

    text: str
    text_pair: str | None = None
    label: Label | None = None
    guid: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)

    @property
    def target(self) -> Any:
        return self.label


@dataclass(frozen=True)
class TaggedExample(Form):
    """One sentence, with a tag for each word: indices into the corpus's `label_names`."""

    words: tuple[str, ...]
    tags: tuple[int, ...] | None = None
    guid: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        return (" ".join(self.words),)

    @property
    def target(self) -> Any:
        return self.tags


@dataclass(frozen=True)
class Answer:
    """A stretch of a context: its text, and the character at which it starts."""

    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True)
class QuestionExample(Form):
    """A question, and the context that the answer to it is a stretch of.

    Args:
        answers: the right ones, any of which will do; () if the context holds none; None if
            nobody has said.
        guid: the question's own id.
    """

    question: str
    context: str
    answers: tuple[Answer, ...] | None = None
    guid: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.question, self.context)

    @property
    def target(self) -> Any:
        return self.answers

    @property
    def group(self) -> Any:
        """Questions about one context are not parted: knowing the one helps with the other."""
        return self.context


@dataclass(frozen=True)
class ChoiceExample(Form):
    """A text, and several others of which one goes with it: `label` is its place, from 0."""

    text: str
    choices: tuple[str, ...]
    label: int | None = None
    guid: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.text, *self.choices)

    @property
    def target(self) -> Any:
        return self.label


AnyExample = Example | TaggedExample | QuestionExample | ChoiceExample
