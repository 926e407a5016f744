"""The parts of the network: embeddings, attention, self-attention, a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minibert.data import mixed_seed
from minibert.study import mistakes as with_mistakes
from minibert.study.doctor import make_case
from minibert.study.exercises.tensors import Exercise, Inputs, Step, judge
from minibert.study.exercises.verdict import Verdict

EMBEDDINGS = (
    "positions from one", "no positions", "no segments", "one segment", "scaled words", "no embedding norm", "eps 1e-5",
    "unbiased variance", "gamma and beta dropped",
)  # fmt: skip
ATTENTION = (
    "no scale", "scale by D", "scale without root", "padding attended", "mask on queries", "mask inverted",
    "masked scores of zero", "mask after the softmax", "causal", "softmax over queries", "softmax over heads",
    "query and key swapped", "key and value swapped", "query and value swapped",
)  # fmt: skip
SELF_ATTENTION = (
    *ATTENTION, "interleaved heads", "heads cut without a swap", "heads not brought back", "attention transposed",
    "output transposed", "no output projection", "attention biases dropped", "output biases dropped",
)  # fmt: skip
LAYER = (
    "pre-norm", "norm inside the residual", "no attention residual", "no feed-forward residual", "residual of the sum",
    "unbiased variance", "gamma and beta dropped", "tanh gelu", "sigmoid gelu", "relu", "silu", "no activation",
    "activation after the second map",
)  # fmt: skip


def embeddings(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (ids, segments, tables, eps) -> embeddings (B, S, D).

    ids and segments are (B, S). `tables` maps "word", "position" and "segment" to (rows, D), and "weight" and "bias" of
    the layer norm to (D,).
    """
    official = {
        "word": "word_embeddings.weight", "position": "position_embeddings.weight",
        "segment": "token_type_embeddings.weight", "weight": "LayerNorm.weight", "bias": "LayerNorm.bias",
    }  # fmt: skip
    case = make_case((3, 8, 4, 6, 1, 37, 99), mixed_seed("embeddings"), layers=1)

    def truth(inputs: Inputs, mistakes: frozenset[str]) -> Tensor:
        ids, segments, *tables, _ = inputs
        named = {f"embeddings.{name}": table for name, table in zip(official.values(), tables, strict=True)}
        return with_mistakes.embed(case.config, named, ids, segments, mistakes)  # (B, S, D)

    def with_tables(ids: Tensor, segments: Tensor, *tables: Tensor) -> Any:
        return mine(ids, segments, dict(zip(official, tables[:-1], strict=True)), case.config["layer_norm_eps"])

    word, position, segment, *norm = (case.tensors[f"embeddings.{name}"] for name in official.values())
    plain = (torch.ones_like(norm[0]), torch.zeros_like(norm[1]))  # (D,) each
    ids, segments, everything = case.ids, case.segments, torch.ones_like(case.mask, dtype=torch.bool)  # (B, S) each
    nowhere, nothing = position * 0, segment * 0  # (rows, D) each
    steps = [
        Step(
            "the table of words alone, and a norm without weight and bias",
            (ids, segments, word, nowhere, nothing, *plain, everything),
            "Look at the lookup and at mean, variance and eps.",
        ),
        Step(
            "weight and bias of the norm",
            (ids, segments, word, nowhere, nothing, *norm, everything),
            "Look at how the norm uses them.",
        ),
        Step("positions", (ids, segments, word, position, nothing, *norm, everything), "Look at the positions."),
        Step("segments", (ids, segments, word, position, segment, *norm, everything), "Look at the segments."),
    ]
    batch = (ids, segments, word, position, segment, *norm, everything)
    return judge(with_tables, Exercise(truth, [batch], steps, EMBEDDINGS, tuple(official), mixes=False))


