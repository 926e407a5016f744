"""A tag for each word: names of people and places, parts of speech.

A word may be several pieces. Its first piece carries the tag, in training and in prediction; the
others are ignored (`text.batches.piece_labels`). Where tags are IOB, entities are counted, whole
ones: right means both ends and the type are right. Else (parts of speech) words are.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from minibert.examples import TaggedExample
from minibert.heads import BertForTokenClassification, ModelWithHead
from minibert.io.errors import DataError
from minibert.io.tables import COLOURS, coloured, printable
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.data.tag_schemes import is_iob
from minibert.workbench.kinds.evaluation import Measured, Report, with_interval
from minibert.workbench.kinds.kind import Asked, ErrorRow, Kind, Score, class_names, f1_of_sums
from minibert.workbench.scores import metrics
from minibert.workbench.scores.metrics import Entity

_OPENING = r"[(\[{\"'\u201c\u2018\u00ab]"
_CLOSING = r"[)\]}\"'\u201d\u2019\u00bb.,;:!?\u2026]"


@dataclass(frozen=True)
class TaggedWord:
    """A word of a text, its place (characters start to end), and the tag it was given."""

    word: str
    start: int
    end: int
    tag: str
    probability: float


@dataclass(frozen=True)
class FoundEntity:
    """An entity of a text, its place (characters start to end), and its type.

    `probability` is that of its least sure word.
    """

    text: str
    start: int
    end: int
    type: str
    probability: float


@dataclass(frozen=True)
class TaggedText:
    """What a token classifier says of one text.

    Attributes:
        words: every word that it has read, with its tag. One that truncation cut off, or of which
            cleaning leaves nothing, is not among them.
        entities: those that the tags spell, if they are IOB tags.
    """

    text: str
    words: list[TaggedWord]
    entities: list[FoundEntity]

    def __str__(self) -> str:
        return self._lines(in_colour=False)

    def in_colour(self) -> str:
        """The same for a terminal, each type of entity in a colour of its own."""
        return self._lines(in_colour=True)

    def _lines(self, in_colour: bool) -> str:
        if any(not re.match(r"O$|[BI]-", word.tag) for word in self.words):
            return printable(" ".join(f"{word.word}/{word.tag}" for word in self.words))
        if not self.entities:
            return f"{printable(' '.join(self.text.split()))}  (no entities)"
        kinds = sorted({entity.type for entity in self.entities})
        paint = dict(zip(kinds, itertools.cycle(COLOURS), strict=False))

        def shown(entity: FoundEntity, text: str) -> str:
            return coloured(text, paint[entity.type]) if in_colour else text

        parts: list[str] = []
        at = 0
        for entity in self.entities:
            marked = f"[{printable(entity.text)} {printable(entity.type)}]"
            parts += [printable(self.text[at : entity.start]), shown(entity, marked)]
            at = entity.end
        lines = [" ".join("".join([*parts, printable(self.text[at:])]).split())]
        lines += [
            f"  {entity.start:>4}-{entity.end:<4}  {shown(entity, f'{entity.type:<14}')}  "
            f"{entity.probability:.3f}  {printable(entity.text)}"
            for entity in self.entities
        ]
        return "\n".join(lines)


class Tags(Kind):
    problem_type = "token_classification"
    head = BertForTokenClassification
    metrics = ("entity_f1", "entity_precision", "entity_recall", "word_accuracy", "loss")
    more_texts = ""

    def names_of(self, model: Any) -> tuple[str, ...]:
        return class_names(model)

    def fresh(
        self, source: str | Path, corpus: Corpus, *, revision: str | None, seed: int
    ) -> ModelWithHead:
        return self.head.from_pretrained(
            source,
            revision=revision,
            labels=corpus.label_names,
            generator=torch.Generator().manual_seed(seed),
        )

    def watched(self, corpus: Corpus) -> str:
        return "entity_f1" if is_iob(corpus.label_names or ()) else "word_accuracy"

    def report(self, measured: Measured) -> Report:
        """A word that truncation cut off was not tagged: it counts as "O", else as a word less."""
        read = [_read(measured, number) for number in range(len(measured.corpus))]
        truth, guesses = [each.labels for each in read], [each.guesses for each in read]
        pairs = [pair for each in read for pair in zip(each.labels, each.guesses, strict=True)]
        right = sum(label == guess for label, guess in pairs)
        result: dict[str, Any] = {
            "examples": len(truth),
            "words": len(pairs),
            "words_cut_off": sum(each.cut_off for each in read),
            "loss": {"value": measured.loss},
        }
        spelt = is_iob(measured.names)
        by_type = metrics.entity_scores(truth, guesses) if spelt else {}
        if spelt:
            overall = by_type.pop("micro")
            counts = _counts(truth, guesses)  # (sentences, 3)
            result["entity_f1"] = measured.resampled(
                lambda a, _: float(f1_of_sums(a.sum(axis=0))), counts, counts
            )
            result["entity_precision"] = {"value": overall["precision"]}
            result["entity_recall"] = {"value": overall["recall"]}
        result["word_accuracy"] = with_interval(
            right / len(pairs), metrics.wilson_interval(right, len(pairs))
        )
        result["classes"] = by_type
        numbers = {name: number for number, name in enumerate(measured.names)}
        confusion = metrics.confusion_matrix(
            [numbers[label] for label, _ in pairs],
            [numbers[guess] for _, guess in pairs],
            len(measured.names),
        )
        rows = [
            measured.row(
                number, each.loss, " ".join(each.labels), " ".join(each.guesses), each.least_sure
            )
            for number, each in enumerate(read)
        ]
        entities = [
            row
            for number, each in enumerate(read)
            for row in _entity_rows(each, measured.corpus[number])  # type: ignore[arg-type]
            if spelt
        ]
        return measured.report(
            self.problem_type, result, rows, confusion, {"entities.csv": entities}
        )

    def outcomes(self, labels: Sequence[str], rows: Sequence[ErrorRow]) -> dict[str, Score]:
        if any(" " in name for name in labels):
            return {}
        truth = [row["label"].split() for row in rows]
        guesses = [row["prediction"].split() for row in rows]
        if is_iob(labels):
            return {"entity_f1": Score(f1_of_sums, _counts(truth, guesses))}
        pairs = [list(zip(*each, strict=True)) for each in zip(truth, guesses, strict=True)]
        added = [(sum(label == guess for label, guess in words), len(words)) for words in pairs]
        return {"word_accuracy": Score(lambda sums: sums[..., 0] / sums[..., 1], np.array(added))}

    def unlabelled(self, texts: Sequence[Any], more: Sequence[Any] | None) -> Corpus:
        """Each text as it is, or as a sequence of its words.

        A text is split at white space, and what opens or ends a sentence or quotes from its words:
        tagged corpora have these as words of their own.
        """
        return Corpus(tuple(_Sentence.of(row, text) for row, text in enumerate(texts)))

    def predictions(self, asked: Asked) -> list[TaggedText]:
        word_ids = asked.rows.word_ids or []
        found = []
        for sentence, ids, logits in zip(asked.corpus, word_ids, asked.logits, strict=True):
            assert isinstance(sentence, _Sentence)
            places = _first_pieces(ids)
            chances, tags = logits[list(places.values())].softmax(dim=-1).max(dim=-1)  # (words,)
            words = [
                TaggedWord(
                    sentence.words[word],
                    sentence.starts[word],
                    sentence.starts[word] + len(sentence.words[word]),
                    asked.names[tag],
                    chance,
                )
                for word, tag, chance in zip(places, tags.tolist(), chances.tolist(), strict=True)
            ]
            # A word that was not read ends an entity, as where entities are measured.
            read = dict(zip(places, words, strict=True))
            every = [
                read.get(word, TaggedWord(text, start, start + len(text), "O", 0.0))
                for word, (text, start) in enumerate(
                    zip(sentence.words, sentence.starts, strict=True)
                )
            ]
            found.append(TaggedText(sentence.whole, words, _entities(sentence.whole, every)))
        return found


@dataclass(frozen=True)
class _Sentence(TaggedExample):
    """A text as words, with the place in the text at which each begins."""

    whole: str = ""
    starts: tuple[int, ...] = ()

    @classmethod
    def of(cls, row: int, given: Any) -> _Sentence:
        """Splits a text into words; words that are given stay as they are."""
        if isinstance(given, str):
            found = [pair for match in re.finditer(r"\S+", given) for pair in _parted(match)]
            starts, words = tuple(start for start, _ in found), tuple(word for _, word in found)
            return cls(words, whole=given, starts=starts)
        if not isinstance(given, Sequence) or not all(isinstance(word, str) for word in given):
            raise DataError(
                f"Row {row} is neither a string nor a sequence of words but {given!r:.50}.",
                key=str(row),
            )
        places = itertools.accumulate((len(word) + 1 for word in given), initial=0)
        return cls(tuple(given), whole=" ".join(given), starts=tuple(places)[: len(given)])


def _parted(match: re.Match[str]) -> Iterator[tuple[int, str]]:
    """(start, word) of what stands between blanks: quotes, brackets and full stops are words.

    Not so what is punctuation alone, ":-)", and the stop of an abbreviation, "U.S.", "J.".
    """
    whole = match.group()
    opening = re.match(f"{_OPENING}*", whole).end()  # type: ignore[union-attr]
    ends = len(whole) - len(re.search(f"{_CLOSING}*$", whole).group())  # type: ignore[union-attr]
    core = whole[opening:ends]
    if not re.search(r"\w", core):
        opening, ends = 0, len(whole)
    elif whole[ends:] == "." and ("." in core or len(core) == 1):
        ends += 1
    yield from ((match.start() + place, letter) for place, letter in enumerate(whole[:opening]))
    yield match.start() + opening, whole[opening:ends]
    for same in re.finditer(r"(.)\1*", whole[ends:]):
        yield match.start() + ends + same.start(), same.group()


@dataclass(frozen=True)
class _Read:
    """One sentence with the labels and the guesses of all its words; `losses` of each word."""

    labels: list[str]
    guesses: list[str]
    losses: list[float]  # 0 for a word that was cut off
    cut_off: int  # words that were not read
    loss: float  # the mean over the words that were read
    least_sure: float


def _read(measured: Measured, number: int) -> _Read:
    example, logits = measured.corpus[number], measured.logits[number]  # logits (S, C)
    assert isinstance(example, TaggedExample) and example.tags is not None
    assert measured.rows is not None and measured.rows.word_ids is not None
    names = measured.names
    places = _first_pieces(measured.rows.word_ids[number])
    chosen = logits[list(places.values())]  # (words, C)
    labels = torch.tensor([example.tags[word] for word in places], dtype=torch.long)  # (words,)
    of_word = F.cross_entropy(chosen, labels, reduction="none")  # (words,)
    predicted = dict(zip(places, chosen.argmax(dim=-1).tolist(), strict=True))
    losses = dict(zip(places, of_word.tolist(), strict=True))
    # What was cut off counts as no entity; where there is no tag for that, it does not count.
    counted = [*range(len(example.tags))] if "O" in names else list(places)
    return _Read(
        [names[example.tags[word]] for word in counted],
        [names[predicted[word]] if word in places else "O" for word in counted],
        [losses.get(word, 0.0) for word in counted],
        len(example.tags) - len(places),
        of_word.mean().item() if places else 0.0,
        chosen.softmax(dim=-1).amax(dim=-1).min().item() if places else 0.0,
    )


def _first_pieces(word_ids: Sequence[int | None]) -> dict[int, int]:
    """Word -> the place of its first piece, which speaks for it, in the order of the words."""
    places: dict[int, int] = {}
    for place, word in enumerate(word_ids):
        if word is not None:
            places.setdefault(word, place)
    return places


def _entities(text: str, words: Sequence[TaggedWord]) -> list[FoundEntity]:
    found = []
    for first, end, kind in sorted(metrics.entities([word.tag for word in words])):
        inside = words[first:end]
        start, stop = inside[0].start, inside[-1].end
        chance = min(word.probability for word in inside)
        found.append(FoundEntity(text[start:stop], start, stop, kind, chance))
    return found


def _counts(truth: Sequence[Sequence[str]], guesses: Sequence[Sequence[str]]) -> np.ndarray:
    """(sentences, 3): entities that are right, predicted, and there."""
    counts = []
    for labels, tags in zip(truth, guesses, strict=True):
        there, predicted = metrics.entities(labels), metrics.entities(tags)
        counts.append((len(there & predicted), len(predicted), len(there)))
    return np.array(counts)


def _entity_rows(read: _Read, example: TaggedExample) -> Iterator[dict[str, Any]]:
    """A row for every entity that is there or was predicted, with what became of it."""
    for label, guess in matched(metrics.entities(read.labels), metrics.entities(read.guesses)):
        known = [entity for entity in (label, guess) if entity is not None]
        words = range(min(entity[0] for entity in known), max(entity[1] for entity in known))
        yield {
            "loss": sum(read.losses[word] for word in words) / len(words),
            "outcome": _outcome(label, guess),
            "label": label[2] if label else "",
            "prediction": guess[2] if guess else "",
            "entity": _text(example, label),
            "predicted_entity": _text(example, guess),
            "guid": example.guid,
            "text": " ".join(example.words),
        }


def matched(
    there: set[Entity], predicted: set[Entity]
) -> list[tuple[Entity | None, Entity | None]]:
    """Each entity with the prediction that means it: the same, else the one it shares most with.

    One that nothing was predicted for comes with None, as does a prediction that nothing is.
    """
    shared = [
        (min(a[1], b[1]) - max(a[0], b[0]), a[:2] == b[:2], a == b, a, b)
        for a in sorted(there)
        for b in sorted(predicted)
    ]
    pairs: list[tuple[Entity | None, Entity | None]] = []
    left, right = set(there), set(predicted)
    for overlap, _, _, a, b in sorted(
        shared, key=lambda one: (one[2], one[1], one[0]), reverse=True
    ):
        if overlap > 0 and a in left and b in right:
            pairs.append((a, b))
            left.remove(a)
            right.remove(b)
    pairs += [(a, None) for a in sorted(left)]
    pairs += [(None, b) for b in sorted(right)]
    return pairs


def _outcome(label: Entity | None, guess: Entity | None) -> str:
    if label is None:
        return "invented"
    if guess is None:
        return "missed"
    wrong = [("ends", label[:2] != guess[:2]), ("type", label[2] != guess[2])]
    return " and ".join(name for name, is_wrong in wrong if is_wrong) or "right"


def _text(example: TaggedExample, entity: Entity | None) -> str:
    return "" if entity is None else " ".join(example.words[entity[0] : entity[1]])
