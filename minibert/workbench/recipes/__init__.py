"""Recipes: the settings of published examples, each a small TOML file here.

Three of them repeat nothing: `samples` is what `minibert train` does without a model and data,
and `minibert-small` and `minibert-small-long` are how the model in `weights/` was pre-trained.

A recipe file has these parts:

- `title`, `repeats`: a few words for a table, and a sentence on what it repeats.
- `command`: what it is for, "train" (the default) or "pretrain".
- `faults_of_the_original`: the mistakes of the original, by their names in `settings.FAULTS`. The
  recipe leaves them out; `--fault` brings one back, to measure what it costs.
- `[settings]`: fields of `Settings` (or `PretrainSettings`), with data sets of the Hub.
- `[local]`: the same data as files, below the folder that the environment variable MINIBERT_DATA
  names, and how to read them. It takes the place of the Hub wherever that variable is set.
- `[original]`: what the original reports: `model`, `data`, `measure`, and `score` if it prints one.

A recipe that you write needs only `[settings]`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from minibert.io.errors import ConfigError, DataError
from minibert.io.tables import table
from minibert.workbench.runs.pretrain_settings import NEW_MODEL, NEW_VOCABULARY, PretrainSettings
from minibert.workbench.runs.settings import FAULTS, READING, Settings, TrainingSettings, broken_rule

DATA_FOLDER = "MINIBERT_DATA"  # the environment variable that names the folder with the data
FOLDER = Path(__file__).parent
DEFAULT = "samples"
LARGEST = 100_000  # bytes of a recipe file

COMMANDS: dict[str, type[TrainingSettings]] = {"train": Settings, "pretrain": PretrainSettings}
PATHS = {"train": ("train", "validation", "test"), "pretrain": ("corpus", "validation")}
# The data, training data first, and how to read and split them.
DATA = {"train": (*PATHS["train"], *READING, "test_fraction", "overlap"), "pretrain": (*PATHS["pretrain"], "column")}
# A setting that is given -> those of the recipe that go with the recipe's own value for it.
REPLACES = {
    "model": ("revision", *NEW_MODEL),
    "vocabulary": NEW_VOCABULARY,
    "validation": ("validation_fraction",),
    "test": ("test_fraction",),
    "test_fraction": ("test",),
}
ORIGINAL = ("model", "data", "measure", "score")


@dataclass(frozen=True)
class Recipe:
    """A recipe file, read and checked. The attributes are its parts, described above."""

    name: str
    title: str = ""
    repeats: str = ""
    command: str = "train"
    faults_of_the_original: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    local: Mapping[str, Any] = field(default_factory=dict)
    original: Mapping[str, Any] = field(default_factory=dict)

    def values(self, **given: Any) -> dict[str, Any]:
        """Values for the settings of `command`: those of the recipe, unless they are given.

        A setting that is given also removes what belongs to the recipe's value for it: another
        `train` (or `corpus`) removes all data of the recipe and how to read them, another `model`
        the revision of the recipe's model, or the sizes of the one that it makes.

        Raises:
            DataError: MINIBERT_DATA is set, and a file of the recipe is not there.
        """
        values = dict(self.settings)
        folder = os.environ.get(DATA_FOLDER)
        data = DATA[self.command]
        if data[0] in given:
            values = _without(values, data)
        elif folder and self.local:
            values = {**_without(values, data), **self._below(Path(folder), given)}
        for key in REPLACES.keys() & given.keys():
            values = _without(values, REPLACES[key])
        return {**values, **given, "recipe": self.name}

    def shown(self) -> dict[str, Any]:
        """Its values for people; without MINIBERT_DATA, files that the Hub lacks keep their short paths."""
        values = _without(self.values(), ["recipe"])
        return values if DATA[self.command][0] in values else {**values, **self.local}

    def about(self) -> list[str]:
        """What it is, in lines of text."""
        lines = [self.title, self.repeats]
        if "score" in self.original:
            lines.append("its score: {score:.3f}, {measure} ({model}; {data})".format_map(self.original))
        if self.faults_of_the_original:
            options = " ".join(f"--fault {fault}" for fault in self.faults_of_the_original)
            lines.append(f"its mistakes, left out here: {options}")
        if self.local and not os.environ.get(DATA_FOLDER):
            lines.append(f"with {DATA_FOLDER} set, it reads files in that folder: {', '.join(self._files())}")
        return [line for line in lines if line]

    def _files(self) -> list[str]:
        listed = [self.local.get(key, []) for key in PATHS[self.command]]
        return [path for paths in listed for path in ([paths] if isinstance(paths, str) else paths)]

    def _below(self, folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
        """The local data, with their paths below the folder."""
        values = dict(self.local)
        for key in PATHS[self.command]:
            listed = values.get(key, [])
            paths = [folder / path for path in ([listed] if isinstance(listed, str) else listed)]
            missing = [path for path in paths if key not in given and not path.exists()]
            if missing:
                raise DataError(
                    f"{DATA_FOLDER} is {folder}, but {missing[0]} does not exist.",
                    path=missing[0],
                    key=key,
                    hint=f"Name other data (--{DATA[self.command][0]}), or unset {DATA_FOLDER}.",
                )
            if paths:
                values[key] = str(paths[0]) if isinstance(listed, str) else list(map(str, paths))
        return values


def names() -> list[str]:
    """The recipes of the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str | Path, command: str | None = None) -> Recipe:
    """A recipe of the package by its name, or any other by the path of its .toml file.

    Args:
        command: what it has to be for; None accepts any.

    Raises:
        ConfigError: there is no such recipe, it is for another command, the file is not TOML, or it
            holds an unknown key or a value that its setting cannot have.
    """
    if str(name) in names():
        recipe = _checked(str(name), FOLDER / f"{name}.toml")
    elif Path(name).suffix == ".toml":
        recipe = _checked(str(name), Path(name))
    else:
        raise ConfigError(
            f"There is no recipe {str(name)!r}.",
            key="recipe",
            hint=f"There are {', '.join(names())}, or name a .toml file.",
        )
    if command not in (None, recipe.command):
        raise ConfigError(
            f"The recipe {name} is for minibert {recipe.command}, not for minibert {command}.",
            key="recipe",
            hint=f"Use minibert {recipe.command} --recipe {name}.",
        )
    return recipe


