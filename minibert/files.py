"""Files: writes that are whole or absent, and safetensors in and out.

Every file of the project is written here: into a temporary file beside its target, flushed to the
disk, then renamed over it. A reader sees the old file or the new one, never half of one.
The only module that imports `safetensors`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from minibert.errors import CheckpointError, DiskError, MinibertError


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; what was written there replaces `path` at the end.

    On any error the temporary file is removed and `path` is left as it was.

    Raises:
        DiskError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors puts a file of its own in the place, for its owner only
        _flush_to_disk(temporary)
        os.replace(temporary, path)
        _flush_to_disk(path.parent)
    except OSError as error:
        raise DiskError(
            f"{path} could not be written: {error.strerror or error}.",
            path=path,
            hint="Check the free space and the permissions of the folder.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _flush_to_disk(path: Path) -> None:
    """fsync, of a file or of a folder (which makes a rename inside it durable)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8 with LF line ends, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically. NaN and Infinity are not JSON: refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path, error: type[MinibertError] = CheckpointError) -> Any:
    """Reads a JSON file; duplicate keys are refused, since which one counts would be a guess.

    Raises:
        error: (the class given) the file is missing, not UTF-8, not JSON, or has a key twice.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique(path, error))
    except OSError as problem:
        raise error(f"{path} could not be read: {problem.strerror}.", path=path) from problem
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is not valid JSON: {problem}.", path=path) from problem


def _unique(
    path: Path, error: type[MinibertError]
) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """What `json.loads` makes an object with, if a key that is there twice is to be an error."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise error(f"{path} has the key {key!r} twice.", path=path, key=key)
            result[key] = value
        return result

    return unique


def read_object(path: str | Path, error: type[MinibertError] = CheckpointError) -> dict[str, Any]:
    """Reads a JSON file that has to hold an object, as `read_json` does.

    Raises:
        error: as for `read_json`, or the file holds a list, a string or another value.
    """
    value = read_json(path, error)
    if not isinstance(value, dict):
        raise error(
            f"{path} is not a JSON object.",
            path=path,
            expected="object",
            found=type(value).__name__,
        )
    return value


def sha256(path: str | Path) -> str:
    """The sha256 sum of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensor_shapes(path: str | Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Names, shapes and dtypes of a safetensors file, read from its header alone.

    Returns:
        name -> (shape, dtype as safetensors writes it, such as "F32").

    Raises:
        CheckpointError: the file is missing, is not a safetensors file, or has a name twice.
    """
    path = Path(path)
    with _opened(path) as file:
        with path.open("rb") as header:  # of two tensors of one name the library takes the last
            size = int.from_bytes(header.read(8), "little")
            json.loads(header.read(size), object_pairs_hook=_unique(path, CheckpointError))
        return {
            name: (tuple(file.get_slice(name).get_shape()), file.get_slice(name).get_dtype())
            for name in file.keys()  # noqa: SIM118 (not a dict)
        }


def read_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, on the CPU, in the file's own dtypes."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    path = Path(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            yield file
    except OSError as problem:
        raise CheckpointError(f"{path} could not be read: {problem}.", path=path) from problem
    except safetensors.SafetensorError as problem:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: {problem}.",
            path=path,
            hint="Download it again, or convert the model with the tool that made it.",
        ) from problem


def write_tensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors to one safetensors file, atomically.

    `metadata` defaults to {"format": "pt"}, which transformers asks for.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            safetensors.torch.save_file(whole, temporary, dict(metadata or {"format": "pt"}))
        except safetensors.SafetensorError as problem:
            raise DiskError(f"{path} could not be written: {problem}.", path=path) from problem
