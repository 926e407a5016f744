"""Recipes: the settings of well-known tutorials and examples, each a small TOML file here.

Three of them repeat nobody: `samples` is the job of `minibert train` without a model and data, and
`minibert-small` and `minibert-small-long` are how the model of `weights/` was pre-trained.

A recipe file has these parts:

- `title`, `repeats`: a few words for a table, and a sentence on what it repeats.
- `command`: what it is for, "train" (unless it says otherwise) or "pretrain".
- `faults_of_the_tutorial`: which of `faults.FAULTS` the tutorial has. The recipe leaves them out;
  `--fault` puts one back, to measure what it costs.
- `[settings]`: fields of `Settings` (`PretrainSettings`), the data as data sets of the Hub.
- `[local]`: the same data as files, below the folder that the environment variable MINIBERT_DATA
  names, with what is needed to read them. Used wherever that variable is set.
- `[tutorial]`: what the tutorial reports: `model`, `data`, `measure`, and `score` if it prints one.

A file of one's own can do with `[settings]` alone.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from minibert.io.errors import ConfigError, DataError
from minibert.io.files import read_bytes
from minibert.io.tables import table
from minibert.workbench.runs.pretrain_settings import DRAWN, MADE, PretrainSettings
from minibert.workbench.runs.settings import READING, Settings, TrainingSettings
from minibert.workbench.tasks.faults import FAULTS, require_known

DATA_FOLDER = "MINIBERT_DATA"  # the environment variable that names the folder with the data
FOLDER = Path(__file__).parent
DEFAULT = "samples"
LARGEST = 100_000  # bytes of a recipe file

KINDS: dict[str, type[TrainingSettings]] = {
    kind.command: kind for kind in (Settings, PretrainSettings)
}
PATHS = {"train": ("train", "validation", "test"), "pretrain": ("corpus", "validation")}
# Where the data are, the first what is trained on, and how to read and part them.
DATA = {
    "train": (*PATHS["train"], *READING, "test_fraction"),
    "pretrain": (*PATHS["pretrain"], "column"),
}
TUTORIAL = ("model", "data", "measure", "score")


@dataclass(frozen=True)
class Recipe:
    """A recipe file, read and checked. The attributes are its parts, described above."""

    name: str
    title: str = ""
    repeats: str = ""
    command: str = Settings.command
    faults_of_the_tutorial: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    local: Mapping[str, Any] = field(default_factory=dict)
    tutorial: Mapping[str, Any] = field(default_factory=dict)

    def values(self, **given: Any) -> dict[str, Any]:
        """Values for the settings of `command`: those of the recipe, but for those that are given.

        What belongs together goes together: another `train` (or `corpus`) takes away all data of
        the recipe and how to read it, another `model` the revision of the recipe's, or the
        sizes of the model that it draws.

        Raises:
            DataError: MINIBERT_DATA is set, and a file of the recipe is not there.
        """
        values = dict(self.settings)
        folder = os.environ.get(DATA_FOLDER)
        data = DATA[self.command]
        if data[0] in given:
            values = _without(values, data)
        elif folder and self.local:
            local = _below(Path(folder), self.local, PATHS[self.command], set(given))
            values = {**_without(values, data), **local}
        if "model" in given:
            values = _without(values, ("revision", *DRAWN))
        if "vocabulary" in given:
            values = _without(values, MADE)
        for key, other in (("test", "test_fraction"), ("test_fraction", "test")):
            if key in given:
                values.pop(other, None)
        return {**values, **given, "recipe": self.name}


def names() -> list[str]:
    """The recipes of the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str | Path, command: str | None = None) -> Recipe:
    """A recipe of the package by its name, or one's own by the path of its .toml file.

    Args:
        command: what it has to be for; None: anything.

    Raises:
        ConfigError: there is no such recipe, it is for another command, the file is not TOML, or it
            holds an unknown key or a value of the wrong kind.
    """
    if str(name) in names():
        found = _checked(str(name), FOLDER / f"{name}.toml")
    elif Path(name).suffix == ".toml":
        found = _checked(str(name), Path(name))
    else:
        raise _unknown(name)
    if command not in (None, found.command):
        raise ConfigError(
            f"The recipe {name} is for minibert {found.command}, not for minibert {command}.",
            key="recipe",
            hint=f"Say minibert {found.command} --recipe {name}.",
        )
    return found


