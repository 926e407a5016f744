"""Inspection: labelled text looked at before training, for people and as a gate."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minibert.data import Rows
from minibert.io.errors import ConfigError, DataError
from minibert.io.tables import shorten, table
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.checks import (
    Finding,
    Split,
    check,
    in_pieces,
    in_words,
    quantiles,
    quantiles_by_class,
)
from minibert.workbench.data.corpora import Corpus, read
from minibert.workbench.data.examples import ChoiceExample, QuestionExample
from minibert.workbench.kinds import KINDS, require_kind
from minibert.workbench.tasks.common import commit_of, shorten_to

_CLASSES_SHOWN = 30
_EXAMPLES_SHOWN = 4
_WIDTH = 100


@dataclass(frozen=True)
class Inspection:
    """What some labelled text holds, and what is wrong with it.

    Attributes:
        splits: the first is the one that is trained on.
        findings: faults, then warnings, the worst first.
    """

    splits: tuple[Split, ...]
    findings: tuple[Finding, ...]

    def summary(self) -> str:
        """Tables, examples and findings as text for people."""
        parts = [_sources(self.splits), _labels(self.splits), _lengths(self.splits)]
        parts.append(_examples(self.splits[0]))
        lines = [f"{finding.severity}: {finding.sentence}" for finding in self.findings]
        return "\n\n".join([*parts, "\n".join(lines) or "Nothing was found to be wrong."])

    def as_dict(self) -> dict[str, Any]:
        """The same for programs, ready for JSON."""
        return {
            "splits": {split.name: _numbers(split) for split in self.splits},
            "findings": [asdict(finding) for finding in self.findings],
        }


def inspect(
    sources: Mapping[str, str | Path],
    *,
    reading: Mapping[str, Any] | None = None,
    split: str | None = None,
    model: str | Path | None = None,
    revision: str | None = None,
    max_length: int | None = None,
    progress: bool = True,
) -> Inspection:
    """Reads labelled text, counts it, and checks it.

    Args:
        sources: the name of each split, and its file, folder or Hub data set. The first is the one
            that is trained on: the others are read with its labels.
        reading: how to read them: the keyword arguments of `corpora.read`.
        split: which part of a folder or Hub data set; None: the one with the split's name.
        model: its tokenizer counts WordPieces; without one lengths are in words.
        max_length: the limit in WordPieces; None: that of the model.

    Raises:
        DataError: the text cannot be read, or a split has labels that the first one does not have.
        TokenizerError: the model has no vocabulary that can be used.
        ConfigError: nothing was named, a limit without a model, or one that is above the model's.
    """
    if not sources:
        raise ConfigError(
            "No data were named.",
            key="data",
            hint="Name files, or splits: minibert data --train FILE --test FILE.",
        )
    if max_length is not None and model is None:
        raise ConfigError(
            f"max_length is {max_length}, but WordPieces are counted by the tokenizer of a model.",
            key="max_length",
            hint="Name one: --model MODEL.",
        )
    corpora = _read(sources, split, reading or {})
    if model is None:
        splits = [in_words(name, corpus) for name, corpus in corpora.items()]
    else:
        revision = commit_of(model, revision)
        tokenizer = BertTokenizer.from_pretrained(model, revision=revision)
        shorten_to(tokenizer, max_length)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of texts that are cut: a finding tells
            splits = [
                in_pieces(name, corpus, _rows(corpus, tokenizer, progress), tokenizer)
                for name, corpus in corpora.items()
            ]
    return Inspection(tuple(splits), tuple(check(splits)))


def check_before_training(
    splits: Sequence[Split], allow_faults: bool, on_purpose: Sequence[str] = ()
) -> list[Finding]:
    """Warns of everything that is wrong with the data of a run, and stops it at a fault.

    Args:
        allow_faults: a fault is a warning.
        on_purpose: kinds of findings that are one in any case.

    Raises:
        DataError: the first fault.
    """
    findings = check(splits)
    faults = [
        finding
        for finding in findings
        if finding.severity == "fault" and finding.kind not in on_purpose
    ]
    if faults and not allow_faults:
        source = next(one.corpus.source for one in splits if one.name == faults[0].split)
        raise DataError(
            faults[0].sentence,
            path=source,
            key=faults[0].kind,
            hint="To train all the same: --allow-data-faults.",
        )
    for finding in findings:
        if finding.kind != "cut_texts":  # the tokenizer has warned of them
            warnings.warn(finding.sentence, stacklevel=2)
    return findings


def lengths_for_the_record(split: Split) -> dict[str, Any]:
    """The lengths of a split in WordPieces before truncation, of all texts and of each class."""
    return {
        "all": quantiles(split.lengths),
        "by_class": quantiles_by_class(split),
        "limit": split.limit,
        "unknown_share": round(split.unknown_share, 6),
    }


def _rows(corpus: Corpus, tokenizer: BertTokenizer, progress: bool) -> Rows:
    forms = {QuestionExample: "question_answering", ChoiceExample: "multiple_choice"}
    form = forms.get(type(corpus[0]), "single_label_classification")  # texts without labels
    return KINDS[corpus.problem_type or form].rows(corpus, tokenizer, progress=progress)


def _read(
    sources: Mapping[str, str | Path], part: str | None, reading: Mapping[str, Any]
) -> dict[str, Corpus]:
    """Reads the splits, the labels of the first in every one."""
    options = dict(reading)
    corpora: dict[str, Corpus] = {}
    for name, source in sources.items():
        corpora[name] = read(source, split=part or name, **options)
        first, *others = corpora.values()
        if others and first.problem_type is not None:
            require_kind(corpora[name], KINDS[first.problem_type], first.source)
        options.update(first.reading())
    return corpora


def _numbers(split: Split) -> dict[str, Any]:
    return {
        "source": split.corpus.source,
        "examples": len(split.corpus),
        "problem_type": split.corpus.problem_type,
        "labels": split.corpus.label_counts,
        "unit": _unit(split),
        "lengths": quantiles(split.lengths),
        "lengths_by_class": quantiles_by_class(split),
        "limit": split.limit,
        "cut_texts": split.cut,
        "pieces": split.pieces,
        "unknown_pieces": split.unknown,
    }


def _unit(split: Split) -> str:
    return "words" if split.limit is None else "tokens"


# Text for people


def _sources(splits: Sequence[Split]) -> str:
    rows = [(split.name, len(split.corpus), split.corpus.source) for split in splits]
    return table(rows, ("split", "examples", "source"))


def _labels(splits: Sequence[Split]) -> str:
    """A row for each class, two columns for each split: how many, and the share in percent."""
    first = splits[0].corpus
    if first.problem_type is None:
        return "There are no labels."
    if first.problem_type == "regression":
        return "\n".join(map(_numbers_as_labels, splits))
    if first.problem_type == "question_answering":
        return "\n".join(map(_answers, splits))
    if first.problem_type == "multiple_choice":
        return "\n".join(map(_places, splits))
    counts = [split.corpus.label_counts for split in splits]
    names = sorted(counts[0], key=lambda name: -counts[0][name])
    totals = [_total(split) for split in splits]
    rows = [
        [
            shorten(name, 40),
            *(
                value
                for count, total in zip(counts, totals, strict=True)
                for value in (count[name], round(100 * count[name] / total, 1))
            ),
        ]
        for name in names[:_CLASSES_SHOWN]
    ]
    tagged = first.problem_type == "token_classification"
    header = ["tag of a word" if tagged else "class"]
    header += [title for split in splits for title in (split.name, "%")]
    more = len(names) - _CLASSES_SHOWN
    return table(rows, header) + (f"\nand {more} more" if more > 0 else "")


def _total(split: Split) -> int:
    """What shares are of: examples, or the words that have a tag."""
    if split.corpus.problem_type == "token_classification":
        return sum(split.corpus.label_counts.values())
    return len(split.corpus)


def _numbers_as_labels(split: Split) -> str:
    numbers = np.array([example.target for example in split.corpus])
    return (
        f"{split.name}: labels are numbers from {numbers.min():g} to {numbers.max():g}, "
        f"mean {numbers.mean():.4g}"
    )


def _answers(split: Split) -> str:
    """How many questions, contexts and answers, and how long the answers are."""
    examples: Any = split.corpus
    answered = [example.answers for example in examples if example.answers]
    contexts = len({example.context for example in examples})
    sizes = [len(answers[0].text) for answers in answered] or [0]
    return (
        f"{split.name}: {len(split.corpus):,} questions on {contexts:,} contexts, "
        f"{len(split.corpus) - len(answered):,} without an answer; answers have "
        f"{np.median(sizes):g} characters (median), {max(sizes):,} at most"
    )


def _places(split: Split) -> str:
    """How many choices there are, and how often the right one stands in each place."""
    examples: Any = split.corpus
    sizes = [len(example.choices) for example in examples]
    counts = np.bincount([example.label for example in examples], minlength=max(sizes))
    shares = ", ".join(
        f"{place}: {100 * n / len(sizes):.1f}%" for place, n in enumerate(counts.tolist())
    )
    least, most = min(sizes), max(sizes)
    sizes_shown = f"{least if least == most else f'{least} to {most}'} choices a text"
    return f"{split.name}: {sizes_shown}; place of the right one {shares}"


def _lengths(splits: Sequence[Split]) -> str:
    """A row for each split; what was cut and what is unknown only where a model was named."""
    rows: list[list[object]] = []
    for split in splits:
        found = quantiles(split.lengths)
        row: list[object] = [split.name]
        row += [round(found[key]) for key in ("min", "median", "mean", "p95", "max")]
        if split.limit is not None:
            row += [split.cut, round(100 * split.cut / len(split.corpus), 1)]
            row += [split.unknown, round(100 * split.unknown_share, 2)]
        rows.append(row)
    limit = splits[0].limit
    header = ["words" if limit is None else "tokens", "min", "median", "mean", "95%", "max"]
    if limit is None:
        title = "Lengths in words between white space, as no --model was named to count WordPieces:"
    else:
        title = f"Lengths in WordPieces with [CLS] and [SEP]; the limit is {limit}:"
        header += ["cut", "% cut", "[UNK]", "% of pieces"]
    return f"{title}\n{table(rows, header)}"


def _examples(split: Split) -> str:
    """Some examples from all over a split, since the first ones may be of one class."""
    count = len(split.corpus)
    shown = min(_EXAMPLES_SHOWN, count)
    rows = [split.corpus[place * (count - 1) // max(shown - 1, 1)] for place in range(shown)]
    some: Any = tuple(rows)
    lines = replace(split.corpus, examples=some).head().split("\n")
    return "\n".join([f"Some of {split.name}:", *(f"  {shorten(line, _WIDTH)}" for line in lines)])