def overview() -> str:
    """All recipes as a table for people."""
    rows = [
        (
            recipe.name,
            recipe.command,
            recipe.title,
            f"{recipe.original['score']:.3f}" if "score" in recipe.original else "",
            ", ".join(recipe.faults_of_the_original) or "-",
        )
        for recipe in map(load, names())
    ]
    return table(rows, ("recipe", "command", "what", "its score", "faults of the original"))


def _without(values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


# --- reading a file -----------------------------------------------------------------------------


def _checked(name: str, path: Path) -> Recipe:
    """Reads a recipe file: every key is known, and every value is one that its setting can have."""
    parts = _parsed(path)
    _require_keys(path, "", parts, [part.name for part in fields(Recipe) if part.name != "name"])
    command = parts.get("command", "train")
    if command not in list(COMMANDS):
        raise _wrong(path, "command", command, f"one of {', '.join(COMMANDS)}")
    known = {item.name: item for item in fields(COMMANDS[command]) if item.name != "recipe"}
    tables = {"settings": known, "local": DATA[command], "original": ORIGINAL}
    for part, keys in tables.items():
        values = parts.get(part, {})
        if not isinstance(values, dict):
            raise _wrong(path, part, values, "a table")
        _require_keys(path, f"{part}.", values, keys)
        for key, value in values.items() if part != "original" else ():
            wanted = broken_rule(known[key], value)
            if wanted is not None:
                raise _wrong(path, f"{part}.{key}", value, wanted)
    for key in ("title", "repeats"):
        if not isinstance(parts.get(key, ""), str):
            raise _wrong(path, key, parts[key], "a string")
    faults = parts.get("faults_of_the_original", [])
    if not isinstance(faults, list) or any(fault not in list(FAULTS) for fault in faults):
        wanted = f"a list with none or some of {', '.join(FAULTS)}"
        raise _wrong(path, "faults_of_the_original", faults, wanted)
    return Recipe(name, **parts)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ConfigError(f"{path} has more than {LARGEST:,} bytes.", path=path)
        return tomllib.loads(content.decode("utf-8"))
    except OSError as problem:
        message = f"{path} could not be read: {problem.strerror}."
        raise ConfigError(message, path=path) from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise ConfigError(f"{path} is not TOML: {problem}.", path=path) from problem


def _require_keys(path: Path, where: str, found: Iterable[str], known: Iterable[str]) -> None:
    for key in found:
        if key not in known:
            raise ConfigError(
                f"{path} has an unknown key {where + key!r}.",
                path=path,
                key=where + key,
                hint=f"Known keys are {', '.join(known)}.",
            )


def _wrong(path: Path, key: str, found: Any, wanted: str) -> ConfigError:
    message = f"{path}: {key} is {found!r:.100}, but it must be {wanted}."
    return ConfigError(message, path=path, key=key)
