"""Checks: what is wrong with labelled text, found before anything is trained on it.

A finding is a warning, or a fault: something that makes every score of a run meaningless, such as
a validation split of one class or a test split that was trained on. Texts count as the same if they
differ in white space alone; nothing here takes longer than reading the texts once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minibert.data import Rows
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus

# The worst first.
KINDS = (
    "one_class",
    "seen_in_training",
    "unknown_tokens",
    "conflicting_labels",
    "missing_labels",
    "shared_texts",
    "shared_contexts",
    "cut_texts",
    "rare_class",
    "imbalance",
    "duplicates",
    "empty_texts",
    "sorted_labels",
)

FEW = 10  # a split of fewer examples may lack a class, or repeat a text, by chance or on purpose
SEEN_IS_A_FAULT = 0.5  # share of a split that was trained on: then most of a score is memory
UNKNOWN_IS_A_FAULT = 0.5  # share of [UNK]: the vocabulary is of another language
UNKNOWN = 0.01
CUT = 0.01  # share of texts that are longer than the limit
RARE = 5  # examples of a class in training
IMBALANCE = 5.0  # the largest class over the smallest; at 9 (emotion) accuracy misleads already
# Labels are sorted if each class is one block, where random order would have so many changes.
CHANGES = 10
CLASSES_APART = 50  # above it lengths are not told for each class

_NAMES_LISTED = 6


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a split.

    Attributes:
        kind: one of KINDS.
        severity: "fault" where a result would be meaningless, else "warning".
        split: the split's name.
        numbers: what was counted, for programs.
        sentence: the same for people, and what to do.
    """

    kind: str
    severity: Literal["fault", "warning"]
    split: str
    numbers: Mapping[str, Any]
    sentence: str


@dataclass(frozen=True)
class Split:
    """One part of the data, and how long its texts are.

    Attributes:
        name: "train", "test", or the file's name.
        lengths: of each text: WordPieces with [CLS] and [SEP], before anything is cut off; without
            a tokenizer words between white space.
        limit: WordPieces that the model takes; None where lengths are in words.
        cut: how many texts were cut to the limit; long contexts are read in windows, not cut.
        pieces, unknown: WordPieces that the model reads, without special ones; how many are [UNK].
    """

    name: str
    corpus: Corpus
    lengths: np.ndarray  # (examples,)
    limit: int | None = None
    cut: int = 0
    pieces: int = 0
    unknown: int = 0

    @property
    def unknown_share(self) -> float:
        """The share of [UNK]; 0 without a tokenizer."""
        return self.unknown / max(self.pieces, 1)


def in_pieces(name: str, corpus: Corpus, dataset: Rows, tokenizer: BertTokenizer) -> Split:
    """A split measured in WordPieces, by what was tokenised already."""
    ends = [tokenizer.cls_id, tokenizer.sep_id]
    pieces = unknown = 0
    for row in range(len(dataset)):
        ids = dataset.ids(row)
        pieces += len(ids) - int(np.isin(ids, ends).sum())
        unknown += int((ids == tokenizer.unk_id).sum())
    lengths = np.array(dataset.full_lengths)
    return Split(name, corpus, lengths, tokenizer.max_length, dataset.cut, pieces, unknown)


def in_words(name: str, corpus: Corpus) -> Split:
    """A split measured in words between white space, where there is no tokenizer."""
    lengths = [sum(len(text.split()) for text in example.texts) for example in corpus]
    return Split(name, corpus, np.array(lengths))


def quantiles(lengths: np.ndarray) -> dict[str, float]:
    """Smallest, quartiles, 95% and largest of some lengths, and their mean."""
    names = ("min", "q1", "median", "q3", "p95", "max")
    found = np.quantile(lengths, [0, 0.25, 0.5, 0.75, 0.95, 1])
    return {
        **{name: round(float(value), 1) for name, value in zip(names, found, strict=True)},
        "mean": round(float(lengths.mean()), 1),
    }


