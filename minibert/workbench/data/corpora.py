"""Corpora: files of labelled text, read into plain examples, with the names of their labels.

One call reads any of them:

    read("train.txt", sep=";", names=["text", "label"])     separated values without a header
    read("train.tsv", text="text_a")                         with a header; .csv, .tsv, .jsonl, .gz
    read("aclImdb", split="train")                           a folder with pos/ and neg/
    read("train.conll.gz")                                   a word and its tag on each line
    read("train.json")                                       questions and answers, as in SQuAD
    read("train.jsonl", choices=["choices"])                 a text and several to choose from
    read("owner/name", split="train")                        a data set of the Hub
    read("samples", split="train")                           the reviews that ship with minibert

A label that a file spells as a name (or as a whole number) becomes an index into `label_names`;
names are sorted, numbers by value. Validation and test data are read with the training data's
`label_names`, so that an index means the same class everywhere. Nothing is dropped: a line that
cannot be used is an error that names it; `readers.py` beside this file knows the formats.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from minibert.data import Example, TaggedExample
from minibert.io import hub
from minibert.io.errors import ConfigError, DataError
from minibert.io.files import sha256
from minibert.workbench.data import readers
from minibert.workbench.data.examples import AnyExample, ChoiceExample, QuestionExample
from minibert.workbench.data.readers import Columns, Record
from minibert.workbench.data.tag_schemes import TAG_SCHEMES, both_tags_of_each_type, in_iob2, is_iob

Format = Literal["csv", "tsv", "jsonl", "parquet", "conll", "squad", "lines", "folder"]

_SAMPLES = Path(__file__).parent / "samples"
_FILES_LISTED = 20  # above it a record holds one sum for all files
_NAMES_LISTED = 6  # of the label names in a warning

PROBLEM_TYPES = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
    "token_classification",
    "question_answering",
    "multiple_choice",
)

SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "lines",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".conll": "conll",
    ".json": "squad",
}


@dataclass(frozen=True)
class Corpus:
    """A small table of examples that knows the names of its labels.

    Args:
        examples: all of one kind.
        label_names: the classes, by index; None for regression, questions, choices, and where
            there are no labels.
        source: what was asked for, for people.
        files: the files that were read.
    """

    examples: (
        tuple[Example, ...]
        | tuple[TaggedExample, ...]
        | tuple[QuestionExample, ...]
        | tuple[ChoiceExample, ...]
    )
    label_names: tuple[str, ...] | None = None
    source: str = ""
    files: tuple[Path, ...] = ()

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
    def label_counts(self) -> dict[str, int]:
        """How often each label occurs, in the order of `label_names`; empty without names."""
        kind = self.problem_type
        counts: Counter[Any] = Counter()
        for label in (example.target for example in self.examples):
            if kind == "single_label_classification":
                counts[label] += 1
            elif kind == "multi_label_classification":
                counts.update(index for index, holds in enumerate(label) if holds)
            elif kind == "token_classification":
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

        Of more than 20 files (a folder with a file for each text) one sum, so that the record
        stays readable: that of the lines "name sum", sorted, the name as seen from the folder
        that holds them all.
        """
        return {
            "source": self.source,
            "examples": len(self),
            "labels": self.label_counts,
            "files": _sums(self.files),
        }


