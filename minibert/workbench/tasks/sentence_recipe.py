"""Sentence recipes: how a sentence-transformers folder turns hidden states into vectors.

The folder says it in many files. Whatever would change a vector is honoured or refused by name; what
sentence-transformers itself does not read for a vector (similarity, versions) is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from torch import nn

from minibert.io import shards
from minibert.io.errors import CheckpointError
from minibert.io.files import read_json, read_object, read_tensors
from minibert.io.source import CONFIG, Source, open_source
from minibert.workbench.tasks.pooling import Truncated, UnitLength

SETTINGS = "config_sentence_transformers.json"
MODULES = "modules.json"
# config.json is in every model: with it, a Hub model without the other files is found as well.
_FILES = (CONFIG, MODULES, SETTINGS)

# Where the longest text may be stated, in the order in which sentence-transformers looks.
_LENGTH_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# What those files may hold: key -> the values with which a BERT computes what this package computes.
_TRANSFORMER: dict[str, tuple[Any, ...]] = {
    "transformer_task": ("feature-extraction",),
    "module_output_name": ("token_embeddings",),
    "modality_config": ({"text": {"method": "forward", "method_output_name": "last_hidden_state"}},),
    "unpad_inputs": (True, False),  # a matter of speed
}
_EMPTY: tuple[Any, ...] = (None, False, "", {}, [])

# Names of poolings in modules' files, old and new, -> names in POOLINGS.
_POOLINGS = {"cls": "cls", "cls_token": "cls", "mean": "mean", "mean_tokens": "mean", "max": "max", "max_tokens": "max"}
_ACTIVATIONS = {kind.__name__: kind for kind in (nn.Tanh, nn.Identity, nn.ReLU, nn.GELU, nn.Sigmoid)}


@dataclass(frozen=True)
class SentenceRecipe:
    """How a checkpoint's hidden states become sentence vectors.

    Attributes:
        model: where the network and its tokenizer are: the folder itself, or one inside it.
        steps: what is done to a pooled vector, in this order.
        lowercase: texts are to be lowercase, whatever the tokenizer does.
        prompts: name -> what is put before each text under that name.
        default_prompt: the name that counts unless another is asked for; None for no prompt.
        pool_prompt: whether the tokens of a prompt are pooled with those of the text.
    """

    model: Source
    pooling: str = "mean"
    steps: tuple[nn.Module, ...] = ()
    max_length: int | None = None
    lowercase: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    pool_prompt: bool = True


def sentence_recipe(source: Source) -> SentenceRecipe:
    """Reads what a sentence-transformers folder asks for; without `modules.json`, the plain mean.

    Raises:
        CheckpointError: a module, a pooling or another setting that changes vectors is not supported.
    """
    source.fetch(*_FILES)
    path = source.path(MODULES)
    if not path.exists():
        return SentenceRecipe(source)
    kinds, folders = _modules(path)
    inside = [f"{folder}/" if folder else "" for folder in folders]
    source.fetch(*(start + name for start in inside for name in ("*.json", "vocab.txt", "*.safetensors") if start))
    source.fetch(*(inside[0] + name for name in _LENGTH_FILES))
    pooling = source.path(f"{inside[1]}config.json")
    settings = read_object(pooling)
    steps = [_step(source, kind, start) for kind, start in zip(kinds[2:], inside[2:], strict=True)]
    prompts, default, dimensions = _settings(source.path(SETTINGS))
    if dimensions is not None:
        steps.append(Truncated(dimensions))
    longest, lowercase = _limits([source.path(inside[0] + name) for name in _LENGTH_FILES])
    return SentenceRecipe(
        open_source(source.path(folders[0])) if folders[0] else source,
        _pooling(pooling, settings),
        tuple(step for step in steps if step is not None),
        longest,
        lowercase,
        prompts,
        default,
        settings.get("include_prompt", True) is not False,
    )


def _modules(path: Path) -> tuple[list[str], list[str]]:
    """The kinds of the modules and the folders that they are in: a Transformer, a Pooling, and others."""
    modules = read_json(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{path} is not a list of modules.", path=path)
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    for place, kind in enumerate(kinds):
        expected = [("Transformer",), ("Pooling",), ("Normalize", "Dense", "Dropout")][min(place, 2)]
        if kind not in expected:
            wanted = f"{' or '.join(expected)} is expected there"
            raise CheckpointError(
                f"{path} asks for a module {kind} in place {place}, but {wanted}.", path=path, key="type"
            )
    if len(kinds) < 2:
        raise CheckpointError(f"{path} has no Pooling, so a text has no vector.", path=path, key="type")
    folders = [module.get("path", "") for module in modules]
    for folder in folders:
        if not isinstance(folder, str):
            _refuse(path, "path", folder, "the name of a folder")
    return kinds, folders


def _limits(paths: list[Path]) -> tuple[int | None, bool]:
    """The longest text, and whether texts are lowercase, from the first file that says anything."""
    stored: dict[str, Any] = {}
    path = paths[0]
    for path in paths:
        stored = read_object(path) if path.exists() else {}
        if stored:
            break
    for key, value in stored.items():
        if key not in ("max_seq_length", "do_lower_case") and value not in (*_TRANSFORMER.get(key, ()), *_EMPTY):
            _refuse(path, key, value, "a setting of this module that is supported")
    longest = stored.get("max_seq_length")
    if isinstance(longest, float) and longest.is_integer():  # some files hold 128.0
        longest = int(longest)
    if longest is not None and (type(longest) is not int or longest < 1):
        _refuse(path, "max_seq_length", longest, "a number of tokens")
    return longest, stored.get("do_lower_case") is True


def _pooling(path: Path, settings: Mapping[str, Any]) -> str:
    """The one pooling that a file turns on, in either of the two forms such files have."""
    chosen = settings.get("pooling_mode")
    if chosen is None:
        prefix = "pooling_mode_"
        chosen = [key.removeprefix(prefix) for key, on in settings.items() if on is True and key.startswith(prefix)]
    chosen = [str(name) for name in (chosen if isinstance(chosen, list) else [chosen])]
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise CheckpointError(
            f"{path} asks for the pooling {chosen}, but one of mean, cls and max is needed.",
            path=path,
            key="pooling_mode",
        )
    return _POOLINGS[chosen[0]]


def _step(source: Source, kind: str, start: str) -> nn.Module | None:
    """What a module after the pooling does to a vector (B, D); None for dropout, which is off."""
    if kind == "Dropout":
        return None
    path = source.path(f"{start}config.json")
    settings = read_object(path) if kind == "Dense" or path.exists() else {}
    for key in ("module_input_name", "module_output_name"):
        if settings.get(key) not in (None, "sentence_embedding"):
            _refuse(path, key, settings[key], "sentence_embedding")
    return UnitLength() if kind == "Normalize" else _dense(source, start, path, settings)


def _dense(source: Source, start: str, path: Path, settings: Mapping[str, Any]) -> nn.Module:
    """A linear map and an activation, with the weights beside its config."""
    sizes = [settings.get("in_features"), settings.get("out_features")]
    if not all(type(size) is int and 0 < size < 2**20 for size in sizes):
        _refuse(path, "in_features", sizes, "two sizes with out_features")
    if settings.get("use_residual"):
        _refuse(path, "use_residual", True, "false")
    activation = str(settings.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    if activation not in _ACTIVATIONS:
        _refuse(path, "activation_function", activation, f"one of {', '.join(_ACTIVATIONS)}")
    files = shards.find(open_source(source.path(start.rstrip("/"))))
    tensors = {name: tensor for file in files.paths for name, tensor in read_tensors(file).items()}
    linear = nn.utils.skip_init(nn.Linear, *sizes, bias="linear.bias" in tensors)
    expected = {f"linear.{name}": part.shape for name, part in linear.named_parameters()}
    if {name: tensor.shape for name, tensor in tensors.items()} != expected:
        raise CheckpointError(f"{files.main} does not hold {expected}, as {path} says.", path=files.main, key=start)
    linear.load_state_dict({name.removeprefix("linear."): tensor for name, tensor in tensors.items()})
    return nn.Sequential(linear, _ACTIVATIONS[activation]())


def _settings(path: Path) -> tuple[Mapping[str, str], str | None, int | None]:
    """The prompts, the default one, and how many numbers of each vector are kept."""
    values = read_object(path) if path.exists() else {}
    if values.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        _refuse(path, "model_type", values["model_type"], "SentenceTransformer")
    prompts, default, dimensions = (values.get(key) for key in ("prompts", "default_prompt_name", "truncate_dim"))
    prompts = {} if prompts is None else prompts
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        _refuse(path, "prompts", prompts, "a mapping of names to texts")
    if default is not None and default not in prompts:
        _refuse(path, "default_prompt_name", default, "the name of one of its prompts")
    if dimensions is not None and (type(dimensions) is not int or dimensions < 1):
        _refuse(path, "truncate_dim", dimensions, "a number of dimensions")
    return {name: text or "" for name, text in prompts.items()}, default, dimensions


def _refuse(path: Path, key: str, value: object, wanted: str) -> NoReturn:
    raise CheckpointError(f"{path} has {key} {value!r:.80}, which is not {wanted}.", path=path, key=key)