def quantiles_by_class(split: Split) -> dict[str, dict[str, float]]:
    """The quantiles of the lengths for each class that occurs.

    Empty unless each text has one class, or where there are more than CLASSES_APART.
    """
    names = split.corpus.label_names or ()
    if split.corpus.problem_type != "single_label_classification" or len(names) > CLASSES_APART:
        return {}
    labels = np.array([example.target for example in split.corpus])
    return {
        name: quantiles(split.lengths[labels == index])
        for index, name in enumerate(names)
        if (labels == index).any()
    }


def check(splits: Sequence[Split]) -> list[Finding]:
    """Everything that is wrong: faults, then warnings, the worst first.

    Args:
        splits: the first is the one that is trained on; labels are read with its names.
    """
    training, *others = splits
    rows_of = {split.name: _rows_of_texts(split.corpus) for split in splits}
    findings: list[Finding] = []
    for split in splits:
        findings += _unknown_tokens(split)
        findings += _cut_texts(split)
        findings += _duplicates(split, rows_of[split.name])
        findings += _conflicting_labels(split, rows_of[split.name])
        findings += _empty_texts(split, rows_of[split.name])
    findings += _sorted_labels(training)  # the others are read whole: their order plays no part
    findings += _rare_classes(training)
    findings += _imbalance(training)
    for split in others:
        findings += _one_class(split, training) or _missing_labels(split, training)
        findings += _shared_contexts(split, training)
    for earlier, later in combinations(splits, 2):
        findings += _shared_texts(earlier, later, rows_of, earlier is training)
    return sorted(findings, key=lambda one: (one.severity != "fault", KINDS.index(one.kind)))


# Texts

_Text = tuple[str, ...]


def _rows_of_texts(corpus: Corpus) -> dict[_Text, list[int]]:
    """Each text, with single spaces, and the rows that it stands in."""
    rows: dict[_Text, list[int]] = {}
    for row, example in enumerate(corpus):
        rows.setdefault(tuple(" ".join(text.split()) for text in example.texts), []).append(row)
    return rows


def _empty_texts(split: Split, rows_of: Mapping[_Text, list[int]]) -> Iterator[Finding]:
    rows = sorted(row for text, rows in rows_of.items() if not all(text) for row in rows)
    if rows:
        yield _warning(
            "empty_texts",
            split,
            {"texts": len(rows), "first": split.corpus[rows[0]].guid},
            f"{_of(len(rows), len(split.corpus), 'texts')} are empty{_first(split, rows[0])}: "
            "their label can only be guessed; take them out.",
        )


def _duplicates(split: Split, rows_of: Mapping[_Text, list[int]]) -> Iterator[Finding]:
    again = sorted(row for text, rows in rows_of.items() if all(text) for row in rows[1:])
    if again:
        yield _warning(
            "duplicates",
            split,
            {"texts": len(again), "different": len(rows_of), "first": split.corpus[again[0]].guid},
            f"{_of(len(again), len(split.corpus), 'texts')} repeat an earlier one"
            f"{_first(split, again[0])}: they count several times.",
        )


def _conflicting_labels(split: Split, rows_of: Mapping[_Text, list[int]]) -> Iterator[Finding]:
    if split.corpus.problem_type in (None, "regression"):  # two raters may give two numbers
        return
    corpus = split.corpus
    questions = corpus.problem_type == "question_answering"
    conflicts = [
        rows
        for text, rows in rows_of.items()
        if all(text)
        and len(rows) > 1
        and _disagree([corpus[row].target for row in rows], questions)
    ]
    if conflicts:
        what = "answers" if questions else "labels"
        yield _warning(
            "conflicting_labels",
            split,
            {"texts": len(conflicts), "first": corpus[conflicts[0][0]].guid},
            f"{_of(len(conflicts), len(rows_of), 'different texts')} occur with different "
            f"{what}{_first(split, conflicts[0][0])}: no model can get all of them right; look at "
            "them and keep one of each.",
        )


def _disagree(targets: Sequence[Any], questions: bool) -> bool:
    """Whether no label is right for all; of several answers to a question any will do."""
    if questions and len(set(targets)) > 1:
        return not set.intersection(*({answer.text for answer in target} for target in targets))
    return len(set(targets)) > 1


