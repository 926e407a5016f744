"""What became of each entity: right, missed, invented, or with the wrong ends or type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from minibert.data import TaggedExample
from minibert.workbench.scores.metrics import Entity, entities


def entity_counts(truth: Sequence[Sequence[str]], guesses: Sequence[Sequence[str]]) -> np.ndarray:
    """(sentences, 3): entities that are right, predicted, and in the labels."""
    counts = []
    for labels, tags in zip(truth, guesses, strict=True):
        there, predicted = entities(labels), entities(tags)
        counts.append((len(there & predicted), len(predicted), len(there)))
    return np.array(counts)


def entity_rows(
    example: TaggedExample, labels: Sequence[str], guesses: Sequence[str], losses: Sequence[float]
) -> Iterator[dict[str, Any]]:
    """A line of entities.csv for every entity of a sentence, labelled or predicted.

    Args:
        labels, guesses, losses: of each word.
    """
    for label, guess in matched(entities(labels), entities(guesses)):
        known = [entity for entity in (label, guess) if entity is not None]
        first, end = min(entity[0] for entity in known), max(entity[1] for entity in known)
        yield {
            "loss": sum(losses[first:end]) / (end - first),
            "outcome": _outcome(label, guess),
            "label": label[2] if label else "",
            "prediction": guess[2] if guess else "",
            "entity": _text(example, label),
            "predicted_entity": _text(example, guess),
            "guid": example.guid,
            "text": " ".join(example.words),
        }


def matched(there: set[Entity], predicted: set[Entity]) -> list[tuple[Entity | None, Entity | None]]:
    """Pairs of an entity and the prediction for it: the same, else the one that overlaps most.

    An entity without a prediction is paired with None, and so is a prediction without an entity.
    """

    def closeness(pair: tuple[Entity, Entity]) -> tuple[bool, bool, int]:
        a, b = pair
        return a == b, a[:2] == b[:2], _overlap(a, b)

    pairs: list[tuple[Entity | None, Entity | None]] = []
    left, right = set(there), set(predicted)
    every = product(sorted(there), sorted(predicted))
    for a, b in sorted(every, key=closeness, reverse=True):
        if _overlap(a, b) > 0 and a in left and b in right:
            pairs.append((a, b))
            left.remove(a)
            right.remove(b)
    return [*pairs, *((a, None) for a in sorted(left)), *((None, b) for b in sorted(right))]


def _overlap(a: Entity, b: Entity) -> int:
    """How many words both have; below 1 if none."""
    return min(a[1], b[1]) - max(a[0], b[0])


def _outcome(label: Entity | None, guess: Entity | None) -> str:
    if label is None:
        return "invented"
    if guess is None:
        return "missed"
    wrong = [("ends", label[:2] != guess[:2]), ("type", label[2] != guess[2])]
    return " and ".join(name for name, is_wrong in wrong if is_wrong) or "right"


def _text(example: TaggedExample, entity: Entity | None) -> str:
    return "" if entity is None else " ".join(example.words[entity[0] : entity[1]])
