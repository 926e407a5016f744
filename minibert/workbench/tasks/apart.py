"""`minibert explain` and `minibert weights diff`: the study tools on checkpoints that are named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minibert import checkpoint
from minibert.heads import MODELS
from minibert.io.source import Source, open_source
from minibert.study.diff import Diff, diff
from minibert.study.explain import Page, explain
from minibert.tokenizer import BertTokenizer


def explain_sentence(
    source: str | Path, text: str, *, pair: str | None = None, compare: str | None = None, revision: str | None = None
) -> Page:
    """The page of a sentence; arguments as for `minibert.study.explain.explain`.

    Args:
        source: a run, a folder, a Hub id or a bundled name; opened as the class that its config.json names.
    """
    opened = open_source(source, revision)
    tokenizer = BertTokenizer.from_pretrained(opened)
    return explain(_model(opened), tokenizer, text, pair, compare=compare, name=opened.name)


def compare_checkpoints(
    first: str | Path, second: str | Path, texts: Sequence[str] = (), *, progress: bool = False
) -> Diff:
    """What differs between two checkpoints; with texts, also how alike their hidden states are."""
    before, after = open_source(first), open_source(second)
    tokenizer = BertTokenizer.from_pretrained(before) if texts else None
    return diff(_model(before), _model(after), tokenizer, texts, progress=progress)


def _model(source: Source) -> Any:
    return MODELS[checkpoint.class_name(source)].from_pretrained(source)
