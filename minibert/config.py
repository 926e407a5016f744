"""The configuration: the keys of BERT's official `config.json`, checked once.

Devlin et al. 2019, section 3 ("Model Architecture"), names the sizes; the key names are those of
the published files. A config is data from outside: every value is checked before anything is built
from it. Unknown keys are kept and written back, but never acted on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minibert.io.labels import read_labels
from minibert.io.rules import Rule, check_fields, lists_numbers, numbers_from_zero, refuse_other_networks, wrong

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish", "tanh")


@dataclass(frozen=True)
class BertConfig:
    """Sizes and rates of one BERT or DistilBERT; the defaults are those of bert-base-uncased.

    DistilBERT (Sanh et al. 2019, section 3) is BERT without segment table (`type_vocab_size` 0),
    pooler, and dropout after the attention's output projection, with dropouts of its own in the
    heads. ConfigError names the key that is of the wrong type or out of range.
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
        check_fields(self, RULES)
        for key, fits, wanted in self._relations():
            if not fits:
                raise wrong(key, getattr(self, key), wanted)

    def _relations(self) -> Iterator[tuple[str, bool, str]]:
        """What several keys have to be together: the key to name, whether it fits, what would."""
        divides = self.hidden_size % self.num_attention_heads == 0
        yield "num_attention_heads", divides, f"a divisor of hidden_size {self.hidden_size}"
        fits = not self.is_distilbert or self.type_vocab_size == 0
        yield "type_vocab_size", fits, "0 for a DistilBERT, which has no segments"
        fits = self.pad_token_id is None or 0 <= self.pad_token_id < self.vocab_size
        yield "pad_token_id", fits, f"from 0 to below vocab_size {self.vocab_size}"
        layers, heads = self.num_hidden_layers, self.num_attention_heads
        pruned = self.pruned_heads.items()
        fits = all(layer < layers and max(which, default=0) < heads for layer, which in pruned)
        fits = fits and all(self.heads_of(layer) > 0 for layer in self.pruned_heads)
        yield "pruned_heads", fits, "heads that exist, and not all heads of a layer"

    @property
    def head_size(self) -> int:
        """H, the width of one attention head: D = N * H."""
        return self.hidden_size // self.num_attention_heads

    def heads_of(self, layer: int) -> int:
        """N, less the heads that have been pruned from a layer."""
        return self.num_attention_heads - len(set(self.pruned_heads.get(layer, ())))

    @property
    def num_labels(self) -> int:
        """C."""
        return len(self.id2label)

    @property
    def label2id(self) -> dict[str, int]:
        return {name: number for number, name in self.id2label.items()}

    @property
    def is_distilbert(self) -> bool:
        return self.model_type == "distilbert"

    @property
    def attention_output_dropout(self) -> float:
        """The rate between the attention's output projection and the residual sum."""
        return 0.0 if self.is_distilbert else self.hidden_dropout_prob

    @property
    def head_dropout(self) -> float:
        """The dropout before a classifier: `classifier_dropout`, or else the general rate."""
        rate = None if self.is_distilbert else self.classifier_dropout
        return self.hidden_dropout_prob if rate is None else rate

    def replace(self, **changes: Any) -> BertConfig:
        """The same with some values changed, checked again."""
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_official(cls, values: Mapping[str, Any]) -> BertConfig:
        """A config from the keys of BERT's `config.json`. ConfigError for what this network cannot be: a decoder."""
        refuse_other_networks(values)
        known = {item.name for item in dataclasses.fields(cls)} - {"extra", "id2label"}
        chosen = {key: value for key, value in values.items() if key in known}
        if isinstance(chosen.get("pruned_heads"), Mapping):  # JSON has text for keys
            pruned = chosen["pruned_heads"].items()
            chosen["pruned_heads"] = {int(k) if str(k).isdecimal() else k: v for k, v in pruned}
        if (labels := read_labels(values)) is not None:
            chosen["id2label"] = labels
        apart = known | {"id2label", "label2id", "num_labels"}
        return cls(**chosen, extra={key: values[key] for key in values if key not in apart})

    def to_official(self) -> dict[str, Any]:
        """The inverse of from_official."""
        values = {**self.extra, **vars(self), "label2id": self.label2id}
        del values["extra"]
        values["id2label"] = {str(number): name for number, name in self.id2label.items()}
        values["pruned_heads"] = {str(n): list(heads) for n, heads in self.pruned_heads.items()}
        return values


# Two sizes make the largest table, counted in 64 bits.
_SIZE = (lambda size: 1 <= size <= 2**30, f"from 1 to {2**30}")
_RATE = (lambda rate: 0 <= rate < 1, "at least 0 and below 1")

_SIZES = ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings")
_RATES = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "qa_dropout", "seq_classif_dropout",
)  # fmt: skip

# Key -> whether a value is possible, and what it has to be.
RULES: dict[str, Rule] = {
    **dict.fromkeys(_SIZES, _SIZE),
    **dict.fromkeys(_RATES, _RATE),
    "num_hidden_layers": (lambda layers: 1 <= layers <= 1000, "from 1 to 1000"),
    "type_vocab_size": (lambda size: 0 <= size <= 2**30, f"from 0 to {2**30}"),
    "initializer_range": (lambda deviation: 0 < deviation < 1e6, "above 0 and finite"),
    "layer_norm_eps": (lambda eps: 0 < eps < 1, "above 0 and below 1"),
    "hidden_act": (lambda name: name in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}"),
    "model_type": (lambda name: name in ("bert", "distilbert"), "bert or distilbert"),
    "problem_type": (lambda name: name in PROBLEM_TYPES, f"one of {', '.join(PROBLEM_TYPES)}"),
    "id2label": (numbers_from_zero, "a mapping of 0, 1, 2, ... to names, each of another"),
    "pruned_heads": (lists_numbers, "a mapping of layers to lists of heads"),
}
