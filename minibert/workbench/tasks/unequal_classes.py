"""What the settings `class_weights` and `balanced` do about unequal classes."""

from __future__ import annotations

from minibert.heads import ClassLoss
from minibert.io.errors import ConfigError
from minibert.workbench.data.balance import balanced_rows, balanced_weights
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.kinds.kind import Kind
from minibert.workbench.runs.settings import Settings


def class_loss(settings: Settings, kind: Kind, corpus: Corpus) -> ClassLoss:
    """The loss over classes that the settings ask for.

    Raises:
        ConfigError: class weights or balanced epochs need one class for each text.
    """
    for key in ("class_weights", "balanced"):
        if getattr(settings, key) and not kind.one_class:
            raise ConfigError(
                f"{key} needs one class for each text, and these labels are for {kind.problem_type}.", key=key
            )
    counts = list(corpus.label_counts.values())
    return ClassLoss(balanced_weights(counts) if settings.class_weights else None)


def rows_of_epoch(corpus: Corpus, settings: Settings, epoch: int) -> list[int] | None:
    """The training rows that an epoch goes through; None for each of them once."""
    if not settings.balanced:
        return None
    labels = [example.target for example in corpus]
    return balanced_rows(labels, seed=settings.seed, epoch=epoch)
