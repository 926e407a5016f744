"""Checks of the chapter on looking inside: a tap, a patch from one text into another, the distance of attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor

from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

TAP = {
    "nothing returned": "the tap returns nothing",
    "original returned": "the value is replaced in the record, and the network gets the original",
    "recorded before": "the value is recorded before it is replaced",
    "recorded without prefix": "values are recorded under their names without the prefix",
    "matched without prefix": "patterns are compared with the name without its prefix",
    "dot doubled": "prefix and name are joined with another dot",
    "exact names": "patterns are compared for equality, so that a * stands for itself",
    "everything recorded": "every value is recorded, asked for or not",
    "everything replaced": "every replacement is used for every value",
    "first replacement": "only the first replacement that fits is used",
    "not chained": "each replacement gets the original value, so that only the last one counts",
}
PATCH = {
    "swapped": "source and target are swapped (or all positions but this one are replaced, which comes to the same)",
    "unpatched": "the answer is that of the target as it was",
    "whole value": "the vectors of all positions are replaced, which gives the answer of the source",
    "one later": "the vector one position later is replaced",
    "first row": "the vector put in is that of the source's first position",
    "features": "a column of the value is replaced, one number of every vector, instead of a row",
    "added": "the source's vector is added to the target's",
    "every value": "every value is patched, not only the one named",
    "change": "the change of the answer is returned instead of the answer",
}
DISTANCE = {
    "padding asks": "the rows of padding count as queries",
    "texts weigh the same": "each text is averaged by itself, so that the tokens of short ones count more",
    "sign kept": "the distance has a sign, so that left and right cancel",
    "largest only": "only the largest weight of each query counts",
    "transposed": "the weights are summed over the queries instead of the keys",
    "squared": "the distance is squared",
    "from the start": "the column of the key is taken for its distance",
    "heads averaged": "the heads are averaged, too",
    "weights ignored": "the keys count alike, whatever their weights",
}
Mistakes = frozenset[str]


def tap(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (trace, prefix, name, value) -> the value that the network uses from there on.

    `trace` is a dict of "read", patterns of full names, in which * stands for anything; "replace", pattern -> function
    from a value to another; and "values", a dict to fill: full name -> the value after replacement.
    """
    double, plus_one = (lambda x: 2 * x), (lambda x: x + 1)
    both = {"layers.0.*": double, "*.linear": plus_one}
    cases = [
        Case("nothing to read or replace", ((), {}), "The value goes through as it is."),
        Case("a name to read", (("layers.1.linear",), {}), "Look at the name, and at when it is recorded."),
        Case("a pattern to read", (("layers.*.output",), {}), "Look at how names are compared."),
        Case("a value to replace", ((), {"layers.0.linear": double}), "Look at what is returned to the network."),
        Case("a value both replaced and read", (("*.linear",), {"layers.1.linear": double}), "Look at the order."),
        Case("two replacements that fit one value", (("*",), both), "Both are used, one after the other."),
    ]

    def truth(*inputs: Any, mistakes: Mistakes) -> Any:
        return _tapped_pass(partial(tapped, mistakes=mistakes), *inputs)

    def keeps_the_graph(run: Callable[..., Any]) -> str | None:
        values = run(("*",), {}, gradients=True)["values"].values()
        if all(value.requires_grad for value in values):
            return None
        return "But recorded values have lost their graph: no gradient can be taken of them."

    return judge(partial(_tapped_pass, mine), Task(truth, cases, TAP, properties=[keeps_the_graph]))


def tapped(trace: dict[str, Any], prefix: str, name: str, value: Tensor, mistakes: Mistakes = frozenset()) -> Any:
    """The right function of `tap`, with some mistakes."""
    full = f"{prefix}.{name}" if "dot doubled" in mistakes else prefix + name
    compared = name if "matched without prefix" in mistakes else full

    def fits(pattern: str) -> bool:
        return compared == pattern if "exact names" in mistakes else fnmatchcase(compared, pattern)

    new = value
    for pattern, function in trace["replace"].items():
        if "everything replaced" in mistakes or fits(pattern):
            new = function(value if "not chained" in mistakes else new)
            if "first replacement" in mistakes:
                break
    if "everything recorded" in mistakes or any(fits(pattern) for pattern in trace["read"]):
        key = name if "recorded without prefix" in mistakes else full
        trace["values"][key] = value if "recorded before" in mistakes else new
    if "nothing returned" in mistakes:
        return None
    return value if "original returned" in mistakes else new


def _tapped_pass(
    mine: Callable[..., Any], read: Sequence[str], replace: Mapping[str, Any], gradients: bool = False
) -> dict[str, Any] | None:
    """Two small layers with two taps each; None if the tap neither returns nor records anything."""
    generator = torch.Generator().manual_seed(9)
    hidden, *maps = torch.randn(3, 4, 4, generator=generator)  # (S, D), and two (D, D)
    hidden = hidden.requires_grad_(gradients)
    trace: dict[str, Any] = {"read": read, "replace": replace, "values": {}}
    for number, linear in enumerate(maps):
        for name, part in (("linear", linear.mv), ("output", torch.tanh)):
            made = torch.stack([part(row) for row in hidden])  # (S, D)
            hidden = mine(trace, f"layers.{number}.", name, made)
            if hidden is None:
                return {"result": None, "values": trace["values"]} if trace["values"] else None
    return {"result": hidden, "values": trace["values"]}


