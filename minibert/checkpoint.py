"""Official files in and out: every tensor is accounted for, by its official name.

A model is matched with the headers of its files first: one error lists all that does not fit,
before a value is read. What fits becomes a LoadReport: each tensor is loaded, fresh (newly
initialised), tied (a second copy of another) or left out, with the reason.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from minibert import names
from minibert.base import Model, initialise
from minibert.config import BertConfig
from minibert.io import meta, shards
from minibert.io.errors import CheckpointError, ConfigError
from minibert.io.files import write_json, write_tensors
from minibert.io.labels import other_labels, read_labels
from minibert.io.likeness import unlike_parts
from minibert.io.seeds import default_generator
from minibert.io.shards import DTYPES, Entry, LoadReport, Shapes
from minibert.io.source import CONFIG, Source, open_source

M = TypeVar("M", bound=Model)


def load(
    cls: type[M], source: str | Path | Source, revision: str | None, *,
    labels: Sequence[str] | None, num_labels: int | None, problem_type: str | None,
    fresh_head: bool, num_hidden_layers: int | None, dtype: torch.dtype,
    generator: torch.Generator | None, allow_nonfinite: bool,
) -> M:  # fmt: skip
    """Model.from_pretrained, which explains the arguments and the errors."""
    source = open_source(source, revision, (CONFIG, shards.SINGLE, shards.INDEX))
    files = shards.find(source)
    stored, path = shards.stored_shapes(files), source.path(CONFIG)
    known = read_config(source, stored, official_class(cls).__name__ in names.LABELLED)
    check_layers(stored, known, source.config, path, files.main)
    if names.SUBCLASS in known.extra and not _saved_by(cls, known):
        other = f"{known.extra[names.SUBCLASS]!r:.200}, which may compute something else from these weights"
        warnings.warn(f"{path} was saved by {other} than {cls.__name__}.", stacklevel=3)
    kind = official_class(cls, known.model_type).__name__
    config = _with_changes(kind, known, labels, num_labels, problem_type, num_hidden_layers)
    has_pooler = any(names.bare_name(name).startswith("pooler.") for name in stored)
    model = build(cls, config, has_pooler, generator)
    asked = labels is not None or num_labels is not None
    fresh, ignored = _differences(model, stored, known, asked, fresh_head)
    sizes = (names.CONFIG_KEYS[config.model_type].get(size, size) for size in names.SIZES)
    defaults = [key for key in sizes if key not in source.config and key not in names.CONFIG_FACTS[config.model_type]]
    entries = match(model, stored, files.main, fresh, ignored, defaults)
    if meta.leave_meta(model, [e.name for e in entries if e.status == "fresh" and e.name]):
        initialise(model, config.initializer_range, default_generator(generator))
    tensors = shards.assemble(entries, shards.read(files, entries), dtype, allow_nonfinite, files.main)
    # A subclass may use one parameter in two places: values are copied into it, not put in its place.
    shards.put(model.to(dtype), tensors, cls is official_class(cls), files.main)
    model._fresh = {name: p.detach().cpu().clone() for name, p in model.named_parameters() if name not in tensors}
    model.load_report = LoadReport(source.name, source.revision, cls.__name__, entries)
    return model.eval()


def save(model: Model, folder: Path, allow_untrained: bool) -> None:
    """Model.save_pretrained, which explains the arguments and the errors."""
    untrained = model.untrained()
    if untrained and not allow_untrained:
        message = f"{', '.join(untrained)} of this {type(model).__name__} are as they were freshly initialised"
        hint = "Train it first, or say allow_untrained=True."
        raise CheckpointError(f"{message}, so the model is not saved.", path=folder, key=untrained[0], hint=hint)
    tensors = model.official_state_dict()
    _require_reproducible(model, folder)
    if not model.config.tie_word_embeddings:
        tensors.update({copy: tensors[kept].clone() for copy, kept in _copies(model).items()})
    write_tensors(folder / shards.SINGLE, tensors)
    write_json(folder / CONFIG, official_config(model))


def load_state_dict(model: Model, tensors: Mapping[str, Tensor]) -> None:
    """Copies tensors with official names into a model; all of them, or CheckpointError."""
    codes = {f"torch.{name}": code for code, name in DTYPES.items()}
    stored = {name: (tuple(t.shape), codes.get(str(t.dtype), str(t.dtype))) for name, t in tensors.items()}
    entries = match(model, stored)
    model.load_state_dict(shards.assemble(entries, tensors))
    model.load_report = LoadReport("a state dict", None, type(model).__name__, entries)


def official_class(cls: type[Model], family: str = "bert") -> type[Model]:
    """The class with official files that a class is, or is derived from, for a family."""
    found = [kind for kind in cls.__mro__ if kind.__name__ in names.HEADS["bert"]]
    if not found:
        message = f"{cls.__name__} is not derived from a class with official files."
        hint = f"Derive it from one of {', '.join(names.HEADS['bert'])}."
        raise CheckpointError(message, key=cls.__name__, hint=hint)
    if found[-1].__name__ not in names.HEADS[family]:
        message = f"The model is a DistilBERT, which was published without {found[-1].__name__}."
        raise CheckpointError(message, key="model_type")
    return found[-1]


def class_name(source: Source) -> str:
    """The class here that `architectures` in config.json names, else "BertModel"; CheckpointError if it has others."""
    path, stated = source.path(CONFIG), source.config.get("architectures") or []
    ours = {official: name for family in names.ARCHITECTURES.values() for name, official in family.items()}
    listed = stated if isinstance(stated, list) else []
    known = [ours[name] for name in listed if isinstance(name, str) and name in ours]
    if stated and not known:
        message = f"{path} names the architectures {stated!r}, none of which minibert has: it has {', '.join(ours)}."
        raise CheckpointError(message, path=path, key="architectures")
    return known[0] if known else names.BARE_MODEL


def build(cls: type[M], config: BertConfig, pooler: bool, generator: torch.Generator | None = None) -> M:
    """A model from its class and config; a bare one has a pooler only on request."""
    kind = official_class(cls)
    options: dict[str, Any] = {} if generator is None else {"generator": generator}
    if kind.__name__ == names.BARE_MODEL and not pooler:
        options["pooler"] = False
    # A subclass is built for real: values that it computes in its `__init__` would be lost.
    with meta.shapes_only() if cls is kind else nullcontext():
        return cls(config, **options)


def _require_reproducible(model: Model, folder: Path) -> None:
    """Refuses to save a model that its class would not build again from its config."""
    with torch.random.fork_rng(devices=[]):  # saving does not change the random numbers to come
        again = build(type(model), model.config, getattr(model.body, "pooler", None) is not None)
    if unlike := unlike_parts(model, again):
        message = f"{', '.join(unlike)} of this model are not what {type(model).__name__} builds from its config"
        message += ", and loading would not bring them back, so it is not saved."
        hint = f"Make the change in the __init__ of a subclass of {type(model).__name__}."
        raise CheckpointError(message, path=folder, key=unlike[0], hint=hint)


def _saved_by(cls: type[Model], config: BertConfig) -> bool:
    return str(config.extra.get(names.SUBCLASS)).rpartition(":")[2] == cls.__qualname__


# config.json.


def read_config(source: Source, stored: Collection[str], labelled: bool = True) -> BertConfig:
    """The config of a model, with DistilBERT's keys translated; without labels unless the class is `labelled`.

    CheckpointError or ConfigError if it has none.
    """
    path, values = source.path(CONFIG), source.config
    stated = values.get("model_type") or _family(path, values, stored)
    family = stated if stated in [*names.CONFIG_KEYS] else "bert"  # whose config refuses the others
    ours = {official: name for name, official in names.CONFIG_KEYS[family].items()}
    for official, name in ours.items():
        if official in values and values.get(name, values[official]) != values[official]:
            both = f"{official} {values[official]!r} and {name} {values[name]!r}"
            raise ConfigError(f"{path} has {both}, which mean the same.", path=path, key=official)
    unread = () if labelled else names.ABOUT_LABELS
    translated: dict[str, Any] = {ours.get(key, key): value for key, value in values.items() if key not in unread}
    try:
        return BertConfig.from_official({**translated, "model_type": stated, **names.CONFIG_FACTS[family]})
    except ConfigError as error:
        key, message = names.CONFIG_KEYS[family].get(error.key or "", error.key), str(error)
        for name, official in names.CONFIG_KEYS[family].items():
            message = re.sub(rf"\b{name}\b", official, message)
        default = "" if key in values else f" It does not state {key}, so that is the default."
        raise ConfigError(f"{path}: {message}{default}", path=path, key=key, hint=error.hint) from error


def _family(path: Path, values: Mapping[str, Any], stored: Collection[str]) -> str:
    """The family that classes, keys or tensors prove where `model_type` is missing; the choice is printed."""
    classes = values.get("architectures")
    for family, keys in names.CONFIG_KEYS.items():
        official = names.ARCHITECTURES[family].values()
        signs = [name for name in classes if name in official] if isinstance(classes, list) else []
        signs += [key for key in keys.values() if key in values]
        signs += [name for name in stored if name.startswith(names.PREFIX[family])]
        if signs:
            warnings.warn(f"{path} has no model_type; {signs[0]} is {family}'s, so it is opened as that.", stacklevel=4)
            return family
    message = f"{path} has neither model_type nor architectures, and nothing else tells which network it is."
    hint = 'Add "model_type": "bert" to it if it is a BERT, "distilbert" if it is a DistilBERT.'
    raise CheckpointError(message, path=path, key="model_type", hint=hint)


def official_config(model: Model) -> dict[str, Any]:
    """The content of config.json."""
    kind, family = official_class(type(model)), model.config.model_type
    left_out = {*names.CONFIG_NOT_CARRIED_OVER, *names.CONFIG_OF_OTHERS[family]}
    if kind.__name__ not in names.LABELLED:
        left_out |= {"id2label", "label2id"}  # transformers insists on 2 for spans
    keys, values = names.CONFIG_KEYS[family], model.config.to_official()
    values = {keys.get(key, key): value for key, value in values.items() if key not in left_out}
    values["architectures"] = [names.ARCHITECTURES[family][kind.__name__]]
    values["dtype"] = str(next(model.parameters()).dtype).removeprefix("torch.")
    if type(model) is not kind:
        values[names.SUBCLASS] = f"{type(model).__module__}:{type(model).__qualname__}"
    return dict(sorted(values.items()))


def check_layers(
    stored: Collection[str], config: BertConfig, values: Mapping[str, Any], path: Path, file: Path
) -> None:
    """Compares the numbers of layers, before a model of any size is built; `values` are those of the config."""
    numbers = {key: number for key in stored if (number := names.layer_of(key)) is not None}
    found, layers = len({*numbers.values()}), config.num_hidden_layers
    if found != layers:
        key = names.CONFIG_KEYS[config.model_type].get("num_hidden_layers", "num_hidden_layers")
        says = f"says {key} {layers}" if key in values else f"does not state {key}, which is {layers} by default"
        example = [*numbers, *stored, "nothing"][0]
        message = f"{path} {says}, but {file} has {found} layers (it holds {example})."
        raise CheckpointError(message, path=path, key=key)


def _with_changes(
    kind: str, config: BertConfig, labels: Sequence[str] | None, num_labels: int | None,
    problem_type: str | None, layers: int | None,
) -> BertConfig:  # fmt: skip
    """The stored config with the labels, problem type and first few layers that were asked for."""
    changes: dict[str, Any] = {} if problem_type is None else {"problem_type": problem_type}
    if kind not in names.LABELLED and (labels is not None or num_labels is not None):
        raise ConfigError(f"The classes of {kind} are fixed, so it takes no labels.", key="labels")
    if labels is not None or num_labels not in (None, config.num_labels):
        if labels is not None and len(set(labels)) < len(labels):
            raise ConfigError(f"A label is there twice: {[*labels]}.", key="labels")
        id2label = None if labels is None else dict(enumerate(labels))
        changes["id2label"] = read_labels({"num_labels": num_labels, "id2label": id2label})
    if layers is not None:
        if layers > config.num_hidden_layers:
            message = f"num_hidden_layers is {layers}, but the model has {config.num_hidden_layers}."
            raise ConfigError(message, key="num_hidden_layers")
        changes["num_hidden_layers"] = layers
        changes["pruned_heads"] = {layer: heads for layer, heads in config.pruned_heads.items() if layer < layers}
    return config.replace(**changes)


# Matching a model with files.


def official_names(model: Model) -> dict[str, str]:
    """The official name of each parameter; one that a subclass adds keeps its own.

    CheckpointError if a parameter of an official class has no official name, or two have one.
    """
    config, kind = model.config, official_class(type(model), model.config.model_type)
    result: dict[str, str] = {}
    for name in model.state_dict():
        official = names.official_name(name, kind.__name__, config.model_type, config.tie_word_embeddings)
        if official is None and type(model) is not kind:
            official = name
        if official is None or official in result.values():
            message = f"{type(model).__name__} has {name}, which has no official name of its own."
            hint = "Add it in a subclass, under a name that official files do not use."
            raise CheckpointError(message, key=name, hint=hint)
        result[name] = official
    return result


def _copies(model: Model) -> dict[str, str]:
    config, kind = model.config, official_class(type(model)).__name__
    return names.copies(kind, config.model_type, config.tie_word_embeddings)


def match(
    model: Model, stored: Shapes, where: str | Path = "The state dict",
    fresh: Mapping[str, str] | None = None, ignored: Mapping[str, str] | None = None, defaults: Sequence[str] = (),
) -> tuple[Entry, ...]:  # fmt: skip
    """What becomes of every tensor: see shards.match. The message names `defaults`, the sizes that no file states."""
    official, tied = official_names(model), model.config.tie_word_embeddings
    parameters = {name: (official[name], tuple(tensor.shape)) for name, tensor in model.state_dict().items()}
    bare = {key: names.bare_name(key) for key in [*stored, *official.values()]}
    repeats = {names.bare_name(copy): names.bare_name(kept) for copy, kept in _copies(model).items()}
    expected = {bare[name] for name in official.values()}
    unused = {key: why for key in stored if (why := names.reason_left_out(bare[key], expected))}
    needed = {bare[official[name]] for name in official if name not in (fresh or ())}
    headless = fresh or official_class(type(model)).__name__ == names.BARE_MODEL
    if headless and needed <= {bare[key] for key in stored}:
        strange = [key for key in stored if not names.in_body(key)]
        unused = dict.fromkeys(strange, "a part beside the encoder that is not BERT's") | unused
    entries, faults = shards.match(parameters, stored, bare, repeats, tied, fresh or {}, ignored or {}, unused)
    if faults:
        heads, missing = tuple(names.LEFT_OUT), faults.keys() == {"missing"} and faults["missing"]
        only_head = missing and all(names.bare_name(key).startswith(heads) for key in missing)
        hint = "To train a new head, give label names (or num_labels, or fresh_head=True)." if only_head else None
        if defaults and "of another shape" in faults:
            hint = f"{CONFIG} does not state {', '.join(defaults)}, so the model has the default: add what is right."
        raise shards.does_not_fit(type(model).__name__, where, faults, hint)
    return entries


def _differences(
    model: Model, stored: Shapes, known: BertConfig, asked: bool, fresh_head: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """What a model and the one that was stored do not share, by their classes and configs, each with the reason.

    First the parameters that are freshly initialised if the file lacks them; then the stored tensors that are not
    used, a head for other labels than those `asked` for included.
    """
    cls, config, official = type(model), model.config, official_names(model)
    kind, stated = official_class(cls), known.extra.get("architectures")
    classes = names.ARCHITECTURES[config.model_type]
    fresh: dict[str, str] = {}
    ignored: dict[str, str] = {}
    for key in stored:
        if (names.layer_of(key) or 0) >= config.num_hidden_layers:
            ignored[key] = f"num_hidden_layers is {config.num_hidden_layers}"
    for other in stated if isinstance(stated, list) else ():
        if other in classes.values() and other != classes[kind.__name__]:
            heads = [key for key in stored if key.startswith(names.SHARED_HEAD_NAMES)]
            ignored |= dict.fromkeys(heads, f"the head of {other}, which is another task's")
    plain = official.values() if cls is kind else official_names(build(kind, config, True)).values()
    lacking = {names.bare_name(name) for name in plain} - {names.bare_name(name) for name in official.values()}
    unused = [key for key in stored if names.bare_name(key) in lacking]
    ignored |= dict.fromkeys(unused, f"{cls.__name__} has no such parameter")

    found = {names.bare_name(key): key for key in stored if key not in ignored}
    for attribute in names.HEADS[known.model_type][kind.__name__]:
        head = [name for name in official if name.startswith(f"{attribute}.")]
        keys = [found[official[name]] for name in head if official[name] in found]
        shape = stored[found["classifier.weight"]][0] if "classifier.weight" in found else ()
        labels = other_labels(config.id2label, known.id2label, shape) if keys and asked else None
        if labels is not None:
            ignored |= dict.fromkeys(keys, labels)
        if labels is not None or (not keys and (asked or fresh_head)):
            fresh |= dict.fromkeys(head, f"{labels or 'not in the file'}; train before use")
    if fresh:
        pooler = [name for name in official if name.startswith(f"{names.OUR_PREFIX}pooler.")]
        fresh |= dict.fromkeys(pooler, "not in the file, initialised with the head")
    if not _saved_by(cls, known):
        added = [name for name in official if official[name] not in plain]
        fresh |= dict.fromkeys(added, f"added by {cls.__name__}; train before use")
    return fresh, ignored