def read(
    source: str | Path,
    *,
    format: Format | None = None,
    sep: str | None = None,
    names: Sequence[str] | None = None,
    quoting: bool | None = None,
    text: str = "text",
    text_pair: str | None = None,
    label: str | None = "label",
    choices: Sequence[str] | None = None,
    tag_scheme: str | None = None,
    label_names: Sequence[str] | None = None,
    problem_type: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> Corpus:
    """Reads a file, a folder or a data set of the Hub.

    Args:
        source: a path, a Hub id, or "samples". A file may be gzipped (`.gz`).
        format: "csv", "tsv", "jsonl", "parquet", "conll" (a word and its tag on each line, a
            blank line after each sentence), "squad" (JSON as SQuAD has it) or "lines" (a text on
            each line, no labels). None: by the file's ending; a `.txt` is "lines" unless `sep` or
            `names` is given, a `.json` is "squad".
        sep: what separates the columns; None: "," in csv, a tab in tsv and conll.
        names: the columns of a csv or tsv file that has no header line.
        quoting: whether a '"' in a csv or tsv file quotes. None: in `.csv` files only, so that
            a '"' in a tab-separated review is just a '"'.
        text, text_pair, label: the columns to read. `label=None` reads texts without labels. A
            text that is a list of words (jsonl, parquet) has a list of tags for a label. With
            `choices` a second text is put before each of them, as SWAG has it. With
            `problem_type="question_answering"` the columns of a table are those of the Hub's SQuAD:
            id, question, context, answers.
        choices: the column that holds the list of texts to choose from, or several columns that
            hold one each; `label` is then the place of the right one, from 0, or its text.
        tag_scheme: "iob2": B-X begins an entity, I-X goes on with it, and an I-X that goes on with
            nothing is an error. "iob1", as in CoNLL-2003: I-X begins one too, B-X only right after
            another X; such tags are turned into iob2. None: "iob2" where tags look like it.
        label_names: the classes in their order, as when validation data follow training data.
            None: the labels of the file, sorted. Whole numbers are taken as indices into names
            that are not numbers themselves, which a warning tells.
        problem_type: what the labels are, one of PROBLEM_TYPES. "regression" takes them as numbers
            even if all are whole (ratings from 1 to 5), the others as names of classes. None:
            labels are for regression where they are numbers and not all of them whole.
        split: which part of a folder or Hub data set: "train", "test", or with a folder's name
            before it where there are several ("unsplit/train"). A source may name its part itself,
            after a colon: "owner/name:unsplit/train".
        revision: branch, tag or commit of a Hub data set.

    Raises:
        DataError: the file is missing, empty or damaged; a column is missing; a line is ragged or
            not UTF-8; a label is unknown. File, line, what is there and what was asked for are
            named.
        ConfigError: there is no such format, problem type or tag scheme.
    """
    if tag_scheme not in (None, *TAG_SCHEMES):
        raise ConfigError(
            f"There is no tag scheme {tag_scheme!r}.",
            key="tag_scheme",
        )
    if problem_type not in (None, *PROBLEM_TYPES):
        raise ConfigError(
            f"There is no problem type {problem_type!r}.",
            key="problem_type",
        )
    given = columns = Columns(text, text_pair, label, tuple(choices or ()))
    if len(set(given.choices)) < len(given.choices):
        raise ConfigError(f"A column of choices is named twice: {choices}.", key="choices")
    if problem_type == "question_answering":
        _refuse("Questions", given, tag_scheme)
        columns = readers.QUESTIONS
    elif problem_type == "multiple_choice" and not choices:
        columns = columns._replace(choices=("choices",))
    records: list[Record] = []
    try:
        if re.fullmatch(r"[\w.-]+/[\w.-]+:.+", str(source)) and not Path(source).exists():
            source, _, split = str(source).rpartition(":")
        files, labelled = _find(source, split, revision)
    except OSError as problem:  # a folder without permission, a name that is too long
        raise DataError(
            f"{source!s:.200} could not be read: {problem.strerror}.", path=source
        ) from problem
    stored_names: Sequence[str] | None = None
    for path in files:
        kind = "review" if labelled else format or _format(path, sep or names)
        if kind == "review":
            records.append(readers.review(path, path.parent.name if label else None))
        elif kind == "lines":
            records += readers.lines(path)
        elif kind == "conll":
            _refuse("Tagged words", given, None)
            records += readers.conll(path, sep or "\t", tagged=label is not None)
        elif kind == "squad":
            _refuse("Questions", given, tag_scheme)
            records += readers.squad(path)
        elif kind == "jsonl":
            records += readers.jsonl(path, columns)
        elif kind == "parquet":
            found, stored_names = readers.parquet(path, columns)
            records += found
        elif kind in ("csv", "tsv"):
            quoted = ".csv" in path.suffixes if quoting is None else quoting
            comma = sep or ("," if kind == "csv" else "\t")
            records += readers.separated(path, columns, comma, names, quoted)
        else:
            raise ConfigError(
                f"There is no format {kind!r}.",
                key="format",
            )
    if not records:
        raise DataError(
            f"{source} holds no examples.",
            path=source,
        )
    if tag_scheme is not None and not isinstance(records[0].text, tuple):
        _refuse("Texts", Columns("text", None, "label"), tag_scheme)
    if records[0].question is not None:
        return Corpus(tuple(map(_question, records)), None, str(source), files)
    if records[0].choices is not None:
        return Corpus(tuple(map(_choice, records)), None, str(source), files)
    _check_one_form(records)
    records = in_iob2(records, tag_scheme)
    labels, found_names = _labels(records, label_names or stored_names, problem_type)
    return Corpus(_examples(records, labels), found_names, str(source), files)


def _refuse(what: str, given: Columns, tag_scheme: str | None) -> None:
    """Raises ConfigError if columns or a scheme were named that this form of data does not have."""
    usual = {**Columns("text", None, given.label)._asdict(), "tag_scheme": None}
    for key, value in {**given._asdict(), "tag_scheme": tag_scheme}.items():
        if value != usual[key]:
            raise ConfigError(
                f"{what} have no {key}, but {value!r} was named.",
                key=key,
                hint="A table of questions has the columns id, question, context, answers."
                if what == "Questions"
                else "Leave it out.",
            )


def split(
    corpus: Corpus, fraction: float, *, seed: int, stratify: bool = True
) -> tuple[Corpus, Corpus]:
    """Shuffles, then splits: the second part holds `fraction` of the examples.

    Examples of one group (questions about one context) stay together: the second part then holds
    `fraction` of the groups.

    Args:
        fraction: between 0 and 1.
        seed: the same seed gives the same parts.
        stratify: each class has the same share in both parts, as nearly as whole examples allow
            (one label for each text only).

    Raises:
        ConfigError: a part would be empty.
    """
    grouped = any(example.group is not None for example in corpus)
    whole = len({example.group for example in corpus}) if grouped else len(corpus)
    count = round(whole * fraction)
    if not 0 < count < whole:
        raise ConfigError(
            f"A part of {fraction} of {whole} {'contexts' if grouped else 'examples'} leaves one "
            "part empty.",
            key="fraction",
        )
    draw = _draw_groups if grouped else _draw
    chosen = draw(corpus, count, seed, stratify)
    rest = sorted(set(range(len(corpus))) - set(chosen))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(rest), generator=generator).tolist()
    return _take(corpus, [rest[index] for index in order]), _take(corpus, chosen)