def patch(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (run, source, target, name, position) -> the answer for the target, patched.

    `run(ids, replace)` gives (answer, values): replace maps names to functions, values names to tensors (S, D). In the
    value of that name, the target's vector at `position` is replaced by the source's.
    """
    source, target = torch.tensor([1, 4, 2, 6, 3]), torch.tensor([1, 5, 2, 7, 3])  # (S,) each
    cases = [
        Case("the embeddings", (_run, source, target, "embeddings", 1), "Look at which vector goes where."),
        Case("a layer in the middle", (_run, source, target, "layers.0", 3), "Look at which values are replaced."),
        Case("the first position", (_run, target, source, "layers.1", 0), "Look at source and target."),
    ]

    def changes_nothing_in_place(_: Callable[..., Any]) -> str | None:
        changed = []

        def watching(ids: Tensor, replace: Mapping[str, Any] | None = None) -> tuple[float, dict[str, Tensor]]:
            def watched(function: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
                before = value.clone()  # (S, D)
                new = function(value)
                changed.append(not torch.equal(before, value))
                return new

            return _run(ids, {name: partial(watched, function) for name, function in (replace or {}).items()})

        mine(watching, source, target, "layers.0", 3)
        return "But the network's value is changed in place: make a copy first." if any(changed) else None

    return judge(mine, Task(patched, cases, PATCH, properties=[changes_nothing_in_place]))


def patched(
    run: Callable[..., Any], source: Tensor, target: Tensor, name: str, position: int, mistakes: Mistakes = frozenset()
) -> float:
    """The right function of `patch`, with some mistakes."""
    if "swapped" in mistakes:
        source, target = target, source
    before = run(target)[0]
    values = run(source)[1]
    there = values[name]  # (S, D)
    place = position + 1 if "one later" in mistakes else position
    given = there[0 if "first row" in mistakes else place]  # (D,)

    def put(value: Tensor) -> Tensor:
        new = value.clone()  # (S, D)
        if "whole value" in mistakes:
            return there
        if "features" in mistakes:
            new[:, place] = there[:, place]
        else:
            new[place] = new[place] + given if "added" in mistakes else given
        return new

    names = [*values] if "every value" in mistakes else [name]
    answer = before if "unpatched" in mistakes else run(target, dict.fromkeys(names, put))[0]
    return answer - before if "change" in mistakes else answer


def _run(ids: Tensor, replace: Mapping[str, Any] | None = None) -> tuple[float, dict[str, Tensor]]:
    """A small network whose layers mix positions, and whose answer reads the first."""
    generator = torch.Generator().manual_seed(3)
    table = torch.randn(8, 6, generator=generator)  # (V, D)
    maps = torch.randn(4, 6, 6, generator=generator) / 2  # (2 * layers, D, D)
    values: dict[str, Tensor] = {}
    hidden = table[ids]  # (S, D)
    for number, name in enumerate(("embeddings", "layers.0", "layers.1")):
        if number:
            own, others = maps[2 * number - 2], maps[2 * number - 1]  # (D, D) each
            hidden = torch.tanh(hidden @ own + hidden.mean(dim=0) @ others)  # (S, D)
        hidden = (replace or {}).get(name, lambda value: value)(hidden)  # (S, D)
        values[name] = hidden
    return float(hidden[0] @ table[0]), values


def attention_distance(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (pattern (B, N, S, S), mask (B, S)) -> the mean distance of attention (N,), in columns.

    Each head's mean over all real queries of the batch; rows of padding may hold anything.
    """
    generator = torch.Generator().manual_seed(10)
    columns = torch.arange(7)  # (S,)
    lengths = torch.tensor([[7], [3], [5]])  # (B, 1)
    masks = {
        "texts without padding": columns < torch.tensor([[7], [7], [7]]),
        "padding on the right": columns < lengths,
        "padding on the left": columns >= 7 - lengths,
    }
    looks = ("Look at how weights and distances are combined.", "Look at which rows are averaged.", "")
    cases = []
    for (what, mask), look in zip(masks.items(), looks, strict=True):
        scores = 2 * torch.randn(3, 4, 7, 7, generator=generator)  # (B, N, S, S)
        scores = scores.masked_fill(~mask[:, None, None, :], -math.inf)  # (B, N, S, S)
        cases.append(Case(what, (scores.softmax(dim=-1), mask), look))
    return judge(mine, Task(distances, cases, DISTANCE))


def distances(pattern: Tensor, mask: Tensor, mistakes: Mistakes = frozenset()) -> Tensor:
    """The right function of `attention_distance`, with some mistakes."""
    columns = torch.arange(mask.shape[1], dtype=pattern.dtype)  # (S,)
    apart = columns - columns[:, None]  # (S, S)
    apart = apart if "sign kept" in mistakes else apart.abs()  # (S, S)
    apart = columns.expand(apart.shape) if "from the start" in mistakes else apart  # (S, S)
    apart = apart**2 if "squared" in mistakes else apart  # (S, S)
    if "largest only" in mistakes:
        pattern = torch.nn.functional.one_hot(pattern.argmax(dim=-1), mask.shape[1]).to(pattern.dtype)  # (B, N, S, S)
    if "weights ignored" in mistakes:
        pattern = (mask / mask.sum(dim=1, keepdim=True))[:, None, None, :].expand(pattern.shape)  # (B, N, S, S)
    of_query = (pattern * apart).sum(dim=-2 if "transposed" in mistakes else -1)  # (B, N, S)
    counts = torch.ones_like(mask) if "padding asks" in mistakes else mask  # (B, S)
    weights = counts.to(pattern.dtype)  # (B, S)
    if "texts weigh the same" in mistakes:
        weights = weights / weights.sum(dim=1, keepdim=True)  # (B, S)
    mean = torch.einsum("bnq,bq->n", of_query, weights) / weights.sum()  # (N,)
    return mean.mean() if "heads averaged" in mistakes else mean
