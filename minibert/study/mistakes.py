"""The classic mistakes: BERT once more, with a switch at every place where re-implementations go wrong.

`forward` computes BERT from tensors with official names, step by step, in one function per part. With no switch it is
BERT. Each switch is one mistake that somebody has made; several can be on at once. The doctor (`doctor.py`) and the
exercises turn them on to see which of them reproduces a reader's numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Config = Mapping[str, Any]
Tensors = Mapping[str, Tensor]
Values = dict[str, Tensor]

# Switch -> what was done, in words that finish "the numbers are those of a BERT in which ...".
MISTAKES = {
    "positions from one": "position ids start at 1 instead of 0",
    "no positions": "position embeddings are not added",
    "no segments": "segment embeddings are not added",
    "one segment": "every token gets the embedding of segment 0",
    "scaled words": "word embeddings are multiplied by the root of D, as in the Transformer of 2017",
    "no embedding norm": "the layer norm after the embeddings is missing",
    "eps 1e-5": "layer norms use torch's default eps of 1e-5 instead of the config's 1e-12",
    "unbiased variance": "layer norms divide by the variance with D - 1 instead of D",
    "gamma and beta dropped": "layer norms have weight 1 and bias 0: LayerNorm.weight and .bias were not loaded",
    "pre-norm": "layer norms come before the sublayers instead of after the sum",
    "norm inside the residual": "what a sublayer writes is normalised before it is added, not the sum",
    "no attention residual": "the input is not added to the attention's output",
    "no feed-forward residual": "the input is not added to the feed-forward block's output",
    "residual of the sum": "the feed-forward block's output is added to the first sum, not to that sum's norm",
    "no scale": "scores are not divided by the root of the head size",
    "scale by D": "scores are divided by the root of D instead of the head size",
    "scale without root": "scores are divided by the head size instead of its root",
    "padding attended": "the attention mask is ignored, so padding is read",
    "mask on queries": "the mask is applied to the rows (queries) of the scores instead of the columns (keys)",
    "mask inverted": "the mask is inverted: padding is read and text is not",
    "masked scores of zero": "masked scores are set to 0 instead of a number whose exponential is 0",
    "mask after the softmax": "the mask multiplies the pattern after the softmax, so rows no longer sum to 1",
    "causal": "tokens cannot see those after them, as in a decoder",
    "softmax over queries": "the softmax runs over the queries (dim=-2) instead of the keys (dim=-1)",
    "softmax over heads": "the softmax runs over the heads (dim=1) instead of the keys (dim=-1)",
    "interleaved heads": "D is split as (H, N) instead of (N, H), so heads take every N-th dimension",
    "heads cut without a swap": "(B, S, D) is reshaped to (B, N, S, H) at once, without swapping S and N",
    "heads not brought back": "contexts (B, N, S, H) are reshaped to (B, S, D) without swapping N and S back",
    "query and key swapped": "the query's weights are used for the key, and the reverse",
    "key and value swapped": "the key's weights are used for the value, and the reverse",
    "query and value swapped": "the query's weights are used for the value, and the reverse",
    "attention transposed": "query, key and value weights are used without the transpose of torch's (out, in) layout",
    "output transposed": "the attention's output weights are used without the transpose of torch's (out, in) layout",
    "no output projection": "the attention's output projection is missing",
    "attention biases dropped": "the biases of query, key and value were not loaded",
    "output biases dropped": "the biases of the attention's output and the feed-forward block's were not loaded",
    "tanh gelu": "GELU is the tanh approximation instead of the exact form with erf",
    "sigmoid gelu": "GELU is x * sigmoid(1.702 x) instead of the exact form with erf",
    "relu": "the activation is ReLU instead of GELU",
    "silu": "the activation is SiLU instead of GELU",
    "no activation": "the feed-forward block has no activation",
    "activation after the second map": "the activation follows the second map of the feed-forward block, too",
    "first layer repeated": "every layer has the weights of layer 0",
    "layers reversed": "the layers run from the last to the first",
    "last layer missing": "the last layer is not run",
    "last layer twice": "the last layer is run twice",
    "pooler without tanh": "the pooler has no tanh",
    "pooler of the last token": "the pooler reads the last column instead of [CLS]",
    "pooler of the mean": "the pooler reads the mean over the columns instead of [CLS]",
    "pooler transposed": "the pooler's weights are used without the transpose of torch's (out, in) layout",
}  # fmt: skip

# A switch, but not a mistake: masked scores are -inf, so that the softmax of scores that are all masked is NaN.
MINUS_INFINITY = "minus infinity"

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh gelu": lambda x: F.gelu(x, approximate="tanh"),
    "sigmoid gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "silu": F.silu,
    "no activation": lambda x: x,
}


def forward(
    config: Config, tensors: Tensors, ids: Tensor, mask: Tensor, segments: Tensor, mistakes: Set[str] = frozenset()
) -> Values:
    """BERT with some mistakes.

    Args:
        config: keys of an official config.json.
        tensors: official name -> tensor, those of a bare BertModel.
        ids, mask, segments: (B, S) each; the mask is 1 at real tokens.
        mistakes: keys of `MISTAKES`.

    Returns:
        Name -> value, in the order of the pass: "embeddings", for each layer "layers.0.scores", ".pattern", ".context",
        ".attention", ".output", and "hidden" (B, S, D), the last hidden state, and "pooled" (B, D).
    """
    values: Values = {}
    hidden = embed(config, tensors, ids, segments, mistakes)  # (B, S, D)
    values["embeddings"] = hidden
    for step, number in enumerate(_layers(config["num_hidden_layers"], mistakes)):
        weights = _part(tensors, f"encoder.layer.{number}.")
        hidden = layer(config, weights, hidden, mask, mistakes, values, f"layers.{step}.")  # (B, S, D)
    values["hidden"] = hidden
    if "pooler.dense.weight" in tensors:
        values["pooled"] = pool(_part(tensors, "pooler.dense."), hidden, mistakes)  # (B, D)
    return values


def embed(config: Config, tensors: Tensors, ids: Tensor, segments: Tensor, mistakes: Set[str]) -> Tensor:
    """(B, S) ids and segments -> (B, S, D)."""
    tensors = _part(tensors, "embeddings.")
    total = tensors["word_embeddings.weight"][ids]  # (B, S, D)
    if "scaled words" in mistakes:
        total = total * math.sqrt(total.shape[-1])  # (B, S, D)
    if "no positions" not in mistakes:
        start = int("positions from one" in mistakes)
        total = total + tensors["position_embeddings.weight"][start : start + ids.shape[1]]  # (B, S, D)
    if "no segments" not in mistakes:
        chosen = torch.zeros_like(segments) if "one segment" in mistakes else segments  # (B, S)
        total = total + tensors["token_type_embeddings.weight"][chosen]  # (B, S, D)
    return total if "no embedding norm" in mistakes else norm(config, _part(tensors, "LayerNorm."), total, mistakes)


def layer(
    config: Config, weights: Tensors, hidden: Tensor, mask: Tensor, mistakes: Set[str], values: Values, name: str
) -> Tensor:
    """One encoder layer, (B, S, D) -> (B, S, D); its values go into `values` under `name`."""
    first, second = _part(weights, "attention.output.LayerNorm."), _part(weights, "output.LayerNorm.")
    attended = lambda x: attention(config, weights, x, mask, mistakes, values, name)  # noqa: E731
    fed = lambda x: feed_forward(weights, x, mistakes)  # noqa: E731
    nothing = torch.zeros_like(hidden)  # (B, S, D)
    before = nothing if "no attention residual" in mistakes else hidden  # (B, S, D)
    hidden, total = _add_and_norm(config, first, hidden, before, attended, mistakes)  # (B, S, D) each
    values[f"{name}attention"] = hidden
    before = total if "residual of the sum" in mistakes else hidden  # (B, S, D)
    before = nothing if "no feed-forward residual" in mistakes else before  # (B, S, D)
    hidden, _ = _add_and_norm(config, second, hidden, before, fed, mistakes)  # (B, S, D)
    values[f"{name}output"] = hidden
    return hidden


def _add_and_norm(
    config: Config,
    weights: Tensors,
    hidden: Tensor,
    before: Tensor,
    sublayer: Callable[[Tensor], Tensor],
    mistakes: Set[str],
) -> tuple[Tensor, Tensor]:
    """What the half of a layer gives, and its sum; `before` (B, S, D) is what the sublayer's output is added to."""
    if "pre-norm" in mistakes:
        total = before + sublayer(norm(config, weights, hidden, mistakes))  # (B, S, D)
        return total, total
    if "norm inside the residual" in mistakes:
        total = before + norm(config, weights, sublayer(hidden), mistakes)  # (B, S, D)
        return total, total
    total = before + sublayer(hidden)  # (B, S, D)
    return norm(config, weights, total, mistakes), total


