"""Splits: what is trained on, what chooses the epoch, and what is measured at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minibert.io.errors import DataError
from minibert.workbench.data.corpora import Corpus, read
from minibert.workbench.data.drawing import split, subset
from minibert.workbench.kinds import KINDS, kind_of, require_kind
from minibert.workbench.kinds.kind import Kind
from minibert.workbench.runs.settings import READING, Settings
from minibert.workbench.tasks import faults


def read_splits(
    settings: Settings, given: Mapping[str, Corpus] | None = None, model: Any = None
) -> tuple[Kind, dict[str, Corpus]]:
    """Reads the data, with the same labels in every split, and finds their kind of task.

    Splits that the settings do not name are taken out of the training data, in this order: test, a
    subset, validation.

    Args:
        given: splits that need not be read.
        model: a model that is given; the labels have to be its own.

    Returns:
        The kind, and the corpora "train", "validation" and, if there is one, "test".

    Raises:
        DataError: a file cannot be used, has no labels, one label alone, or labels of another kind.
        ConfigError: a part would be empty, or a fault makes no sense for these data.
    """
    kind, corpora = _read(settings, given or {}, model)
    faults.require_sense(settings, kind.one_class)
    seed = settings.seed if settings.data_seed is None else settings.data_seed
    whole = corpora["train"]  # in the order of the file

    def take(fraction: float) -> Corpus:
        """Moves a part of the training data to another split."""
        corpora["train"], part = split(corpora["train"], fraction, seed=seed, stratify=kind.one_class)
        return part

    if settings.test_fraction is not None:
        corpora["test"] = take(settings.test_fraction)
    if settings.test_subset is not None:
        corpora["test"] = subset(corpora["test"], settings.test_subset, seed=seed)
    if settings.train_subset is not None:
        corpora["train"] = subset(corpora["train"], settings.train_subset, seed=seed)
    if "sorted-validation" in settings.faults:
        corpora["train"], corpora["validation"] = faults.cut_off_the_end(
            corpora["train"], settings.validation_fraction, whole
        )
    if "validation" not in corpora:
        corpora["validation"] = take(settings.validation_fraction)
    return kind, {name: corpora[name] for name in ("train", "validation", "test") if name in corpora}


def _read(settings: Settings, given: Mapping[str, Corpus], model: Any) -> tuple[Kind, dict[str, Corpus]]:
    """The splits that the settings name, and the kind of task of their labels."""
    reading: dict[str, Any] = {key: getattr(settings, key) for key in READING}
    asked = KINDS.get(settings.problem_type or "") or (model and kind_of(model))
    names = (asked.names_of(model) or None) if model is not None else None
    if asked is not None:
        reading["problem_type"] = asked.labels
    train = given.get("train") or read(settings.train, split="train", label_names=names, **reading)
    if train.problem_type is None:
        raise DataError(
            f"{settings.train} has no labels to learn from.",
            path=settings.train,
            key="label",
            hint="For a table in a .txt file say sep and names (--sep ';' --names text label).",
        )
    kind = asked or KINDS[train.problem_type]
    require_kind(train, kind, "problem_type")
    names = train.label_names
    if names is not None and len(names) < kind.fewest_classes:
        found = f"only the label {names[0]!r}" if names else "no label in any row"
        raise DataError(
            f"{settings.train} has {found}: there is nothing to learn.", path=settings.train, key=str(settings.label)
        )
    corpora = {"train": train}
    for name in ("validation", "test"):
        path = getattr(settings, name)
        if path is not None:
            corpora[name] = given.get(name) or read(path, split=name, **{**reading, **train.reading()})
            require_kind(corpora[name], kind, "the training data")
    return kind, corpora
