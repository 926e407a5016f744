"""Sources: the files that a path, a folder or a data set of the Hub stands for."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from minibert.io.errors import DataError
from minibert.io.source import open_source
from minibert.workbench.data.json_tables import is_squad
from minibert.workbench.data.lines import opened
from minibert.workbench.data.readers import SUFFIXES

SAMPLES = Path(__file__).parent / "samples"

Files = tuple[Path, ...]

# The names that parts go by. A folder or repository that has one of a row has no other of it.
_PARTS = (("train", "training"), ("validation", "valid", "val", "dev"), ("test", "testing"))
_PART_NAMES = {name for names in _PARTS for name in names}
_NOT_CLASSES = {*_PART_NAMES, "unsup", "__MACOSX"}  # the texts of aclImdb's unsup have no labels


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
        parts = (path / name for name in names_of_part(split))
        texts = _texts_of_classes(next((part for part in parts if part.is_dir()), path))
        if texts:
            return texts, "folder"
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


def names_of_part(part: str | None) -> Sequence[str]:
    """The names that a part may go by, its own first."""
    others = next((names for names in _PARTS if part in names), ())
    return () if part is None else (part, *(name for name in others if name != part))


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a file in a folder is one that systems and editors leave behind: ._1.txt, 1.txt~, #1.txt#."""
    *above, name = path.relative_to(folder).parts
    backup = name.endswith("~") or name.startswith("~$") or (name[0] == name[-1] == "#")
    return backup or name.lower() in ("thumbs.db", "desktop.ini") or any(part[0] == "." for part in (*above, name))


def warn_of_skipped(folder: Path, skipped: Sequence[Path]) -> None:
    """One line for all the files of a folder that are not read."""
    if skipped:
        first = skipped[0].relative_to(folder).as_posix()
        warnings.warn(f"{folder}: files skipped, hidden or not texts: {len(skipped)}, such as {first}", stacklevel=4)


def _texts_of_classes(folder: Path) -> Files:
    """The texts in folders that are classes, as in aclImdb and for Keras; () if there are none.

    A text is a .txt file, or, where there are none, a file whose name has no ending, as in the 20 Newsgroups.
    """
    below = [part for part in sorted(folder.iterdir()) if part.name not in _NOT_CLASSES and part.name[0] != "."]
    inside = [file for part in below if part.is_dir() for file in sorted(part.iterdir())]
    visible = [file for file in inside if not is_hidden(file, folder)]
    texts = [file for file in visible if file.name.lower().endswith((".txt", ".txt.gz"))]
    if not texts and all("." not in file.name and file.is_file() for file in visible):
        texts = visible
    classes = {file.parent for file in texts}
    if len(classes) < 2 and not any(part.name in ("neg", "pos") for part in classes):
        return ()
    if {file.parent for file in visible if file.is_file()} - classes or _PART_NAMES & {file.stem for file in texts}:
        return ()  # folders of tables
    read = set(texts)
    warn_of_skipped(folder, [file for file in inside if file not in read and not file.is_dir()])
    return tuple(texts)


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
    names = names_of_part(part)
    patterns = [f"{start}{name}*{ending}" for start in ("", "*/") for name in names for ending in endings]
    folder = open_source(source, revision, patterns, "dataset").folder
    below = (path for path in folder.rglob("*") if path.name.lower().endswith(tuple(endings)))
    tables = [path for path in below if not is_hidden(path, folder)]
    found: list[Path] = []
    for name in names:
        begins = re.compile(re.escape(name) + "(?![A-Za-z])")
        found = found or sorted(
            path
            for path in tables
            if (begins.match(path.name) or path.parent.name == name)
            and path.relative_to(folder).as_posix().startswith(where)
        )
    if not found:
        seen = sorted(_PART_NAMES & {child.name for child in folder.iterdir()})
        hint = f"It has {', '.join(seen)}." if seen else None
        raise DataError(f"{source} has no file for the part {split!r}.", path=source, key=split, hint=hint)
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
