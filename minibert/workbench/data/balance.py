"""Unequal classes: weights that make them equal in the loss, and draws that make them equal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from minibert.io.seeds import mixed_seed


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """(C,) n / (C * n_c): all classes have the same total weight, and a label 1 on average.

    King & Zeng 2001, section 4, and scikit-learn's "balanced". C counts the classes that occur; a
    class that does not occur has weight 0.
    """
    numbers = torch.tensor(counts, dtype=torch.float64)  # (C,)
    occurring = int((numbers > 0).sum())
    weights = numbers.sum() / (occurring * numbers)  # (C,)
    return weights.where(numbers > 0, 0.0)  # (C,)


def balanced_rows(labels: Sequence[int], *, seed: int, epoch: int) -> list[int]:
    """As many rows as there are labels, every class equally often.

    If the number of rows is not a multiple of the number of classes, some classes, drawn at random,
    have one row more. A class's rows are all drawn once before one is drawn again. The result
    depends on the arguments alone.
    """
    generator = torch.Generator().manual_seed(mixed_seed("balanced", seed, epoch))
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