def attention(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (query, key, value, mask) -> context.

    query, key, value and the context are (B, N, S, H); the mask is (B, S) bool, True = a real token. The function may
    return (context, pattern) instead, with the pattern (B, N, S, S). Rows of padding may hold anything.
    """

    def truth(inputs: Inputs, mistakes: frozenset[str]) -> Tensor:
        if "query and key swapped" in mistakes:
            inputs = (inputs[1], inputs[0], *inputs[2:])
        if "key and value swapped" in mistakes:
            inputs = (inputs[0], inputs[2], inputs[1], inputs[3])
        if "query and value swapped" in mistakes:
            inputs = (inputs[2], inputs[1], inputs[0], inputs[3])
        query, key, value, mask = inputs
        return with_mistakes.attend(query, key, value, mask, mistakes)[2]  # (B, N, S, H)

    batches = []
    for sizes in ((3, 4, 7, 6), (2, 3, 5, 8)):  # B, N, S, H
        generator = torch.Generator().manual_seed(mixed_seed("attention", *sizes))
        qkv = (1.5 * torch.randn(3, *sizes, generator=generator)).unbind()  # (B, N, S, H) each
        batches.append((*qkv, _mask(sizes[0], sizes[2])))
    query, key, value, mask = batches[0]
    everything = torch.ones_like(mask)  # (B, S)
    steps = [
        Step(
            "a single token, which can only read itself",
            (query[:, :, :1], key[:, :, :1], value[:, :, :1], everything[:, :1]),
            "Its weight is 1. Look at what becomes of the values.",
        ),
        Step(
            "queries of zero, which weigh all tokens the same",
            (query * 0, key, value, everything),
            "Look at the softmax.",
        ),
        Step("rows without padding", (query, key, value, everything), "Look at the scores and their scale."),
        Step("padding", (query, key, value, mask), "Look at the mask."),
    ]
    return judge(mine, Exercise(truth, batches, steps, ATTENTION, ("query", "key", "value")))


def self_attention(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (hidden, mask, weights, heads) -> output: the whole layer with its projections.

    hidden and output are (B, S, D), the mask is (B, S) bool, `heads` is N, and `weights` maps "query.weight",
    "query.bias", the same of "key", "value" and "output", to tensors in torch's layout (out, in). Rows of padding may
    hold anything.
    """
    official = {"output": "attention.output.dense"} | {
        kind: f"attention.self.{kind}" for kind in ("query", "key", "value")
    }
    case = make_case((3, 7, 4, 6, 1, 37, 99), mixed_seed("self-attention"), layers=1)
    config, heads = case.config, case.config["num_attention_heads"]
    layer = {name.removeprefix("encoder.layer.0."): tensor for name, tensor in case.tensors.items()}
    weights = {f"{mine}.{end}": layer[f"{his}.{end}"] for mine, his in official.items() for end in ("weight", "bias")}

    def truth(inputs: Inputs, mistakes: frozenset[str]) -> Tensor:
        exact = {name: tensor.double() for name, tensor in layer.items()}
        hidden, mask = inputs
        return with_mistakes.attention(config, exact, hidden, mask, mistakes, {}, "")  # (B, S, D)

    def with_weights(hidden: Tensor, mask: Tensor) -> Any:
        return mine(hidden, mask, {name: tensor.clone() for name, tensor in weights.items()}, heads)

    generator = torch.Generator().manual_seed(mixed_seed("hidden"))
    hidden = torch.randn(3, 7, config["hidden_size"], generator=generator)  # (B, S, D)
    mask = _mask(3, 7)  # (B, S)
    everything = torch.ones_like(mask)  # (B, S)
    steps = [
        Step(
            "a single token, which can only read itself",
            (hidden[:, :1], everything[:, :1]),
            "Look at the value's projection and the output's.",
        ),
        Step(
            "seven times the same token, which is weighed the same",
            (hidden[:, :1].repeat(1, 7, 1), everything),
            "Look at the softmax, and at how the heads are brought back.",
        ),
        Step("rows without padding", (hidden, everything), "Look at the heads, the scores and their scale."),
        Step("padding", (hidden, mask), "Look at the mask."),
    ]
    return judge(with_weights, Exercise(truth, [(hidden, mask)], steps, SELF_ATTENTION, ("hidden",)))


def layer(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (hidden, attend, weights, eps) -> output: an encoder layer around a given attention.

    hidden and output are (B, S, D); `attend` is a function, from (B, S, D) to the output of self-attention (B, S, D).
    `weights` maps "attention_norm", "inner", "outer" and "feed_forward_norm", each with ".weight" and ".bias", to
    tensors in torch's layout (out, in). F is larger than D.
    """
    official = {
        "attention_norm": "attention.output.LayerNorm", "inner": "intermediate.dense", "outer": "output.dense",
        "feed_forward_norm": "output.LayerNorm",
    }  # fmt: skip
    case = make_case((3, 7, 4, 6, 1, 37, 99), mixed_seed("layer"), layers=1)
    tensors = {name.removeprefix("encoder.layer.0."): tensor for name, tensor in case.tensors.items()}
    ends = ("weight", "bias")
    mine_to_official = {f"{name}.{end}": f"{full}.{end}" for name, full in official.items() for end in ends}
    mask = _mask(3, 7)  # (B, S)

    def truth(inputs: Inputs, mistakes: frozenset[str]) -> Tensor:
        hidden, *given, mask = inputs
        weights = {name: tensor.to(hidden.dtype) for name, tensor in tensors.items()}
        weights |= dict(zip(mine_to_official.values(), given, strict=True))
        return with_mistakes.layer(case.config, weights, hidden, mask, mistakes, {}, "")  # (B, S, D)

    def with_weights(*inputs: Tensor) -> Any:
        hidden, *given, mask = inputs

        def attend(x: Tensor) -> Tensor:
            return with_mistakes.attention(case.config, tensors, x, mask, frozenset(), {}, "")  # (B, S, D)

        weights = dict(zip(mine_to_official, given, strict=True))
        return mine(hidden, attend, weights, case.config["layer_norm_eps"])

    generator = torch.Generator().manual_seed(mixed_seed("hidden of a layer"))
    hidden = torch.randn(3, 7, case.config["hidden_size"], generator=generator)  # (B, S, D)
    weights = {name: tensors[full] for name, full in mine_to_official.items()}
    silent = {name: tensor * 0 if name.startswith("outer") else tensor for name, tensor in weights.items()}
    steps = [
        Step(
            "a feed-forward block that returns zeros",
            (hidden, *silent.values(), mask),
            "Look at the sums and the norms.",
        ),
        Step("all weights", (hidden, *weights.values(), mask), "Look at the feed-forward block."),
    ]
    names = ("hidden", *weights)
    batch = (hidden, *weights.values(), mask)
    return judge(with_weights, Exercise(truth, [batch], steps, LAYER, names, mixes=False))


def _mask(rows: int, columns: int) -> Tensor:
    lengths = torch.tensor([columns, *(columns - 1 - row for row in range(1, rows))])  # (B,)
    return torch.arange(columns) < lengths[:, None]  # (B, S)
