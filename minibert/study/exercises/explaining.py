"""Checks of the chapter on explaining a prediction: the lens, shares of a normalised sum, integrated gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minibert.io.seeds import mixed_seed
from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

LENS = {
    "no dense": "the dense map of the head is left out",
    "dense transposed": "the dense map is multiplied without its transpose",
    "no activation": "the activation of the head is left out",
    "tanh gelu": "the activation is the tanh form of GELU",
    "no norm": "the norm of the head is left out",
    "norm before the activation": "the norm comes before the activation",
    "gains dropped": "the weight and the bias of the norm are left out",
    "no bias": "the bias of the pieces is left out",
    "one layer too high": "each layer is answered with the state of the next",
    "last layer": "all layers are answered with the last state",
    "no softmax": "the logits are not turned into probabilities",
    "softmax over layers": "the softmax runs over the layers",
}
CONTRIBUTIONS = {
    "own scale": "each part is divided by its own spread instead of that of the sum",
    "no means": "the parts keep their means",
    "mean of the sum": "the mean of the sum is subtracted from every part",
    "no scale": "nothing is divided by the spread",
    "variance": "the parts are divided by the variance instead of its root",
    "unbiased variance": "the variance is divided by D - 1",
    "no eps": "eps is left out",
    "no weight": "the weight of the norm is left out",
    "no bias": "the bias of the norm is left out of the rest",
    "bias in every part": "the bias of the norm is added to every part",
    "bias scaled": "the bias is divided by the spread, too",
    "no direction": "the entries are summed without the direction",
}
INTEGRATED_GRADIENTS = {
    "end only": "the gradient is taken at the input only",
    "baseline only": "the gradient is taken at the baseline only",
    "left ends": "the points are the left ends of the steps, k / steps",
    "right ends": "the points are the right ends of the steps, (k + 1) / steps",
    "both ends": "the points run from 0 to 1, both included",
    "path from zero": "the way starts at zero instead of the baseline",
    "not multiplied": "the gradients are not multiplied by the difference",
    "baseline not subtracted": "the gradients are multiplied by the input instead of its difference from the baseline",
    "reversed": "the difference is baseline less input",
    "not averaged": "the gradients are summed over the steps and not averaged",
    "mean over D": "the products are averaged over D instead of summed",
    "magnitudes": "the products are made positive before they are summed over D",
}


def lens(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (states, head) -> probabilities (L + 1, V): what a masked-LM head reads in each layer.

    states is (L + 1, D): one [MASK] after the embeddings and after each layer. `head` maps "dense.weight" (D, D),
    "dense.bias", "norm.weight" and "norm.bias" (D,) each, "table" (V, D) and "bias" (V,) to tensors, and "eps" to a
    number. The activation is GELU.
    """
    return judge(mine, _lens_task())


