"""Stored tensors: translating them from TensorFlow, and deciding whether a file fits a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

from minibert.data import mixed_seed
from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

Mistakes = frozenset[str]
Shapes = Mapping[str, tuple[int, ...]]

FROM_TENSORFLOW = {
    "not transposed": "kernels are not transposed",
    "square not transposed": "only kernels that are not square are transposed",
    "tables transposed": "the embedding tables are transposed too",
    "output weights transposed": "output_weights is transposed, although it is stored as (out, in)",
    "gamma and beta swapped": "gamma becomes the bias and beta the weight",
    "query and key swapped": "the query's and the key's tensors have each other's names",
    "layer_0": "the underscore between `layer` and its number is kept",
    "one digit": "only the first digit of a layer's number is kept",
    "tables without weight": "the embedding tables have no `.weight` at the end of their names",
    "no prefix": "the prefix `bert.` is left out",
    "output_bias": "output_bias and output_weights keep their names",
    "optimizer kept": "the optimizer's variables adam_m and adam_v are kept",
    "step kept": "global_step is kept",
}
PLAN_LOADING = {
    "swapped": "missing and unexpected are the wrong way round",
    "harmless reported": "names in `harmless` are reported as unexpected",
    "harmless not needed": "names in `harmless` are never missing, even where the model needs them",
    "shapes not compared": "shapes are not compared",
    "number of values": "the numbers of values are compared instead of the shapes",
    "number of axes": "the numbers of axes are compared instead of the shapes",
    "first axis": "only the first axes are compared",
    "also missing": "a tensor of another shape is listed as missing, too",
    "first only": "each list ends after its first name",
}


def from_tensorflow(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (variables) -> tensors: a TensorFlow checkpoint with official names and torch's layout.

    Both are dicts from names to tensors.
    """
    generator = torch.Generator().manual_seed(mixed_seed("tensorflow"))
    layer = "bert/encoder/layer_11"
    groups: list[tuple[str, dict[str, tuple[int, ...]], str]] = [
        ("the norm of the embeddings", {f"bert/embeddings/LayerNorm/{x}": (3,) for x in ("gamma", "beta")},
         "Look at gamma and beta."),
        ("the tables of the embeddings", {
            f"bert/embeddings/{kind}_embeddings": (rows, 3)
            for kind, rows in (("word", 7), ("position", 5), ("token_type", 2))
        }, "They have rows to look up, and are stored alike in both."),
        ("the first map of a feed-forward block",
         {f"bert/encoder/layer_0/intermediate/dense/{x}": shape for x, shape in (("kernel", (3, 4)), ("bias", (4,)))},
         "Look at the kernel."),
        ("the attention of layer 11",
         {f"{layer}/attention/self/{x}/kernel": (3, 3) for x in ("query", "key", "value")}
         | {f"{layer}/attention/self/{x}/bias": (3,) for x in ("query", "key", "value")},
         "Look at the layer's number, and at kernels that are square."),
        ("the heads",
         {"cls/predictions/output_bias": (7,), "cls/predictions/transform/dense/kernel": (3, 3),
          "cls/predictions/transform/LayerNorm/beta": (3,), "cls/seq_relationship/output_weights": (2, 3),
          "cls/seq_relationship/output_bias": (2,)}, "Look at output_weights and output_bias."),
        ("the state of the optimizer",
         {"bert/pooler/dense/bias": (3,), "bert/pooler/dense/bias/adam_m": (3,), "bert/pooler/dense/bias/adam_v": (3,),
          "global_step": ()}, "Look at what is no weight."),
    ]  # fmt: skip
    cases = [
        Case(what, ({name: torch.randn(shape, generator=generator) for name, shape in group.items()},), look)
        for what, group, look in groups
    ]

    def truth(variables: Mapping[str, Tensor], mistakes: Mistakes) -> dict[str, Tensor]:
        return dict(
            pair for name, tensor in variables.items() if (pair := _translated(name, tensor, mistakes)) is not None
        )

    return judge(mine, Task(truth, cases, FROM_TENSORFLOW))


