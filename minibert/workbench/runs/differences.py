"""Where two records of a run differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(old: Any, new: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (old value, new value), for every value that is not the same in both."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = {}
        for name in {**old, **new}:
            found.update(differences(old.get(name), new.get(name), f"{key}.{name}".strip(".")))
        return found
    return {} if old == new else {key: (old, new)}
