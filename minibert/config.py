"""The configuration: the keys of BERT's official `config.json`, checked once.

Devlin et al. 2018, section 3 ("Model Architecture"), names the sizes; the key names are those of
the published files. A config is data from outside: every value is checked before anything is built
from it. Unknown keys are kept and written back, but never acted on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minibert.io.errors import ConfigError
from minibert.io.labels import read_labels

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish", "tanh")

# Keys that would make another network out of the same weights: each value but this one is refused.
_ONLY_SUPPORTED = {
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
    "quantization_config": None,
}


@dataclass(frozen=True)
class BertConfig:
    """Sizes and rates of one BERT or DistilBERT; the defaults are those of bert-base-uncased.

    DistilBERT (Sanh et al. 2019, section 3) is BERT with no segment table (`type_vocab_size` 0),
    no pooler, no dropout after the attention's output projection, and dropouts of its own in the
    heads.

    Raises:
        ConfigError: a value of the wrong type or out of range, naming the key and the value.
    """

    vocab_size: int = 30522  # V
    hidden_size: int = 768  # D
    num_hidden_layers: int = 12  # L
    num_attention_heads: int = 12  # N
    intermediate_size: int = 3072  # F
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512  # the largest S
    type_vocab_size: int = 2  # segments; 0: no segment table
    initializer_range: float = 0.02  # standard deviation of new weights
    layer_norm_eps: float = 1e-12  # NOTE(paper): not torch's 1e-5; the published weights expect it
    pad_token_id: int | None = 0
    classifier_dropout: float | None = None  # if not given, hidden_dropout_prob
    tie_word_embeddings: bool = True
    problem_type: str | None = None  # if not given, inferred from the labels
    id2label: Mapping[int, str] = field(default_factory=lambda: {0: "LABEL_0", 1: "LABEL_1"})  # C
    model_type: str = "bert"
    qa_dropout: float = 0.1  # DistilBERT: before the span head
    seq_classif_dropout: float = 0.2  # DistilBERT: in the sequence and multiple-choice heads
    pruned_heads: Mapping[int, Sequence[int]] = field(default_factory=dict)  # layer -> heads
    extra: Mapping[str, Any] = field(default_factory=dict)  # keys of the file that are not above

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if not _has_type(value, str(item.type)):
                raise _wrong(item.name, value, f"of type {item.type}")
            holds, wanted = RULES.get(item.name, _ANY)
            if value is not None and not holds(value):
                raise _wrong(item.name, value, wanted)
        for key, holds, wanted in RELATIONS:
            if not holds(self):
                raise _wrong(key, getattr(self, key), wanted.format(**vars(self)))

    @property
    def head_size(self) -> int:
        """H, the width of one attention head: D = N * H."""
        return self.hidden_size // self.num_attention_heads

    def heads_of(self, layer: int) -> int:
        """N, less the heads that have been pruned from a layer."""
        return self.num_attention_heads - len(set(self.pruned_heads.get(layer, ())))

    @property
    def num_labels(self) -> int:
        """C, the number of classes."""
        return len(self.id2label)

    @property
    def label2id(self) -> dict[str, int]:
        return {name: number for number, name in self.id2label.items()}

    @property
    def is_distilbert(self) -> bool:
        return self.model_type == "distilbert"

    @property
    def attention_output_dropout(self) -> float:
        """The dropout between the attention's output projection and the residual sum."""
        return 0.0 if self.is_distilbert else self.hidden_dropout_prob

    @property
    def head_dropout(self) -> float:
        """The dropout before a classifier: `classifier_dropout`, or else the general rate."""
        if self.classifier_dropout is None or self.is_distilbert:
            return self.hidden_dropout_prob
        return self.classifier_dropout

    def replace(self, **changes: Any) -> BertConfig:
        """The same configuration with some values changed, checked again."""
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_official(cls, values: Mapping[str, Any]) -> BertConfig:
        """Builds a config from the keys of an official `config.json` (BERT's key names).

        Raises:
            ConfigError: a value that is out of range or of the wrong type, or a meaning that this
                network does not have (a decoder, relative positions, another model type).
        """
        for key, supported in _ONLY_SUPPORTED.items():
            if values.get(key, supported) not in (supported, None):
                message = f"The configuration has {key} = {values[key]!r}, which is not supported."
                hint = f"minibert builds encoders with {key} = {supported!r} only."
                raise ConfigError(message, key=key, hint=hint)
        known = {item.name for item in dataclasses.fields(cls)} - {"extra"}
        chosen = {key: value for key, value in values.items() if key in known}
        if isinstance(chosen.get("pruned_heads"), Mapping):  # JSON has text for keys
            pruned = chosen["pruned_heads"].items()
            chosen["pruned_heads"] = {int(k) if str(k).isdecimal() else k: v for k, v in pruned}
        chosen.pop("id2label", None)
        labels = read_labels(values)
        derived = {"label2id", "num_labels"}
        extra = {key: value for key, value in values.items() if key not in known | derived}
        return cls(**chosen, extra=extra, **({} if labels is None else {"id2label": labels}))

    def to_official(self) -> dict[str, Any]:
        """The keys and values for `config.json`; the inverse of from_official."""
        own = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        values = {**self.extra, **own, "label2id": self.label2id}
        del values["extra"]
        values["id2label"] = {str(number): name for number, name in self.id2label.items()}
        values["pruned_heads"] = {str(n): list(heads) for n, heads in self.pruned_heads.items()}
        return values


