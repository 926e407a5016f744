"""Files: writes that are whole or absent, and safetensors in and out.

Every file of the project is written here: into a temporary file beside its target, flushed to the
disk, then renamed over it. A reader sees the old file or the new one, never half of one. The same
holds for a folder whose files belong together: its manifest, with the sum of each file, is written
last. What is read may be hostile: sizes and types are checked first, content after them.
The only module that imports `safetensors`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from minibert.io.errors import CheckpointError, DiskError, MinibertError

# The largest JSON that is read, in bytes, unless the caller says otherwise. BERT-large's header has
# 50 KB; what Python makes of a hostile text takes up to 27 times as much memory as the text.
LARGEST_JSON = 2 * 2**20

# What the header of a safetensors file says of each tensor.
_FIELDS = {"dtype", "shape", "data_offsets"}
_NAMED_BY_SAFETENSORS = re.compile(r"""(?:tensor `|InvalidOffset\(")(.*)[`"]""", re.DOTALL)

MANIFEST = "manifest.json"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack")


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
        raise _not_written(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def atomic_folder(path: str | Path, manifest: bool = True) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; with a manifest, or without, it takes the place of `path`.

    On any error the temporary folder is removed and `path` is left as it was. A process that is
    killed may leave the temporary folder, whose name starts with a dot.

    Raises:
        DiskError: as for `atomic_path`, naming `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        if manifest:
            write_json(temporary / MANIFEST, {"files": _sums_of(temporary)})
        if path.exists():  # a folder cannot be renamed over one that holds something
            remove_folder(path)
        os.replace(temporary, path)
        _flush_to_disk(path.parent)
    except OSError as error:
        raise _not_written(path, error) from error
    except DiskError as error:
        raise _not_written(path, error.__cause__ or error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: str | Path) -> None:
    """Removes a folder; if that is cut short, what is left has no manifest and counts as nothing.

    Raises:
        DiskError: it could not be removed.
    """
    path = Path(path)
    try:
        (path / MANIFEST).unlink(missing_ok=True)
        _flush_to_disk(path)
        shutil.rmtree(path)
    except OSError as error:
        raise DiskError(
            f"{path} could not be removed: {error.strerror or error}.",
            path=path,
            hint="Check the permissions of the folder.",
        ) from error


def check_manifest(folder: str | Path) -> tuple[str, ...]:
    """Reads every file of a folder that `atomic_folder` wrote, and compares it with the manifest.

    Returns:
        The names of the files that the manifest vouches for.

    Raises:
        CheckpointError: there is no manifest, or a file is missing, or its size or sum is another.
    """
    folder = Path(folder)
    files = read_object(folder / MANIFEST).get("files")
    if not isinstance(files, dict):
        raise CheckpointError(f"{folder / MANIFEST} lists no files.", path=folder / MANIFEST)
    for name, facts in files.items():
        path = folder / name
        if Path(name).name != name or not isinstance(facts, dict):
            raise CheckpointError(
                f"{folder / MANIFEST} lists {name!r}, which is not a file of its folder.",
                path=folder / MANIFEST,
                key=name,
            )
        try:
            found: dict[str, Any] = {"size": size_of_file(path), "sha256": None}
            if found["size"] == facts.get("size"):  # else there is no need to read it
                found["sha256"] = sha256(path)
        except OSError as problem:
            raise CheckpointError(f"{path} could not be read: {problem.strerror}.", path=path, key=name) from problem
        if found != facts:
            key = "size" if found["sha256"] is None else "sha256"
            raise CheckpointError(
                f"{path} is damaged: its {key} is {found[key]}, and the manifest says {facts.get(key)}.",
                path=path,
                key=name,
            )
    return tuple(files)


def _sums_of(folder: Path) -> dict[str, dict[str, int | str]]:
    return {path.name: {"size": path.stat().st_size, "sha256": sha256(path)} for path in sorted(folder.iterdir())}


def _not_written(path: Path, problem: BaseException) -> DiskError:
    """The error for a write that failed, with the space that is left where that can be told."""
    reason = getattr(problem, "strerror", None) or problem
    free = ""
    with contextlib.suppress(OSError):
        free = f" ({shutil.disk_usage(path.parent).free / 1e6:,.0f} MB are free)"
    return DiskError(
        f"{path} could not be written: {reason}.",
        path=path,
        hint=f"Check the free space{free} and the permissions of the folder.",
    )


def _flush_to_disk(path: Path) -> None:
    """fsync, of a file or of a folder (which makes a rename inside it durable)."""
    folder = path.is_dir()
    try:
        handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # Windows flushes no read-only handle
    except OSError:
        if folder:  # Windows does not open folders
            return
        raise
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


def finite(value: Any, replacement: Callable[[float], str | None] = lambda number: None) -> Any:
    """A value for JSON, which has no NaN and no infinity: null (None) in their place, or a replacement."""
    if isinstance(value, Mapping):
        return {key: finite(item, replacement) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item, replacement) for item in value]
    return replacement(value) if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: str | Path, error: type[MinibertError] = CheckpointError, *, largest: int = LARGEST_JSON) -> Any:
    """Reads a JSON file of at most `largest` bytes, strictly.

    A key that is there twice is refused, since which one counts would be a guess; so are NaN,
    infinite numbers and halves of surrogate pairs, since they could not be written back.

    Raises:
        error: (the class given) the file is missing, too large, not UTF-8, not JSON, or has a key
            twice.
    """
    return parse_json(Path(path), read_bytes(path, error, largest=largest), error)


def read_object(
    path: str | Path, error: type[MinibertError] = CheckpointError, *, largest: int = LARGEST_JSON
) -> dict[str, Any]:
    """Reads a JSON file that has to hold an object, as `read_json` does.

    Raises:
        error: as for `read_json`, or the file holds a list, a string or another value.
    """
    value = read_json(path, error, largest=largest)
    if not isinstance(value, dict):
        raise error(f"{path} is not a JSON object.", path=path)
    return value


def read_bytes(path: str | Path, error: type[MinibertError] = CheckpointError, *, largest: int) -> bytes:
    """Reads a file of at most `largest` bytes.

    Raises:
        error: (the class given) the file is missing, too large, or not a plain file.
    """
    path = Path(path)
    try:
        size = size_of_file(path, error)
        if size > largest:
            raise error(f"{path} has {size} bytes, and at most {largest} are read.", path=path)
        content = path.read_bytes()
    except OSError as problem:
        raise error(f"{path} could not be read: {problem.strerror}.", path=path) from problem
    require_content(path, content, error)
    return content


def require_content(path: Path, head: bytes, error: type[MinibertError] = CheckpointError) -> None:
    """Refuses the few lines that stand for a large file in a Git repository, by the file's first bytes.

    Raises:
        error: (the class given) it is such a pointer.
    """
    if head.startswith(_LFS_POINTER):
        raise error(
            f"{path} is a Git LFS pointer, not the file that it stands for.",
            path=path,
            hint="Fetch the file: run git lfs pull in its repository.",
        )


def size_of_file(path: Path, error: type[MinibertError] = CheckpointError) -> int:
    """The size in bytes of what has to be a plain file: opening a pipe could wait for ever.

    Raises:
        error: (the class given) it is a folder, a pipe or a device.
        OSError: it is missing, or may not be looked at.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{path} is not a file.", path=path)
    return status.st_size


def half_a_pair(text: str) -> int | None:
    """Where the first half of a surrogate pair stands alone, or None if there is none.

    JSON can spell it, but it is not a character, and cannot be written as UTF-8.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as problem:
            return problem.start
    return None


def inside(folder: Path, name: str, error: type[MinibertError] = CheckpointError) -> Path:
    """The file of that name in a folder, refused if the name, or a link, leads out of the folder.

    The Hub's cache keeps its files in `blobs`, which may be a link to another disk, and makes of
    each commit a folder of links to them, in `snapshots` beside it: such a link is followed.

    Raises:
        error: (the class given) the file is somewhere else.
    """
    home = Path(os.path.realpath(folder))
    caches = [place.parent for place in home.parents if place.name == "snapshots"]
    blobs = [Path(os.path.realpath(cache / "blobs")) for cache in caches]
    target = Path(os.path.realpath(folder / name)) if "\0" not in name else None
    if target is None or not (target.is_relative_to(home) or target.parent in blobs):
        raise error(
            f"{folder / name} leads out of its folder, to {target}.",
            path=folder / name,
            key=name,
            hint="If that is the file you mean, put a copy of it in the folder.",
        )
    return folder / name


def is_pickle(name: str) -> bool:
    """Whether a file name is that of a pickle or another form of weights that is never opened."""
    return name.endswith(_PICKLES)


def files_in(folder: Path) -> tuple[str, ...]:
    """The names of the files in a folder, sorted."""
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_file()))


def sha256(path: str | Path) -> str:
    """The sha256 sum of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself.

    Attributes:
        tensors: name -> (shape, dtype as safetensors writes it, such as "F32").
        metadata: the texts under `__metadata__`.
        size: the bytes of all tensors.
    """

    tensors: dict[str, tuple[tuple[int, ...], str]]
    metadata: dict[str, str]
    size: int


def read_header(path: str | Path) -> Header:
    """Reads and checks the header of a safetensors file.

    The library checks that shapes, dtypes and places agree and that the tensors fill the file from
    end to end. It accepts a key that is there twice or that nobody knows, so the JSON is read here
    first.

    Raises:
        CheckpointError: the file is missing, is not a whole safetensors file, or its header lies.
    """
    path = Path(path)
    size = _check_header_json(path)
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        tensors = {name: (tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
        return Header(tensors, file.metadata() or {}, size)


def read_tensors(path: str | Path, names: Collection[str] | None = None) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file, on the CPU, in the file's own dtypes.

    Args:
        path: the file, whose header is checked as by `read_header`.
        names: which ones, by default all. No memory is taken for the others.
    """
    path = Path(path)
    _check_header_json(path)
    with _opened(path) as file:
        wanted = set(file.keys()) if names is None else set(file.keys()) & {*names}
        return {name: file.get_tensor(name) for name in sorted(wanted)}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            yield file
    except OSError as problem:
        raise CheckpointError(f"{path} could not be read: {problem}.", path=path) from problem
    except MemoryError as problem:
        raise CheckpointError(
            f"{path} has {path.stat().st_size} bytes, which do not fit into memory.", path=path
        ) from problem
    except safetensors.SafetensorError as problem:
        what = str(problem).removeprefix("Error while deserializing header: ")
        named = _NAMED_BY_SAFETENSORS.search(what)
        raise _damaged(path, what, named.group(1) if named else None) from problem


def write_tensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors to one safetensors file, atomically.

    `metadata` defaults to {"format": "pt"}, which transformers asks for.
    """
    whole: dict[str, torch.Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        kept = tensor.detach().cpu().contiguous()
        whole[name] = kept.clone() if kept.data_ptr() in places else kept  # one that has two names is stored twice
        places.add(kept.data_ptr())
    with atomic_path(path) as temporary:
        try:
            safetensors.torch.save_file(whole, temporary, dict(metadata or {"format": "pt"}))
        except safetensors.SafetensorError as problem:
            raise _not_written(Path(path), problem) from problem


def parse_json(path: Path, raw: bytes, error: type[MinibertError] = CheckpointError) -> Any:
    """The value that the bytes of a file are, as `read_json` reads it."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            key = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise error(f"{path} has the key {key!r} twice.", path=path, key=key)
        if not _is_json(["".join(result), *result.values()]):
            key, value = next(pair for pair in pairs if not _is_json([*pair]))
            raise error(f"{path} has {key!r}: {value!r:.50}, which is not JSON.", path=path, key=key)
        return result

    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
        whole = _is_json(value)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is not valid JSON: {problem}.", path=path) from problem
    if not whole:
        raise error(f"{path} has {value!r:.50}, which is not JSON.", path=path)
    return value


def _is_json(value: object) -> bool:
    """Whether Python's reader, which takes more than JSON, read what can be written again.

    An object was looked at when it was made.
    """
    if isinstance(value, str):
        return value.isascii() or half_a_pair(value) is None
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, list) or all(map(_is_json, value))


def _check_header_json(path: Path) -> int:
    """Refuses a header that is too large or not plain JSON; gives the bytes of data after it."""
    try:
        whole = size_of_file(path)
        with path.open("rb") as file:
            require_content(path, file.peek(64))
            size = int.from_bytes(file.read(8), "little")
            if whole < 8 or size > whole - 8:
                raise _damaged(path, f"its header needs {8 + size} bytes of {whole}", "header")
            if size > LARGEST_JSON:
                what = f"its header has {size} bytes, and at most {LARGEST_JSON} are read"
                raise _damaged(path, what, "header")
            raw = file.read(size)
    except OSError as problem:
        raise CheckpointError(f"{path} could not be read: {problem.strerror}.", path=path) from problem
    if not raw.startswith(b"{"):
        raise _damaged(path, f"its header starts with {raw[:1]!r} and not with {{", "header")
    for name, entry in parse_json(path, raw).items():
        if name != "__metadata__" and (not isinstance(entry, dict) or entry.keys() != _FIELDS):
            what = f"{name} is not described by dtype, shape and data_offsets"
            raise _damaged(path, what, name)
    return whole - 8 - size


def _damaged(path: Path, what: str, key: str | None) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a whole safetensors file: {what}.",
        path=path,
        key=key,
        hint="Download it again, or convert the model with the tool that made it.",
    )
