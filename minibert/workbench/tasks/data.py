"""Inspection of labelled text: `minibert data`, and the check before every training run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from minibert.io.errors import ConfigError, DataError
from minibert.io.tables import shorten, table
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.checks import Finding, Split, check, in_pieces, in_words, quantiles, quantiles_by_class
from minibert.workbench.data.corpora import Corpus, read
from minibert.workbench.kinds import kind_for, require_kind
from minibert.workbench.tasks.common import shorten_to

_CLASSES_SHOWN = 30
_EXAMPLES_SHOWN = 4
_WIDTH = 100
_LENGTHS = ("min", "median", "mean", "p95", "max")


@dataclass(frozen=True)
class Inspection:
    """The contents of some labelled text, and what is wrong with it.

    Attributes:
        splits: the first one is for training.
        findings: faults, then warnings, the most serious first.
    """

    splits: tuple[Split, ...]
    findings: tuple[Finding, ...]

    def summary(self) -> str:
        """Tables, examples and findings as text."""
        sources = [(split.name, len(split.corpus), split.corpus.source) for split in self.splits]
        findings = [f"{finding.severity}: {finding.sentence}" for finding in self.findings]
        parts = [
            table(sources, ("split", "examples", "source")),
            _labels(self.splits),
            _lengths(self.splits),
            _examples(self.splits[0]),
            "\n".join(findings) or "Nothing was found to be wrong.",
        ]
        return "\n\n".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "splits": {
                split.name: {
                    "source": split.corpus.source,
                    "examples": len(split.corpus),
                    "problem_type": split.corpus.problem_type,
                    "problem_type_reason": split.corpus.reason,
                    "labels": split.corpus.label_counts,
                    "unit": "words" if split.limit is None else "tokens",
                    "lengths": quantiles(split.lengths),
                    "lengths_by_class": quantiles_by_class(split),
                    "limit": split.limit,
                    "cut_texts": split.cut,
                    "pieces": split.pieces,
                    "unknown_pieces": split.unknown,
                }
                for split in self.splits
            },
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
        sources: the name of each split, and its file, folder or Hub data set. The first one is for
            training: the others are read with its labels.
        reading: how to read them: the keyword arguments of `corpora.read`.
        split: the part of a folder or Hub data set to read; by default the one with the name of the
            split.
        model: whose tokenizer counts WordPieces; without one, lengths are in words.
        max_length: the limit in WordPieces; by default that of the model.

    Raises:
        DataError: a file cannot be read (rows that cannot be used are a finding), or a split has
            labels that the first one does not have.
        TokenizerError: the model has no usable vocabulary.
        ConfigError: there are no sources, or a limit without a model or above that of the model.
    """
    if not sources:
        raise ConfigError(
            "There is nothing to inspect.",
            key="data",
            hint="Name files, or splits: minibert data --train FILE --test FILE. An option with several values takes "
            "all that follow, so put files before it.",
        )
    if max_length is not None and model is None:
        raise ConfigError(
            f"max_length is {max_length}, but only the tokenizer of a model can count WordPieces.",
            key="max_length",
            hint="Name one: --model MODEL.",
        )
    if revision is not None and model is None:
        raise ConfigError("revision is that of a model, and none was named.", key="revision", hint="Leave it out.")
    reading = dict(reading or {})
    drop = bool(reading.pop("drop_bad_rows", False))
    corpora = _read(sources, split, {**reading, "drop_bad_rows": True})
    if model is None:
        splits = [in_words(name, corpus) for name, corpus in corpora.items()]
    else:
        tokenizer = BertTokenizer.from_pretrained(model, revision=revision)
        shorten_to(tokenizer, max_length)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # truncated texts are a finding
            splits = [
                in_pieces(name, corpus, rows, tokenizer)
                for name, corpus in corpora.items()
                for rows in [kind_for(corpus).rows(corpus, tokenizer, progress=progress)]
            ]
    findings = [one if drop or one.kind != "bad_rows" else _not_dropped(one) for one in check(splits)]
    return Inspection(tuple(splits), tuple(sorted(findings, key=lambda one: one.severity != "fault")))


def _not_dropped(finding: Finding) -> Finding:
    """Rows that `train` would refuse."""
    sentence = finding.sentence.replace("are left out", "would be left out by --drop-bad-rows")
    return replace(finding, severity="fault", sentence=sentence)


