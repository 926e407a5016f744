"""English text that every machine with minibert has: docstrings of Python, numpy and torch.

The source files are parsed and never run: `ast` finds the docstrings, and a few rules on lines keep
their prose.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy
import torch
from tqdm import tqdm

from minibert.io.errors import DataError
from minibert.io.files import half_a_pair, size_of_file

NAME = "installed-docs"

# Folders with few docstrings for the time that they take to parse, or with docstrings that are not
# English.
_NO_PROSE = {"site-packages", "dist-packages", "test", "tests", "testing", "idlelib", "lib2to3"}
_NO_PROSE |= {"turtledemo", "_inductor", "_dynamo", "_vendor", "_refs", "_decomp", "_prims"}
_NO_PROSE |= {"_subclasses", "_export", "onnx", "__pycache__"}
_DOCUMENTING_CALL = re.compile(r"add_docstr|add_newdoc")  # of functions written in C


def read(progress: bool) -> Iterator[tuple[str, str]]:
    """(name, text) of each source file that has docstrings, in the order of their names.

    With `progress`, a bar and a report go to standard error.
    """
    roots = [Path(sysconfig.get_paths()["stdlib"])]
    roots += [Path(str(package.__file__)).parent for package in (numpy, torch)]
    paths = [(root, path) for root in roots for path in _sources(root)]
    seen: set[str] = set()
    files = characters = duplicates = unread = 0
    bar = tqdm(paths, NAME, unit="file", disable=None if progress else True, leave=False)
    for root, path in bar:
        found = _docstrings(path)
        unread += found is None
        texts = [text for text in map(_prose, found or ()) if text]
        fresh = [text for text in dict.fromkeys(texts) if text not in seen]
        seen.update(fresh)
        duplicates += len(texts) - len(fresh)
        if fresh:
            document = "\n\n".join(fresh)
            files += 1
            characters += len(document)
            yield path.relative_to(root.parent).as_posix(), document
    if progress:
        print(
            f"{NAME}: {len(seen):,} docstrings of {files:,} files, {characters:,} characters "
            f"({duplicates:,} duplicates left out, {unread:,} files could not be parsed)",
            file=sys.stderr,
        )


def _sources(root: Path) -> list[Path]:
    found = (path.relative_to(root) for path in root.rglob("*.py"))
    return [root / path for path in sorted(found) if _NO_PROSE.isdisjoint(path.parts)]


def _docstrings(path: Path) -> list[str] | None:
    """The docstrings of a source file, in order; None if it is not Python."""
    try:
        size_of_file(path, DataError)
        raw = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escapes
            return list(_documentation(ast.parse(raw), path.parent.name == "pydoc_data"))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _documentation(node: ast.AST, in_values: bool) -> Iterator[str]:
    """The documentation in a statement and those inside it; `in_values`: in dict values, too."""
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        docstring = ast.get_docstring(node, clean=False)
        yield from [docstring] if docstring else []
    value = getattr(node, "value", None)
    documented = isinstance(value, ast.Call) and _DOCUMENTING_CALL.search(_name(value.func))
    if value is not None and (documented or (in_values and isinstance(value, ast.Dict))):
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


# What a docstring in reStructuredText has beside prose

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
    """The paragraphs of a docstring that are sentences, without code, tables and headings."""
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
    """The lines up to the first one of code, without underlined headings, signatures, types."""
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
    """Whether this is three words or more, with little but letters and spaces."""
    signs = len(_NO_LETTER.findall(text))
    return len(text.split()) > 2 and signs <= 0.15 * len(text) and half_a_pair(text) is None
