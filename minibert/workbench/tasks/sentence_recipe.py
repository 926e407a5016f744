"""Sentence recipes: how a sentence-transformers folder turns hidden states into vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minibert.io.errors import CheckpointError
from minibert.io.files import read_json, read_object
from minibert.io.source import Source

# config.json is in every model: with it, a Hub model without the other files is found as well.
_FILES = ("config.json", "modules.json", "sentence_bert_config.json", "*_Pooling/config.json")

# Names of poolings in modules' files, old and new, -> names in POOLINGS.
_POOLINGS = {"cls": "cls", "cls_token": "cls", "mean": "mean", "mean_tokens": "mean", "max": "max", "max_tokens": "max"}


@dataclass(frozen=True)
class SentenceRecipe:
    """How a checkpoint's hidden states become sentence vectors.

    Attributes:
        lowercase: texts are to be lowercase, whatever the tokenizer does.
    """

    pooling: str = "mean"
    normalize: bool = False
    max_length: int | None = None
    lowercase: bool = False


def sentence_recipe(source: Source) -> SentenceRecipe:
    """Reads the pooling and scaling that a sentence-transformers folder asks for.

    Raises:
        CheckpointError: a module or a pooling is not supported.
    """
    source.fetch(*_FILES)
    path = source.path("modules.json")
    if not path.exists():
        return SentenceRecipe()
    modules = read_json(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{path} is not a list of modules.", path=path)
    pooling, normalize = "mean", False
    for module in modules:
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        if kind == "Pooling":
            pooling = _pooling(source.path(f"{module.get('path', '1_Pooling')}/config.json"))
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise CheckpointError(f"{path} asks for a module {kind}, which is not supported.", path=path, key="type")
    limits = source.path("sentence_bert_config.json")
    stored = read_object(limits) if limits.exists() else {}
    return SentenceRecipe(pooling, normalize, _max_length(limits, stored), stored.get("do_lower_case") is True)


def _max_length(path: Path, stored: dict[str, Any]) -> int | None:
    longest = stored.get("max_seq_length")
    if isinstance(longest, float) and longest.is_integer():  # some files hold 128.0
        longest = int(longest)
    if longest is not None and (type(longest) is not int or longest < 1):
        raise CheckpointError(
            f"{path} has max_seq_length {longest!r:.50}, which is not a number of tokens.",
            path=path,
            key="max_seq_length",
        )
    return longest


def _pooling(path: Path) -> str:
    """The one pooling that a file turns on, in either of the two forms such files have."""
    settings = read_object(path)
    if "pooling_mode" in settings:
        chosen = [str(settings["pooling_mode"])]
    else:
        prefix = "pooling_mode_"
        chosen = [key.removeprefix(prefix) for key, on in settings.items() if on is True and prefix in key]
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise CheckpointError(
            f"{path} asks for the pooling {chosen}, but one of mean, cls and max is needed.",
            path=path,
            key="pooling_mode",
        )
    return _POOLINGS[chosen[0]]
