"""Corpora: files of labelled text, read into plain examples, with the names of their labels.

One call reads any of them:

    read("train.txt", sep=";", names=["text", "label"])     separated values without a header
    read("train.tsv", text="text_a")                         with a header; .csv, .tsv, .json, .gz
    read("aclImdb", split="train")                           a folder with pos/ and neg/
    read("train.conll.gz")                                   a word and its tag on each line
    read("train.json")                                       questions and answers, as in SQuAD
    read("train.jsonl", choices=["choices"])                 a text and several to choose from
    read("owner/name", split="train")                        a data set of the Hub
    read("samples", split="train")                           the reviews that ship with minibert

A label that a file spells as a name (or as a whole number) becomes an index into `label_names`;
names are sorted, numbers by value. Validation and test data are read with the training data's
`label_names`, so that an index means the same class everywhere. Nothing is dropped: a line that
cannot be used is an error that names it. Formats are in readers.py.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minibert.data import Example, TaggedExample
from minibert.io.errors import ConfigError, DataError
from minibert.io.files import sha256
from minibert.workbench.data.examples import AnyExample, ChoiceExample, QuestionExample
from minibert.workbench.data.labels import read_labels
from minibert.workbench.data.readers import FORMATS, Options, require_effect
from minibert.workbench.data.records import QUESTIONS, Columns, Record, Row, tokenisable
from minibert.workbench.data.sources import find, format_of, part_of
from minibert.workbench.data.tag_schemes import TAG_SCHEMES, in_iob2

_MOST_PARTS = 100
_FILES_LISTED = 20  # above it a record holds one sum for all files
_ROWS_LISTED = 10  # of those that cannot be used
_ROWS_RECORDED = 1000

PROBLEM_TYPES = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
    "token_classification",
    "question_answering",
    "multiple_choice",
)


@dataclass(frozen=True)
class Corpus:
    """Examples, with the names of their labels.

    Args:
        examples: all of one form.
        label_names: the classes, by index; None for regression, questions, choices, and where
            there are no labels.
        source: what was asked for.
        files: the files that were read.
        parts: the guid of an example -> the part of the data that it belongs to, where the files have such a column.
        reason: why the labels are taken for what they are, for people.
        dropped: what is wrong with each row that was left out.
    """

    examples: tuple[Example, ...] | tuple[TaggedExample, ...] | tuple[QuestionExample, ...] | tuple[ChoiceExample, ...]
    label_names: tuple[str, ...] | None = None
    source: str = ""
    files: tuple[Path, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    dropped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> AnyExample:
        return self.examples[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.examples)

    @property
    def problem_type(self) -> str | None:
        """What the labels are, in the words of the official config; None without labels.

        "single_label_classification", "multi_label_classification" and "regression" are those of
        the config; "token_classification" is for tagged sentences, "question_answering" and
        "multiple_choice" for the examples of these names.
        """
        if not self.examples or self.examples[0].target is None:
            return None
        forms = {
            TaggedExample: "token_classification",
            QuestionExample: "question_answering",
            ChoiceExample: "multiple_choice",
        }
        form = forms.get(type(self.examples[0]))
        if form is not None:
            return form
        if self.label_names is None:
            return "regression"
        several = isinstance(self.examples[0].target, tuple)
        return "multi_label_classification" if several else "single_label_classification"

    @property
    def read_as(self) -> str:
        """What the labels are and why, for people."""
        return f"{self.problem_type}{f' ({self.reason})' if self.reason else ''}"

    @property
    def label_counts(self) -> dict[str, int]:
        """How often each label occurs, in the order of `label_names`; empty without names."""
        counts: Counter[Any] = Counter()
        for label in (example.target for example in self.examples):
            if isinstance(label, int):
                counts[label] += 1
            elif self.problem_type == "multi_label_classification":
                counts.update(index for index, holds in enumerate(label) if holds)
            elif self.problem_type == "token_classification":
                counts.update(label)
        return {name: counts[index] for index, name in enumerate(self.label_names or ())}

    def reading(self) -> dict[str, Any]:
        """The arguments of `read` with which labels of another file mean the same as here."""
        if self.problem_type is None:
            return {}
        return {"label_names": self.label_names, "problem_type": self.problem_type}

    def head(self, count: int = 5) -> str:
        """The first examples as a table for people."""
        return "\n".join(_row(example, self.label_names) for example in self.examples[:count])

    def fingerprint(self) -> dict[str, Any]:
        """What was read, for the record of a run: counts, and the sha256 sum of each file.

        More than 20 files (a folder with a file for each text) have one sum together, so that the
        record stays readable: that of the sorted lines "name sum", with names relative to the
        folder that holds them all.
        """
        record = {"source": self.source, "examples": len(self), "labels": self.label_counts, "files": _sums(self.files)}
        if self.dropped:
            record |= {"dropped_rows": len(self.dropped), "dropped": list(self.dropped[:_ROWS_RECORDED])}
        return record


def read(
    source: str | Path,
    *,
    format: str | None = None,
    sep: str | None = None,
    names: Sequence[str] | None = None,
    quoting: bool | None = None,
    encoding: str | None = None,
    text: str = "text",
    text_pair: str | None = None,
    label: str | Sequence[str] | None = "label",
    label_sep: str | None = None,
    choices: Sequence[str] | None = None,
    tag_scheme: str | None = None,
    part: str = "part",
    label_names: Sequence[str] | None = None,
    problem_type: str | None = None,
    drop_bad_rows: bool = False,
    split: str | None = None,
    revision: str | None = None,
) -> Corpus:
    """Reads a file, a folder or a data set of the Hub.

    Args:
        source: a path, a Hub id, or "samples". A file may be gzipped (`.gz`).
        format: a name in FORMATS: "csv", "tsv", "jsonl", "parquet", "conll" (a word and its tag on
            each line, a blank line after each sentence), "squad" (JSON as SQuAD has it), "lines" (a
            text on each line, no labels) or "folder" (a text in each file, its folder its label).
            The default is by the file's ending, in capitals or not; `.txt` is "lines" unless `sep`
            or `names` is given, and `.json` is told by its content (see json_tables.py).
        sep: what separates the columns; by default "," in csv, a tab in tsv and conll.
        names: the columns of a csv or tsv file that has no header line.
        quoting: whether a '"' in a csv or tsv file quotes; by default in `.csv` files, and in others
            where every '"' stands as a program puts them, at both ends of a cell or doubled inside.
        encoding: of the file, such as "windows-1252"; by default UTF-8, or UTF-16 as Excel writes it.
        text, text_pair, label: the columns to read. `label=None` reads texts without labels. A
            text that is a list of words (jsonl, parquet) has a list of tags for a label. With
            `choices` a second text is put before each of them, as SWAG has it. With
            `problem_type="question_answering"` the columns of a table are those of the Hub's SQuAD:
            id, question, context, answers. Several columns for `label` are classes, and hold 0 or 1
            each: whether the class applies.
        label_sep: what separates several labels in one cell, such as ",".
        choices: the column that holds the list of texts to choose from, or several columns that
            hold one each; `label` is then the place of the right one, from 0, or its text.
        tag_scheme: "iob2": B-X begins an entity, I-X continues it, and an I-X that continues
            nothing is an error. "iob1", as in CoNLL-2003: I-X begins one too, B-X only right after
            another X. "io": the type alone. Such tags become iob2. "none" leaves them as they are,
            to be scored word by word. The default is by the tags; see tag_schemes.py.
        part: the column with the part of the data that an example belongs to, which is read where it is there and
            has 2 to 100 values: a report has the scores of each.
        label_names: the classes in their order, as when validation data follow training data; by
            default the labels of the file, sorted. Whole numbers are taken as indices into names
            that are not numbers themselves, with a warning.
        problem_type: what the labels are, one of PROBLEM_TYPES. "regression" takes them as numbers
            even if all are whole (ratings from 1 to 5), the others as names of classes. By default
            all labels together tell; see label_rules.py.
        drop_bad_rows: leave out rows that cannot be used, and keep what is wrong with them in
            `dropped`.
        split: which part of a folder or Hub data set: "train", "test", or with a folder's name
            before it where there are several ("unsplit/train"). A source may name its part itself,
            after a colon: "owner/name:unsplit/train".
        revision: branch, tag or commit of a Hub data set.

    Raises:
        DataError: the file is missing, empty or damaged; a column is missing; a line is ragged or
            not UTF-8; a label is unknown. The message names file and line.
        ConfigError: the format, problem type or tag scheme does not exist.
    """
    known = {"tag_scheme": TAG_SCHEMES, "problem_type": PROBLEM_TYPES, "format": tuple(FORMATS)}
    given = {"tag_scheme": tag_scheme, "problem_type": problem_type, "format": format}
    for key, value in given.items():
        if value not in (None, *known[key]):
            raise ConfigError(f"{key} is {value!r}, but it must be one of {', '.join(known[key])}.", key=key)
    one, classes = (label, ()) if label is None or isinstance(label, str) else (None, tuple(label))
    if len(classes) == 1:
        one, classes = classes[0], ()
    named = Columns(text, text_pair, one, classes, tuple(choices or ()), part=part)
    options = Options(_columns(named, problem_type), sep, names, quoting, encoding)
    source, split = part_of(source, split)
    files, of_folder = find(source, split, revision)
    rows: list[Row] = []
    for path in files:
        chosen = of_folder or format or format_of(path, is_table=bool(sep or names))
        _refuse_columns(FORMATS[chosen].nameless, named)
        require_effect(path, chosen, options, format if of_folder else None)
        rows += map(tokenisable, FORMATS[chosen].read(path, options))
    records = [row for row in rows if isinstance(row, Record)]
    _require_some(source, rows, records)
    _require_one_form(records)
    if tag_scheme is not None and not isinstance(records[0].text, tuple):
        raise ConfigError(
            f"Only tagged words have a tag_scheme, and {source} has none.", key="tag_scheme", hint="Leave it out."
        )
    records = in_iob2(records, tag_scheme, label_names)
    labels = read_labels(records, label_names, problem_type, label_sep)
    made = map(_example, records, labels.values)
    found = [row if isinstance(row, DataError) else next(made) for row in rows]
    examples: Any = tuple(row for row in found if not isinstance(row, DataError))
    bad = [row for row in found if isinstance(row, DataError)]
    _require_some(source, found, examples)
    if bad and not drop_bad_rows:
        raise _cannot_be_used(source, bad, len(rows))
    reason = labels.reason
    if classes:
        reason = "a column for each class says whether it applies"
    elif label_sep is not None:
        reason = f"{label_sep!r} separates the names in a cell"
    parts = {record.where: record.part for record in records if record.part is not None}
    few = 1 < len(set(parts.values())) <= _MOST_PARTS
    dropped = tuple(map(_short, bad))
    return Corpus(examples, labels.names, str(source), files, parts if few else {}, reason, dropped)


def _require_some(source: str | Path, rows: Sequence[Any], usable: Sequence[Any]) -> None:
    """Raises DataError if there are no rows; of rows that are all bad the first says what is wrong."""
    if not rows:
        raise DataError(f"{source} holds no examples.", path=source)
    if not usable:
        raise rows[0]


def _cannot_be_used(source: str | Path, bad: Sequence[DataError], rows: int) -> DataError:
    """The error of rows that cannot be used: the first ones, and how many there are."""
    first = bad[0]
    hint = f"{first.hint or ''} minibert data and train leave out such rows with --drop-bad-rows.".lstrip()
    if len(bad) == 1:
        return DataError(_without_hint(first), path=first.path, key=first.key, hint=hint)
    message = f"{len(bad):,} of {rows:,} rows of {source} cannot be used: {listed(list(map(_short, bad)))}"
    return DataError(message, path=first.path, key=first.key, hint=hint)


def listed(sentences: Sequence[str]) -> str:
    """The first sentences in one, and how many there are more."""
    parts = [sentence.rstrip(".") for sentence in sentences[:_ROWS_LISTED]]
    more = len(sentences) - _ROWS_LISTED
    return "; ".join([*parts, *([f"and {more:,} more"] if more > 0 else [])]) + "."


def _short(problem: DataError) -> str:
    """The sentence, without the folder of the file."""
    where = Path(problem.path or (problem.key or "").rpartition(":")[0])
    return _without_hint(problem).replace(str(where), where.name) if where.name else _without_hint(problem)


def _without_hint(problem: DataError) -> str:
    return str(problem).removesuffix(f" {problem.hint}")


def require_parts(corpus: Corpus, part: str) -> None:
    """Raises DataError if a column of parts was named, and the corpus has none."""
    if part != Columns().part and not corpus.parts:
        message = f"{corpus.source} has no column {part!r} with 2 to {_MOST_PARTS} values."
        raise DataError(message, path=corpus.source, key="part", hint="Name another, or leave --part out.")


def _columns(named: Columns, problem_type: str | None) -> Columns:
    """The columns to read for a problem type, of those that were named."""
    for key, columns in {"choices": named.choices, "label": named.classes}.items():
        if len(set(columns)) < len(columns):
            raise ConfigError(f"A column is named twice: {', '.join(columns):.200}.", key=key)
    if problem_type == "question_answering":
        _refuse_columns("Questions", named)
        return QUESTIONS._replace(part=named.part)
    if problem_type == "multiple_choice" and not named.choices:
        return named._replace(choices=("choices",))
    return named


def _refuse_columns(nameless: str, named: Columns) -> None:
    """Raises ConfigError if columns were named for what has no names for them."""
    for key, usual in Columns(label=named.label)._asdict().items():
        value = getattr(named, key)
        if nameless and value != usual:
            raise ConfigError(f"{nameless} have no {key}, but {value!r} was named.", key=key, hint="Leave it out.")


def _require_one_form(records: Sequence[Record]) -> None:
    first = records[0]
    for record in records:
        if isinstance(record.text, tuple) != isinstance(first.text, tuple):
            one, other = ("words", "a text")[:: 1 if isinstance(record.text, tuple) else -1]
            raise DataError(
                f"{record.where} has {one}, but {first.where} has {other}: either all are lists of words, or none are.",
                key=record.where,
            )


def _example(record: Record, label: Any) -> AnyExample | DataError:
    if isinstance(label, DataError):
        return label
    text = record.text
    if isinstance(text, tuple):
        return TaggedExample(text, label, record.where)
    if record.question is not None:
        return QuestionExample(record.question, text, label, record.where)
    if record.choices is not None:
        return ChoiceExample(text, record.choices, label, record.where)
    return Example(text, record.text_pair, label, record.where)


def _sums(files: Sequence[Path]) -> dict[str, Any]:
    """The sha256 sum of each file, or for many files their count and one sum."""
    if len(files) <= _FILES_LISTED:
        return {str(path): sha256(path) for path in files}
    folder = os.path.commonpath(files)
    lines = sorted(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n" for path in files)
    return {"count": len(files), "sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}


def _row(example: AnyExample, names: Sequence[str] | None) -> str:
    """One example on one line."""
    if isinstance(example, TaggedExample):
        if example.tags is None or names is None:
            return " ".join(example.words)
        pairs = zip(example.words, example.tags, strict=True)
        return " ".join(f"{word}/{names[tag]}" for word, tag in pairs)
    if isinstance(example, QuestionExample):
        answers = {answer.text: None for answer in example.answers or ()}
        return " | ".join(["; ".join(answers) or "(no answer)", *example.texts])
    if isinstance(example, ChoiceExample):
        right = [] if example.label is None else [example.choices[example.label]]
        return " | ".join([*right, *example.texts])
    label: Any = example.label
    if names is not None and isinstance(label, tuple):
        label = ", ".join(name for name, holds in zip(names, label, strict=True) if holds)
    elif names is not None and isinstance(label, int):
        label = names[label]
    return " | ".join([*([] if label is None else [str(label)]), *example.texts])
