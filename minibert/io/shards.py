"""Stored tensors: the safetensors files of one model, and what became of each tensor in them.

The tensors are in `model.safetensors`, or in several files ("shards") that an index lists. Names,
shapes and dtypes are read from the headers first; values follow when everything fits.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from minibert.io.errors import CheckpointError
from minibert.io.files import is_pickle, read_header, read_object, read_tensors
from minibert.io.source import CONFIG, CONVERT, TENSORFLOW, Source

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

# name -> (shape, dtype as safetensors writes it)
Shapes = Mapping[str, tuple[tuple[int, ...], str]]

# What weights can be stored as: safetensors' name -> torch's.
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}

_PLAIN_FILE_NAME = re.compile(r"[\w][\w.-]{0,200}")


@dataclass(frozen=True)
class Entry:
    """What became of one tensor.

    Attributes:
        official: its name in the file, or the name it would have there.
        name: its name here; None where the model has none.
        shape: as in the file; for a fresh tensor, as in the model.
        dtype: as in the file, such as "float32"; empty for a fresh tensor.
        status: "loaded", "fresh", "tied" or "left out".
        reason: why, unless it was simply loaded.
        copy_of: for a tied tensor, the one in the file that it repeats; empty if that is not there.
    """

    official: str
    name: str | None
    shape: tuple[int, ...]
    dtype: str
    status: str
    reason: str = ""
    copy_of: str = ""

    @property
    def parameters(self) -> int:
        """The number of values in it."""
        return prod(self.shape)


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of a file and of a model; `str()` is the text for people."""

    source: str
    revision: str | None
    model: str
    entries: tuple[Entry, ...]

    def of(self, status: str) -> tuple[Entry, ...]:
        """The entries of one status: "loaded", "fresh", "tied" or "left out"."""
        return tuple(entry for entry in self.entries if entry.status == status)

    def lines(self) -> list[str]:
        """One line for what was loaded, then one for each group that was not, with its reason."""
        loaded = self.of("loaded")
        where = self.source if self.revision is None else f"{self.source} at {self.revision[:12]}"
        lines = [f"{self.model} from {where}: {_count(loaded)} loaded"]
        groups: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            if entry.status != "loaded":
                groups.setdefault((entry.status, entry.reason), []).append(entry)
        for (status, reason), entries in groups.items():
            lines.append(f"  {status}: {_common_name(entries)} ({_count(entries)}): {reason}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


@dataclass(frozen=True)
class Files:
    """The safetensors files of one model.

    Attributes:
        paths: the files.
        index: the index of shards; None for a single file.
        weight_map: what the index says: tensor -> file name.
        total_size: what the index says: the bytes of all tensors; None where it is silent.
    """

    paths: tuple[Path, ...]
    index: Path | None = None
    weight_map: Mapping[str, str] = field(default_factory=dict)
    total_size: object = None

    @property
    def main(self) -> Path:
        """The file that stands for all in messages: the index, or the only one."""
        return self.index or self.paths[0]


def find(source: Source) -> Files:
    """The safetensors files of a model, downloaded if need be.

    Raises:
        CheckpointError: there are no safetensors files, the index of shards cannot be trusted, or
            a file is a link that leads out of the folder.
        HubError: a download failed.
    """
    source.fetch(CONFIG, SINGLE, INDEX)
    if source.has(SINGLE):
        return Files((source.path(SINGLE),))
    if not source.has(INDEX):
        raise _no_weights(source)
    index = source.path(INDEX)
    weight_map, total_size = _read_index(index)
    shards = sorted(set(weight_map.values()))
    source.fetch(*shards)
    for shard in shards:
        if not source.has(shard):
            raise CheckpointError(
                f"{index} names {shard}, which is not there.", path=index, key=shard, hint="Download the model again."
            )
    return Files(tuple(map(source.path, shards)), index, weight_map, total_size)


def stored_shapes(files: Files) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of all tensors of the files, from their headers.

    Raises:
        CheckpointError: a file is damaged, two files hold a tensor of the same name, or a tensor is
            not in the file that the index names.
    """
    stored: dict[str, tuple[tuple[int, ...], str]] = {}
    place: dict[str, str] = {}
    size = 0
    for path in files.paths:
        header = read_header(path)
        for name in sorted(stored.keys() & header.tensors.keys()):
            raise CheckpointError(
                f"{path} holds {name}, and another file of the model does too: {place[name]}.", path=path, key=name
            )
        stored.update(header.tensors)
        place.update(dict.fromkeys(header.tensors, path.name))
        size += header.size
    if files.index is not None:
        _compare_with_index(files, files.index, place)
        if files.total_size not in (None, size):
            warnings.warn(
                f"{files.index} has total_size {files.total_size!r:.50}, and the tensors of its "
                f"files have {size} bytes.",
                stacklevel=3,
            )
    return stored


def match(
    parameters: Mapping[str, tuple[str, tuple[int, ...]]], stored: Shapes, bare: Mapping[str, str],
    repeats: Mapping[str, str], tied: bool, fresh: Mapping[str, str], ignored: Mapping[str, str],
    unused: Mapping[str, str],
) -> tuple[tuple[Entry, ...], dict[str, list[str]]]:  # fmt: skip
    """Decides what becomes of every tensor, from names, shapes and dtypes alone.

    Args:
        parameters: name of each parameter -> its official name and shape.
        stored: what there is, under official names of any age, with or without prefix.
        bare: each official name above -> the one form of it that is compared.
        repeats: bare names that repeat another tensor -> that tensor's.
        tied: whether what repeats a tensor has to hold the same values.
        fresh: parameters that may be missing -> the reason they are freshly initialised.
        ignored: stored tensors not to be used -> the reason.
        unused: stored tensors that may be left over -> the reason.

    Returns:
        The entries; and what does not fit -> the tensors that are missing, unexpected, of another
        shape, of a dtype that weights do not have, or there under two names.
    """
    faults: dict[str, list[str]] = defaultdict(list)
    found: dict[str, str] = {}
    for key in stored:
        if key not in ignored and found.setdefault(bare[key], key) != key:
            faults["there twice"].append(f"{found[bare[key]]} and {key}")

    entries: list[Entry] = []
    stand_ins = {kept: copy for copy, kept in repeats.items()}
    for name, (official, shape) in parameters.items():
        key = found.get(bare[official]) or found.get(stand_ins.get(bare[official], ""), "")
        if key:
            stored_shape, dtype = stored[key]
            if stored_shape != shape:
                faults["of another shape"].append(f"{key} is {stored_shape} in the file and {shape} in the model")
            elif dtype not in DTYPES:
                faults["not of a floating-point type"].append(f"{key} ({dtype})")
            entries.append(Entry(key, name, shape, DTYPES.get(dtype, dtype), "loaded"))
        elif name in fresh:
            entries.append(Entry(official, name, shape, "", "fresh", fresh[name]))
        else:
            faults["missing"].append(f"{official} {shape}")

    used = {entry.official for entry in entries if entry.status == "loaded"}
    for key, (shape, dtype) in stored.items():
        if key in used or found.get(bare[key], key) != key:
            continue
        status, kept, why = "left out", "", ignored.get(key) or unused.get(key)
        if key not in ignored and bare[key] in repeats:
            status, why = "tied", f"the same values as {repeats[bare[key]]}, kept once"
            kept = found.get(repeats[bare[key]], "")
            if kept and stored[kept] != (shape, dtype):
                faults["unlike the tensor that they repeat"].append(
                    f"{key} is {dtype} {shape} and {kept} is {stored[kept][1]} {stored[kept][0]}"
                )
        if why is None:
            faults["unexpected"].append(f"{key} {shape}")
        else:
            entries.append(Entry(key, None, shape, DTYPES.get(dtype, dtype), status, why, kept if tied else ""))
    return tuple(entries), faults


def does_not_fit(
    model: str, where: str | Path, faults: Mapping[str, Sequence[str]], hint: str | None
) -> CheckpointError:
    """One error for all tensors that `match` found at fault."""
    listed = "; ".join(f"{_tensors(keys)} {what}: {', '.join(keys)}" for what, keys in faults.items())
    path, first = where if isinstance(where, Path) else None, next(iter(faults.values()))[0].split(" ")[0]
    return CheckpointError(f"{where} does not fit {model}: {listed}.", path=path, key=first, hint=hint)


def read(files: Files, entries: Iterable[Entry]) -> dict[str, Tensor]:
    """The tensors that are loaded or tied, under their official names; no others are read."""
    wanted = {entry.official for entry in entries if entry.status in ("loaded", "tied")}
    return {name: tensor for path in files.paths for name, tensor in read_tensors(path, wanted).items()}


def put(model: nn.Module, tensors: Mapping[str, Tensor], assign: bool, where: Path) -> None:
    """Puts tensors in the place of parameters, or unless `assign` copies their values into them.

    Raises:
        CheckpointError: the model uses a parameter in two places, and the tensors have two values for it.
    """
    model.load_state_dict(tensors, strict=False, assign=assign)
    state = {} if assign else model.state_dict()
    for name in (name for name in state if name in tensors):
        if not torch.equal(state[name].nan_to_num(), tensors[name].nan_to_num()):
            message = f"{where} has two values for {name}, which {type(model).__name__} uses in two places."
            raise CheckpointError(message, path=where, key=name)


def assemble(
    entries: Sequence[Entry],
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
    allow_nonfinite: bool = False,
    where: str | Path = "The state dict",
) -> dict[str, Tensor]:
    """The loaded tensors under our names: copies of the stored ones, cast to `dtype`.

    Raises:
        CheckpointError: a value is NaN or infinite (or too large for `dtype`) and that is not
            allowed, two tensors that should be one differ, or they do not fit into memory.
    """
    path = where if isinstance(where, Path) else None
    for entry in entries:
        if entry.copy_of and not torch.equal(tensors[entry.official], tensors[entry.copy_of]):
            raise CheckpointError(
                f"{where} holds {entry.official} and {entry.copy_of}, which should be one tensor and differ.",
                path=path,
                key=entry.official,
                hint="If they were trained apart, set tie_word_embeddings to false in config.json.",
            )
    loaded = {e.official: e.name for e in entries if e.status == "loaded" and e.name is not None}
    try:
        result = {
            name: tensors[official].detach().to(dtype or tensors[official].dtype, copy=True)
            for official, name in loaded.items()
        }
        broken = [key for key, name in loaded.items() if not _is_finite(result[name])]
    except (MemoryError, RuntimeError) as problem:  # the latter is torch's for a full memory
        if isinstance(problem, RuntimeError) and "alloc" not in str(problem):
            raise
        values = sum(entry.parameters for entry in entries if entry.status == "loaded")
        raise CheckpointError(f"{where} has {values:,} values, which do not fit into memory.", path=path) from problem
    if broken:
        what = (
            f"{where} holds values that are NaN, infinite or too large for "
            f"{result[loaded[broken[0]]].dtype} in: {', '.join(broken)}."
        )
        if not allow_nonfinite:
            raise CheckpointError(
                what,
                path=path,
                key=broken[0],
                hint="The training that wrote it diverged, or the file is damaged; "
                "allow_nonfinite=True opens it for inspection.",
            )
        warnings.warn(what, stacklevel=4)
    return result


def _is_finite(tensor: Tensor) -> bool:
    # A sum is ten times cheaper than a look at every value, and NaN and infinity survive it. It may
    # overflow where no value is infinite: then every value is looked at.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def _no_weights(source: Source) -> CheckpointError:
    pickles = [name for name in source.listing if is_pickle(name)]
    tensorflow = [name for name in source.listing if name.endswith(TENSORFLOW)]
    if tensorflow and not pickles:
        return CheckpointError(
            f"{source} holds a TensorFlow checkpoint, {tensorflow[0]}, and no {SINGLE}.",
            path=source.folder,
            key=SINGLE,
            hint=CONVERT,
        )
    if not pickles:
        return CheckpointError(
            f"{source} holds no {SINGLE}.", path=source.folder, key=SINGLE, hint="Is it the folder of a model?"
        )
    return CheckpointError(
        f"{source} holds its weights as {', '.join(pickles)} only, a form that can run code when "
        "it is opened, so it is not opened here.",
        path=source.folder,
        key=pickles[0],
        hint="Convert it: load it with transformers, from a source you trust, and call "
        "save_pretrained; or name a revision of the repository that holds safetensors, "
        'such as "refs/pr/1".',
    )


def _read_index(path: Path) -> tuple[dict[str, str], object]:
    """(weight_map, total_size) of an index, whose files are plain names in its own folder."""
    content = read_object(path)
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path} has no weight_map.", path=path, key="weight_map")
    for key, file in weight_map.items():
        plain = isinstance(file, str) and _PLAIN_FILE_NAME.fullmatch(file)
        if not plain or not file.endswith(".safetensors"):
            raise CheckpointError(
                f"{path} keeps {key} in {file!r}, which is not the plain name of a safetensors "
                "file in the same folder.",
                path=path,
                key=key,
            )
    metadata = content.get("metadata")
    return weight_map, metadata.get("total_size") if isinstance(metadata, dict) else None


def _compare_with_index(files: Files, index: Path, place: Mapping[str, str]) -> None:
    """Holds where the index says that each tensor is against where it was found."""
    for key in sorted(files.weight_map.keys() | place.keys()):
        stated, found = files.weight_map.get(key), place.get(key)
        if stated != found:
            raise CheckpointError(
                f"{index} has {key} in {stated or 'no file'}, and it is in {found or 'none'}.", path=index, key=key
            )


def _count(entries: Sequence[Entry]) -> str:
    parameters = sum(entry.parameters for entry in entries)
    return f"{_tensors(entries)}, {parameters:,} values"


def _tensors(listed: Sequence[object]) -> str:
    return f"{len(listed)} {'tensor' if len(listed) == 1 else 'tensors'}"


def _common_name(entries: Sequence[Entry]) -> str:
    """The one name of a group, or what its names have in common, down to a dot, then `*`."""
    keys = [entry.official for entry in entries]
    if len(keys) == 1:
        return keys[0]
    starts = {key.split(".")[0] for key in keys}
    if len(starts) > 1:
        return ", ".join(f"{start}.*" for start in sorted(starts))
    parts = list(zip(*(key.split(".") for key in keys), strict=False))
    same = [part[0] for part in parts if len(set(part)) == 1]
    return ".".join(same) + ".*"
