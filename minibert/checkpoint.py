"""Weights: the tensors of official files, under the names used here, every one accounted for.

A model is matched against the headers of its files first. Whatever does not fit is said in one
error, by official name, before a single tensor is read. What fits becomes a LoadReport: each tensor
is loaded, fresh (drawn anew), tied (a second copy of another) or left out, with the reason.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from minibert import names
from minibert.base import Model
from minibert.config import BertConfig
from minibert.io import shards
from minibert.io.errors import CheckpointError, ConfigError
from minibert.io.files import inside, read_object, write_json, write_tensors
from minibert.io.shards import CONFIG, Entry, LoadReport, Shapes
from minibert.layers import default_generator, initialise

M = TypeVar("M", bound=Model)

_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_SAME_NUMBERS = "the same numbers as {}, kept once"
_LAYER = re.compile(r"\blayers?\.(0|[1-9][0-9]{0,8})\.")


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


def load(
    cls: type[M],
    source: str | Path,
    revision: str | None,
    *,
    labels: Sequence[str] | None,
    num_labels: int | None,
    problem_type: str | None,
    fresh_head: bool,
    dtype: torch.dtype,
    generator: torch.Generator | None,
    allow_nonfinite: bool,
) -> M:
    """Model.from_pretrained, which explains the arguments and the errors."""
    local, files = shards.find(source, revision)
    stored_config = _read_config(local.folder)
    stored = shards.stored_shapes(files)
    check_layers(stored, stored_config.num_hidden_layers, local.folder)
    if cls.__name__ not in names.HEADS[stored_config.model_type]:
        raise CheckpointError(
            f"{source} is a DistilBERT, which has no form of {cls.__name__}.",
            path=local.folder,
            key="model_type",
        )
    config = _with_labels(cls.__name__, stored_config, labels, num_labels, problem_type)
    model = _without_numbers(cls, config, stored)
    asked = labels is not None or num_labels is not None
    ignored, fresh = _choose_head(model, stored, stored_config, asked, fresh_head)
    entries = match(
        cls.__name__,
        config.model_type,
        config.tie_word_embeddings,
        _shapes_of(model),
        stored,
        fresh=fresh,
        ignored=ignored,
        where=files.main,
    )
    tensors = assemble(
        entries,
        shards.read(files, entries),
        dtype=dtype,
        tied=config.tie_word_embeddings,
        allow_nonfinite=allow_nonfinite,
        where=files.main,
    )
    model._fresh = _initialise_fresh(model, entries, generator)
    tensors.update({name: tensor.to(dtype, copy=True) for name, tensor in model._fresh.items()})
    model.load_state_dict(tensors, assign=True)
    model.load_report = LoadReport(str(source), local.revision, cls.__name__, entries)
    return model.eval()


def save(model: Model, folder: Path, allow_untrained: bool) -> None:
    """Model.save_pretrained, which explains the arguments and the errors."""
    untrained = model.untrained()
    if untrained and not allow_untrained:
        raise CheckpointError(
            f"{', '.join(untrained)} of this {type(model).__name__} are still as they were freshly "
            "initialised, so it is not saved.",
            path=folder,
            key=untrained[0],
            hint="Train it first, or say allow_untrained=True.",
        )
    tensors = model.official_state_dict()
    copies = copies_of(type(model).__name__, model.config.model_type, False)
    if not model.config.tie_word_embeddings:
        tensors.update({copy: tensors[original].clone() for copy, original in copies.items()})
    write_tensors(folder / shards.SINGLE, tensors)
    write_json(folder / CONFIG, _official_config(model))


def official_names_of(model: Model) -> dict[str, str]:
    """The name of every parameter of a model here -> its official name."""
    return official_names(
        type(model).__name__,
        model.config.model_type,
        _shapes_of(model),
        model.config.tie_word_embeddings,
    )


def load_into(model: Model, tensors: Mapping[str, Tensor]) -> LoadReport:
    """Model.load_official_state_dict, which explains the errors."""
    shapes = {
        name: (tuple(tensor.shape), _SAFETENSORS_DTYPES.get(tensor.dtype, str(tensor.dtype)))
        for name, tensor in tensors.items()
    }
    name, config = type(model).__name__, model.config
    tied = config.tie_word_embeddings
    entries = match(name, config.model_type, tied, _shapes_of(model), shapes)
    model.load_state_dict(assemble(entries, tensors, tied=tied))
    model.load_report = LoadReport("a state dict", None, name, entries)
    return model.load_report


def _without_numbers(cls: type[M], config: BertConfig, stored: Shapes) -> M:
    """The model on the meta device: shapes and no memory.

    A bare model has the pooler that the file has.
    """
    build: Any = cls
    with torch.device("meta"):
        if cls.__name__ != names.BARE_MODEL:
            return build(config)
        pooler = any(bare_name(name).startswith("pooler.") for name in stored)
        return build(config, pooler=pooler)


def _initialise_fresh(
    model: Model, entries: Sequence[Entry], generator: torch.Generator | None
) -> dict[str, Tensor]:
    """Gives the fresh parameters of a model on the meta device their first values.

    `initialise` passes over what is still on the meta device: everything that was loaded.
    """
    fresh = [entry.name for entry in entries if entry.status == "fresh" and entry.name is not None]
    for name in fresh:
        owner, _, last = name.rpartition(".")
        zeros = torch.zeros(model.get_parameter(name).shape)  # as the parameter
        setattr(model.get_submodule(owner), last, nn.Parameter(zeros))
    initialise(model, model.config.initializer_range, default_generator(generator))
    return {name: model.get_parameter(name).detach().clone() for name in fresh}


def _shapes_of(model: Model) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _choose_head(
    model: Model, stored: Shapes, stored_config: Any, asked: bool, fresh_head: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Which stored tensors are not to be used, and which parameters may be drawn, and why."""
    ignored = _heads_of_others(model, stored, stored_config)
    fresh: dict[str, str] = {}
    official = model.official_names()
    found = {bare_name(key): key for key in stored if key not in ignored}
    for attribute in names.HEADS[model.config.model_type][type(model).__name__]:
        head = [name for name in official if name.startswith(f"{attribute}.")]
        keys = [found[official[name]] for name in head if official[name] in found]
        if not keys and (asked or fresh_head):
            reason = "not in the file; train before use"
        elif keys and asked:
            other = _other_classes(model, stored, found, stored_config)
            if other is None:
                continue
            reason = f"{other}; train before use"
            ignored.update(dict.fromkeys(keys, other))
        else:
            continue
        fresh.update(dict.fromkeys(head, reason))
    if fresh:
        pooler = [name for name in official if name.startswith(f"{names.OUR_PREFIX}pooler.")]
        fresh.update(dict.fromkeys(pooler, "not in the file, drawn with the head"))
    return ignored, fresh


