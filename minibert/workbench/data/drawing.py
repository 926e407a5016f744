"""Drawing examples at random: splits and subsets that keep the share of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from minibert.io.errors import ConfigError
from minibert.workbench.data.corpora import Corpus


def split(corpus: Corpus, fraction: float, *, seed: int, stratify: bool = True) -> tuple[Corpus, Corpus]:
    """Shuffles, then splits: the second part holds `fraction` of the examples.

    Examples of one group (questions about one context) stay together: the second part then holds
    `fraction` of the groups.

    Args:
        fraction: between 0 and 1.
        seed: the same seed gives the same parts.
        stratify: each class has the same share in both parts, as nearly as whole examples allow
            (one label for each text only).

    Raises:
        ConfigError: a part would be empty.
    """
    grouped = any(example.group is not None for example in corpus)
    whole = len({example.group for example in corpus}) if grouped else len(corpus)
    count = round(whole * fraction)
    if not 0 < count < whole:
        raise ConfigError(
            f"A part of {fraction} of {whole} {'contexts' if grouped else 'examples'} leaves one part empty.",
            key="fraction",
        )
    draw = _draw_groups if grouped else _draw
    chosen = draw(corpus, count, seed, stratify)
    rest = sorted(set(range(len(corpus))) - set(chosen))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(rest), generator=generator).tolist()
    return _take(corpus, [rest[index] for index in order]), _take(corpus, chosen)


def subset(corpus: Corpus, count: int, *, seed: int, stratify: bool = True) -> Corpus:
    """`count` examples drawn at random, with each class's share kept, in random order.

    Raises:
        ConfigError: the corpus has fewer.
    """
    if not 0 < count <= len(corpus):
        raise ConfigError(f"A subset of {count} cannot be drawn from {len(corpus)} examples.", key="count")
    return _take(corpus, _draw(corpus, count, seed, stratify))


def _take(corpus: Corpus, indices: Sequence[int]) -> Corpus:
    examples: Any = tuple(corpus.examples[index] for index in indices)
    return replace(corpus, examples=examples)


def _draw_groups(corpus: Corpus, count: int, seed: int, stratify: bool) -> list[int]:
    """The examples of `count` groups in random order; there is nothing to stratify by."""
    groups: dict[Any, list[int]] = {}
    for index, example in enumerate(corpus):
        groups.setdefault(example.group, []).append(index)
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    places = list(groups.values())
    return [index for place in order[:count] for index in places[place]]


def _draw(corpus: Corpus, count: int, seed: int, stratify: bool) -> list[int]:
    """`count` different indices in random order."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(corpus), generator=generator).tolist()
    if not stratify or corpus.problem_type != "single_label_classification":
        return order[:count]
    groups: dict[Any, list[int]] = {}
    for index in order:
        groups.setdefault(corpus[index].target, []).append(index)
    # Largest remainder: whole shares first, what is left to the largest fractions.
    shares = {label: count * len(group) / len(corpus) for label, group in groups.items()}
    quotas = {label: int(share) for label, share in shares.items()}
    by_fraction = sorted(shares, key=lambda label: (quotas[label] - shares[label], label))
    for label in by_fraction[: count - sum(quotas.values())]:
        quotas[label] += 1
    chosen = {index for label, group in groups.items() for index in group[: quotas[label]]}
    return [index for index in order if index in chosen]