def contributions(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (parts, weight, bias, eps, direction) -> (shares, rest): a normalised sum, part by part.

    The number that is explained is the layer norm of the sum of parts (K, D), times a direction (D,). `weight` and
    `bias` (D,) are those of the norm. shares is (K,), rest a number, and all of them add up to the number.
    """
    return judge(mine, _contributions_task())


def integrated_gradients(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (function, actual, baseline, steps) -> scores (S,).

    actual and baseline are (S, D), and `function` turns such a matrix into a number. The gradients are taken in the
    middle of each of the equal steps on the straight way from the baseline.
    """
    return judge(mine, _integrated_gradients_task())


def _lens_task() -> Task:
    generator = torch.Generator().manual_seed(mixed_seed("lens"))
    layers, size, pieces = 3, 6, 7
    states = torch.randn(layers + 1, size, generator=generator)  # (L + 1, D)
    dense, table = torch.randn(size, size, generator=generator), torch.randn(pieces, size, generator=generator)
    shift, gain, norm_bias = torch.randn(3, size, generator=generator)  # (D,) each
    bias = torch.randn(pieces, generator=generator)  # (V,)
    plain = {
        "dense.weight": torch.eye(size), "dense.bias": torch.zeros(size), "norm.weight": torch.ones(size),
        "norm.bias": torch.zeros(size), "table": table, "bias": torch.zeros(pieces), "eps": 1e-12,
    }  # fmt: skip
    with_dense = {**plain, "dense.weight": dense, "dense.bias": shift}
    with_norm = {**with_dense, "norm.weight": 1 + gain / 2, "norm.bias": norm_bias}
    whole = {**with_norm, "bias": bias}
    one = states[:1]  # (1, D)
    cases = [
        Case("one state and a dense map that changes nothing", (one, plain), "Look at activation, norm and softmax."),
        Case("one state and a dense map", (one, with_dense), "Look at the dense map."),
        Case("one state, and a norm with weight and bias", (one, with_norm), "Look at how the norm uses them."),
        Case("one state and the whole head", (one, whole), "Look at the bias of the pieces."),
        Case(f"{layers + 1} states and the whole head", (states, whole), "Look at which state goes into which row."),
    ]
    return Task(_read, cases, LENS)


def _read(states: Tensor, head: Mapping[str, Any], mistakes: frozenset[str]) -> Tensor:
    """(L + 1, V)"""
    exact = {name: value.double() if isinstance(value, Tensor) else value for name, value in head.items()}
    hidden = states.double()  # (L + 1, D)
    if "one layer too high" in mistakes:
        hidden = torch.cat([hidden[1:], hidden[-1:]])  # (L + 1, D)
    if "last layer" in mistakes:
        hidden = hidden[-1:].expand_as(hidden)  # (L + 1, D)

    def norm(x: Tensor) -> Tensor:
        if "no norm" in mistakes:
            return x
        x = F.layer_norm(x, x.shape[-1:], eps=head["eps"])  # (L + 1, D)
        return x if "gains dropped" in mistakes else x * exact["norm.weight"] + exact["norm.bias"]

    def activation(x: Tensor) -> Tensor:
        return (
            x if "no activation" in mistakes else F.gelu(x, approximate="tanh" if "tanh gelu" in mistakes else "none")
        )

    weight = exact["dense.weight"]  # (D, D)
    if "no dense" not in mistakes:
        hidden = hidden @ (weight if "dense transposed" in mistakes else weight.T) + exact["dense.bias"]  # (L + 1, D)
    hidden = activation(norm(hidden)) if "norm before the activation" in mistakes else norm(activation(hidden))
    logits = hidden @ exact["table"].T + (0 if "no bias" in mistakes else exact["bias"])  # (L + 1, V)
    if "no softmax" in mistakes:
        return logits
    return logits.softmax(dim=0 if "softmax over layers" in mistakes else -1)


def _contributions_task() -> Task:
    generator = torch.Generator().manual_seed(mixed_seed("contributions"))
    count, size = 3, 6
    parts = torch.randn(count, size, generator=generator) + torch.tensor([[1.0], [-2.0], [0.5]])  # (K, D)
    gain, bias, direction = torch.randn(3, size, generator=generator)  # (D,) each
    ones, zeros = torch.ones(size), torch.zeros(size)  # (D,) each
    cases = [
        Case(
            "one part, and a norm without weight and bias",
            (parts[:1], ones, zeros, 0.0, direction),
            "Look at mean and spread.",
        ),
        Case(
            "several parts, and a norm without weight and bias",
            (parts, ones, zeros, 0.0, direction),
            "Look at whose mean and whose spread each part gets.",
        ),
        Case("a large eps", (parts, ones, zeros, 0.5, direction), "Look at eps."),
        Case("a norm with a weight", (parts, gain, zeros, 0.5, direction), "Look at the weight."),
        Case("a norm with weight and bias", (parts, gain, bias, 0.5, direction), "Look at where the bias goes."),
    ]
    return Task(_split, cases, CONTRIBUTIONS)


def _split(
    parts: Tensor, weight: Tensor, bias: Tensor, eps: float, direction: Tensor, mistakes: frozenset[str]
) -> tuple[Tensor, Tensor]:
    """(K,) and ()"""
    parts, weight, bias, direction = (x.double() for x in (parts, weight, bias, direction))
    weight = torch.ones_like(weight) if "no weight" in mistakes else weight  # (D,)
    direction = torch.ones_like(direction) if "no direction" in mistakes else direction  # (D,)
    total = parts.sum(dim=0)  # (D,)
    varied = parts if "own scale" in mistakes else total  # (K, D) or (D,)
    variance = varied.var(dim=-1, keepdim=True, unbiased="unbiased variance" in mistakes)  # (K, 1) or (1,)
    variance = variance + (0 if "no eps" in mistakes else eps)  # (K, 1) or (1,)
    spread = variance if "variance" in mistakes else variance.sqrt()  # (K, 1) or (1,)
    spread = torch.ones_like(spread) if "no scale" in mistakes else spread  # (K, 1) or (1,)
    means = total.mean() if "mean of the sum" in mistakes else parts.mean(dim=1, keepdim=True)  # (K, 1) or ()
    means = torch.zeros_like(means) if "no means" in mistakes else means  # (K, 1) or ()
    bias = bias / total.std(unbiased=False) if "bias scaled" in mistakes else bias  # (D,)
    shares = ((parts - means) / spread * weight) @ direction  # (K,)
    rest = bias @ direction  # ()
    if "bias in every part" in mistakes:
        shares = shares + rest  # (K,)
    return shares, torch.zeros_like(rest) if "no bias" in mistakes else rest


def _integrated_gradients_task() -> Task:
    generator = torch.Generator().manual_seed(mixed_seed("integrated gradients"))
    actual, baseline, weight = torch.randn(3, 4, 3, generator=generator)  # (S, D) each
    zero = torch.zeros_like(baseline)  # (S, D)

    def linear(x: Tensor) -> Tensor:
        return (x * weight).sum()  # ()

    def curved(x: Tensor) -> Tensor:
        return (x * weight).sum(dim=1).tanh().sum() + (x[0] * x[1]).sum() ** 2 / 4  # ()

    cases = [
        Case("a linear function, baseline zero, one step", (linear, actual, zero, 1), "Look at product and sum."),
        Case("a linear function, baseline zero, four steps", (linear, actual, zero, 4), "Look at the mean over steps."),
        Case("a linear function and another baseline", (linear, actual, baseline, 4), "Look at the baseline."),
        Case("a curved function, baseline zero, four steps", (curved, actual, zero, 4), "Look at the points."),
        Case(
            "a curved function, another baseline, seven steps",
            (curved, actual, baseline, 7),
            "Look at where the gradients are taken.",
        ),
    ]
    return Task(_integrate, cases, INTEGRATED_GRADIENTS)


def _integrate(
    function: Callable[[Tensor], Tensor], actual: Tensor, baseline: Tensor, steps: int, mistakes: frozenset[str]
) -> Tensor:
    """(S,)"""
    points = [(k + 0.5) / steps for k in range(steps)]
    if "left ends" in mistakes:
        points = [k / steps for k in range(steps)]
    if "right ends" in mistakes:
        points = [(k + 1) / steps for k in range(steps)]
    if "both ends" in mistakes:
        points = torch.linspace(0, 1, steps).tolist()
    points = [1.0] if "end only" in mistakes else [0.0] if "baseline only" in mistakes else points
    start = torch.zeros_like(baseline) if "path from zero" in mistakes else baseline  # (S, D)
    total = torch.zeros_like(actual)  # (S, D)
    for point in points:
        with torch.enable_grad():
            place = (start + point * (actual - start)).detach().requires_grad_()  # (S, D)
            total += torch.autograd.grad(function(place), place)[0]
    mean = total if "not averaged" in mistakes else total / len(points)  # (S, D)
    factor = actual if "baseline not subtracted" in mistakes else actual - baseline  # (S, D)
    factor = -factor if "reversed" in mistakes else factor  # (S, D)
    products = mean if "not multiplied" in mistakes else mean * factor  # (S, D)
    products = products.abs() if "magnitudes" in mistakes else products  # (S, D)
    return products.mean(dim=1) if "mean over D" in mistakes else products.sum(dim=1)  # (S,)
