"""`minibert doctor`: examines a file that implements BERT."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minibert.io.errors import DataError
from minibert.study.doctor import Verdict, diagnose

HINT = "It has to define build(config, tensors), which returns a function of ids, mask and segments."


def examine_file(path: str | Path) -> Verdict:
    """Runs a Python file, the user's own, and examines the BERT that its `build` makes.

    Raises:
        DataError: the file is missing or defines no `build`.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file {path}.", path=path, key="file")
    return diagnose(_build_of(path))


def _build_of(path: Path) -> Callable[..., Any]:
    """A `build` that runs the file first, so that an error in it is part of the verdict."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise DataError(f"{path} is not a Python file.", path=path, key="file", hint=HINT)
    module = importlib.util.module_from_spec(spec)

    def build(config: dict[str, Any], tensors: dict[str, Any]) -> Any:
        if not hasattr(module, "build"):
            spec.loader.exec_module(module)  # type: ignore[union-attr]
        if not callable(getattr(module, "build", None)):
            raise DataError(f"{path} defines no function build.", path=path, key="build", hint=HINT)
        return module.build(config, tensors)

    return build
