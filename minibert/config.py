"""The configuration: the keys of BERT's official `config.json`, validated once.

Devlin et al. 2018, section 3 ("Model Architecture"), names the sizes; the key names are those of
the published files. A config is data from outside: values are checked before anything is built
from them, unknown keys are kept and written back but never acted on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minibert.io.errors import ConfigError
from minibert.layers import ACTIVATIONS

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")

# Keys that would make another network out of the same weights: each value but this one is refused.
_ONLY_SUPPORTED = {
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
    "pruned_heads": {},
    "quantization_config": None,
}
_MOST_LABELS = 100_000


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
    classifier_dropout: float | None = None  # None: hidden_dropout_prob
    tie_word_embeddings: bool = True
    problem_type: str | None = None  # None: inferred from the labels
    id2label: Mapping[int, str] = field(default_factory=lambda: {0: "LABEL_0", 1: "LABEL_1"})  # C
    model_type: str = "bert"
    qa_dropout: float = 0.1  # DistilBERT: before the span head
    seq_classif_dropout: float = 0.2  # DistilBERT: in the sequence and multiple-choice heads
    extra: Mapping[str, Any] = field(default_factory=dict)  # keys of the file that are not above

    def __post_init__(self):
        self._check_types()
        self._check_ranges()
        self._check_labels()
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}, so no head size fits.",
                key="num_attention_heads",
            )

    @property
    def head_size(self) -> int:
        """H, the width of one attention head: D = N * H."""
        return self.hidden_size // self.num_attention_heads

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
                raise ConfigError(
                    f"The configuration has {key} = {values[key]!r}, which is not supported.",
                    key=key,
                    hint=f"minibert builds encoders with {key} = {supported!r} only.",
                )
        known = {item.name for item in dataclasses.fields(cls)} - {"extra"}
        read_apart = {"id2label", "label2id", "num_labels"}
        chosen = {key: values[key] for key in known - read_apart if key in values}
        extra = {key: value for key, value in values.items() if key not in known | read_apart}
        return cls(**chosen, **_labels(values), extra=extra)

    def to_official(self) -> dict[str, Any]:
        """The keys and values for `config.json`; the inverse of from_official."""
        values = dict(self.extra)
        for item in dataclasses.fields(self):
            if item.name != "extra":
                values[item.name] = getattr(self, item.name)
        values["id2label"] = {str(number): name for number, name in self.id2label.items()}
        values["label2id"] = self.label2id
        return values

    def _check_types(self) -> None:
        for item in dataclasses.fields(self):
            if item.name in ("id2label", "extra"):
                continue
            value = getattr(self, item.name)
            if not _has_type(value, str(item.type)):
                raise ConfigError(
                    f"The configuration has {item.name} = {value!r}, but its type is {item.type}.",
                    key=item.name,
                )

    def _check_ranges(self) -> None:
        rates = ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"]
        rates += ["qa_dropout", "seq_classif_dropout"]
        sizes = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"]
        sizes += ["intermediate_size", "max_position_embeddings"]
        for key in sizes:  # two of them make the largest table, counted in 64 bits
            self._require(key, 1 <= getattr(self, key) <= 2**30, f"from 1 to {2**30}")
        self._require("num_hidden_layers", self.num_hidden_layers <= 1000, "at most 1000")
        for key in rates:
            rate = getattr(self, key)
            self._require(key, rate is None or 0 <= rate < 1, "at least 0 and below 1")
        self._require("type_vocab_size", 0 <= self.type_vocab_size <= 2**30, f"from 0 to {2**30}")
        no_segments = not self.is_distilbert or self.type_vocab_size == 0
        self._require("type_vocab_size", no_segments, "0 for a DistilBERT, which has no segments")
        self._require("initializer_range", 0 < self.initializer_range < 1e6, "above 0 and finite")
        self._require("layer_norm_eps", 0 < self.layer_norm_eps < 1, "above 0 and below 1")
        in_table = self.pad_token_id is None or 0 <= self.pad_token_id < self.vocab_size
        self._require("pad_token_id", in_table, f"below vocab_size {self.vocab_size}")
        self._require("hidden_act", self.hidden_act in ACTIVATIONS, f"one of {sorted(ACTIVATIONS)}")
        self._require("model_type", self.model_type in ("bert", "distilbert"), "bert or distilbert")
        known_problem = self.problem_type in (None, *PROBLEM_TYPES)
        self._require("problem_type", known_problem, f"one of {PROBLEM_TYPES}")

    def _check_labels(self) -> None:
        names = self.id2label
        right = isinstance(names, Mapping) and list(names) == list(range(len(names)))
        right = right and len(names) > 0 and all(isinstance(name, str) for name in names.values())
        self._require("id2label", right, "a mapping of 0, 1, 2, ... to names")

    def _require(self, key: str, holds: bool, expected: str) -> None:
        if not holds:
            value = getattr(self, key)
            raise ConfigError(
                f"The configuration has {key} = {value!r}, but it must be {expected}.",
                key=key,
            )


def _has_type(value: object, annotation: str) -> bool:
    """Whether a value read from JSON fits a field's annotation; a bool is no number here."""
    if value is None:
        return "None" in annotation
    if isinstance(value, bool):
        return annotation.startswith("bool")
    if annotation.startswith("float"):
        return isinstance(value, (int, float))
    return type(value).__name__ == annotation.split(" | ")[0]


def _labels(values: Mapping[str, Any]) -> dict[str, Any]:
    """`id2label` with int keys 0..C-1 in order, from whichever of the three label keys is there."""
    count, names, stated = (values.get(key) for key in ("num_labels", "id2label", "label2id"))
    if count is not None and (type(count) is not int or not 1 <= count <= _MOST_LABELS):
        raise ConfigError(
            f"The configuration has num_labels = {count!r}, but it must be from 1 to "
            f"{_MOST_LABELS}.",
            key="num_labels",
        )
    if names is None and stated is not None:
        names = _turned_round(stated)
    if names is None and count is None:
        return {}
    placeholders = {number: f"LABEL_{number}" for number in range(count or 2)}
    id2label = placeholders if names is None else _in_order(names)
    if id2label is None:
        return {"id2label": names}  # which BertConfig refuses
    if count not in (None, len(id2label)):
        raise ConfigError(
            f"The configuration has {len(id2label)} names in id2label and num_labels {count}.",
            key="num_labels",
        )
    if stated is not None and stated != {str(name): number for number, name in id2label.items()}:
        raise ConfigError(
            f"The configuration has id2label {id2label} and label2id {stated}, which disagree.",
            key="label2id",
        )
    return {"id2label": id2label}


def _turned_round(stated: Any) -> dict[str, Any]:
    """The id2label that a label2id stands for, where the file has no other."""
    names = {str(stated[name]): name for name in stated} if isinstance(stated, Mapping) else {}
    if _in_order(names) is None or len(names) != len(stated):
        raise ConfigError(
            f"The configuration has label2id {stated!r:.100}, but it must be a mapping of names to "
            "0, 1, 2, ...",
            key="label2id",
        )
    return names


def _in_order(names: object) -> dict[int, Any] | None:
    """A mapping of "0", "1", "2", ... to names, with numbers as keys; None if it is none."""
    by_number = {str(key): names[key] for key in names} if isinstance(names, Mapping) else {}
    if not by_number or by_number.keys() != {str(number) for number in range(len(by_number))}:
        return None
    return {number: by_number[str(number)] for number in range(len(by_number))}
