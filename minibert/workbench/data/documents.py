"""Documents: plain text for pre-training, from files or from what is installed, and its sentences.

    read_documents(["book.txt", "reviews.jsonl.gz", "folder"])
    read_documents(["installed-docs"])      the English that is on every machine that has minibert

`installed-docs` are the docstrings of Python's standard library, numpy and torch. Their source is
parsed and never run: `ast` gives the docstrings, and a few rules on lines leave the prose of them.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from tqdm import tqdm

from minibert.io.errors import DataError
from minibert.io.files import half_a_pair, size_of_file
from minibert.workbench.data import readers

INSTALLED = "installed-docs"

_ENDINGS = re.compile(r"\.(txt|jsonl)(\.gz)?$")


@dataclass(frozen=True)
class Document:
    """A text whose sentences follow one another.

    Args:
        text: paragraphs have a blank line between them; lines may be wrapped.
        guid: where it stands: the file, with the line after it in .jsonl.
    """

    text: str
    guid: str


def read_documents(
    sources: Sequence[str | Path], *, column: str = "text", progress: bool = False
) -> list[Document]:
    """Reads plain text, in the order of the sources.

    Args:
        sources: each a `.txt` file, which is one document; a `.jsonl` file, where each line is one;
            a folder, for all such files in it and below, sorted, but for hidden ones; or
            "installed-docs", where each file of source is one. Files may be gzipped (`.gz`).
        column: the key of the text in `.jsonl`.
        progress: say on standard error what was found in "installed-docs", and show a bar.

    Raises:
        DataError: a file is missing, damaged, of another kind, not UTF-8, or holds no text; a line
            is not JSON or has no such column.
    """
    documents = []
    for source in sources:
        if str(source) == INSTALLED:
            documents += _installed(progress)
        else:
            for path in _files(Path(source)):
                documents += _of_file(path, column)
    if not documents:
        raise DataError(
            "No source of text was named.",
            key="sources",
        )
    return documents


def fingerprint(documents: Sequence[Document]) -> dict[str, Any]:
    """What was read, for the record of a run: counts, and one sha256 sum of all texts in order."""
    sums = hashlib.sha256()
    for document in documents:
        sums.update(hashlib.sha256(document.text.encode()).digest())
    return {
        "documents": len(documents),
        "characters": sum(len(document.text) for document in documents),
        "sha256": sums.hexdigest(),
    }


# Sentences

LONGEST = 100_000  # characters of one: more than any has, and less than the tokenizer refuses

# In both, what may repeat is matched whole and from its first character: tried from every one, long
# runs of blanks or full stops would take quadratic time.

# HTML's, as the reviews of IMDB have it, some within a sentence.
_LINE_BREAKS = re.compile(r"(?<!\s)(?P<breaks>(?:\s*<br\s*/?>)++)(?P<goes_on>\s*+[a-z])?")
_BLANK_LINE = re.compile(r"\n\s*\n|\n(?=\s*[-*•] )")  # or the next item of a list
_OPENING, _CLOSING = "\"'“‘([{*_", "\"'”’)]}*_"
_END = re.compile(
    rf"(?<![.!?…])(?P<mark>[.!?…]++)(?P<close>[{re.escape(_CLOSING)}]*+)\s+(?=(?P<next>\S+))"
    r"|(?<![。！？])[。！？]++[」』”’）]*+\s*+(?=\S)"
)
# A full stop after these ends no sentence, whatever follows.
_BEFORE_A_NAME = re.compile(
    r"m(r|rs|s|essrs|me|lle|t)|dr|st|prof|capt|col|gen|maj|lt|sgt|cpl|adm|gov|sen|rep|rev|hon|pres|"
    r"fr|bro|ft|vs|cf|viz|e\.?g|i\.?e",
    re.IGNORECASE,
)
_BEFORE_A_NUMBER = re.compile(
    r"nos?|vols?|pp?|ch|chap|figs?|eq|sec|art|ver|op|ca?|approx", re.IGNORECASE
)
# Nor after these, where a small letter follows: another word may then end a sentence of someone who
# writes in small letters, as some reviewers do.
_SHORTENED = re.compile(
    r"etc|al|ed|dept|assn|bros|univ|incl|misc|orig|resp|mins?|hrs?|secs?|lbs?|oz|in|cent|inc|ltd|co|"
    r"jr|sr|esq"
)
# After an initial or "U.S." only these words are taken to begin a sentence.
_OPENER = re.compile(
    r"(A|After|All|And|As|At|But|For|He|Her|His|How|However|I|If|In|It|Its|My|No|Not|On|Our|She|So|"
    r"That|The|Their|Then|There|These|They|This|Those|To|We|What|When|Where|While|Who|Why|With|You|"
    r"Your)\b"
)


def sentences(text: str) -> list[str]:
    """The sentences of a text, each on one line; nothing but white space is lost.

    A blank line ends a sentence, as do an item of a list and HTML's `<br />`; a line that is merely
    wrapped does not, nor `<br />` before a small letter. Within a paragraph these end one: "!",
    "?", "..." unless a small letter follows; a full stop, unless it belongs to an abbreviation, an
    initial or a number at the beginning; the full stops of Chinese and Japanese. What goes on for
    longer than any sentence, as text without punctuation does, is cut between words.
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
    return found[0] if found["goes_on"] else found["breaks"] + "\n\n"


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
            # Hidden ones are no text, such as "._book.txt" in archives made on a Mac.
            below = (
                path for path in source.rglob("*") if "/." not in f"/{path.relative_to(source)}"
            )
            found = sorted(path for path in below if _ENDINGS.search(path.name))
        else:
            found = [source] if source.exists() else []
    except OSError as problem:
        raise DataError(
            f"{source!s:.200} could not be read: {problem.strerror}.", path=source
        ) from problem
    if not found:
        missing = "holds no .txt or .jsonl file" if source.is_dir() else "does not exist"
        raise DataError(
            f"{source} {missing}.",
            path=source,
            hint=f"Name text files, folders of them, or {INSTALLED}.",
        )
    return found