def subset(corpus: Corpus, count: int, *, seed: int, stratify: bool = True) -> Corpus:
    """`count` examples drawn at random, with each class's share kept, in random order.

    Raises:
        ConfigError: there are not so many.
    """
    if not 0 < count <= len(corpus):
        raise ConfigError(
            f"A subset of {count} cannot be drawn from {len(corpus)} examples.",
            key="count",
        )
    return _take(corpus, _draw(corpus, count, seed, stratify))


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


# Where the files are


def _find(
    source: str | Path, split: str | None, revision: str | None
) -> tuple[tuple[Path, ...], bool]:
    """The files to read, and whether each is one text whose folder is its label."""
    path = Path(source)
    if str(source) == _SAMPLES.name and split is not None and not path.exists():
        path = _SAMPLES / f"reviews_{split}.jsonl"
        if not path.is_file():
            raise DataError(
                f"The samples have no part {split!r}, only train and test.",
                path=path,
                key="split",
            )
    if path.is_file():
        return (path,), False
    if path.is_dir():
        folder = path / split if split and (path / split).is_dir() else path
        # `unsup`, which aclImdb has beside them, holds texts without a label.
        labelled = sorted(
            part for part in folder.iterdir() if part.is_dir() and part.name in ("neg", "pos")
        )
        if labelled:
            return tuple(file for part in labelled for file in sorted(part.glob("*.txt"))), True
    elif path.exists():
        raise DataError(f"{source} is neither a file nor a folder.", path=path)
    elif _is_local(str(source)):
        raise DataError(
            f"There is no file or folder {source}.",
            path=path,
            hint="Name a file, a folder, or a data set of the Hub (owner/name).",
        )
    if split is None:
        raise DataError(
            f"{source} has several parts, and which one to read was not said.",
            path=path,
            key="split",
            hint="Say split='train' or another (on the command line --split train).",
        )
    return _split_files(source, split, revision), False