def _heads_of_others(model: Model, stored: Shapes, stored_config: Any) -> dict[str, str]:
    """A head that another class stored under the names of this class's head."""
    own = names.ARCHITECTURES[stored_config.model_type][type(model).__name__]
    stated = stored_config.extra.get("architectures")
    for architecture in stated if isinstance(stated, list) else ():
        if architecture in names.ARCHITECTURES[stored_config.model_type].values() and (
            architecture != own
        ):
            reason = f"the head of {architecture}, which is another task's"
            return {key: reason for key in stored if key.startswith(names.SHARED_HEAD_NAMES)}
    return {}


def _other_classes(
    model: Model, stored: Shapes, found: Mapping[str, str], stored_config: Any
) -> str | None:
    """How the classes of the stored head differ from those asked for; None if they do not."""
    asked, known = model.config.id2label, stored_config.id2label
    shape = stored[found["classifier.weight"]][0] if "classifier.weight" in found else ()
    if shape[:1] != (len(asked),):
        return f"the stored head has {(*shape, 0)[0]} classes, and {len(asked)} were asked for"
    if asked != known and not _are_placeholders(known):
        return f"the stored head's classes are {', '.join(known.values())}"
    return None


def _official_config(model: Model) -> dict[str, Any]:
    """The content of config.json."""
    model_type = model.config.model_type
    keys = names.CONFIG_KEYS[model_type]
    left_out = {*names.CONFIG_NOT_CARRIED_OVER, *names.CONFIG_OF_OTHERS[model_type]}
    if type(model).__name__ not in names.LABELLED:
        left_out |= {"id2label", "label2id"}  # transformers insists on 2 for spans
    values = {
        keys.get(key, key): value
        for key, value in model.config.to_official().items()
        if key not in left_out
    }
    values["architectures"] = [names.ARCHITECTURES[model_type][type(model).__name__]]
    values["dtype"] = str(next(model.parameters()).dtype).removeprefix("torch.")
    return dict(sorted(values.items()))


