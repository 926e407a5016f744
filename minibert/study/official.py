"""Official checkpoints: the table in `weights/`, and whether the Hub still holds what it says."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from minibert import names
from minibert.bert import BertModel
from minibert.config import BertConfig
from minibert.io import bundled, shards
from minibert.io.errors import ConfigError, HubError, MinibertError
from minibert.io.files import read_bytes, sha256
from minibert.io.meta import shapes_only
from minibert.io.source import open_source

LARGEST = 100_000  # bytes of the table


@dataclass(frozen=True)
class Official:
    """A checkpoint of the table.

    Attributes:
        id: on the Hub; `revision` its pinned commit, None where it is not known.
        family: "bert" or "distilbert"; `config` the sizes, by the keys of config.json.
        parameters: of the bare model, pooler included, without a head.
        checked: whether the file itself was ever at hand where the table was made.
        sha256: of model.safetensors, None where it is not known.
    """

    id: str
    family: str
    licence: str
    parameters: int
    checked: bool
    config: Mapping[str, int]
    revision: str | None = None
    sha256: str | None = None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors of the bare model by their official names; nothing is allocated."""
        sizes_of_config: dict[str, Any] = dict(self.config)
        with shapes_only():
            model = BertModel(BertConfig(model_type=self.family, **sizes_of_config))
        return {n: tuple(tensor.shape) for n, tensor in model.official_state_dict().items()}


@dataclass(frozen=True)
class Verified:
    """What became of one checkpoint: `status` is "ok", "differs" or "not reachable"."""

    id: str
    revision: str | None
    status: str
    what: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.id}: {self.status}" + (f": {'; '.join(self.what)}" if self.what else "")


def official_checkpoints(path: str | Path | None = None) -> tuple[Official, ...]:
    """The table of official checkpoints.

    Args:
        path: the table; by default the one that ships with the project.

    Raises:
        CheckpointError: there is no table.
        ConfigError: it is not TOML, or a checkpoint lacks a key or has an unknown one.
    """
    path = bundled.official_table() if path is None else Path(path)
    try:
        text = read_bytes(path, ConfigError, largest=LARGEST).decode("utf-8")
        return tuple(Official(**entry) for entry in tomllib.loads(text)["checkpoint"])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as problem:
        message = f"{path} is not a table of checkpoints: {problem}."
        raise ConfigError(message, path=path) from problem


def verify(ids: Sequence[str] = (), path: str | Path | None = None) -> tuple[Verified, ...]:
    """Fetches checkpoints at their pinned revisions and compares them with the table.

    Args:
        ids: which ones; by default all of the table.
        path: the table, as for `official_checkpoints`.

    Raises:
        ConfigError: an id is not in the table, or the table cannot be read.
    """
    known = {entry.id: entry for entry in official_checkpoints(path)}
    for name in ids:
        if name not in known:
            raise ConfigError(
                f"{name} is not in the table of official checkpoints.",
                key="verify",
                hint=f"There are {', '.join(known)}.",
            )
    return tuple(_verify(known[name]) for name in ids or known)


def _verify(entry: Official) -> Verified:
    try:
        source = open_source(entry.id, entry.revision)
        files = shards.find(source)
        stored = shards.stored_shapes(files)
    except HubError as problem:
        return Verified(entry.id, entry.revision, "not reachable", (str(problem),))
    except MinibertError as problem:  # there, and not what it should be
        return Verified(entry.id, entry.revision, "differs", (str(problem),))
    found = {names.bare_name(name): shape for name, (shape, _) in stored.items()}
    expected = entry.shapes()
    what = [
        f"{name} is {found.get(name, 'missing')}, not {shape}"
        for name, shape in expected.items()
        if found.get(name) != shape
    ]
    count = sum(prod(found[name]) for name in expected if name in found)
    if count != entry.parameters:
        what.append(f"{count:,} parameters, not {entry.parameters:,}")
    if entry.sha256 is not None and (found_sum := sha256(files.main)) != entry.sha256:
        what.append(f"sha256 is {found_sum}, not {entry.sha256}")
    return Verified(entry.id, source.revision, "differs" if what else "ok", _first(what))


def _first(what: list[Any]) -> tuple[str, ...]:
    """The first few differences, and how many more there are."""
    return tuple(what[:3]) + ((f"and {len(what) - 3} more",) if len(what) > 3 else ())