def _is_local(source: str) -> bool:
    """Whether a text that is no file and no folder was meant as one, and not as a Hub id.

    A mistyped path must not become a request to the Hub. A number after a point is a version, as
    in "owner/name-1.0", other endings are those of files.
    """
    path = Path(source)
    ending = path.suffix.removeprefix(".").isalpha()
    return source.count("/") != 1 or ending or path.parent.is_dir()


def _split_files(source: str | Path, split: str, revision: str | None) -> tuple[Path, ...]:
    """The files of one part: those whose name, or whose folder's name, begins with it."""
    where, _, part = split.rpartition("/")
    endings = [suffix + packed for suffix in SUFFIXES for packed in ("", ".gz")]
    patterns = [start + part + "*" + ending for start in ("", "*/") for ending in endings]
    folder = hub.resolve(source, patterns, revision=revision, repo_type="dataset").folder
    begins = re.compile(re.escape(part) + "(?![A-Za-z])")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.name.endswith(tuple(endings))
        and (begins.match(path.name) or path.parent.name == part)
        and path.relative_to(folder).as_posix().startswith(where)
    )
    if not found:
        raise DataError(
            f"{source} has no file for the part {split!r}.",
            path=source,
            key=split,
        )
    folders = sorted({path.parent.relative_to(folder).as_posix() for path in found})
    if len(folders) > 1:
        raise DataError(
            f"{source} has {split!r} in several folders: {', '.join(folders)}.",
            path=source,
            key=split,
            hint=f"Say which, such as {source}:{folders[0]}/{part}.",
        )
    return tuple(found)


def _format(path: Path, columns: object) -> str:
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix == ".txt" and columns:
        return "csv"
    if suffix not in SUFFIXES:
        raise DataError(
            f"{path} has the ending {suffix!r}, not one of {', '.join(SUFFIXES)}.",
            path=path,
            hint="Say the format (on the command line --format csv, or another).",
        )
    return SUFFIXES[suffix]


# From labels as spelled to indices


def _labels(
    records: Sequence[Record], names: Sequence[str] | None, problem_type: str | None
) -> tuple[list[Any], tuple[str, ...] | None]:
    """The label of each record as an `Example` holds it, and the names that indices stand for."""
    labels: list[Any] = [record.label for record in records]
    for record in records:
        if isinstance(record.label, list) != isinstance(labels[0], list):
            raise DataError(
                f"{record.where} has the label {record.label!r:.50}, where {records[0].where} has "
                f"{labels[0]!r:.50}: either all are lists of labels, or none is.",
                key=record.where,
            )
    if labels[0] is None:
        return labels, None
    if problem_type is None and names is None and _are_numbers(labels):
        problem_type = "regression"
    if problem_type == "regression":
        return [_number(record) for record in records], None
    names = tuple(names or _sorted_names(records))
    indices = [_indices(record, names) for record in records]
    _warn_of_positions(records, names)
    return indices, names


def _check_one_form(records: Sequence[Record]) -> None:
    for record in records:
        if isinstance(record.text, tuple) != isinstance(records[0].text, tuple):
            one, other = ("words", "a text")[:: 1 if isinstance(record.text, tuple) else -1]
            raise DataError(
                f"{record.where} has {one}, where {records[0].where} has {other}: either all are "
                "lists of words, or none is.",
                key=record.where,
            )


def _examples(records: Sequence[Record], labels: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(
        TaggedExample(record.text, label, record.where)
        if isinstance(record.text, tuple)
        else Example(record.text, record.text_pair, label, record.where)
        for record, label in zip(records, labels, strict=True)
    )


def _question(record: Record) -> QuestionExample:
    assert record.question is not None and isinstance(record.text, str)
    return QuestionExample(record.question, record.text, record.label, record.where)


def _choice(record: Record) -> ChoiceExample:
    assert record.choices is not None and isinstance(record.text, str)
    return ChoiceExample(record.text, record.choices, record.label, record.where)


def _are_numbers(labels: Sequence[Any]) -> bool:
    """Whether the labels are for regression: numbers, and not all of them whole."""
    if all(isinstance(label, str) for label in labels):
        return all(map(_NUMBER.fullmatch, labels)) and not all(map(_WHOLE.fullmatch, labels))
    return any(isinstance(label, float) for label in labels)


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"-?\d{1,4000}")  # Python refuses to count with more digits


