"""Weights: the tensors of official files, under the names used here, every one accounted for.

A model is matched against the headers of its files first. Whatever does not fit is said in one
error, by official name, before a single tensor is read. What fits becomes a LoadReport: each tensor
is loaded, fresh (drawn anew), tied (a second copy of another) or left out, with the reason.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from minibert import names
from minibert.io.errors import CheckpointError
from minibert.io.files import inside, read_object, read_tensors, tensor_bytes, tensor_shapes
from minibert.io.hub import Local, is_pickle, resolve

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

# name -> (shape, dtype as safetensors writes it)
Shapes = Mapping[str, tuple[tuple[int, ...], str]]

_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_SAME_NUMBERS = "the same numbers as {}, kept once"
_LAYER = re.compile(r"\blayers?\.(0|[1-9][0-9]{0,8})\.")
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
    """

    official: str
    name: str | None
    shape: tuple[int, ...]
    dtype: str
    status: str
    reason: str = ""

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


def official_names(
    class_name: str, model_type: str, parameters: Iterable[str], tied: bool
) -> dict[str, str]:
    """The official name of each parameter of a model.

    Args:
        class_name: the model's class, such as "BertForMaskedLM".
        model_type: "bert" or "distilbert".
        parameters: names of parameters here.
        tied: whether the masked-LM decoder is the word table.

    Raises:
        CheckpointError: the family has no form of the class, or a parameter has no official name.
    """
    if class_name not in names.HEADS[model_type]:
        raise CheckpointError(
            f"There is no {class_name} of the family {model_type!r}.",
            key="model_type",
        )
    bare = class_name == names.BARE_MODEL
    ours_prefix, prefix = ("", "") if bare else (names.OUR_PREFIX, names.PREFIX[model_type])
    templates = {
        ours_prefix + ours: prefix + official for ours, official in names.BODY[model_type].items()
    }
    for attribute, table in names.HEADS[model_type][class_name].items():
        templates.update({f"{attribute}.{ours}": official for ours, official in table.items()})
    copies = copies_of(class_name, model_type, tied)
    result = {}
    for name in parameters:
        layer = _LAYER.search(name)
        number = layer.group(1) if layer else ""
        template = templates.get(name.replace(f".{number}.", ".{}.", 1) if layer else name)
        if template is None:
            raise CheckpointError(f"{class_name} has {name}, which has no official name.", key=name)
        result[name] = copies.get(template, template).replace("{}", number)
    return result


def copies_of(class_name: str, model_type: str, tied: bool) -> dict[str, str]:
    """Official names that repeat another tensor of this class -> the tensor they repeat."""
    return names.COPIES[model_type, tied] if class_name in names.MASKED_LM else {}


def bare_name(official: str) -> str:
    """An official name without the body's prefix, and with the layer norm's new names."""
    for old, new in names.OLD_NORM_NAMES.items():
        if official.endswith(old):
            official = official.removesuffix(old) + new
    for prefix in names.PREFIX.values():
        if official.startswith(prefix):
            return official.removeprefix(prefix)
    return official


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


def find(source: str | Path, revision: str | None = None) -> tuple[Local, Files]:
    """The folder of a model and the safetensors files in it, fetched if need be.

    Raises:
        CheckpointError: there are no safetensors files, the index of shards cannot be trusted, or
            a file is a link that leads out of the folder.
        HubError: a download failed.
    """
    local = resolve(source, (CONFIG, SINGLE, INDEX), revision=revision)
    if os.path.lexists(local.folder / SINGLE):
        return local, Files((inside(local.folder, SINGLE),))
    if not os.path.lexists(local.folder / INDEX):
        raise _no_weights(source, local)
    index = inside(local.folder, INDEX)
    weight_map, total_size = _read_index(index)
    shards = sorted(set(weight_map.values()))
    if local.revision is not None:
        resolve(source, shards, revision=local.revision)
    for shard in shards:
        if not os.path.lexists(local.folder / shard):
            raise CheckpointError(
                f"{index} names {shard}, which is not there.",
                path=index,
                key=shard,
                hint="Download the model again.",
            )
    paths = tuple(inside(local.folder, shard) for shard in shards)
    return local, Files(paths, index, weight_map, total_size)