_SAFETENSORS_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}


def class_name(folder: Path) -> str:
    """The class here that `architectures` in a folder's config.json names; BertModel if none is.

    Raises:
        CheckpointError: config.json is missing, is no JSON object, or names other classes.
    """
    path, values = _config_object(folder)
    stated = values.get("architectures") or []
    ours = {
        official: name
        for family in names.ARCHITECTURES.values()
        for name, official in family.items()
    }
    are_names = isinstance(stated, list) and all(isinstance(name, str) for name in stated)
    known = [ours[name] for name in stated if name in ours] if are_names else []
    if stated and not known:
        raise CheckpointError(
            f"{path} names the architectures {stated!r}, none of which minibert has: it has "
            f"{', '.join(ours)}.",
            path=path,
            key="architectures",
        )
    return known[0] if known else names.BARE_MODEL


def _config_object(folder: Path) -> tuple[Path, dict[str, Any]]:
    """A folder's config.json, and the JSON object that is in it."""
    path = inside(folder, CONFIG)
    return path, read_object(path)


def _read_config(folder: Path) -> BertConfig:
    """The config of a folder, with DistilBERT's keys translated.

    Raises:
        CheckpointError: no config.json, or not an object of JSON.
        ConfigError: a value that no model can be built from.
    """
    path, values = _config_object(folder)
    family = str(values.get("model_type", "bert"))
    if family not in names.CONFIG_KEYS:
        family = "bert"  # whose from_official refuses a family that is not known
    ours = {official: name for name, official in names.CONFIG_KEYS[family].items()}
    for official, name in ours.items():
        if official in values and values.get(name, values[official]) != values[official]:
            raise ConfigError(
                f"{path} has {official} {values[official]!r} and {name} {values[name]!r}, which "
                "mean the same.",
                path=path,
                key=official,
            )
    translated: dict[Any, Any] = {ours.get(key, key): value for key, value in values.items()}
    try:
        return BertConfig.from_official({**translated, **names.CONFIG_FACTS[family]})
    except ConfigError as error:
        raise ConfigError(
            f"{path}: {error}",
            path=path,
            key=error.key,
        ) from error


def _with_labels(
    class_name: str,
    config: Any,
    labels: Sequence[str] | None,
    num_labels: int | None,
    problem_type: str | None,
) -> Any:
    """The stored config with the labels and the problem type that were asked for."""
    if problem_type is not None:
        config = config.replace(problem_type=problem_type)
    if labels is None and num_labels is None:
        return config
    count = len(labels) if labels is not None else num_labels
    if class_name not in names.LABELLED:
        raise ConfigError(
            f"{class_name} has no labels of the user's own.",
            key="labels",
        )
    if num_labels not in (None, count) or not count or count < 1:
        raise ConfigError(
            f"{count} labels and num_labels {num_labels} were given.",
            key="num_labels",
        )
    if labels is None and count == config.num_labels:
        return config
    chosen = list(labels) if labels is not None else [f"LABEL_{i}" for i in range(count)]
    if len(set(chosen)) != count:
        raise ConfigError(
            f"A label is there twice: {chosen}.",
            key="labels",
        )
    return config.replace(id2label=dict(enumerate(chosen)))


def _are_placeholders(id2label: Mapping[int, str]) -> bool:
    """Whether these are the names that are written where nobody gave any."""
    return all(name == f"LABEL_{number}" for number, name in id2label.items())