def _number(record: Record) -> float:
    try:
        number = float(record.label)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{record.where} has the label {record.label!r:.50} among numbers.",
            key=record.where,
        )
    return number


def _sorted_names(records: Sequence[Record]) -> list[str]:
    names = {name for record in records for name in _names(record)}
    if isinstance(records[0].text, tuple) and is_iob(sorted(names)):
        return both_tags_of_each_type(sorted(names))
    whole = all(map(_WHOLE.fullmatch, names))
    return sorted(names, key=int if whole else None)


def _names(record: Record) -> list[str]:
    """The label, or each of several, as text."""
    several = record.label if isinstance(record.label, (list, tuple)) else [record.label]
    for label in several:
        if not isinstance(label, (str, int)):
            raise DataError(
                f"{record.where} has the label {label!r:.50}, which is no name and no whole "
                "number.",
                key=record.where,
            )
    return [str(label) for label in several]


def _indices(record: Record, names: tuple[str, ...]) -> int | tuple[int, ...] | tuple[float, ...]:
    numbered = not any(map(_WHOLE.fullmatch, names))
    found = []
    for name in _names(record):
        if name in names:
            found.append(names.index(name))
        elif numbered and name.isdecimal() and _WHOLE.fullmatch(name) and int(name) < len(names):
            found.append(int(name))
        else:
            raise DataError(
                f"{record.where} has the label {name!r:.50}, which is not one of "
                f"{', '.join(names):.200}.",
                key=record.where,
            )
    if isinstance(record.text, tuple):
        return tuple(found)
    if isinstance(record.label, list):
        return tuple(float(index in found) for index in range(len(names)))
    return found[0]


def _warn_of_positions(records: Sequence[Record], names: tuple[str, ...]) -> None:
    """Says which name each number was taken for: the file may count its classes otherwise."""
    for record in records:
        if not set(_names(record)).issubset(names):
            file = record.where.rpartition(":")[0]
            read_as = [f"{index} = {name}" for index, name in enumerate(names[:_NAMES_LISTED])]
            rest = ", ..." if len(names) > _NAMES_LISTED else ""
            warnings.warn(
                f"labels of {file} are numbers: read as {', '.join(read_as)}{rest}", stacklevel=4
            )
            return


# Drawing examples


def _take(corpus: Corpus, indices: Sequence[int]) -> Corpus:
    examples: Any = tuple(corpus.examples[index] for index in indices)
    return replace(corpus, examples=examples)


def _draw_groups(corpus: Corpus, count: int, seed: int, stratify: bool) -> list[int]:
    """The examples of `count` groups in random order; there is nothing to stratify by."""
    groups: dict[Any, list[int]] = {}
    for index, example in enumerate(corpus):
        groups.setdefault(example.group, []).append(index)
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    places = list(groups.values())
    return [index for place in order[:count] for index in places[place]]


def _draw(corpus: Corpus, count: int, seed: int, stratify: bool) -> list[int]:
    """`count` different indices in random order."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(corpus), generator=generator).tolist()
    if not stratify or corpus.problem_type != "single_label_classification":
        return order[:count]
    groups: dict[Any, list[int]] = {}
    for index in order:
        groups.setdefault(corpus[index].target, []).append(index)
    # Largest remainder: whole shares first, what is left to the largest fractions.
    shares = {label: count * len(group) / len(corpus) for label, group in groups.items()}
    quotas = {label: int(share) for label, share in shares.items()}
    by_fraction = sorted(shares, key=lambda label: (quotas[label] - shares[label], label))
    for label in by_fraction[: count - sum(quotas.values())]:
        quotas[label] += 1
    chosen = {index for label, group in groups.items() for index in group[: quotas[label]]}
    return [index for index in order if index in chosen]
