"""The doctor: is a BERT of your own right, and if not, which mistake was made?

It gives your code tiny weights with official names, in which all sizes differ, and compares what it computes with BERT.
If the numbers are others, the doctor makes the classic mistakes itself (`mistakes.py`), one and two at a time, and
names those that reproduce your numbers. For a mistake that it does not know it says where your numbers first depart,
and under which circumstances they are right.

    >>> def build(config, tensors):
    ...     return lambda ids, mask, segments: my_bert(...)  # (B, S) each -> hidden states (B, S, D)
    >>> print(diagnose(build))
"""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from minibert.io.errors import InputError, MinibertError
from minibert.io.seeds import mixed_seed
from minibert.study.mistakes import MISTAKES, Values, forward

Bert = Callable[[Tensor, Tensor, Tensor], Any]  # ids, mask, segments (B, S) -> hidden states (B, S, D)
Build = Callable[[dict[str, Any], dict[str, Tensor]], Bert]

EQUAL = 1e-4  # the largest difference over the largest number: float32 rounds to about 1e-6, mistakes change over 1e-3
SIZES = ((4, 7, 2, 15, 3, 45, 101), (2, 9, 3, 7, 4, 41, 83), (3, 8, 4, 6, 5, 37, 99))  # B, S, N, H, L, F, V
SPREADS = (3e-3, 3e-3, 0.5)  # of embeddings: small ones show the eps of their norm, others what its absence hides