def _translated(name: str, tensor: Tensor, mistakes: Mistakes) -> tuple[str, Tensor] | None:
    *_, part, last = ["", *name.split("/")]
    if (last in ("adam_m", "adam_v") and "optimizer kept" not in mistakes) or (
        last == "global_step" and "step kept" not in mistakes
    ):
        return None
    kernel = last == "kernel" and "not transposed" not in mistakes
    if kernel and "square not transposed" in mistakes:
        kernel = tensor.shape[0] != tensor.shape[1]
    table = last.endswith("_embeddings")
    if kernel or (table and "tables transposed" in mistakes):
        tensor = tensor.T  # (out, in)
    if last == "output_weights" and "output weights transposed" in mistakes:
        tensor = tensor.T  # (in, out)
    words = {"kernel": "weight", "gamma": "weight", "beta": "bias", "output_weights": "weight", "output_bias": "bias"}
    if "gamma and beta swapped" in mistakes:
        words |= {"gamma": "bias", "beta": "weight"}
    if "output_bias" in mistakes:
        words = {old: new for old, new in words.items() if not old.startswith("output_")}
    parts = [*name.split("/")[:-1], words.get(last, last)]
    if part in ("query", "key") and "query and key swapped" in mistakes:
        parts[-2] = "key" if part == "query" else "query"
    official = ".".join(parts) + (".weight" if table and "tables without weight" not in mistakes else "")
    if "layer_0" not in mistakes:
        official = re.sub(r"layer_(\d+)", r"layer.\1", official)
    if "one digit" in mistakes:
        official = re.sub(r"(?<=layer.)(\d)\d+", r"\1", official)
    return official.removeprefix("bert." if "no prefix" in mistakes else ""), tensor


def plan_loading(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (expected, stored, harmless) -> (missing, unexpected, of another shape), in any order.

    `expected` and `stored` map names to shapes, `harmless` is a set of names; the answer is three lists of names.
    """
    expected = {"word.weight": (9, 4), "inner.weight": (8, 4), "inner.bias": (8,), "outer.weight": (4, 8)}
    pooler = {"pooler.weight": (4, 4), "pooler.bias": (4,)}
    harmless = {"position_ids", *pooler}
    ids = {"position_ids": (1, 16)}
    few = {name: shape for name, shape in expected.items() if not name.startswith("inner")}
    heads = {"classifier.weight": (2, 4), "classifier.bias": (2,)}
    transposed = {**expected, "inner.weight": (4, 8), "outer.weight": (8, 4)}
    cases = [
        Case("a file that fits", (expected, expected, harmless), "Nothing is wrong with it: three empty lists."),
        Case("two tensors that the file lacks", (expected, few, harmless), "Look at the missing ones."),
        Case("two tensors too many", (expected, expected | heads, harmless), "Look at the unexpected ones."),
        Case("leftovers that are harmless", (expected, expected | ids | pooler, harmless), "Look at `harmless`."),
        Case("a model that has a pooler", (expected | pooler, expected, harmless), "The model needs its pooler."),
        Case("matrices stored the other way round", (expected, transposed, harmless), "Look at the shapes."),
        Case("a longer table", (expected, {**expected, "word.weight": (12, 4)}, harmless), "Look at the shapes."),
        Case("a wider table", (expected, {**expected, "word.weight": (9, 5)}, harmless), "Look at the shapes."),
        Case("a vector for a matrix", (expected, {**expected, "word.weight": (9,)}, harmless), "Look at the shapes."),
        Case("all of these at once", (expected | pooler, few | heads | ids | {"word.weight": (12, 4)}, harmless)),
    ]

    def truth(expected: Shapes, stored: Shapes, harmless: set[str], mistakes: Mistakes) -> list[list[str]]:
        missing = [name for name in expected if name not in stored]
        unexpected = [name for name in stored if name not in expected and name not in harmless]
        if "harmless reported" in mistakes:
            unexpected = [name for name in stored if name not in expected]
        if "harmless not needed" in mistakes:
            missing = [name for name in missing if name not in harmless]
        compared: dict[str, Callable[[tuple[int, ...]], Any]] = {
            "number of values": prod, "number of axes": len, "first axis": lambda shape: shape[:1],
            "shapes not compared": lambda shape: None,
        }  # fmt: skip
        look = next((how for name, how in compared.items() if name in mistakes), lambda shape: shape)
        both = [name for name in expected if name in stored]
        shapes = [name for name in both if look(expected[name]) != look(stored[name])]
        if "also missing" in mistakes:
            missing = missing + shapes
        if "swapped" in mistakes:
            missing, unexpected = unexpected, missing
        lists = [missing, unexpected, shapes]
        return [names[:1] if "first only" in mistakes else sorted(names) for names in lists]

    def in_order(*inputs: Any) -> Any:
        answer = mine(*inputs)
        try:
            return [sorted(names) for names in answer]
        except TypeError:  # it is something else, which is told
            return answer

    return judge(in_order, Task(truth, cases, PLAN_LOADING))