def _unknown(name: str | Path) -> ConfigError:
    return ConfigError(
        f"There is no recipe {str(name)!r}.",
        key="recipe",
        hint=f"There are {', '.join(names())}; or name a .toml file of your own.",
    )


def overview() -> str:
    """All recipes as a table for people."""
    rows = []
    for recipe in map(load, names()):
        score = recipe.tutorial.get("score")
        rows.append(
            (
                recipe.name,
                recipe.command,
                recipe.title,
                "" if score is None else f"{score:.3f}",
                ", ".join(recipe.faults_of_the_tutorial) or "-",
            )
        )
    return table(rows, ("recipe", "command", "what", "its score", "faults of the tutorial"))


def _without(values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _below(
    folder: Path, local: Mapping[str, Any], paths: Sequence[str], given: set[str]
) -> dict[str, Any]:
    """The local data, its paths below the folder."""
    values = dict(local)
    for key in paths:
        if key not in values:
            continue
        several = isinstance(values[key], list)
        files = [str(folder / path) for path in (values[key] if several else [values[key]])]
        values[key] = files if several else files[0]
        for path in files:
            if key not in given and not Path(path).exists():
                raise DataError(
                    f"{DATA_FOLDER} is {folder}, but there is no {path}.",
                    path=path,
                    key=key,
                    hint=f"Name other data (--{paths[0]}), or unset {DATA_FOLDER}.",
                )
    return values


# Reading a file


def _checked(name: str, path: Path) -> Recipe:
    """Reads a recipe file, every key of it known and every value of the right kind."""
    parts = _parsed(path)
    _require_keys(path, "", parts, [part.name for part in fields(Recipe) if part.name != "name"])
    command = parts.get("command", Settings.command)
    if command not in tuple(KINDS):
        raise _wrong_kind(path, "command", command, f"one of {', '.join(KINDS)}")
    kind = KINDS[command]
    settings = [item.name for item in fields(kind) if item.name != "recipe"]
    for table_name, known in (
        ("settings", settings),
        ("local", DATA[command]),
        ("tutorial", TUTORIAL),
    ):
        part = parts.get(table_name, {})
        if not isinstance(part, dict):
            raise _wrong_kind(path, table_name, part, "a table")
        _require_keys(path, f"{table_name}.", part, known)
    kinds = get_type_hints(kind)
    for table_name in ("settings", "local"):
        for key, value in parts.get(table_name, {}).items():
            if not _fits(value, kinds[key]):
                [expected] = [item.type for item in fields(kind) if item.name == key]
                raise _wrong_kind(path, f"{table_name}.{key}", value, str(expected))
    for key in ("title", "repeats"):
        if not isinstance(parts.get(key, ""), str):
            raise _wrong_kind(path, key, parts[key], "str")
    if not _fits(parts.get("faults_of_the_tutorial", []), Sequence[str]):
        raise _wrong_kind(path, "faults_of_the_tutorial", parts["faults_of_the_tutorial"], FAULTS)
    require_known(parts.get("faults_of_the_tutorial", ()))
    return Recipe(name, **parts)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_bytes(path, ConfigError, largest=LARGEST).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path} is not TOML: {problem}.", path=path) from problem


def _require_keys(path: Path, where: str, found: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in found:
        if key not in known:
            raise ConfigError(
                f"{path} has an unknown key {where + key!r}.",
                path=path,
                key=where + key,
                hint=f"Known here are {', '.join(known)}.",
            )


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value of a TOML file is of the kind that a field of the settings has."""
    if get_origin(kind) is Sequence:
        return isinstance(value, list) and all(_fits(item, get_args(kind)[0]) for item in value)
    if get_args(kind):  # such as int | None; TOML has no null
        return any(_fits(value, one) for one in get_args(kind))
    if isinstance(value, bool) or kind is bool:  # True is an int to Python, but not to a reader
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _wrong_kind(path: Path, key: str, found: Any, expected: Any) -> ConfigError:
    return ConfigError(
        f"{path}: {key} is {found!r:.100}, but it must be {expected}.",
        path=path,
        key=key,
    )
