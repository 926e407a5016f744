"""Checks: what is wrong with labelled text, found before anything is trained on it.

A finding is a warning, or a fault: something that makes every score of a run meaningless, such as
a validation split with one class or a test split that was trained on. Texts that differ in white
space alone are the same. To add a check, write a function that yields findings, call it in `check`,
and add its name to KINDS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minibert.io.rows import Rows
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus, listed
from minibert.workbench.data.label_rules import is_whole

# Of findings, the worst first.
KINDS = (
    "bad_rows",
    "many_labels",
    "one_class",
    "same_labels",
    "seen_in_training",
    "unknown_tokens",
    "conflicting_labels",
    "missing_labels",
    "shared_texts",
    "shared_contexts",
    "cut_texts",
    "similar_labels",
    "rare_class",
    "imbalance",
    "duplicates",
    "empty_texts",
    "sorted_labels",
)

MANY_LABELS = 0.5  # different labels for each example: they are no classes
FEW = 10  # smaller splits may lack a class, or repeat a text, by chance or on purpose
SEEN_IS_A_FAULT = 0.5  # share of a split that was trained on: most of a score is then memory
UNKNOWN_IS_A_FAULT = 0.5  # share of [UNK]: the vocabulary is of another language
UNKNOWN = 0.01
CUT = 0.01  # share of texts that are longer than the limit
RARE = 5  # examples of a class in training
IMBALANCE = 5.0  # the largest class over the smallest; at 9 (emotion) accuracy already misleads
CHANGES = 10  # labels in one block for each class are sorted if random order has more changes
CLASSES_APART = 50  # with more of them, lengths are not listed by class

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
        lengths: of each text: WordPieces with [CLS] and [SEP], before truncation; without a
            tokenizer words between white space.
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

    @cached_property
    def rows_of(self) -> dict[tuple[str, ...], list[int]]:
        """Each text, with single spaces, and the rows that hold it."""
        rows: dict[tuple[str, ...], list[int]] = {}
        for row, example in enumerate(self.corpus):
            rows.setdefault(tuple(" ".join(text.split()) for text in example.texts), []).append(row)
        return rows

    def finding(self, kind: str, sentence: str, numbers: Mapping[str, Any], *, fault: bool = False) -> Finding:
        severity: Literal["fault", "warning"] = "fault" if fault else "warning"
        return Finding(kind, severity, self.name, numbers, f"{self.name}: {sentence}")

    def count(self, number: int, what: str) -> str:
        """Such as "335 of 1,200 texts (27.9%)"."""
        return _of(number, len(self.corpus), what)

    def first(self, row: int) -> str:
        """Where to find the first of several examples, such as " (first: dev.tsv:8)"."""
        guid = self.corpus[row].guid
        return f" (first: {Path(guid).name})" if guid else ""


def in_pieces(name: str, corpus: Corpus, dataset: Rows, tokenizer: BertTokenizer) -> Split:
    """A split measured in WordPieces, from rows of ids."""
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
    names = ("min", "q1", "median", "q3", "p95", "max", "mean")
    found = [*np.quantile(lengths, [0, 0.25, 0.5, 0.75, 0.95, 1]), lengths.mean()]
    return {name: round(float(value), 1) for name, value in zip(names, found, strict=True)}


def quantiles_by_class(split: Split) -> dict[str, dict[str, float]]:
    """The quantiles of the lengths for each class that occurs.

    Empty unless each text has one class, or if there are more than CLASSES_APART.
    """
    names = split.corpus.label_names or ()
    if split.corpus.problem_type != "single_label_classification" or len(names) > CLASSES_APART:
        return {}
    labels = np.array([example.target for example in split.corpus])
    return {
        name: quantiles(split.lengths[labels == index]) for index, name in enumerate(names) if (labels == index).any()
    }


def check(splits: Sequence[Split]) -> list[Finding]:
    """All findings: faults, then warnings, the worst first.

    Args:
        splits: the first is the one that is trained on; labels are read with its names.
    """
    training, *others = splits
    findings: list[Finding] = []
    for split in splits:
        for find in (_unknown_tokens, _cut_texts, _duplicates, _conflicting_labels, _empty_texts):
            findings += find(split)
    findings += _sorted_labels(training)  # the others are measured whole, in whatever order
    findings += _rare_classes(training)
    findings += _imbalance(training)
    findings += _one_class(training, training)
    for split in others:
        findings += list(_one_class(split, training)) or _missing_labels(split, training)
        findings += _shared_contexts(split, training)
    findings += _many_labels(training)
    for split in splits:
        findings += _same_labels(split)
        findings += _similar_labels(split)
    for corpus in {split.corpus.source: split for split in reversed(splits)}.values():
        findings += _bad_rows(corpus)
    for earlier, later in combinations(splits, 2):
        findings += _shared_texts(earlier, later, trained=earlier is training)
    return sorted(findings, key=lambda one: (one.severity != "fault", KINDS.index(one.kind)))


# Texts


def _empty_texts(split: Split) -> Iterator[Finding]:
    rows = sorted(row for text, rows in split.rows_of.items() if not all(text) for row in rows)
    if rows:
        found = f"{split.count(len(rows), 'texts')} are empty{split.first(rows[0])}"
        sentence = f"{found}: their label can only be guessed; remove them."
        yield split.finding("empty_texts", sentence, {"texts": len(rows), "first": split.corpus[rows[0]].guid})


def _duplicates(split: Split) -> Iterator[Finding]:
    again = sorted(row for text, rows in split.rows_of.items() if all(text) for row in rows[1:])
    if again:
        found = f"{split.count(len(again), 'texts')} repeat an earlier one{split.first(again[0])}"
        numbers = {"texts": len(again), "different": len(split.rows_of), "first": split.corpus[again[0]].guid}
        yield split.finding("duplicates", f"{found}: they count several times.", numbers)


def _conflicting_labels(split: Split) -> Iterator[Finding]:
    corpus = split.corpus
    if corpus.problem_type in (None, "regression"):  # two raters may give two numbers
        return
    questions = corpus.problem_type == "question_answering"
    conflicts = [
        rows
        for text, rows in split.rows_of.items()
        if all(text) and _disagree([corpus[row].target for row in rows], questions)
    ]
    if conflicts:
        first = conflicts[0][0]
        sentence = (
            f"{_of(len(conflicts), len(split.rows_of), 'different texts')} occur with different "
            f"{'answers' if questions else 'labels'}{split.first(first)}: no model can get all of "
            "them right; check them and keep one of each."
        )
        yield split.finding("conflicting_labels", sentence, {"texts": len(conflicts), "first": corpus[first].guid})


def _disagree(targets: Sequence[Any], questions: bool) -> bool:
    """Whether no label is right for all; of several answers to a question any is right."""
    if questions and len(set(targets)) > 1:
        return not set.intersection(*({answer.text for answer in target} for target in targets))
    return len(set(targets)) > 1


def _shared_texts(earlier: Split, later: Split, trained: bool) -> Iterator[Finding]:
    """Leakage: texts in both splits, so that the score rewards remembering them."""
    groups = [rows for text, rows in later.rows_of.items() if all(text) and text in earlier.rows_of]
    rows = sorted(row for group in groups for row in group)
    if not rows:
        return
    share = len(rows) / len(later.corpus)
    fault = trained and share >= SEEN_IS_A_FAULT and len(later.corpus) >= FEW
    if fault:
        advice = "a score on it measures what the model remembers, not what it has learned"
    elif trained:
        advice = "the score is partly memory; remove them from training"
    else:
        advice = "what is chosen on one split is measured on the other; remove them from one"
    repeated = f", {len(groups):,} of them different" if len(groups) < len(rows) else ""
    found = f"{later.count(len(rows), 'texts')} are in {earlier.name} too{repeated}{later.first(rows[0])}"
    numbers: dict[str, Any] = {"texts": len(rows), "different": len(groups), "share": round(share, 4)}
    numbers |= {"first": later.corpus[rows[0]].guid, "in": earlier.name}
    kind = "seen_in_training" if trained else "shared_texts"
    yield later.finding(kind, f"{found}: {advice}.", numbers, fault=fault)


def _shared_contexts(split: Split, training: Split) -> Iterator[Finding]:
    """Questions that are not in training, about contexts that are."""
    known = {example.group for example in training.corpus} - {None}
    asked = {example.texts for example in training.corpus if known}
    rows = [row for row, example in enumerate(split.corpus) if example.group in known and example.texts not in asked]
    if rows:
        sentence = (
            f"{split.count(len(rows), 'questions')} are about contexts that {training.name} has other questions on"
            f"{split.first(rows[0])}: the model has read them; keep the questions of one context together."
        )
        contexts = len({split.corpus[row].group for row in rows})
        numbers = {"questions": len(rows), "contexts": contexts, "in": training.name}
        yield split.finding("shared_contexts", sentence, numbers)


# Tokens


def _cut_texts(split: Split) -> Iterator[Finding]:
    if split.cut <= CUT * len(split.corpus):
        return
    numbers: dict[str, Any] = {"texts": split.cut, "share": round(split.cut / len(split.corpus), 4)}
    if split.corpus.problem_type == "question_answering":
        longer = f"{split.count(split.cut, 'questions')} are longer than a window has room for beside the context"
    else:
        numbers["limit"] = split.limit
        longest = f"the longest has {split.lengths.max():,}"
        longer = f"{split.count(split.cut, 'texts')} are longer than {split.limit} tokens ({longest})"
    yield split.finding("cut_texts", f"{longer}: the rest is cut off and never read.", numbers)


def _unknown_tokens(split: Split) -> Iterator[Finding]:
    share = split.unknown_share
    if share <= UNKNOWN:
        return
    fault = share > UNKNOWN_IS_A_FAULT
    advice = "the model cannot tell these apart; look at them with minibert tokenize"
    if fault:
        advice = "it is the vocabulary of another language; choose a model for this one"
    sentence = f"{_of(split.unknown, split.pieces, 'pieces')} are [UNK], not in the vocabulary: {advice}."
    numbers = {"unknown": split.unknown, "pieces": split.pieces, "share": round(share, 4)}
    yield split.finding("unknown_tokens", sentence, numbers, fault=fault)


# Labels


def _one_class(split: Split, training: Split) -> Iterator[Finding]:
    """The fault of a split whose labels are all the same: in training, or unlike those of training."""
    found, expected, examples = _values(split.corpus), len(_values(training.corpus)), len(split.corpus)
    if len(found) == 1 and (expected > 1 or split is training) and examples >= FEW:
        [value] = found
        sentence = f"all {examples:,} examples have the label {value}" + (
            ": there is nothing to learn; is the file a part of sorted data, or the label in another column?"
            if split is training
            else f", but {training.name} has {expected} different ones: a score on it means nothing; "
            "was it cut out of sorted data? Draw it at random."
        )
        numbers = {"examples": examples, "label": value, "labels_in_training": expected}
        yield split.finding("one_class", sentence, numbers, fault=True)


def _many_labels(training: Split) -> Iterator[Finding]:
    """The fault of a column that holds numbers, ids or texts, taken for classes."""
    found, examples = sorted(_values(training.corpus)), len(training.corpus)
    if training.corpus.problem_type != "single_label_classification" or examples < 2 * FEW:
        return
    if len(found) > MANY_LABELS * examples:
        what, option = "ids, texts or numbers with a unit", ""
        if all(map(is_whole, found)):
            what, option = "ids or numbers", " --problem-type regression takes them as numbers."
        sentence = (
            f"the labels have {len(found):,} different values in {examples:,} examples ({_listed(found)}), so they "
            f"look like {what}, not classes: name another column (--label).{option}"
        )
        yield training.finding("many_labels", sentence, {"labels": len(found), "examples": examples}, fault=True)


def _similar_labels(split: Split) -> Iterator[Finding]:
    """Classes whose names differ in case or white space alone, such as "Pos" and "pos"."""
    alike: dict[str, dict[str, int]] = {}
    for name, count in split.corpus.label_counts.items():
        if count:
            alike.setdefault(" ".join(name.casefold().split()), {})[name] = count
    groups = [group for group in alike.values() if len(group) > 1]
    if groups:
        spelt = [" and ".join(f"{name!r} {count:,}" for name, count in group.items()) for group in groups]
        sentence = (
            f"labels that differ in case or white space alone are different classes ({_listed(spelt)}): if they are "
            "the same, spell them alike."
        )
        yield split.finding("similar_labels", sentence, {"labels": groups})


def _bad_rows(split: Split) -> Iterator[Finding]:
    """Rows that were left out on request."""
    dropped = split.corpus.dropped
    if dropped:
        sentence = f"rows that cannot be used are left out, {len(dropped):,} of them: {listed(dropped)}"
        yield split.finding("bad_rows", sentence, {"rows": len(dropped), "first": list(dropped[:FEW])})


def _same_labels(split: Split) -> Iterator[Finding]:
    """The fault of several labels a text that are all of them, or none, for every text."""
    if split.corpus.problem_type != "multi_label_classification" or len(split.corpus) < FEW:
        return
    found = {sum(example.target) / len(example.target) for example in split.corpus}
    if found in ({0.0}, {1.0}):
        which = "every class applies" if found == {1.0} else "no class applies"
        sentence = f"{which} to every text, so there is nothing to learn: how does the file write its labels?"
        yield split.finding("same_labels", sentence, {"share": found.pop()}, fault=True)


def _values(corpus: Corpus) -> set[str]:
    """The labels that occur; none where a text may have several, since any set of them is fine."""
    if corpus.problem_type == "regression":
        return {str(example.target) for example in corpus}
    if corpus.problem_type in ("single_label_classification", "token_classification"):
        return {name for name, count in corpus.label_counts.items() if count}
    return set()


def _missing_labels(split: Split, training: Split) -> Iterator[Finding]:
    counts = split.corpus.label_counts
    missing = [name for name, n in training.corpus.label_counts.items() if n and not counts[name]]
    if missing and len(split.corpus) >= FEW:
        found = f"{len(missing)} of {len(counts)} labels never occur ({_listed(missing)})"
        yield split.finding("missing_labels", f"{found}: the score says nothing about them.", {"labels": missing})


def _rare_classes(training: Split) -> Iterator[Finding]:
    counts = training.corpus.label_counts
    may_be_absent = training.corpus.problem_type == "token_classification"  # one of B-X and I-X
    rare = {name: n for name, n in counts.items() if n < RARE and (n or not may_be_absent)}
    if rare:
        listed = _listed([f"{name} {count}" for name, count in rare.items()])
        found = f"{len(rare)} of {len(counts)} labels occur fewer than {RARE} times ({listed})"
        sentence = f"{found}: too few to learn from; find more, or merge classes."
        yield training.finding("rare_class", sentence, {"labels": rare})


def _imbalance(training: Split) -> Iterator[Finding]:
    """Of one class for each text: most words, and most of several labels, are rightly absent."""
    counts = {name: count for name, count in training.corpus.label_counts.items() if count}
    if training.corpus.problem_type != "single_label_classification" or not counts:
        return
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    ratio = counts[most] / counts[least]
    if ratio > IMBALANCE:
        sentence = (
            f"the largest class, {most}, has {ratio:.1f} times as many examples as the smallest, "
            f"{least} ({counts[most]:,} and {counts[least]:,}): read macro F1 beside accuracy, and "
            "try --class-weights or --balanced."
        )
        yield training.finding("imbalance", sentence, {"ratio": round(ratio, 1), "most": most, "least": least})


def _sorted_labels(split: Split) -> Iterator[Finding]:
    if split.corpus.problem_type != "single_label_classification":
        return
    labels = [example.target for example in split.corpus]
    counts = Counter(labels)
    changes = sum(first != second for first, second in pairwise(labels))
    at_random = len(labels) - sum(count**2 for count in counts.values()) / len(labels)
    if len(counts) > 1 and changes == len(counts) - 1 and at_random >= CHANGES:
        sentence = (
            f"the labels are sorted: each class is one block, where in random order the class would change about "
            f"{at_random:,.0f} times; a part taken by position would lack a class, so draw parts at random, as "
            "minibert does."
        )
        numbers = {"changes": changes, "changes_at_random": round(at_random)}
        yield split.finding("sorted_labels", sentence, numbers)


def _of(part: int, whole: int, what: str) -> str:
    """Such as "335 of 1,200 texts (27.9%)"."""
    percent = 100 * part / whole
    return f"{part:,} of {whole:,} {what} ({percent:.{1 if percent >= 0.1 else 3}f}%)"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_LISTED]) + ", ..." * (len(names) > _NAMES_LISTED)
