"""Rules for values from outside: of which type a value has to be, and what else has to hold of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from minibert.io.errors import ConfigError

# Keys that would make another network out of the same weights: each value but this one is refused.
ONLY_SUPPORTED = {
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
    "quantization_config": None,
}

# Whether a value is possible, and what it has to be, in words.
Rule = tuple[Callable[[Any], bool], str]


def check_fields(values: Any, rules: Mapping[str, Rule]) -> None:
    """Checks each field of a dataclass against its annotation and, unless it is None, its rule.

    Raises:
        ConfigError: naming the first field that breaks one of them.
    """
    for item in dataclasses.fields(values):
        value = getattr(values, item.name)
        holds, wanted = rules.get(item.name, (lambda value: True, ""))
        if not _has_type(value, str(item.type)):
            raise wrong(item.name, value, f"of type {item.type}")
        if value is not None and not holds(value):
            raise wrong(item.name, value, wanted)


def refuse_other_networks(values: Mapping[str, Any]) -> None:
    """ConfigError for the keys of a config.json that ask for another network than this encoder."""
    for key, supported in ONLY_SUPPORTED.items():
        if values.get(key, supported) not in (supported, None):
            hint = f"minibert builds encoders with {key} = {supported!r} only."
            message = f"The configuration has {key} = {values[key]!r}, which is not supported."
            raise ConfigError(message, key=key, hint=hint)


def wrong(key: str, value: object, wanted: str) -> ConfigError:
    """The error for a value that is not what it has to be."""
    return ConfigError(f"The configuration has {key} = {value!r:.200}, but it must be {wanted}.", key=key)


def numbers_from_zero(names: Mapping[Any, Any]) -> bool:
    """Whether a mapping is 0, 1, 2, ... -> names, in order, each of another."""
    texts = [name for name in names.values() if isinstance(name, str)]
    return len(names) > 0 and list(names) == list(range(len(names))) and len(set(texts)) == len(names)


def lists_numbers(heads: Mapping[Any, Any]) -> bool:
    """Whether a mapping is numbers -> lists of numbers, from 0."""
    lists = all(isinstance(numbers, (list, tuple)) for numbers in heads.values())
    numbers = [*heads, *(n for numbers in heads.values() for n in numbers)] if lists else []
    return lists and all(type(number) is int and number >= 0 for number in numbers)


def _has_type(value: object, annotation: str) -> bool:
    """Whether a value read from JSON fits a field's annotation; a bool is not a number here."""
    if value is None:
        return "None" in annotation
    if isinstance(value, bool):
        return annotation.startswith("bool")
    if annotation.startswith("Mapping"):
        return isinstance(value, Mapping)
    if annotation.startswith("float"):
        return isinstance(value, (int, float))
    return type(value).__name__ == annotation.split(" | ")[0]
