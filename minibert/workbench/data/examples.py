"""The forms of example beside texts and tagged sentences: questions on a context, and choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minibert.data import Example, TaggedExample


@dataclass(frozen=True)
class Answer:
    """A stretch of a context: its text, and the character at which it starts."""

    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True)
class QuestionExample:
    """A question, and the context that its answer is a stretch of.

    Args:
        answers: the right ones, any of which will do; () if the context does not answer the
            question; None if unlabelled.
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
    def group(self) -> str:
        """Questions on one context stay together in a split: each would help with the others."""
        return self.context


@dataclass(frozen=True)
class ChoiceExample:
    """A text, and several others of which one goes with it: `label` is its place, from 0."""

    text: str
    choices: tuple[str, ...]
    label: int | None = None
    guid: str = ""

    group = None

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.text, *self.choices)

    @property
    def target(self) -> Any:
        return self.label


AnyExample = Example | TaggedExample | QuestionExample | ChoiceExample