def check_before_training(splits: Sequence[Split], allow_faults: bool, on_purpose: Sequence[str] = ()) -> list[Finding]:
    """Warns of everything that is wrong with the data of a run, and stops it at a fault.

    Args:
        allow_faults: whether a fault is only a warning.
        on_purpose: the kinds of faults that are only warnings in any case.

    Raises:
        DataError: the first fault.
    """
    findings = check(splits)
    for fault in findings:
        if fault.severity == "fault" and fault.kind not in on_purpose and not allow_faults:
            raise DataError(
                fault.sentence,
                path=next(one.corpus.source for one in splits if one.name == fault.split),
                key=fault.kind,
                hint="To train all the same: --allow-data-faults.",
            )
    for finding in findings:
        if finding.kind != "cut_texts":  # the tokenizer has warned of them
            warnings.warn(finding.sentence, stacklevel=2)
    return findings


def lengths_for_the_record(split: Split) -> dict[str, Any]:
    """The lengths of a split in WordPieces before truncation, overall and by class."""
    return {
        "all": quantiles(split.lengths),
        "by_class": quantiles_by_class(split),
        "limit": split.limit,
        "unknown_share": round(split.unknown_share, 6),
    }


def _read(sources: Mapping[str, str | Path], part: str | None, reading: Mapping[str, Any]) -> dict[str, Corpus]:
    """The splits, all with the labels of the first one."""
    options = dict(reading)
    corpora: dict[str, Corpus] = {}
    for name, source in sources.items():
        corpora[name] = read(source, split=part or name, **options)
        first, *others = corpora.values()
        if others and first.problem_type is not None:
            require_kind(corpora[name], kind_for(first), first.source)
        options.update(first.reading())
    return corpora


# --- text ----------------------------------------------------------------------------------------


def _labels(splits: Sequence[Split]) -> str:
    """What they are; a row for each class, with its count and its share in each split, or what its kind says."""
    if splits[0].corpus.problem_type is None:
        return "There are no labels."
    kind = kind_for(splits[0].corpus)
    title = f"Labels: {splits[0].corpus.read_as}"
    sentences = [f"{split.name}: {kind.describe_labels(split.corpus)}" for split in splits]
    if kind.describe_labels(splits[0].corpus):
        return "\n".join([title, *sentences])
    counts = [split.corpus.label_counts for split in splits]
    totals = [
        sum(count.values()) if kind.of_words else len(split.corpus) for count, split in zip(counts, splits, strict=True)
    ]
    names = sorted(counts[0], key=lambda name: -counts[0][name])
    rows = []
    for name in names[:_CLASSES_SHOWN]:
        row: list[object] = [shorten(name, 40)]
        for count, total in zip(counts, totals, strict=True):
            row += [count[name], round(100 * count[name] / total, 1)]
        rows.append(row)
    header = ["tag of a word" if kind.of_words else "class"]
    header += [title for split in splits for title in (split.name, "%")]
    more = len(names) - _CLASSES_SHOWN
    return f"{title}\n{table(rows, header)}" + (f"\nand {more} more" if more > 0 else "")


def _lengths(splits: Sequence[Split]) -> str:
    """A row for each split; truncation and [UNK] only where a tokenizer has counted them."""
    limit = splits[0].limit
    rows: list[list[object]] = []
    for split in splits:
        found = quantiles(split.lengths)
        rows.append([split.name, *(round(found[key]) for key in _LENGTHS)])
        if limit is not None:
            rows[-1] += [split.cut, round(100 * split.cut / len(split.corpus), 1)]
            rows[-1] += [split.unknown, round(100 * split.unknown_share, 2)]
    header = ["min", "median", "mean", "95%", "max"]
    if limit is None:
        title = "Lengths in words between white space, as no --model was named to count WordPieces:"
        return f"{title}\n{table(rows, ['words', *header])}"
    title = f"Lengths in WordPieces with [CLS] and [SEP]; the limit is {limit}:"
    return f"{title}\n{table(rows, ['tokens', *header, 'cut', '% cut', '[UNK]', '% of pieces'])}"


def _examples(split: Split) -> str:
    """Some examples from all over a split, as the first ones may all be of one class."""
    count = len(split.corpus)
    shown = min(_EXAMPLES_SHOWN, count)
    rows = [split.corpus[place * (count - 1) // max(shown - 1, 1)] for place in range(shown)]
    some: Any = tuple(rows)
    lines = replace(split.corpus, examples=some).head().split("\n")
    return "\n".join([f"Some of {split.name}:", *(f"  {shorten(line, _WIDTH)}" for line in lines)])