def _shared_texts(
    earlier: Split,
    later: Split,
    rows_of: Mapping[str, Mapping[_Text, list[int]]],
    trained: bool,
) -> Iterator[Finding]:
    """Texts of one split that are in another too: the score rewards remembering them."""
    known = rows_of[earlier.name]
    groups = [rows for text, rows in rows_of[later.name].items() if all(text) and text in known]
    rows = sorted(row for group in groups for row in group)
    if not rows:
        return
    share = len(rows) / len(later.corpus)
    fault = trained and share >= SEEN_IS_A_FAULT and len(later.corpus) >= FEW
    if fault:
        advice = "a score on it says how well the model remembers, not what it has learned"
    elif trained:
        advice = "the score leans on texts that were seen; take them out of training"
    else:
        advice = "a choice made on the one is measured by the other; take them out of one"
    repeated = f", {len(groups):,} of them different" if len(groups) < len(rows) else ""
    yield Finding(
        "seen_in_training" if trained else "shared_texts",
        "fault" if fault else "warning",
        later.name,
        {
            "texts": len(rows),
            "different": len(groups),
            "share": round(share, 4),
            "in": earlier.name,
            "first": later.corpus[rows[0]].guid,
        },
        f"{later.name}: {_of(len(rows), len(later.corpus), 'texts')} are in {earlier.name} too"
        f"{repeated}{_first(later, rows[0])}: {advice}.",
    )


def _shared_contexts(split: Split, training: Split) -> Iterator[Finding]:
    """Questions that are not in training, about contexts that are."""
    known = {example.group for example in training.corpus} - {None}
    asked = {example.texts for example in training.corpus if known}
    rows = [
        row
        for row, example in enumerate(split.corpus)
        if example.group in known and example.texts not in asked
    ]
    if rows:
        contexts = len({split.corpus[row].group for row in rows})
        yield _warning(
            "shared_contexts",
            split,
            {"questions": len(rows), "contexts": contexts, "in": training.name},
            f"{_of(len(rows), len(split.corpus), 'questions')} are about contexts that "
            f"{training.name} has other questions on{_first(split, rows[0])}: the model has read "
            "them; keep the questions of one context together.",
        )


# Tokens


def _cut_texts(split: Split) -> Iterator[Finding]:
    count = len(split.corpus)
    if split.cut > CUT * count and split.corpus.problem_type == "question_answering":
        yield _warning(
            "cut_texts",
            split,
            {"texts": split.cut, "share": round(split.cut / count, 4)},
            f"{_of(split.cut, count, 'questions')} are longer than a window has room for beside "
            "the context: the rest of them is cut off and never read.",
        )
    elif split.cut > CUT * count:
        yield _warning(
            "cut_texts",
            split,
            {"texts": split.cut, "share": round(split.cut / count, 4), "limit": split.limit},
            f"{_of(split.cut, count, 'texts')} are longer than {split.limit} tokens (the longest "
            f"has {split.lengths.max():,}): the rest of them is cut off and never read.",
        )


def _unknown_tokens(split: Split) -> Iterator[Finding]:
    if split.unknown_share <= UNKNOWN:
        return
    fault = split.unknown_share > UNKNOWN_IS_A_FAULT
    advice = (
        "the vocabulary is not that of this language; take a model that is"
        if fault
        else "the model cannot tell these apart; look at them with minibert tokenize"
    )
    yield Finding(
        "unknown_tokens",
        "fault" if fault else "warning",
        split.name,
        {
            "unknown": split.unknown,
            "pieces": split.pieces,
            "share": round(split.unknown_share, 4),
        },
        f"{split.name}: {_of(split.unknown, split.pieces, 'pieces')} are [UNK], not in the "
        f"vocabulary: {advice}.",
    )


# Labels


def _one_class(split: Split, training: Split) -> list[Finding]:
    """The fault of a split whose labels are all the same, unlike those of training."""
    found, expected = _values(split.corpus), _values(training.corpus)
    if len(found) != 1 or len(expected) < 2 or len(split.corpus) < FEW:
        return []
    [value] = found
    return [
        Finding(
            "one_class",
            "fault",
            split.name,
            {"examples": len(split.corpus), "label": value, "labels_in_training": len(expected)},
            f"{split.name}: all {len(split.corpus):,} examples have the label {value}, where "
            f"{training.name} has {len(expected)} different ones: a score on it means nothing; "
            "was it cut out of sorted data? Draw it at random.",
        )
    ]


