"""The masked-LM head: from hidden states to a score for every piece of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minibert.data import mixed_seed
from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

Mistakes = frozenset[str]

MASKED_LM_HEAD = {
    "no activation": "there is no GELU after the dense layer",
    "tanh gelu": "GELU is the tanh approximation instead of the exact form with erf",
    "relu": "the activation is ReLU instead of GELU",
    "no norm": "there is no layer norm",
    "norm first": "the layer norm comes before GELU",
    "norm without weight and bias": "the layer norm has no weight and no bias",
    "eps 1e-5": "the layer norm uses torch's default eps of 1e-5",
    "residual": "the hidden states are added before the norm, as in an encoder layer",
    "dense transposed": "the dense layer's matrix is used without the transpose of torch's (out, in) layout",
    "dense bias dropped": "the dense layer's bias is left out",
    "bias dropped": "the decoder's bias is left out",
    "probabilities": "a softmax was taken at the end, and a head returns logits",
    "log-probabilities": "a log-softmax was taken at the end, and a head returns logits",
}


def masked_lm_head(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (hidden, word_table, weights, eps) -> logits: the masked-LM head with a tied decoder.

    hidden is (B, S, D), word_table (V, D), logits (B, S, V). `weights` maps "dense.weight" (D, D), "dense.bias",
    "norm.weight", "norm.bias" (D,) and "bias" (V,), in torch's layout (out, in).
    """
    rows, columns, size, pieces = 2, 3, 6, 11
    shapes = [(rows, columns, size), (pieces, size), (size, size), (size,), (size,), (size,), (pieces,)]
    generator = torch.Generator().manual_seed(mixed_seed("head"))
    hidden, table, dense, *vectors = (torch.randn(shape, generator=generator) for shape in shapes)
    random = dict(zip(("dense.bias", "norm.weight", "norm.bias", "bias"), vectors, strict=True))
    zero, zeros = torch.zeros(size), torch.zeros(pieces)  # (D,), (V,)
    plain = {"dense.weight": torch.eye(size), "dense.bias": zero, "norm.weight": torch.ones(size)}
    plain |= {"norm.bias": zero, "bias": zeros}
    weights = {**random, "dense.weight": dense}
    with_dense = {**plain, "dense.weight": dense, "dense.bias": weights["dense.bias"]}
    with_norm = {**weights, "bias": zeros}
    cases = [
        Case(
            "an identity for the dense layer and a plain norm", (hidden, table, plain, 1e-12), "Look at GELU and norm."
        ),
        Case("a dense layer", (hidden, table, with_dense, 1e-12), "Look at the dense layer."),
        Case("weight and bias of the norm", (hidden, table, with_norm, 1e-12), "Look at the norm."),
        Case("hidden states close to 0", (hidden * 1e-3, table, plain, 1e-12), "Look at the norm's eps."),
        Case("all weights", (hidden, table, weights, 1e-12), "Look at the decoder's bias."),
    ]

    def truth(
        hidden: Tensor, word_table: Tensor, weights: Mapping[str, Tensor], eps: float, mistakes: Mistakes
    ) -> Tensor:
        hidden, table = hidden.double(), word_table.double()  # (B, S, D), (V, D)
        exact = {name: tensor.double() for name, tensor in weights.items()}
        matrix = exact["dense.weight"].T if "dense transposed" in mistakes else exact["dense.weight"]  # (D, D)
        x = F.linear(hidden, matrix, None if "dense bias dropped" in mistakes else exact["dense.bias"])  # (B, S, D)
        norm = None if "norm without weight and bias" in mistakes else exact["norm.weight"]  # (D,)
        shift = None if norm is None else exact["norm.bias"]  # (D,)

        def activate(x: Tensor) -> Tensor:
            if "no activation" in mistakes:
                return x
            if "relu" in mistakes:
                return x.relu()
            return F.gelu(x, approximate="tanh" if "tanh gelu" in mistakes else "none")  # (B, S, D)

        def normalise(x: Tensor) -> Tensor:
            x = x + hidden if "residual" in mistakes else x  # (B, S, D)
            if "no norm" in mistakes:
                return x
            return F.layer_norm(x, x.shape[-1:], norm, shift, 1e-5 if "eps 1e-5" in mistakes else eps)  # (B, S, D)

        x = activate(normalise(x)) if "norm first" in mistakes else normalise(activate(x))  # (B, S, D)
        logits = F.linear(x, table, None if "bias dropped" in mistakes else exact["bias"])  # (B, S, V)
        if "probabilities" in mistakes:
            return logits.softmax(-1)  # (B, S, V)
        return logits.log_softmax(-1) if "log-probabilities" in mistakes else logits  # (B, S, V)

    return judge(mine, Task(truth, cases, MASKED_LM_HEAD, gradients=(0, 1)))
