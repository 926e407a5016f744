"""Splits: what is trained on, what chooses the epoch, and what is measured at the end."""

from __future__ import annotations

import warnings
from typing import Any

from minibert.io.errors import DataError
from minibert.workbench.data.corpora import Corpus, read, split, subset
from minibert.workbench.kinds import KINDS, require_kind
from minibert.workbench.kinds.kind import Kind
from minibert.workbench.runs.settings import READING, Settings
from minibert.workbench.tasks import faults


def read_splits(settings: Settings) -> tuple[Kind, dict[str, Corpus]]:
    """Reads the data, the same labels in every split, and tells what kind of task they are for.

    What the settings do not name is taken out of the training data, in this order: test, a subset,
    validation.

    Returns:
        The kind, and the corpora "train", "validation" and, if there is one, "test".

    Raises:
        DataError: a file cannot be used, has no labels, one label alone, or labels of another kind.
        ConfigError: a part would be empty, or a fault was asked for that makes no sense here.
    """
    reading: dict[str, Any] = {key: getattr(settings, key) for key in READING}
    asked = None if settings.problem_type is None else KINDS[settings.problem_type]
    if asked is not None:
        reading["problem_type"] = asked.labels_are or asked.problem_type
    corpora = {"train": read(settings.train, split="train", **reading)}
    if corpora["train"].problem_type is None:
        raise DataError(
            f"{settings.train} has no labels to learn from.",
            path=settings.train,
            hint="For a table in a .txt file say sep and names (--sep ';' --names text label).",
        )
    kind = asked or KINDS[corpora["train"].problem_type]
    require_kind(corpora["train"], kind, "problem_type")
    reading["label_names"] = corpora["train"].label_names
    if corpora["train"].problem_type == "regression":
        reading["problem_type"] = "regression"  # also where a part holds whole numbers alone
    names = corpora["train"].label_names
    least = 1 if _has_several(corpora["train"]) else 2
    if names is not None and len(names) < least:
        found = f"one label only, {names[0]!r}" if names else "no label in any row"
        raise DataError(
            f"{settings.train} has {found}: there is nothing to tell apart.",
            path=settings.train,
            key=settings.label,
        )
    for name in ("validation", "test"):
        path = getattr(settings, name)
        if path is not None:
            corpora[name] = read(path, split=name, **reading)
            require_kind(corpora[name], kind, "the training data")
    seed = settings.seed if settings.data_seed is None else settings.data_seed
    faults.require_sense(settings, kind.problem_type)
    whole = corpora["train"]  # in the order of the file
    if settings.test_fraction is not None:
        corpora["train"], corpora["test"] = split(
            corpora["train"], settings.test_fraction, seed=seed, stratify=kind.one_class
        )
    if settings.test_subset is not None and "test" in corpora:
        corpora["test"] = subset(corpora["test"], settings.test_subset, seed=seed)
    elif settings.test_subset is not None:
        warnings.warn(
            f"test_subset is {settings.test_subset}, but there is no test split to take it from.",
            stacklevel=2,
        )
    if settings.train_subset is not None:
        corpora["train"] = subset(corpora["train"], settings.train_subset, seed=seed)
    if "sorted-validation" in settings.faults:
        corpora["train"], corpora["validation"] = faults.cut_off_the_end(
            corpora["train"], settings.validation_fraction, whole
        )
    if "validation" not in corpora:
        corpora["train"], corpora["validation"] = split(
            corpora["train"],
            settings.validation_fraction,
            seed=seed,
            stratify=kind.one_class,
        )
    return kind, {
        name: corpora[name] for name in ("train", "validation", "test") if name in corpora
    }


def _has_several(corpus: Corpus) -> bool:
    return corpus.problem_type == "multi_label_classification"