def stored_shapes(files: Files) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of all tensors of the files, from their headers.

    Raises:
        CheckpointError: a file is damaged, two files hold a tensor of the same name, or a tensor is
            not in the file that the index names.
    """
    stored: dict[str, tuple[tuple[int, ...], str]] = {}
    place: dict[str, str] = {}
    for path in files.paths:
        shapes = tensor_shapes(path)
        for name in sorted(stored.keys() & shapes.keys()):
            raise CheckpointError(
                f"{path} holds {name}, and another file of the model does too: {place[name]}.",
                path=path,
                key=name,
            )
        stored.update(shapes)
        place.update(dict.fromkeys(shapes, path.name))
    if files.index is not None:
        _compare_with_index(files, files.index, place)
        size = sum(tensor_bytes(*tensor) for tensor in stored.values())
        if files.total_size not in (None, size):
            warnings.warn(
                f"{files.index} has total_size {files.total_size!r:.50}, and the tensors of its "
                f"files have {size} bytes.",
                stacklevel=3,
            )
    return stored


def read(files: Files, entries: Iterable[Entry]) -> dict[str, Tensor]:
    """The tensors that are loaded or tied, under their official names; no others are read."""
    wanted = {entry.official for entry in entries if entry.status in ("loaded", "tied")}
    return {
        name: tensor for path in files.paths for name, tensor in read_tensors(path, wanted).items()
    }


def check_layers(stored: Shapes, layers: int, path: Path) -> None:
    """Compares the number of layers before a model is built, which could be of any size.

    Raises:
        CheckpointError: config.json and the weights disagree.
    """
    found = len({match.group(1) for match in map(_LAYER.search, stored) if match})
    if found != layers:
        raise CheckpointError(
            f"{path / CONFIG} says num_hidden_layers {layers}, but the weights beside it have "
            f"{found} layers.",
            path=path / CONFIG,
            key="num_hidden_layers",
        )


def match(
    class_name: str,
    model_type: str,
    tied: bool,
    wanted: Mapping[str, tuple[int, ...]],
    stored: Shapes,
    *,
    fresh: Mapping[str, str] | None = None,
    ignored: Mapping[str, str] | None = None,
    where: str | Path = "The state dict",
) -> tuple[Entry, ...]:
    """Decides what becomes of every tensor, from names, shapes and dtypes alone.

    Args:
        class_name, model_type, tied: as for official_names.
        wanted: the model's parameters here -> their shapes.
        stored: what there is, under official names of any age, with or without prefix.
        fresh: parameters that may be missing -> the reason they are drawn anew.
        ignored: stored tensors not to be used -> the reason.
        where: the file that the tensors come from, or what the error calls their place.

    Raises:
        CheckpointError: one error for all tensors that are missing, unexpected, of another shape,
            of a dtype that weights do not have, or there under two names.
    """
    fresh, ignored = fresh or {}, ignored or {}
    official = official_names(class_name, model_type, wanted, tied)
    copies = {
        bare_name(copy): bare_name(original)
        for copy, original in copies_of(class_name, model_type, tied).items()
    }
    stand_ins = {original: copy for copy, original in copies.items()}
    faults: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    for key in stored:
        if key not in ignored and found.setdefault(bare_name(key), key) != key:
            faults.setdefault("there twice", []).append(f"{found[bare_name(key)]} and {key}")

    entries: list[Entry] = []
    used: set[str] = set()
    for name, shape in wanted.items():
        bare = bare_name(official[name])
        there = found.get(bare) or found.get(stand_ins.get(bare, ""))
        if there is None and name in fresh:
            entries.append(Entry(official[name], name, shape, "", "fresh", fresh[name]))
        elif there is None:
            faults.setdefault("missing", []).append(f"{official[name]} {shape}")
        else:
            used.add(there)
            stored_shape, dtype = stored[there]
            if stored_shape != shape:
                faults.setdefault("of another shape", []).append(
                    f"{there} is {stored_shape} in the file and {shape} in the model"
                )
            elif dtype not in _FLOATS:
                faults.setdefault("not of a floating-point type", []).append(f"{there} ({dtype})")
            entries.append(Entry(there, name, shape, _FLOATS.get(dtype, dtype), "loaded"))

    expected = {bare_name(name) for name in official.values()}
    for key, (shape, dtype) in stored.items():
        if key in used or found.get(bare_name(key), key) != key:
            continue
        bare = bare_name(key)
        status, why = "left out", ignored.get(key)
        if why is None and bare in copies:
            status, why = "tied", _SAME_NUMBERS.format(copies[bare])
            original = found.get(copies[bare])
            if original is not None and stored[original] != (shape, dtype):
                faults.setdefault("unlike the tensor that they repeat", []).append(
                    f"{key} is {dtype} {shape} and {original} is "
                    f"{stored[original][1]} {stored[original][0]}"
                )
        why = why or _reason_left_out(bare, expected)
        if why is None:
            faults.setdefault("unexpected", []).append(f"{key} {shape}")
        else:
            dtype = _FLOATS.get(dtype, dtype)
            entries.append(Entry(key, None, shape, dtype, status, why))
    if faults:
        raise _does_not_fit(class_name, where, faults)
    return tuple(entries)


def assemble(
    entries: Sequence[Entry],
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    tied: bool = True,
    allow_nonfinite: bool = False,
    where: str | Path = "The state dict",
) -> dict[str, Tensor]:
    """The loaded tensors under our names: fresh copies of the stored ones, cast to `dtype`.

    Raises:
        CheckpointError: a value is NaN or infinite (or too large for `dtype`) and that is not
            allowed, two tensors that should be one differ, or they do not fit into memory.
    """
    loaded = {e.official: e.name for e in entries if e.status == "loaded" and e.name is not None}
    for entry in entries:
        if tied and entry.status == "tied":
            _require_equal(entry, tensors, where)
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
        raise CheckpointError(
            f"{where} has {values:,} values, which do not fit into the memory.",
            path=_path(where),
        ) from problem
    if broken:
        what = (
            f"{where} holds values that are NaN, infinite or too large for "
            f"{result[loaded[broken[0]]].dtype} in: {', '.join(broken)}."
        )
        if not allow_nonfinite:
            raise CheckpointError(
                what,
                path=_path(where),
                key=broken[0],
                hint="The training that wrote it diverged, or the file is damaged; "
                "allow_nonfinite=True opens it to look at.",
            )
        warnings.warn(what, stacklevel=3)
    return result


def _is_finite(tensor: Tensor) -> bool:
    # A sum is ten times cheaper than a look at every value, and NaN and infinity survive it. It may
    # overflow where no value is infinite: then every value is looked at.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def _path(where: str | Path) -> Path | None:
    return where if isinstance(where, Path) else None


def _reason_left_out(bare: str, expected: set[str]) -> str | None:
    """Why a stored tensor is not used; None if that cannot be said, which is an error."""
    for start, what in names.LEFT_OUT.items():
        if bare.startswith(start) and not any(name.startswith(start) for name in expected):
            return f"{what}; this model has no use for it"
    return None


def _require_equal(entry: Entry, tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Holds a tied tensor against the one that it repeats."""
    for key, tensor in tensors.items():
        repeated = entry.reason == _SAME_NUMBERS.format(bare_name(key))
        if repeated and not torch.equal(tensor, tensors[entry.official]):
            raise CheckpointError(
                f"{where} holds {entry.official} and {key}, which should be one tensor and differ.",
                path=_path(where),
                key=entry.official,
                hint="If they were trained apart, set tie_word_embeddings to false in config.json.",
            )


