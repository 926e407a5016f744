"""The ledger: every tensor of a checkpoint, its two names, and what they all add up to.

The parts are those of Devlin et al. 2019, figure 2 (the three embeddings) and section 3 (the
encoder of L layers). What a file holds and the model has no use for stands in it too, with the
reason; the parameters of the parts are added up and held against those of the model.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from minibert import names
from minibert.base import Model
from minibert.checkpoint import class_name
from minibert.config import BertConfig
from minibert.heads import MODELS
from minibert.io.errors import CheckpointError
from minibert.io.meta import shapes_only
from minibert.io.shards import Entry
from minibert.io.source import Source, open_source
from minibert.io.tables import table

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
    entries: tuple[Entry, ...]
    parts: tuple[Part, ...]
    parameters: int

    def lines(self) -> list[str]:
        """The ledger as text, for people."""
        where = self.source if self.revision is None else f"{self.source} at {self.revision}"
        used = [entry for entry in self.entries if entry.name is not None]
        apart = [entry for entry in self.entries if entry.name is None]
        tensors = [
            (entry.official, entry.name or "-", _shape(entry), entry.dtype or entry.status) for entry in self.entries
        ]
        sizes = [(part.name, part.tensors, part.parameters) for part in self.parts]
        sizes += [("sum", len(used), self.parameters)]
        lines = [f"{self.model} from {where}", ""]
        lines += table(tensors, ("official name", "name here", "shape", "dtype")).split("\n")
        lines += ["", "Not in the model:"]
        lines += [f"  {e.official} {e.status}: {e.reason}" for e in apart] or ["  nothing"]
        return [*lines, "", *table(sizes, ("part", "tensors", "parameters")).split("\n")]

    def as_dict(self) -> dict[str, Any]:
        """The same for programs, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())


def ledger(source: str | Path | Source, *, revision: str | None = None) -> Ledger:
    """Opens a checkpoint as the class that its config.json names, and accounts for every tensor.

    Args:
        source: a folder, or a Hub id.
        revision: branch, tag or commit on the Hub.

    Raises:
        CheckpointError: the files are missing or do not fit, config.json names a class that is not
            known here, or the parts do not add up.
        ConfigError: config.json holds a value that no model can be built from.
        HubError: a download failed.
    """
    source = open_source(source, revision)
    kind: type[Model] = MODELS[class_name(source)]
    model = kind.from_pretrained(source)
    assert model.load_report is not None
    entries = model.load_report.entries
    sizes = {entry.name: entry.parameters for entry in entries if entry.name is not None}
    parts = parts_of(sizes)
    total = sum(parameter.numel() for parameter in model.parameters())
    found = sum(part.parameters for part in parts)
    if found != total:
        raise CheckpointError(
            f"The tensors of {source} add up to {found:,} parameters, but the model has {total:,}.", path=source.folder
        )
    return Ledger(type(model).__name__, source.name, source.revision, entries, parts, total)


def parameters_of(config: BertConfig, class_name: str = names.BARE_MODEL) -> tuple[Part, ...]:
    """The parts of a model that is not there: its sizes follow from the config alone.

    Nothing is allocated: the model is built on torch's meta device, which has shapes and no memory.
    """
    with shapes_only():
        model = MODELS[class_name](config)
    return parts_of({name: prod(tensor.shape) for name, tensor in model.named_parameters()})


def parts_of(sizes: dict[str, int]) -> tuple[Part, ...]:
    """Adds up the parameters of tensors, given by their names here, for each part."""
    grouped: dict[str, list[int]] = {}
    for name, size in sizes.items():
        part = _PARTS.match(name)
        grouped.setdefault(part.group(1) if part else name, []).append(size)
    return tuple(Part(name, len(each), sum(each)) for name, each in grouped.items())


def _shape(entry: Entry) -> str:
    return " x ".join(map(str, entry.shape))
