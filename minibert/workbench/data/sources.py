"""Sources: the files that a path, a folder or a data set of the Hub stands for."""

from __future__ import annotations

import re
from pathlib import Path

from minibert.io.errors import DataError
from minibert.io.source import open_source
from minibert.workbench.data.json_tables import is_squad
from minibert.workbench.data.lines import opened
from minibert.workbench.data.readers import SUFFIXES

SAMPLES = Path(__file__).parent / "samples"

Files = tuple[Path, ...]


def part_of(source: str | Path, split: str | None) -> tuple[str | Path, str | None]:
    """A source and the part of it to read, which it may name itself: "owner/name:part"."""
    if re.fullmatch(r"[\w.-]+/[\w.-]+:.+", str(source)) and not Path(source).exists():
        source, _, split = str(source).rpartition(":")
    return source, split


def find(source: str | Path, split: str | None, revision: str | None) -> tuple[Files, str | None]:
    """The files to read, and their format where that does not depend on their names.

    Raises:
        DataError: the source, or this part of it, does not exist or cannot be read.
    """
    try:
        return _find(source, split, revision)
    except OSError as problem:  # a folder without permission, a name that is too long
        raise DataError(f"{source!s:.200} could not be read: {problem.strerror}.", path=source) from problem


def _find(source: str | Path, split: str | None, revision: str | None) -> tuple[Files, str | None]:
    path = Path(source)
    if str(source) == SAMPLES.name and split is not None and not path.exists():
        path = SAMPLES / f"reviews_{split}.jsonl"
        if not path.is_file():
            raise DataError(f"The samples have no part {split!r}, only train and test.", path=path, key="split")
    if path.is_file():
        return (path,), None
    if path.is_dir():
        folder = path / split if split and (path / split).is_dir() else path
        # aclImdb has `unsup` beside them, with texts without labels.
        labelled = sorted(part for part in folder.iterdir() if part.is_dir() and part.name in ("neg", "pos"))
        if labelled:
            return tuple(file for part in labelled for file in sorted(part.glob("*.txt"))), "folder"
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
            f"{source} may have several parts: name the one to read.",
            path=path,
            key="split",
            hint="Say split='train' or another (on the command line --split train).",
        )
    return _files_of_part(source, split, revision), None


def _is_local(source: str) -> bool:
    """Whether a text that names no file or folder was meant to, and is not a Hub id.

    A mistyped path must not become a request to the Hub. Digits after a point are a version, as in
    "owner/name-1.0"; other endings are those of files.
    """
    path = Path(source)
    ending = path.suffix.removeprefix(".").isalpha()
    return source.count("/") != 1 or ending or path.parent.is_dir()


def _files_of_part(source: str | Path, split: str, revision: str | None) -> Files:
    """The files of one part: those whose name, or whose folder's name, begins with it."""
    where, _, part = split.rpartition("/")
    endings = [suffix + packed for suffix in SUFFIXES for packed in ("", ".gz")]
    patterns = [start + part + "*" + ending for start in ("", "*/") for ending in endings]
    folder = open_source(source, revision, patterns, "dataset").folder
    begins = re.compile(re.escape(part) + "(?![A-Za-z])")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(tuple(endings))
        and (begins.match(path.name) or path.parent.name == part)
        and path.relative_to(folder).as_posix().startswith(where)
    )
    if not found:
        raise DataError(f"{source} has no file for the part {split!r}.", path=source, key=split)
    folders = sorted({path.parent.relative_to(folder).as_posix() for path in found})
    if len(folders) > 1:
        raise DataError(
            f"{source} has {split!r} in several folders: {', '.join(folders)}.",
            path=source,
            key=split,
            hint=f"Name one of them, such as {source}:{folders[0]}/{part}.",
        )
    return tuple(found)


def format_of(path: Path, is_table: bool) -> str:
    """The format that a file's ending stands for; `is_table` makes a .txt file one of columns."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix == ".txt" and is_table:
        return "csv"
    if suffix not in SUFFIXES:
        with opened(path):  # it may say itself what it is
            pass
        raise DataError(
            f"{path} has the ending {suffix!r}, not one of {', '.join(SUFFIXES)}.",
            path=path,
            hint="Say the format (on the command line --format csv, or another).",
        )
    found = SUFFIXES[suffix]
    return "squad" if found == "jsonl" and is_squad(path) else found
