"""The kinds of task, one file for each, and how the one for some data or a model is found.

To add one: a file with a subclass of `Kind`, and a line in KINDS. All commands know it then.
"""

from __future__ import annotations

from typing import Any

from minibert.io.errors import ConfigError, DataError
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.kinds.choices import MultipleChoice
from minibert.workbench.kinds.classes import Classes
from minibert.workbench.kinds.kind import Kind
from minibert.workbench.kinds.numbers import Numbers
from minibert.workbench.kinds.several import Several
from minibert.workbench.kinds.spans import Spans
from minibert.workbench.kinds.tags import Tags

KINDS: dict[str, Kind] = {
    kind.problem_type: kind
    for kind in (Classes(), Several(), Numbers(), Tags(), Spans(), MultipleChoice())
}


def kind_of(model: Any) -> Kind:
    """The kind of task that a model with a head, or a probe, does.

    Raises:
        ConfigError: there is none, as for pre-training.
    """
    for kind in KINDS.values():
        if kind.claims(model):
            return kind
    raise ConfigError(
        f"A {type(model).__name__} does none of the tasks {', '.join(KINDS)}.",
        key="architectures",
    )


def require_kind(corpus: Corpus, kind: Kind, whose: str) -> None:
    """Raises DataError if the labels of a corpus are of another kind than `whose` are."""
    found, expected = corpus.problem_type, kind.labels_are or kind.problem_type
    if found is None:
        raise DataError(f"{corpus.source} has no labels.", path=corpus.source, key="label")
    if found != expected:
        raise DataError(
            f"The labels of {corpus.source} are for {found}, and those of {whose} for {expected}.",
            path=corpus.source,
            key="label",
        )
