"""A tag for each word: names of people and places, parts of speech.

A word may be several pieces. Its first piece carries the tag, in training and in prediction; the
others are ignored (`data.piece_labels`). With IOB tags whole entities are counted: right means that
both ends and the type are right. With other tags (parts of speech) words are counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from minibert.data import TaggedExample
from minibert.heads import BertForTokenClassification
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.data.tag_schemes import is_iob
from minibert.workbench.kinds.entities import entity_counts, entity_rows
from minibert.workbench.kinds.evaluation import Measured, Report, share
from minibert.workbench.kinds.kind import Asked, Bags, ErrorRow, Kind, Score, f1_of_sums
from minibert.workbench.kinds.tagged_text import Sentence, TaggedText
from minibert.workbench.scores import metrics


class Tags(Kind):
    problem_type = "token_classification"
    head = BertForTokenClassification
    form = TaggedExample
    metrics = ("entity_f1", "entity_precision", "entity_recall", "word_accuracy", "loss")
    named = True
    of_words = True
    takes = ""

    def watched(self, corpus: Corpus) -> str:
        return "entity_f1" if is_iob(corpus.label_names or ()) else "word_accuracy"

    def report(self, measured: Measured) -> Report:
        """A word that truncation cut off counts as tagged "O", or not at all without such a tag."""
        read = [_read(measured, number) for number in range(len(measured.corpus))]
        truth, guesses = [each.labels for each in read], [each.guesses for each in read]
        labels, predicted = list(chain.from_iterable(truth)), list(chain.from_iterable(guesses))
        right = sum(label == guess for label, guess in zip(labels, predicted, strict=True))
        result: dict[str, Any] = {
            "examples": len(read),
            "words": len(labels),
            "words_cut_off": sum(each.cut_off for each in read),
            "loss": {"value": measured.loss},
        }
        by_type: dict[str, Any] = {}
        entities: list[dict[str, Any]] = []
        if is_iob(measured.names):
            by_type = metrics.entity_scores(truth, guesses)
            overall = by_type.pop("micro")
            counts = entity_counts(truth, guesses)  # (sentences, 3)
            result["entity_f1"] = measured.resampled(lambda a, _: float(f1_of_sums(a.sum(axis=0))), counts, counts)
            result["entity_precision"] = {"value": overall["precision"]}
            result["entity_recall"] = {"value": overall["recall"]}
            entities = [row for each in read for row in each.entities()]
        result["word_accuracy"] = share(right, len(labels))
        result["classes"] = by_type
        number_of = {name: number for number, name in enumerate(measured.names)}
        confusion = metrics.confusion_matrix(
            [number_of[label] for label in labels], [number_of[guess] for guess in predicted], len(measured.names)
        )
        rows = measured.rows_of(
            [each.loss for each in read],
            list(map(" ".join, truth)),
            list(map(" ".join, guesses)),
            [each.least_certain for each in read],
        )
        tables = {"entities.csv": entities}
        return measured.report(self.problem_type, result, rows, confusion, tables)

    def guesses(self, train: Corpus, final: Corpus, bags: Bags) -> dict[str, list[dict[str, str]]]:
        """The tag that each word has most often in training; for a word that is not there, the most frequent tag."""
        names = final.label_names or ()
        counts: dict[str, Counter[int]] = defaultdict(Counter)
        for example in train:
            for word, tag in zip(example.words, example.tags, strict=True):
                counts[word][tag] += 1
        [(usual, _)] = sum(counts.values(), Counter()).most_common(1)
        tag_of = {word: of_word.most_common(1)[0][0] for word, of_word in counts.items()}
        rows = [
            {
                "label": " ".join(names[tag] for tag in example.tags),
                "prediction": " ".join(names[tag_of.get(word, usual)] for word in example.words),
            }
            for example in final
        ]
        return {"tag_of_word": rows}

    def outcomes(self, labels: Sequence[str], rows: Sequence[ErrorRow]) -> dict[str, Score]:
        if any(" " in name for name in labels):
            return {}
        truth = [row["label"].split() for row in rows]
        guesses = [row["prediction"].split() for row in rows]
        if is_iob(labels):
            return {"entity_f1": Score.f1(entity_counts(truth, guesses))}
        added = [
            (sum(tag == guess for tag, guess in zip(tags, guessed, strict=True)), len(tags))
            for tags, guessed in zip(truth, guesses, strict=True)
        ]
        return {"word_accuracy": Score(lambda sums: sums[..., 0] / sums[..., 1], np.array(added))}

    def examples(self, texts: Sequence[Any], more: Sequence[Any] | None) -> Iterator[Sentence]:
        """Each text is a string, or a sequence of its words.

        A string is split at white space, and opening and closing punctuation from the words, as in
        tagged corpora.
        """
        return (Sentence.of(row, text) for row, text in enumerate(texts))

    def predictions(self, asked: Asked) -> list[TaggedText]:
        found = []
        word_ids = asked.rows.word_ids or []
        for sentence, ids, logits in zip(asked.corpus, word_ids, asked.logits, strict=True):
            assert isinstance(sentence, Sentence)
            places = _first_pieces(ids)
            chances, tags = logits[list(places.values())].softmax(dim=-1).max(dim=-1)  # (words,)
            read = {
                word: sentence.tagged(word, asked.names[tag], chance)
                for word, tag, chance in zip(places, tags.tolist(), chances.tolist(), strict=True)
            }
            found.append(sentence.with_tags(read))
        return found


@dataclass(frozen=True)
class _Read:
    """One sentence with the labels, the guesses and the losses of its words."""

    example: TaggedExample
    labels: list[str]
    guesses: list[str]
    losses: list[float]  # 0 for a word that was cut off
    cut_off: int  # words that were not read
    loss: float  # the mean over the words that were read
    least_certain: float

    def entities(self) -> Iterator[dict[str, Any]]:
        return entity_rows(self.example, self.labels, self.guesses, self.losses)


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
    counted = [*range(len(example.tags))] if "O" in names else list(places)
    return _Read(
        example,
        [names[example.tags[word]] for word in counted],
        [names[predicted[word]] if word in places else "O" for word in counted],
        [losses.get(word, 0.0) for word in counted],
        len(example.tags) - len(places),
        of_word.mean().item() if places else 0.0,
        chosen.softmax(dim=-1).amax(dim=-1).min().item() if places else 0.0,
    )


def _first_pieces(word_ids: Sequence[int | None]) -> dict[int, int]:
    """Word -> the place of its first piece, in the order of the words."""
    places: dict[int, int] = {}
    for place, word in enumerate(word_ids):
        if word is not None:
            places.setdefault(word, place)
    return places
