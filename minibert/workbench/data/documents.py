"""Documents: plain text for pre-training, and its sentences.

    read_documents(["book.txt", "reviews.jsonl.gz", "folder"])
    read_documents(["installed-docs"])

`installed-docs` is English text that every machine with minibert has: the docstrings of Python's
standard library, numpy and torch. The source files are parsed, never run (`installed.py`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minibert.io.errors import DataError
from minibert.workbench.data import installed
from minibert.workbench.data.readers import FORMATS, Options
from minibert.workbench.data.records import Columns, Record, require_usable
from minibert.workbench.data.sources import format_of, is_hidden, warn_of_skipped

INSTALLED = installed.NAME

_IN_FOLDERS = re.compile(r"\.(txt|jsonl)(\.gz)?$", re.IGNORECASE)  # other tables may be anything: they are named


@dataclass(frozen=True)
class Document:
    """A text whose sentences follow one another.

    Args:
        text: paragraphs with blank lines between them; lines may be wrapped.
        guid: where it came from: the file, and in a table the line.
    """

    text: str
    guid: str


def read_documents(sources: Sequence[str | Path], *, column: str = "text", progress: bool = False) -> list[Document]:
    """Reads plain text, in the order of the sources.

    Args:
        sources: each a `.txt` file, which is one document; a table (`.jsonl`, `.json`, `.csv`,
            `.tsv`, `.parquet`), one document per row; a folder, for all `.txt` and `.jsonl` files
            below it, sorted, without hidden ones; or "installed-docs", one document per source
            file. Files may be gzipped (`.gz`).
        column: the column of the text in a table.
        progress: report on standard error what "installed-docs" held, and show a bar.

    Raises:
        DataError: a file is missing, damaged, of another kind, not UTF-8, or has no text; a line
            is not JSON or has no such column.
    """
    documents = []
    for source in sources:
        if str(source) == INSTALLED:
            documents += [Document(text, guid) for guid, text in installed.read(progress)]
        else:
            for path in _files(Path(source)):
                documents += _of_file(path, column)
    if not documents:
        raise DataError("No source of text was named.", key="sources")
    return documents


def fingerprint(documents: Sequence[Document]) -> dict[str, Any]:
    """A record of what was read: counts, and one sha256 sum of all texts in order."""
    sums = hashlib.sha256()
    for document in documents:
        sums.update(hashlib.sha256(document.text.encode()).digest())
    return {
        "documents": len(documents),
        "characters": sum(len(document.text) for document in documents),
        "sha256": sums.hexdigest(),
    }


# Sentences

LONGEST = 100_000  # characters: more than any sentence has, and fewer than the tokenizer refuses

# In the patterns, what may repeat is matched whole and from its first character (lookbehind and
# `++`). Tried from each of its characters, long runs of blanks or full stops would take quadratic
# time.

# HTML's <br />, as in the reviews of IMDB, sometimes within a sentence.
_LINE_BREAKS = re.compile(r"(?<!\s)(?P<breaks>(?:\s*<br\s*/?>)++)(?P<continues>\s*+[a-z])?")
_BLANK_LINE = re.compile(r"\n\s*\n|\n(?=\s*[-*•] )")  # or the next item of a list
_OPENING, _CLOSING = "\"'“‘([{*_", "\"'”’)]}*_"
_END = re.compile(
    rf"(?<![.!?…])(?P<mark>[.!?…]++)(?P<close>[{re.escape(_CLOSING)}]*+)\s+(?=(?P<next>\S+))"
    r"|(?<![。！？])[。！？]++[」』”’）]*+\s*+(?=\S)"
)
# A full stop after these does not end a sentence, whatever follows.
_BEFORE_A_NAME = re.compile(
    r"m(r|rs|s|essrs|me|lle|t)|dr|st|prof|capt|col|gen|maj|lt|sgt|cpl|adm|gov|sen|rep|rev|hon|pres|"
    r"fr|bro|ft|vs|cf|viz|e\.?g|i\.?e",
    re.IGNORECASE,
)
_BEFORE_A_NUMBER = re.compile(r"nos?|vols?|pp?|ch|chap|figs?|eq|sec|art|ver|op|ca?|approx", re.IGNORECASE)
# Nor after these if a small letter follows. After other words it does even then: some reviewers
# write in small letters throughout.
_SHORTENED = re.compile(
    r"etc|al|ed|dept|assn|bros|univ|incl|misc|orig|resp|mins?|hrs?|secs?|lbs?|oz|in|cent|inc|ltd|co|"
    r"jr|sr|esq"
)
# After an initial or "U.S." only these words begin a sentence.
_OPENER = re.compile(
    r"(A|After|All|And|As|At|But|For|He|Her|His|How|However|I|If|In|It|Its|My|No|Not|On|Our|She|So|"
    r"That|The|Their|Then|There|These|They|This|Those|To|We|What|When|Where|While|Who|Why|With|You|"
    r"Your)\b"
)


def sentences(text: str) -> list[str]:
    """The sentences of a text, each on one line; nothing but white space is lost.

    A blank line ends a sentence, as do a list item and HTML's `<br />`; a wrapped line does not,
    nor does `<br />` before a small letter. Within a paragraph these end one: "!", "?", "..."
    unless a small letter follows; a full stop, unless it belongs to an abbreviation, an initial or
    a number at the beginning; the full stops of Chinese and Japanese. Text without punctuation is
    cut between words every LONGEST characters.
    """
    found = []
    for paragraph in _BLANK_LINE.split(_LINE_BREAKS.sub(_as_blank_line, text)):
        line = " ".join(paragraph.split())
        start = 0
        for end in _END.finditer(line):
            if _ends(line, start, end):
                found.append(line[start : end.end()].rstrip())
                start = end.end()
        if start < len(line):
            found.append(line[start:])
    return [part for sentence in found for part in _cut(sentence)]


def _cut(sentence: str) -> Iterator[str]:
    """A sentence in parts of at most LONGEST characters, without the blanks between them."""
    start = 0
    while len(sentence) - start > LONGEST:
        blank = sentence.rfind(" ", start, start + LONGEST + 1)
        end = blank if blank > start else start + LONGEST  # within a word that is as long
        yield sentence[start:end]
        start = end + (end == blank)
    yield sentence[start:]


def _as_blank_line(found: re.Match[str]) -> str:
    return found[0] if found["continues"] else found["breaks"] + "\n\n"


def _ends(line: str, start: int, end: re.Match[str]) -> bool:
    """Whether the sentence that begins at `start` ends at this mark."""
    mark = end["mark"]
    if mark is None:  # of Chinese or Japanese
        return True
    following = end["next"].lstrip(_OPENING)
    blank = line.rfind(" ", start, end.start())
    is_first = blank < 0
    word = line[start if is_first else blank + 1 : end.start()].lstrip(_OPENING)
    if following[:1] in ("", "-", "–", "—", ",", ";", ":", "&"):
        return False
    if mark != "." or not word:
        return not following[0].islower()
    short = _BEFORE_A_NAME.fullmatch(word)
    if following[0].islower():
        short = short or _BEFORE_A_NUMBER.fullmatch(word) or _SHORTENED.fullmatch(word)
        return len(word) > 1 and word.isalpha() and word.islower() and not short
    if short or (following[0].isdigit() and _BEFORE_A_NUMBER.fullmatch(word)):
        return False
    if is_first and (word.isdigit() or len(word) == 1):
        return False  # an item's number or letter: "1. First", "a. Another"
    if "." in word or (len(word) == 1 and word.isupper() and word != "I"):
        return word[0].isdigit() or _OPENER.match(following) is not None
    return True


# Files


def _files(source: Path) -> list[Path]:
    try:
        if source.is_dir():
            below = sorted(path for path in source.rglob("*") if path.is_file())
            found = [path for path in below if _IN_FOLDERS.search(path.name) and not is_hidden(path, source)]
            warn_of_skipped(source, sorted({*below} - {*found}) if found else ())
        else:
            found = [source] if source.exists() else []
    except OSError as problem:
        raise DataError(f"{source!s:.200} could not be read: {problem.strerror}.", path=source) from problem
    if not found:
        missing = "has no .txt or .jsonl file" if source.is_dir() else "does not exist"
        raise DataError(f"{source} {missing}.", path=source, hint=f"Name text files, folders of them, or {INSTALLED}.")
    return found


def _of_file(path: Path, column: str) -> list[Document]:
    name = format_of(path, is_table=False)
    chosen = FORMATS["folder" if name == "lines" else name]  # the whole file is one text
    if chosen.nameless and name != "lines":
        raise DataError(f"{path} holds {chosen.nameless.lower()}, not plain text.", path=path)
    records = list(require_usable(chosen.read(path, Options(Columns(column, label=None)))))
    if not records:
        raise DataError(f"{path} is empty.", path=path)
    return [_document(path, record) for record in records]


def _document(path: Path, record: Record) -> Document:
    if not isinstance(record.text, str) or not record.text.strip():
        raise DataError(
            f"{record.where} has {'no text' if isinstance(record.text, str) else 'a list'}, but a document is a text.",
            path=path,
            key=record.where,
        )
    return Document(record.text, record.where)