def _numbers_the_classes(names: Mapping[Any, Any]) -> bool:
    texts = all(isinstance(name, str) for name in names.values())
    return len(names) > 0 and list(names) == list(range(len(names))) and texts


def _lists_numbers(heads: Mapping[Any, Any]) -> bool:
    lists = all(isinstance(numbers, (list, tuple)) for numbers in heads.values())
    numbers = [*heads, *(n for numbers in heads.values() for n in numbers)] if lists else []
    return lists and all(type(number) is int and number >= 0 for number in numbers)


_ANY: tuple[Callable[[Any], bool], str] = (lambda value: True, "")
# Two sizes make the largest table, counted in 64 bits.
_SIZE = (lambda size: 1 <= size <= 2**30, f"from 1 to {2**30}")
_RATE = (lambda rate: 0 <= rate < 1, "at least 0 and below 1")

# Key -> whether a value is possible, and what it has to be.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "vocab_size": _SIZE,
    "hidden_size": _SIZE,
    "num_hidden_layers": (lambda layers: 1 <= layers <= 1000, "from 1 to 1000"),
    "num_attention_heads": _SIZE,
    "intermediate_size": _SIZE,
    "max_position_embeddings": _SIZE,
    "type_vocab_size": (lambda size: 0 <= size <= 2**30, f"from 0 to {2**30}"),
    "hidden_dropout_prob": _RATE,
    "attention_probs_dropout_prob": _RATE,
    "classifier_dropout": _RATE,
    "qa_dropout": _RATE,
    "seq_classif_dropout": _RATE,
    "initializer_range": (lambda deviation: 0 < deviation < 1e6, "above 0 and finite"),
    "layer_norm_eps": (lambda eps: 0 < eps < 1, "above 0 and below 1"),
    "hidden_act": (lambda name: name in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}"),
    "model_type": (lambda name: name in ("bert", "distilbert"), "bert or distilbert"),
    "problem_type": (lambda name: name in PROBLEM_TYPES, f"one of {', '.join(PROBLEM_TYPES)}"),
    "id2label": (_numbers_the_classes, "a mapping of 0, 1, 2, ... to names"),
    "pruned_heads": (_lists_numbers, "a mapping of layers to lists of heads"),
}

# What several keys have to be together: the key to name, whether it holds, what is wanted.
RELATIONS: list[tuple[str, Callable[[BertConfig], bool], str]] = [
    (
        "num_attention_heads",
        lambda config: config.hidden_size % config.num_attention_heads == 0,
        "a divisor of hidden_size {hidden_size}",
    ),
    (
        "type_vocab_size",
        lambda config: not config.is_distilbert or config.type_vocab_size == 0,
        "0 for a DistilBERT, which has no segments",
    ),
    (
        "pad_token_id",
        lambda config: config.pad_token_id is None or 0 <= config.pad_token_id < config.vocab_size,
        "from 0 to below vocab_size {vocab_size}",
    ),
    (
        "pruned_heads",
        lambda config: all(
            layer < config.num_hidden_layers
            and max(heads, default=0) < config.num_attention_heads
            and config.heads_of(layer) > 0
            for layer, heads in config.pruned_heads.items()
        ),
        "heads of layers that exist, and not all heads of a layer",
    ),
]


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


def _wrong(key: str, value: object, wanted: str) -> ConfigError:
    message = f"The configuration has {key} = {value!r:.200}, but it must be {wanted}."
    return ConfigError(message, key=key)