def _does_not_fit(
    class_name: str, where: str | Path, faults: Mapping[str, Sequence[str]]
) -> CheckpointError:
    listed = "; ".join(
        f"{len(keys)} {'tensor' if len(keys) == 1 else 'tensors'} {what}: {', '.join(keys)}"
        for what, keys in faults.items()
    )
    heads = {start for start in names.LEFT_OUT if not start.startswith("embeddings")}
    only_head = set(faults) == {"missing"} and all(
        bare_name(key).startswith(tuple(heads)) for key in faults["missing"]
    )
    return CheckpointError(
        f"{where} does not fit {class_name}: {listed}.",
        path=_path(where),
        key=next(iter(faults.values()))[0].split(" ")[0],
        hint="To train a new head, give label names (or num_labels, or fresh_head=True)."
        if only_head
        else None,
    )


def _no_weights(source: str | Path, local: Local) -> CheckpointError:
    pickles = [name for name in local.listing if is_pickle(name)]
    tensorflow = [name for name in local.listing if ".ckpt." in name]
    if tensorflow and not pickles:
        return CheckpointError(
            f"{source} holds a TensorFlow checkpoint, {tensorflow[0]}, and no {SINGLE}.",
            path=local.folder,
            key=SINGLE,
            hint="Convert it to safetensors first; the Hub has the official models in that form.",
        )
    if not pickles:
        return CheckpointError(
            f"{source} holds no {SINGLE}.",
            path=local.folder,
            key=SINGLE,
            hint="Is it the folder of a model?",
        )
    return CheckpointError(
        f"{source} holds its weights as {', '.join(pickles)} only, a form that can run code when "
        "it is opened, so it is not opened here.",
        path=local.folder,
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
                f"{index} has {key} in {stated or 'no file'}, and it is in {found or 'none'}.",
                path=index,
                key=key,
            )


def _count(entries: Sequence[Entry]) -> str:
    parameters = sum(entry.parameters for entry in entries)
    return f"{len(entries)} {'tensor' if len(entries) == 1 else 'tensors'}, {parameters:,} values"


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