def _of_file(path: Path, column: str) -> list[Document]:
    kind = _ENDINGS.search(path.name)
    if kind is None:
        raise DataError(
            f"{path} is neither .txt nor .jsonl, plain or with .gz.",
            path=path,
            hint="Text without labels is read from these.",
        )
    read = readers.one_text if kind[1] == "txt" else readers.json_lines
    records = list(read(path, readers.Options(readers.Columns(column, label=None))))
    if not records:
        raise DataError(
            f"{path} is empty.",
            path=path,
        )
    return [_document(path, record) for record in records]


def _document(path: Path, record: readers.Record) -> Document:
    if not isinstance(record.text, str) or not record.text.strip():
        raise DataError(
            f"{record.where} holds {'no text' if isinstance(record.text, str) else 'a list'}, and "
            "a document is a text.",
            path=path,
            key=record.where,
        )
    return Document(record.text, record.where)


# What is installed

# Folders whose docstrings are few, or not English, for the time that it takes to parse them.
_NO_PROSE = {"site-packages", "dist-packages", "test", "tests", "testing", "idlelib", "lib2to3"}
_NO_PROSE |= {"turtledemo", "_inductor", "_dynamo", "_vendor", "_refs", "_decomp", "_prims"}
_NO_PROSE |= {"_subclasses", "_export", "onnx", "__pycache__"}
_HAND_DOCUMENTED = re.compile(r"add_docstr|add_newdoc")  # of what is written in C


def _installed(progress: bool) -> list[Document]:
    """A document for each file of source that has docstrings, in the order of their names."""
    roots = [Path(sysconfig.get_paths()["stdlib"])]
    roots += [Path(str(package.__file__)).parent for package in (numpy, torch)]
    paths = [(root, path) for root in roots for path in _sources(root)]
    documents, seen, duplicates, unread = [], set(), 0, 0
    bar = tqdm(paths, INSTALLED, unit="file", disable=None if progress else True, leave=False)
    for root, path in bar:
        found = _docstrings(path)
        unread += found is None
        texts = [text for text in map(_prose, found or ()) if text]
        fresh = [text for text in dict.fromkeys(texts) if text not in seen]
        seen.update(fresh)
        duplicates += len(texts) - len(fresh)
        if fresh:
            name = path.relative_to(root.parent).as_posix()
            documents.append(Document("\n\n".join(fresh), name))
    if progress:
        print(
            f"{INSTALLED}: {len(seen):,} docstrings of {len(documents):,} files, "
            f"{sum(len(document.text) for document in documents):,} characters "
            f"({duplicates:,} duplicates left out, {unread:,} files could not be parsed)",
            file=sys.stderr,
        )
    return documents


