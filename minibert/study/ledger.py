"""The ledger: every tensor of a checkpoint, its two names, and what they all add up to.

The parts are those of Devlin et al. 2018, figure 2 (the three embeddings) and section 3 (the
encoder of L layers). What a file holds and the model has no use for stands in it too, with the
reason; the parameters of the parts are added up and held against those of the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

import minibert.model
from minibert.checkpoint import names, weights
from minibert.errors import CheckpointError
from minibert.files import read_json
from minibert.model import BertConfig
from minibert.model.bert import BertBase

_PARTS = re.compile(r"(?:bert\.)?(embeddings\.\w+|encoder\.layers\.\d+|pooler|\w+)\.")


@dataclass(frozen=True)
class Part:
    """A piece of the model, such as "embeddings.word" or "encoder.layers.0", and its size."""

    name: str
    tensors: int
    parameters: int


@dataclass(frozen=True)
class Ledger:
    """What a checkpoint consists of.

    Attributes:
        model: the class it was opened as.
        source: the folder or the Hub id; `revision` its commit, for the latter.
        entries: one for each tensor, in the model's order; then those left out.
        parts: the model's pieces, in order.
        parameters: of the whole model; the sum over the parts.
    """

    model: str
    source: str
    revision: str | None
    entries: tuple[weights.Entry, ...]
    parts: tuple[Part, ...]
    parameters: int

    def lines(self) -> list[str]:
        """The ledger as text, for people."""
        rows = [("official name", "name here", "shape", "dtype")]
        rows += [
            (entry.official, entry.name or "-", _shape(entry), entry.dtype or entry.status)
            for entry in self.entries
        ]
        where = self.source if self.revision is None else f"{self.source} at {self.revision}"
        used = [entry for entry in self.entries if entry.name is not None]
        lines = [f"{self.model} from {where}", "", *_columns(rows), "", "Not in the model:"]
        apart = [entry for entry in self.entries if entry.name is None]
        lines += [f"  {e.official} {e.status}: {e.reason}" for e in apart] or ["  nothing"]
        sizes = [("part", "tensors", "parameters")]
        sizes += [(part.name, f"{part.tensors:,}", f"{part.parameters:,}") for part in self.parts]
        sizes += [("sum", f"{len(used):,}", f"{self.parameters:,}")]
        return [*lines, "", *_columns(sizes, numbers=True)]

    def as_dict(self) -> dict[str, Any]:
        """The same for programs, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())


def ledger(source: str | Path, *, revision: str | None = None) -> Ledger:
    """Opens a checkpoint as the class that its config.json names, and accounts for every tensor.

    Args:
        source: a folder, or a Hub id.
        revision: branch, tag or commit on the Hub.

    Raises:
        CheckpointError: the files are missing or do not fit, or the parts do not add up.
        ConfigError: config.json holds a value that no model can be built from.
        HubError: a download failed.
    """
    local, _ = weights.find(source, revision)
    config = read_json(local.folder / weights.CONFIG)
    architectures = config.get("architectures") if isinstance(config, dict) else None
    model = _class_of(architectures).from_pretrained(source, revision=local.revision or revision)
    assert model.load_report is not None
    entries = model.load_report.entries
    sizes = {entry.name: entry.parameters for entry in entries if entry.name is not None}
    parts = parts_of(sizes)
    total = sum(parameter.numel() for parameter in model.parameters())
    found = sum(part.parameters for part in parts)
    if found != total:
        raise CheckpointError(
            f"The tensors of {source} add up to {found:,} parameters, but the model has {total:,}.",
            path=local.folder,
            expected=total,
            found=found,
        )
    return Ledger(type(model).__name__, str(source), local.revision, entries, parts, total)


def parameters_of(config: BertConfig, class_name: str = names.BARE_MODEL) -> tuple[Part, ...]:
    """The parts of a model that is not there: its sizes follow from the config alone.

    Nothing is allocated: the model is built on torch's meta device, which has shapes and no memory.
    """
    with torch.device("meta"):
        model = getattr(minibert.model, class_name)(config)
    return parts_of({name: prod(tensor.shape) for name, tensor in model.named_parameters()})


def parts_of(sizes: dict[str, int]) -> tuple[Part, ...]:
    """Adds up the parameters of tensors, given by their names here, for each part."""
    grouped: dict[str, list[int]] = {}
    for name, size in sizes.items():
        part = _PARTS.match(name)
        grouped.setdefault(part.group(1) if part else name, []).append(size)
    return tuple(Part(name, len(each), sum(each)) for name, each in grouped.items())


def _class_of(architectures: Any) -> type[BertBase]:
    """The class of `architectures` that is known here, else the bare model."""
    stated = architectures if isinstance(architectures, list) else ()
    for family in names.ARCHITECTURES.values():
        for name, official in family.items():
            if official in stated:
                return getattr(minibert.model, name)
    return minibert.model.BertModel


def _shape(entry: weights.Entry) -> str:
    return " x ".join(map(str, entry.shape))


def _columns(rows: Iterable[tuple[str, ...]], numbers: bool = False) -> list[str]:
    """Rows of text in columns as wide as their widest cell; numbers stand to the right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if numbers and place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