def _values(corpus: Corpus) -> set[str]:
    """The labels that occur. Of several at once any set may be empty: nothing follows from it."""
    if corpus.problem_type == "regression":
        return {str(example.target) for example in corpus}
    if corpus.problem_type in ("single_label_classification", "token_classification"):
        return {name for name, count in corpus.label_counts.items() if count}
    return set()


def _missing_labels(split: Split, training: Split) -> Iterator[Finding]:
    if split.corpus.problem_type in (None, "regression") or len(split.corpus) < FEW:
        return
    counts = split.corpus.label_counts
    missing = [name for name, n in training.corpus.label_counts.items() if n and not counts[name]]
    if missing:
        yield _warning(
            "missing_labels",
            split,
            {"labels": missing},
            f"{len(missing)} of {len(counts)} labels never occur ({_listed(missing)}): the score "
            "says nothing about them.",
        )


def _rare_classes(training: Split) -> Iterator[Finding]:
    counts = training.corpus.label_counts
    if training.corpus.problem_type == "token_classification":  # of B-X and I-X one may be absent
        counts = {name: count for name, count in counts.items() if count}
    rare = {name: count for name, count in counts.items() if count < RARE}
    if rare:
        listed = _listed([f"{name} {count}" for name, count in rare.items()])
        yield _warning(
            "rare_class",
            training,
            {"labels": rare},
            f"{len(rare)} of {len(training.corpus.label_counts)} labels occur fewer than {RARE} "
            f"times ({listed}): too few to learn from; find more, or join classes.",
        )


def _imbalance(training: Split) -> Iterator[Finding]:
    """Of words and of several labels at once most are "not this one": that is no fault of data."""
    counts = {name: count for name, count in training.corpus.label_counts.items() if count}
    if training.corpus.problem_type != "single_label_classification" or not counts:
        return
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    ratio = counts[most] / counts[least]
    if ratio > IMBALANCE:
        yield _warning(
            "imbalance",
            training,
            {"ratio": round(ratio, 1), "most": most, "least": least},
            f"the largest class, {most}, has {ratio:.1f} times as many examples as the smallest, "
            f"{least} ({counts[most]:,} and {counts[least]:,}): read macro F1 beside accuracy, and "
            "try --class-weights or --balanced.",
        )


def _sorted_labels(split: Split) -> Iterator[Finding]:
    if split.corpus.problem_type != "single_label_classification":
        return
    labels = [example.target for example in split.corpus]
    counts = Counter(labels)
    changes = sum(first != second for first, second in pairwise(labels))
    at_random = len(labels) - sum(count**2 for count in counts.values()) / len(labels)
    if len(counts) > 1 and changes == len(counts) - 1 and at_random >= CHANGES:
        yield _warning(
            "sorted_labels",
            split,
            {"changes": changes, "changes_at_random": round(at_random)},
            f"the labels are sorted: each class is one block, where in random order the class "
            f"would change about {at_random:,.0f} times; a part taken by position would lack a "
            "class, so draw parts at random, as minibert does.",
        )


# Sentences


def _warning(kind: str, split: Split, numbers: Mapping[str, Any], text: str) -> Finding:
    return Finding(kind, "warning", split.name, numbers, f"{split.name}: {text}")


def _of(part: int, whole: int, what: str) -> str:
    """Such as "335 of 1,200 texts (27.9%)"."""
    percent = 100 * part / whole
    return f"{part:,} of {whole:,} {what} ({percent:.{1 if percent >= 0.1 else 3}f}%)"


def _first(split: Split, row: int) -> str:
    """Where to look for the first of several examples, such as " (first: dev.tsv:8)"."""
    return f" (first: {Path(split.corpus[row].guid).name})" if split.corpus[row].guid else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_LISTED]) + ", ..." * (len(names) > _NAMES_LISTED)