def _sources(root: Path) -> list[Path]:
    found = (path.relative_to(root) for path in root.rglob("*.py"))
    return [root / path for path in sorted(found) if _NO_PROSE.isdisjoint(path.parts)]


def _docstrings(path: Path) -> list[str] | None:
    """The docstrings of a file of source, in its order; None if it is not Python."""
    try:
        size_of_file(path, DataError)
        raw = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that are none
            return list(_documentation(ast.parse(raw), path.parent.name == "pydoc_data"))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _documentation(node: ast.AST, in_values: bool) -> Iterator[str]:
    """The documentation in a statement and in those inside it; of a dict's values, if asked."""
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        docstring = ast.get_docstring(node, clean=False)
        yield from [docstring] if docstring else []
    value = getattr(node, "value", None)
    handed_in = isinstance(value, ast.Call) and _HAND_DOCUMENTED.search(_name(value.func))
    if value is not None and (handed_in or (in_values and isinstance(value, ast.Dict))):
        for part in ast.walk(value):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.stmt, ast.excepthandler)):
            yield from _documentation(child, in_values)


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


# Prose: what is left of a docstring in reStructuredText

_DIRECTIVE = re.compile(r"\s*\.\. ")
_ADMONITION = re.compile(r"\s*\.\. (note|warning|tip|important|caution|seealso|attention)::", re.I)
_UNDERLINE = re.compile(r"\s*([=\-~^*#\"'`+])\1{2,}\s*")
_CODE = re.compile(r"\s*(>>>|\.\.\. |\.\.\.$|\$ |#|@|def |class |import |from \S+ import )")
_SIGNATURE = re.compile(r"\s*[\w.]+\(.*\)( ?->.*|:)?\s*|.*->.*|\s*:\w+[^:]*:\s*|\s*[{%]\S+\s*")
_TYPED = re.compile(r"\s*\*{0,2}\w+(, \*{0,2}\w+)* : .*")  # "x : array_like", of numpy
_NO_LETTER = re.compile(r"[\d_]|[^\w\s]")
_MARKUP = (
    (re.compile(r":[\w:]+:`~?([^`<]*?)\s*(<[^`>]*>)?`"), r"\1"),  # :class:`~torch.Tensor`
    (re.compile(r"``?([^`<]*?)\s*(<[^`>]*>)?``?_{0,2}"), r"\1"),
    (re.compile(r"\*\*(\w[^*]*)\*\*"), r"\1"),
)


def _prose(docstring: str) -> str:
    """The paragraphs of a docstring that are sentences: no code, tables, formulas or headings."""
    kept = []
    code_from = None  # paragraphs indented by as much as this are code
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        lines = paragraph.strip("\n").split("\n")
        indent = len(lines[0]) - len(lines[0].lstrip())
        if code_from is not None and indent >= code_from:
            continue
        code_from = None
        if _DIRECTIVE.match(lines[0]):
            if not _ADMONITION.match(lines[0]):
                code_from = indent + 1
                continue
            lines[0] = _ADMONITION.sub("", lines[0])
        elif lines[-1].rstrip().endswith("::"):
            code_from = indent + 1
            lines[-1] = lines[-1].rstrip()[:-1]
        text = "\n".join(_lines_of_prose(lines))
        for markup, plain in _MARKUP:
            text = markup.sub(plain, text)
        if _is_prose(text):
            kept.append(text)
    return "\n\n".join(kept)


def _lines_of_prose(lines: list[str]) -> list[str]:
    """Without underlined headings, signatures and types, up to the first line of code."""
    kept: list[str] = []
    for line in lines:
        if _CODE.match(line):
            break
        if _UNDERLINE.fullmatch(line):
            del kept[-1:]
        elif not (_SIGNATURE.fullmatch(line) or _TYPED.fullmatch(line)):
            kept.append(line.strip())
    return kept


def _is_prose(text: str) -> bool:
    """Whether this is made of words: three or more, with little but letters and spaces."""
    signs = len(_NO_LETTER.findall(text))
    return len(text.split()) > 2 and signs <= 0.15 * len(text) and half_a_pair(text) is None
