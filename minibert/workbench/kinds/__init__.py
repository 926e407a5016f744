"""The kinds of task, a file for each, and how the kind of a corpus or a model is found.

To add one, write a file with a subclass of `Kind` and add it to KINDS: every command knows it then.
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
    kind.problem_type: kind for kind in (Classes(), Several(), Numbers(), Tags(), Spans(), MultipleChoice())
}


def kind_of(model: Any) -> Kind:
    """The kind of task that a model does.

    A model says it in an attribute `kind`, a key of KINDS; otherwise its class does, or the nearest
    of its base classes that is the head of a kind.

    Raises:
        ConfigError: none of them do, as for a model for pre-training.
    """
    named = getattr(model, "kind", None)
    if named in KINDS:
        return KINDS[named]
    for base in type(model).__mro__:
        for kind in KINDS.values():
            if kind.head is base and kind.claims(model):
                return kind
    raise ConfigError(f"A {type(model).__name__} does not do any of the tasks {', '.join(KINDS)}.", key="architectures")


def kind_for(corpus: Corpus) -> Kind:
    """The kind of task of a corpus's labels; without labels, the first one for its examples."""
    if corpus.problem_type is not None:
        return KINDS[corpus.problem_type]
    return next(kind for kind in KINDS.values() if kind.form is type(corpus[0]))


def require_kind(corpus: Corpus, kind: Kind, whose: str) -> None:
    """Raises DataError if the labels of a corpus are of another kind than those of `whose`."""
    if corpus.problem_type is None:
        raise DataError(f"{corpus.source} has no labels.", path=corpus.source, key="label")
    if corpus.problem_type != kind.labels:
        raise DataError(
            f"The labels of {corpus.source} are for {corpus.problem_type}, and those of {whose} for {kind.labels}.",
            path=corpus.source,
            key="label",
        )
