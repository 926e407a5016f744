"""Unequal classes: weights that make them equal in the loss, and draws that make them equal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from minibert.heads import ClassLoss
from minibert.io.errors import ConfigError
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.kinds.kind import Kind
from minibert.workbench.runs.settings import Settings


def class_loss(settings: Settings, kind: Kind, corpus: Corpus) -> ClassLoss:
    """The loss over classes that the settings ask for.

    Raises:
        ConfigError: class weights or balanced draws are asked for, and the labels are no classes
            of texts.
    """
    for key in ("class_weights", "balanced"):
        if getattr(settings, key) and not kind.one_class:
            raise ConfigError(
                f"{key} is for texts of one class each, and these labels are for "
                f"{kind.problem_type}.",
                key=key,
            )
    if not settings.class_weights:
        return ClassLoss()
    return ClassLoss(balanced_weights(list(corpus.label_counts.values())))


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """(C,) n / (C * n_c): every class weighs the same in sum, and a label 1 on average.

    King & Zeng 2001, section 4, and scikit-learn's "balanced". C are the classes that occur; one
    that does not has weight 0.
    """
    numbers = torch.tensor(counts, dtype=torch.float64)  # (C,)
    occurring = int((numbers > 0).sum())
    weights = numbers.sum() / (occurring * numbers)  # (C,)
    return weights.where(numbers > 0, 0.0)  # (C,)


def rows_of_epoch(corpus: Corpus, settings: Settings, epoch: int) -> list[int] | None:
    """The training rows that an epoch goes through; None: each once."""
    if not settings.balanced:
        return None
    labels = [example.target for example in corpus]
    return balanced_rows(labels, seed=settings.seed, epoch=epoch)


def balanced_rows(labels: Sequence[int], *, seed: int, epoch: int) -> list[int]:
    """As many rows as there are labels, every class equally often.

    Where the number of rows is no multiple of the number of classes, some classes, drawn at
    random, have one row more. A class's rows are all drawn once before one is drawn again. A
    function of the arguments alone.
    """
    digest = hashlib.sha256(f"balanced {seed} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    rows_of: dict[int, list[int]] = {label: [] for label in sorted(set(labels))}
    for row, label in enumerate(labels):
        rows_of[label].append(row)
    share, rest = divmod(len(labels), len(rows_of))
    order = torch.randperm(len(rows_of), generator=generator).tolist()
    chosen: list[int] = []
    for place, rows in zip(order, rows_of.values(), strict=True):
        wanted = share + (place < rest)
        while wanted > 0:
            drawn = torch.randperm(len(rows), generator=generator).tolist()[:wanted]
            chosen += [rows[index] for index in drawn]
            wanted -= len(drawn)
    return chosen