def attention(
    config: Config, weights: Tensors, hidden: Tensor, mask: Tensor, mistakes: Set[str], values: Values, name: str
) -> Tensor:
    """Self-attention with its output projection, (B, S, D) -> (B, S, D)."""
    heads, size = config["num_attention_heads"], hidden.shape[-1] // config["num_attention_heads"]
    bias, flip = "attention biases dropped" not in mistakes, "attention transposed" in mistakes

    def projected(kind: str) -> Tensor:
        flat = linear(_part(weights, f"attention.self.{kind}."), hidden, bias, flip)  # (B, S, D)
        if "interleaved heads" in mistakes:
            return flat.unflatten(2, (size, heads)).permute(0, 3, 1, 2)  # (B, N, S, H)
        if "heads cut without a swap" in mistakes:
            return flat.reshape(flat.shape[0], heads, -1, size)  # (B, N, S, H)
        return flat.unflatten(2, (heads, size)).transpose(1, 2)  # (B, N, S, H)

    kinds = ["query", "key", "value"]
    for first, second in ((0, 1), (1, 2), (0, 2)):
        if f"{('query', 'key', 'value')[first]} and {('query', 'key', 'value')[second]} swapped" in mistakes:
            kinds[first], kinds[second] = kinds[second], kinds[first]
    query, key, value = map(projected, kinds)
    scores, pattern, context = attend(query, key, value, mask, mistakes)
    values |= {f"{name}scores": scores, f"{name}pattern": pattern, f"{name}context": context}
    if "heads not brought back" in mistakes:
        merged = context.reshape(hidden.shape)  # (B, S, D)
    elif "interleaved heads" in mistakes:
        merged = context.permute(0, 2, 3, 1).flatten(2)  # (B, S, D)
    else:
        merged = context.transpose(1, 2).flatten(2)  # (B, S, D)
    if "no output projection" in mistakes:
        return merged
    out = _part(weights, "attention.output.dense.")
    return linear(out, merged, "output biases dropped" not in mistakes, "output transposed" in mistakes)  # (B, S, D)


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, mistakes: Set[str] = frozenset()
) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, S, H) each -> scores and pattern (B, N, S, S), and context (B, N, S, H)."""
    heads, size = query.shape[1], query.shape[-1]
    scales = {"no scale": 1.0, "scale by D": math.sqrt(heads * size), "scale without root": float(size)}
    scores = query @ key.transpose(-2, -1)  # (B, N, S, S)
    scores = scores / next((scales[m] for m in scales if m in mistakes), math.sqrt(size))  # (B, N, S, S)
    unseen, late = ~visible(mask, mistakes), "mask after the softmax" in mistakes  # (B, 1, S, S), bool
    least = -math.inf if MINUS_INFINITY in mistakes else torch.finfo(scores.dtype).min
    if "masked scores of zero" in mistakes:
        masked = scores.masked_fill(unseen, 0.0)  # (B, N, S, S)
    else:
        masked = scores if late else scores.masked_fill(unseen, least)  # (B, N, S, S)
    axis = -2 if "softmax over queries" in mistakes else 1 if "softmax over heads" in mistakes else -1
    pattern = masked.softmax(dim=axis)  # (B, N, S, S)
    pattern = pattern.masked_fill(unseen, 0.0) if late else pattern  # (B, N, S, S)
    return scores, pattern, pattern @ value


def visible(mask: Tensor, mistakes: Set[str]) -> Tensor:
    """(B, 1, S, S) which key each query may read."""
    size = mask.shape[1]
    real = torch.ones_like(mask) if "padding attended" in mistakes else mask  # (B, S)
    keys = (real == 0) if "mask inverted" in mistakes else (real != 0)  # (B, S)
    seen = (
        keys[:, None, :, None] if "mask on queries" in mistakes else keys[:, None, None, :]
    )  # (B, 1, S, 1) or (B, 1, 1, S)
    seen = seen.expand(-1, 1, size, size)  # (B, 1, S, S)
    return seen & torch.ones(size, size).tril().bool() if "causal" in mistakes else seen  # (B, 1, S, S)


def feed_forward(weights: Tensors, hidden: Tensor, mistakes: Set[str]) -> Tensor:
    """The feed-forward block, (B, S, D) -> (B, S, D)."""
    activation = next((_ACTIVATIONS[m] for m in _ACTIVATIONS if m in mistakes), F.gelu)
    inner = activation(linear(_part(weights, "intermediate.dense."), hidden))  # (B, S, F)
    output = linear(_part(weights, "output.dense."), inner, "output biases dropped" not in mistakes)  # (B, S, D)
    return activation(output) if "activation after the second map" in mistakes else output


def pool(weights: Tensors, hidden: Tensor, mistakes: Set[str]) -> Tensor:
    """The pooler, (B, S, D) -> (B, D)."""
    first = hidden[:, 0]  # (B, D)
    if "pooler of the last token" in mistakes:
        first = hidden[:, -1]  # (B, D)
    if "pooler of the mean" in mistakes:
        first = hidden.mean(dim=1)  # (B, D)
    dense = linear(weights, first, transposed="pooler transposed" in mistakes)  # (B, D)
    return dense if "pooler without tanh" in mistakes else torch.tanh(dense)


def norm(config: Config, weights: Tensors, total: Tensor, mistakes: Set[str]) -> Tensor:
    """Layer norm over the last axis."""
    eps = 1e-5 if "eps 1e-5" in mistakes else config["layer_norm_eps"]
    variance = total.var(dim=-1, keepdim=True, unbiased="unbiased variance" in mistakes)
    normed = (total - total.mean(dim=-1, keepdim=True)) / torch.sqrt(variance + eps)
    return normed if "gamma and beta dropped" in mistakes else normed * weights["weight"] + weights["bias"]


def linear(weights: Tensors, x: Tensor, with_bias: bool = True, transposed: bool = False) -> Tensor:
    """x W^T + b, or with `transposed` x W + b for a square W."""
    weight = weights["weight"].t() if transposed else weights["weight"]
    return F.linear(x, weight, weights["bias"] if with_bias else None)


def _layers(count: int, mistakes: Set[str]) -> list[int]:
    numbers = [0] * count if "first layer repeated" in mistakes else list(range(count))
    numbers = numbers[::-1] if "layers reversed" in mistakes else numbers
    numbers = numbers[:-1] if "last layer missing" in mistakes else numbers
    return numbers + numbers[-1:] if "last layer twice" in mistakes else numbers


def _part(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
