"""The check of a split into train and test: everything that has to hold whatever the draw."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

SPLIT = {
    "end of the file": "the end of the file is cut off, without shuffling",
    "not stratified": "rows are drawn without regard to their label",
    "copies apart": "copies of a text are drawn one by one, so that they fall on both sides",
    "copies dropped": "copies of a text are dropped",
    "train holds all": "the training rows include those of test",
    "parts swapped": "train and test are swapped",
    "seed ignored": "the seed is ignored, and the draw is always the same",
    "no seed": "the draw is different each time, whatever the seed",
}
SEEDS = 8  # splits that a fact has to hold for
Mistakes = frozenset[str]


def split(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (texts, labels, fraction, seed) -> (rows of train, rows of test).

    Each class gives `fraction` of its texts to test; copies of a text stay together; the seed alone decides.
    """
    labels = [0] * 30 + [1] * 45 + [2] * 15
    texts = [f"text {row}" for row in range(len(labels))]
    shuffled = random.Random(8).sample(labels, len(labels))
    copies = ([text for text in texts for _ in range(2)], [label for label in labels for _ in range(2)], 0.25)
    cases = [
        Case("rows in random order", (texts, shuffled, 0.2), "Look at how rows are drawn."),
        Case("rows sorted by label", (texts, labels, 0.2), "Look at the shares of the classes."),
        Case("texts that occur twice", copies, "Look at what becomes of the second copy."),
    ]

    def truth(*inputs: Any, mistakes: Mistakes) -> Any:
        return _facts(partial(drawn, mistakes=mistakes), *inputs)

    def leaves_the_generators_alone(_: Callable[..., Any]) -> str | None:
        before = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=False)
        mine(texts, labels, 0.2, 0)
        after = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=False)
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        np.random.set_state(before[2])
        if torch.equal(before[0], after[0]) and str(before[1:]) == str(after[1:]):
            return None
        return "But it draws from a default generator, or seeds one, and everything else draws from that, too."

    return judge(partial(_facts, mine), Task(truth, cases, SPLIT, properties=[leaves_the_generators_alone]))


def drawn(
    texts: Sequence[str], labels: Sequence[int], fraction: float, seed: int, mistakes: Mistakes = frozenset()
) -> list[list[int]]:
    """The right function of `split`, with some mistakes."""
    rows = range(len(texts))
    if "end of the file" in mistakes:
        parts = [[*rows][: round(len(rows) * (1 - fraction))], [*rows][round(len(rows) * (1 - fraction)) :]]
    else:
        generator = torch.Generator().manual_seed(0 if "seed ignored" in mistakes else seed)
        if "no seed" in mistakes:
            generator.seed()
        apart = "copies apart" in mistakes
        units = {(row if apart else text): label for row, text, label in zip(rows, texts, labels, strict=True)}
        chosen: set[Any] = set()
        for group in [None] if "not stratified" in mistakes else sorted(set(labels)):
            members = [unit for unit, label in units.items() if group in (None, label)]
            order = torch.randperm(len(members), generator=generator).tolist()
            chosen.update(members[place] for place in order[: round(len(members) * fraction)])
        in_test = [(row if apart else text) in chosen for row, text in zip(rows, texts, strict=True)]
        parts = [[row for row in rows if in_test[row] == part] for part in (False, True)]
    if "copies dropped" in mistakes:
        first = {text: row for row, text in reversed([*enumerate(texts)])}
        parts = [[row for row in part if first[texts[row]] == row] for part in parts]
    if "train holds all" in mistakes:
        parts[0] = [*rows]
    return parts[::-1] if "parts swapped" in mistakes else parts


def _facts(draw: Callable[..., Any], texts: list[str], labels: list[int], fraction: float) -> dict[str, str] | None:
    """What holds of a function's splits, for all seeds; None if it returns none."""
    made = [draw(texts, labels, fraction, seed) for _ in range(2) for seed in range(SEEDS)]
    if any(parts is None for parts in made):
        return None
    both = [_rows(parts) for parts in made]
    every, again = both[:SEEDS], both[SEEDS:]
    rows, copies = set(range(len(texts))), max(Counter(texts).values())

    swapped = all(len(test) > len(train) for train, test in every)
    tests = [train if swapped else test for train, test in every]
    counts = {label: [sum(labels[row] == label for row in test) for test in tests] for label in set(labels)}
    holds = {
        "every row is in train or test": all(train | test == rows for train, test in every),
        "no row is in both": all(not train & test for train, test in every),
        "no text is in both": all(not {texts[i] for i in a - b} & {texts[i] for i in b - a} for a, b in every),
        "test is the smaller part": not swapped,
        "test has its size": all(abs(len(test) - fraction * len(rows)) <= copies * len(counts) for test in tests),
        "each class gives its share to test": all(
            abs(count - fraction * labels.count(label)) <= copies for label in counts for count in counts[label]
        ),
        "each class gives as much with any seed": all(max(x) - min(x) <= copies for x in counts.values()),
        "the rows of test are not neighbours": any(max(test) - min(test) >= len(test) for test in tests if test),
        "the same seed gives the same split": every == again,
        "another seed gives another split": len({tuple(sorted(test)) for test in tests}) > 1,
    }
    return {fact: "yes" if true else "no" for fact, true in holds.items()}


def _rows(parts: Any) -> tuple[set[int], set[int]]:
    train, test = ({int(row) for row in part} for part in parts)
    return train, test