@dataclass(frozen=True)
class Case:
    """A tiny model and a batch: config and tensors with official names, and what BERT makes of the batch."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    ids: Tensor  # (B, S)
    mask: Tensor  # (B, S), padding on the right of all rows but the first
    segments: Tensor  # (B, S)

    @cached_property
    def exact(self) -> dict[str, Tensor]:
        """The tensors in float64."""
        return {name: tensor.double() for name, tensor in self.tensors.items()}

    def values(self, *mistakes: str) -> Values:
        """The numbers of BERT, in float64, with some mistakes."""
        return forward(self.config, self.exact, self.ids, self.mask, self.segments, frozenset(mistakes))


@dataclass(frozen=True)
class Verdict:
    """What the doctor found.

    Attributes:
        equal: whether all numbers are BERT's.
        difference: the largest difference of a hidden state at a real token, over the largest hidden state.
        mistakes: the known mistakes that together reproduce the numbers; several entries of one mistake each mean that
            each alone does. Empty where none does.
        departs: the first named value that differs, where the code returned a dict of them.
        evidence: sentences about when the numbers are right and when not.
        error: the exception that the code raised.
    """

    equal: bool
    difference: float | None = None
    mistakes: list[tuple[str, ...]] = field(default_factory=list)
    departs: str | None = None
    evidence: list[str] = field(default_factory=list)
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same for programs, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if self.error is not None:
            return f"The code stopped with an error.\n{self.error}"
        if self.equal:
            return f"Equal to BERT: the largest difference is {self.difference:.1e} of the largest number."
        lines = [f"Not BERT: hidden states differ by up to {self.difference:.3g} of the largest number."]
        for names in self.mistakes:
            what = ", and ".join(MISTAKES[name] for name in names)
            lines.append(f"They are those of a BERT in which {what}.")
        if not self.mistakes:
            lines.append("No known mistake, alone or with another, gives these numbers.")
        if self.departs is not None:
            lines.append(f"The first value that departs is {self.departs}.")
        return "\n".join([*lines, *self.evidence])


def diagnose(build: Build, *, seed: int = 0) -> Verdict:
    """Examines an implementation of BERT.

    Args:
        build: takes the keys of an official config.json and tensors with official names (those of a bare BertModel, in
            float32), and returns a callable from ids, mask and segments, (B, S) each, to the hidden states (B, S, D).
            It may return a dict instead: "hidden", optionally "pooled" (B, D), and any values that `mistakes.forward`
            names; or transformers' output.
        seed: of weights and batches.
    """
    cases = make_cases(seed)
    try:
        found = [examine(build, case) for case in cases]
        again = examine(build, cases[0])
    except MinibertError:
        raise
    except Exception:  # the code is a stranger's
        return Verdict(False, error=traceback.format_exc(limit=-4).strip())
    right = [case.values() for case in cases]
    triples = [*zip(found, right, cases, strict=True)]
    difference = max(distance(*triple, "hidden") for triple in triples)
    if distance(again, {"hidden": found[0]["hidden"]}, cases[0], "hidden") > 1e-6:
        sentence = "Two calls with the same input gave different numbers: dropout is on. Call eval()."
        return Verdict(False, difference, evidence=[sentence])
    if all(_same(*triple) for triple in triples):
        return Verdict(True, difference)
    departs = next((name for name in right[0] if distance(found[0], right[0], cases[0], name) > EQUAL), None)
    mistakes = _explain(found, cases)
    evidence = [] if mistakes else _evidence(build, cases[0])
    named = len(found[0]) > 1 + ("pooled" in found[0])
    return Verdict(False, difference, mistakes, departs if named else None, evidence)


def make_cases(seed: int) -> list[Case]:
    """The cases of an examination."""
    kinds = enumerate(zip(SIZES, SPREADS, strict=True))
    return [make_case(sizes, mixed_seed("doctor", seed, number), spread=spread) for number, (sizes, spread) in kinds]


def make_case(sizes: tuple[int, ...], seed: int, layers: int | None = None, spread: float = SPREADS[0]) -> Case:
    """A case of some sizes (B, S, N, H, L, F, V) and spread of embeddings, in which every weight matters."""
    batch, columns, heads, head_size, depth, inner, vocabulary = sizes
    size = heads * head_size
    config: dict[str, Any] = {
        "model_type": "bert", "architectures": ["BertModel"], "vocab_size": vocabulary, "hidden_size": size,
        "num_hidden_layers": depth if layers is None else layers, "num_attention_heads": heads,
        "intermediate_size": inner, "hidden_act": "gelu", "max_position_embeddings": columns + 4, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "pad_token_id": 0,
    }  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "embeddings.word_embeddings.weight": (vocabulary, size),
        "embeddings.position_embeddings.weight": (columns + 4, size),
        "embeddings.token_type_embeddings.weight": (2, size),
        **_named("embeddings.LayerNorm", size),
    }
    for number in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= _named(f"{name}.attention.{part}", size, size)
        shapes |= _named(f"{name}.intermediate.dense", inner, size) | _named(f"{name}.output.dense", size, inner)
        shapes |= _named(f"{name}.attention.output.LayerNorm", size) | _named(f"{name}.output.LayerNorm", size)
    shapes |= _named("pooler.dense", size, size)
    tensors = {name: _weights(name, shape, generator, spread) for name, shape in shapes.items()}
    ids = torch.randint(1, vocabulary, (batch, columns), generator=generator)  # (B, S)
    lengths = torch.tensor([columns, *(columns - 2 - row for row in range(batch - 1))])  # (B,)
    mask = (torch.arange(columns) < lengths[:, None]).long()  # (B, S)
    segments = (torch.arange(columns) >= lengths[:, None] // 2).long() * mask  # (B, S)
    return Case(config, tensors, ids * mask, mask, segments)


def _named(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _weights(name: str, shape: tuple[int, ...], generator: torch.Generator, spread: float) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if "LayerNorm.weight" in name:
        return 1 + 0.3 * noise
    if len(shape) == 1:
        return 0.3 * noise
    return noise * (spread if "embeddings" in name else 1.5 * shape[1] ** -0.5)


def examine(build: Build, case: Case) -> Values:
    """What an implementation computes for a case: "hidden" and whatever else it returns by name."""
    tensors = {name: tensor.clone() for name, tensor in case.tensors.items()}
    bert = build(dict(case.config), tensors)
    with torch.no_grad():
        output = bert(case.ids.clone(), case.mask.clone(), case.segments.clone())
    if hasattr(output, "last_hidden_state"):  # transformers' and minibert's own
        pooled = getattr(output, "pooler_output", None)
        output = {"hidden": output.last_hidden_state} | ({} if pooled is None else {"pooled": pooled})
    if not isinstance(output, Mapping):
        output = {"hidden": output}
    known = case.values()
    unknown = [name for name in output if name not in known]
    if unknown:
        names = ", ".join(known)
        raise InputError(f"There are no values {', '.join(map(str, unknown))}. The names are {names}.", key="values")
    if any(value is None for value in output.values()):
        raise InputError("The function returned None instead of hidden states (B, S, D).", key="hidden")
    values = {name: torch.as_tensor(value).detach().double() for name, value in output.items()}
    expected = (*case.ids.shape, case.config["hidden_size"])
    if "hidden" not in values or values["hidden"].shape != expected:
        if "hidden" not in values:
            raise InputError(
                "The function returned a dict without 'hidden', the hidden states (B, S, D).", key="hidden"
            )
        shape = tuple(values["hidden"].shape)
        raise InputError(f"The hidden states have shape {shape}, but should have {tuple(expected)}.", key="hidden")
    return values


def distance(mine: Values, theirs: Values, case: Case, name: str) -> float:
    """The largest difference of a value at real tokens over the largest number; 0 where one of the two lacks it."""
    if name not in mine or name not in theirs:
        return 0.0
    a, b = mine[name], theirs[name]
    if a.shape != b.shape:
        return float("inf")
    real = case.mask.bool()  # (B, S)
    if name.endswith((".scores", ".pattern")):
        both = (real[:, None, :, None] & real[:, None, None, :]).expand_as(a)  # (B, N, S, S)
        a, b = a[both], b[both]
    elif name.endswith(".context"):
        a, b = a.transpose(1, 2)[real], b.transpose(1, 2)[real]  # (T, N, H)
    elif a.dim() == 3:
        a, b = a[real], b[real]  # (T, D)
    found = float((a - b).abs().max() / b.abs().max())
    return found if found == found else float("inf")


def _same(mine: Values, theirs: Values, case: Case) -> bool:
    return all(distance(mine, theirs, case, name) <= EQUAL for name in mine)


def _explain(found: list[Values], cases: list[Case]) -> list[tuple[str, ...]]:
    """The single mistakes that give the numbers of every case; or else the pairs of mistakes that do."""
    kept: list[Values] = [{name: values[name] for name in ("hidden", "pooled") if name in values} for values in found]

    def gives(mistakes: tuple[str, ...]) -> bool:
        return all(_same(mine, case.values(*mistakes), case) for mine, case in zip(kept, cases, strict=True))

    singles: list[tuple[str, ...]] = [(name,) for name in MISTAKES]
    matching = [mistakes for mistakes in singles if gives(mistakes)]
    return matching or [mistakes for mistakes in itertools.combinations(MISTAKES, 2) if gives(mistakes)]


def _evidence(build: Build, case: Case) -> list[str]:
    """When the numbers are right: the circumstances leave out one suspect at a time."""
    shorter = Case(case.config, case.tensors, case.ids[:1], case.mask[:1], case.segments[:1])
    alone = Case(case.config, case.tensors, case.ids[:, :1], case.mask[:, :1], case.segments[:, :1])
    plain = Case(case.config, case.tensors, case.ids, case.mask, torch.zeros_like(case.segments))
    single = make_case(SIZES[0], mixed_seed("doctor", "one layer"), layers=1)
    circumstances = {
        "one layer": (single, "Look at how layers follow each other.", "Look at the embeddings and at a single layer."),
        "a row without padding": (shorter, "Look at the mask.", "The mask is not the only cause."),
        "a single token, which can only read itself": (
            alone, "Look at scores, softmax, mask and positions.", "Attention between tokens is not the only cause."
        ),
        "segments that are all 0": (plain, "Look at the segment embeddings.", "Segments are not the only cause."),
    }  # fmt: skip
    sentences = []
    for what, (each, if_right, if_wrong) in circumstances.items():
        try:
            values = examine(build, each)
        except Exception as error:  # the code is a stranger's
            sentences.append(f"With {what} the code stops: {type(error).__name__}: {error}")
            continue
        right = distance(values, each.values(), each, "hidden") <= EQUAL
        sentences.append(f"With {what} the numbers are {'right. ' + if_right if right else 'wrong, too. ' + if_wrong}")
    return sentences
