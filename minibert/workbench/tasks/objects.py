"""What `finetune` can be given as an object, in place of what its settings name."""

from __future__ import annotations

import contextlib
import hashlib
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from minibert.data import Example, Label
from minibert.heads import ModelWithHead
from minibert.io.errors import ConfigError, DataError
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.data.examples import AnyExample
from minibert.workbench.kinds import kind_of
from minibert.workbench.runs.settings import Settings

OBJECTS = ("model", "tokenizer", "train", "validation", "test")


@dataclass(frozen=True)
class Objects:
    """A model, a tokenizer and examples that were given as objects.

    Attributes:
        splits: split ("train", "validation", "test") -> its examples.
    """

    model: ModelWithHead | None = None
    tokenizer: BertTokenizer | None = None
    splits: Mapping[str, Sequence[AnyExample]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """What there is, for run.json."""
        given = {"model": self.model, "tokenizer": self.tokenizer, **self.splits}
        return [name for name, value in given.items() if value is not None]

    def corpora(self) -> dict[str, Corpus]:
        """The examples as corpora, whose labels have the names that the model has for them."""
        if self.splits and self.model is None:
            raise ConfigError(
                "Examples given as objects need a model given as an object, which names their labels.", key="model"
            )
        if not self.splits:
            return {}
        kind = kind_of(self.model)
        names = kind.names_of(self.model) or None
        found = {}
        for split, examples in self.splits.items():
            rows: list[Any] = [
                replace(example, guid=example.guid or f"{split}:{row}") for row, example in enumerate(examples)
            ]
            if kind.form is Example:
                rows = [replace(row, label=_label(row, kind.labels, len(names or ()))) for row in rows]
            found[split] = Corpus(tuple(rows), names, source=describe(examples), reason="those of the model")
        return found


def _label(example: Example, problem_type: str, classes: int) -> Label:
    """The label of an example, of the type that its problem needs."""
    label: Any = example.label
    several = problem_type == "multi_label_classification"
    with contextlib.suppress(TypeError, ValueError):
        if several and len(label) == classes and {*label} <= {0, 1}:
            return tuple(map(float, label))
        if problem_type == "single_label_classification" and 0 <= (index := operator.index(label)) < classes:
            return index
        if problem_type == "regression" and math.isfinite(label):
            return float(label)
    wanted = f"{classes} zeros and ones" if several else f"an index below {classes}" if classes else "a number"
    raise DataError(f"{example.guid} has the label {label!r:.50}, not {wanted}.", key=example.guid)


def split_off(given: Mapping[str, Any]) -> tuple[Objects, dict[str, Any]]:
    """What is an object in keyword arguments, and the settings among them."""
    found = {
        name: value
        for name, value in given.items()
        if name in OBJECTS and not isinstance(value, (str, Path, type(None)))
    }
    values = {name: value for name, value in given.items() if name not in found}
    return Objects(found.pop("model", None), found.pop("tokenizer", None), found), values


def settings_of(settings: Settings | None, objects: Objects, values: dict[str, Any]) -> Settings:
    """The settings of a run, with a description in place of each object.

    Args:
        settings: None to make them of `values`. If they name a model beside a model object, its
            tokenizer is taken from there, and the name stays.

    Raises:
        ConfigError: there is a model object and nothing to take its tokenizer from.
    """
    words: dict[str, Any] = {name: describe(examples) for name, examples in objects.splits.items()}
    if settings is not None:
        return replace(settings, **words, **values)
    if objects.model is not None:
        if objects.tokenizer is None:
            raise ConfigError("A model object needs its tokenizer.", key="tokenizer", hint="Give tokenizer=...")
        words["model"] = describe(objects.model)
    return Settings(**{**words, **values})


def describe(value: Any) -> str:
    """What the settings hold instead of the name of a model or of data."""
    if isinstance(value, torch.nn.Module):
        return f"({type(value).__name__} object)"
    return f"({len(value)} examples)"


def sum_of_examples(examples: Iterable[AnyExample]) -> str:
    """The sha256 sum of examples in their order."""
    lines = "\n".join(map(repr, examples))
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()


def sum_of_weights(model: torch.nn.Module) -> str:
    """The sha256 sum of a model's tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
