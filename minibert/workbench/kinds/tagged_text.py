"""Texts as words, with a tag for each word: before a model tags them, and after."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from minibert.data import TaggedExample
from minibert.io.errors import DataError
from minibert.io.tables import COLOURS, coloured, printable
from minibert.workbench.data.tag_schemes import is_iob_tag
from minibert.workbench.scores.metrics import entities

_OPENING = "([{\"'\u201c\u2018\u00ab"
_CLOSING = ")]}\"'\u201d\u2019\u00bb.,;:!?\u2026"


@dataclass(frozen=True)
class TaggedWord:
    """A word of a text, its place (characters start to end), and its predicted tag."""

    word: str
    start: int
    end: int
    tag: str
    probability: float


@dataclass(frozen=True)
class FoundEntity:
    """An entity of a text, its place (characters start to end), and its type.

    `probability` is that of its least certain word.
    """

    text: str
    start: int
    end: int
    type: str
    probability: float


@dataclass(frozen=True)
class TaggedText:
    """What a token classifier predicts for one text.

    Attributes:
        words: every word that the model read, with its tag: not those that truncation cut off, or
            that cleaning left nothing of.
        entities: those that the tags spell, if they are IOB tags.
    """

    text: str
    words: list[TaggedWord]
    entities: list[FoundEntity]

    def columns(self) -> dict[str, Any]:
        """The prediction as cells of a table: the tags, the words that have them, and the entities."""
        return {
            "prediction": [word.tag for word in self.words],
            "prediction_words": [asdict(word) for word in self.words],
            "prediction_entities": [asdict(entity) for entity in self.entities],
        }

    def __str__(self) -> str:
        return self._lines(in_colour=False)

    def in_colour(self) -> str:
        """The same for a terminal, with a colour for each type of entity."""
        return self._lines(in_colour=True)

    def _lines(self, in_colour: bool) -> str:
        if not all(is_iob_tag(word.tag) for word in self.words):
            return printable(" ".join(f"{word.word}/{word.tag}" for word in self.words))
        if not self.entities:
            return f"{printable(' '.join(self.text.split()))}  (no entities)"
        types = sorted({entity.type for entity in self.entities})
        colours = dict(zip(types, itertools.cycle(COLOURS), strict=False))

        def painted(entity: FoundEntity, text: str) -> str:
            return coloured(text, colours[entity.type]) if in_colour else text

        marked = ""
        at = 0
        for entity in self.entities:
            marked += printable(self.text[at : entity.start])
            marked += painted(entity, f"[{printable(entity.text)} {printable(entity.type)}]")
            at = entity.end
        lines = [" ".join((marked + printable(self.text[at:])).split())]
        lines += [
            f"  {entity.start:>4}-{entity.end:<4}  {painted(entity, f'{entity.type:<14}')}  "
            f"{entity.probability:.3f}  {printable(entity.text)}"
            for entity in self.entities
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Sentence(TaggedExample):
    """A text as words, with the place in the text at which each begins."""

    whole: str = ""
    starts: tuple[int, ...] = ()

    @classmethod
    def of(cls, row: int, given: Any) -> Sentence:
        """Splits a text into words; a sequence of words stays as it is.

        Raises:
            DataError: row number `row` is neither of the two.
        """
        if isinstance(given, str):
            found = [pair for match in re.finditer(r"\S+", given) for pair in _words(match)]
            starts, words = tuple(start for start, _ in found), tuple(word for _, word in found)
            return cls(words, whole=given, starts=starts)
        if not isinstance(given, Sequence) or not all(isinstance(word, str) for word in given):
            raise DataError(f"Row {row} is neither a string nor a sequence of words but {given!r:.50}.", key=str(row))
        places = itertools.accumulate((len(word) + 1 for word in given), initial=0)
        return cls(tuple(given), whole=" ".join(given), starts=tuple(places)[: len(given)])

    def tagged(self, word: int, tag: str, probability: float) -> TaggedWord:
        """Word number `word` with a tag."""
        text, start = self.words[word], self.starts[word]
        return TaggedWord(text, start, start + len(text), tag, probability)

    def with_tags(self, read: dict[int, TaggedWord]) -> TaggedText:
        """The text with the words that were read; a word that was not ends an entity."""
        every = [read.get(word) or self.tagged(word, "O", 0.0) for word in range(len(self.words))]
        found = []
        for first, end, kind in sorted(entities([word.tag for word in every])):
            start, stop = every[first].start, every[end - 1].end
            chance = min(word.probability for word in every[first:end])
            found.append(FoundEntity(self.whole[start:stop], start, stop, kind, chance))
        return TaggedText(self.whole, list(read.values()), found)


def _words(match: re.Match[str]) -> Iterator[tuple[int, str]]:
    """(start, word) of what stands between blanks: quotes, brackets and full stops are words.

    Exceptions are what is all punctuation, ":-)", and the stop of an abbreviation, "U.S.", "J.".
    """
    whole = match.group()
    opening, ends = len(whole) - len(whole.lstrip(_OPENING)), len(whole.rstrip(_CLOSING))
    core = whole[opening:ends]
    if not re.search(r"\w", core):
        opening, ends = 0, len(whole)
    elif whole[ends:] == "." and ("." in core or len(core) == 1):
        ends += 1
    yield from ((match.start() + place, letter) for place, letter in enumerate(whole[:opening]))
    yield match.start() + opening, whole[opening:ends]
    for same in re.finditer(r"(.)\1*", whole[ends:]):
        yield match.start() + ends + same.start(), same.group()
