"""The whole network: its pooler, the number of its parameters, and all of it from official tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from minibert.io.seeds import mixed_seed
from minibert.study import doctor
from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

POOLER = {
    "no tanh": "there is no tanh",
    "sigmoid": "the activation is a sigmoid instead of tanh",
    "tanh first": "tanh comes before the linear map instead of after it",
    "bias after tanh": "the bias is added after tanh instead of before it",
    "no bias": "the bias is left out",
    "transposed": "the weight is used without the transpose of torch's (out, in) layout",
    "last": "the last column is pooled instead of the first, which is [CLS]",
    "mean": "the mean over the columns is pooled instead of the first column, which is [CLS]",
    "largest": "the largest number over the columns is pooled instead of the first column, which is [CLS]",
    "every token": "every token is pooled, not [CLS] alone",
}

COUNT = {
    "no biases": "the biases of the linear maps are not counted",
    "no norms": "the layer norms are not counted",
    "no norm biases": "the biases of the layer norms are not counted",
    "one norm per layer": "a layer has one layer norm instead of two",
    "no embedding norm": "the layer norm after the embeddings is not counted",
    "no segments": "the segment table is not counted",
    "always two segments": "the segment table has two rows whatever type_vocab_size says",
    "no positions": "the position table is not counted",
    "no pad row": "the row of [PAD] in the word table is not counted",
    "no output projection": "the output projection of attention is not counted",
    "projections per head": "the projections are counted once for each head, with all of their rows",
    "half a feed-forward": "only the first map of the feed-forward block is counted",
    "4 D": "the feed-forward size is taken for 4 D whatever intermediate_size says",
    "one layer": "only one layer is counted",
    "no pooler": "the pooler is not counted",
    "pooler of DistilBERT": "a pooler is counted for DistilBERT, which has none",
    "decoder": "the decoder of the masked-LM head is counted, which is the word table once more",
}


def pooler(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (hidden, weight, bias) -> pooled.

    hidden is (B, S, D), weight (D, D) in torch's layout (out, in), bias (D,), and pooled (B, D).
    """
    return judge(mine, POOLER_TASK)


def count_parameters(mine: Callable[..., Any]) -> Verdict:
    """Checks a function config -> the number of parameters of a bare model; config has the keys of a config.json."""
    return judge(mine, COUNT_TASK)


def bert(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (config, tensors, ids, mask, segments) -> (hidden, pooled): the whole network.

    `config` has the keys of an official config.json and `tensors` the official names; ids, mask and segments are
    (B, S), the mask 1 at real tokens; hidden is (B, S, D) and pooled (B, D). The doctor examines it (`doctor.py`).
    """
    returned: list[Any] = []

    def build(config: dict[str, Any], tensors: dict[str, Tensor]) -> doctor.Bert:
        def run(ids: Tensor, mask: Tensor, segments: Tensor) -> Any:
            result = mine(config, tensors, ids, mask, segments)
            returned.append(result)
            hidden, pooled = result
            return {"hidden": hidden, "pooled": pooled}

        return run

    found = doctor.diagnose(build)
    if returned and returned[0] is None:
        return Verdict(False, "Not written yet: the function returns None.")
    if returned and not (isinstance(returned[0], tuple | list) and len(returned[0]) == 2):
        return Verdict(False, "The function has to return two tensors, the hidden states and what the pooler made.")
    text = str(found)
    if found.error is None and not found.equal and (found.difference or 0.0) <= doctor.EQUAL:
        text = "\n".join(["The hidden states are right, but the pooled vectors are not.", *text.split("\n")[1:]])
    return Verdict(found.equal, text, tuple(found.mistakes))


def pool(hidden: Tensor, weight: Tensor, bias: Tensor, mistakes: frozenset[str] = frozenset()) -> Tensor:
    """The pooler with some mistakes, in float64."""
    hidden, weight, bias = (x.double() for x in (hidden, weight, bias))
    first = hidden if "every token" in mistakes else hidden[:, 0]  # (B, D)
    for name, column in {"last": hidden[:, -1], "mean": hidden.mean(dim=1), "largest": hidden.amax(dim=1)}.items():
        first = column if name in mistakes else first  # (B, D)
    first = torch.tanh(first) if "tanh first" in mistakes else first  # (B, D)
    dense = first @ (weight if "transposed" in mistakes else weight.T)  # (B, D)
    bias = bias * ("no bias" not in mistakes)  # (D,)
    dense = dense if "bias after tanh" in mistakes else dense + bias  # (B, D)
    linear = not mistakes.isdisjoint({"no tanh", "tanh first"})
    active = dense if linear else torch.tanh(dense)  # (B, D)
    active = torch.sigmoid(dense) if "sigmoid" in mistakes else active  # (B, D)
    return active + bias if "bias after tanh" in mistakes else active


def count(config: Mapping[str, Any], mistakes: frozenset[str] = frozenset()) -> int:
    """The parameters of a bare model, with some mistakes."""
    size, layers, vocabulary = config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]
    inner = 4 * size if "4 D" in mistakes else config["intermediate_size"]
    norm = size * (2 - ("no norm biases" in mistakes)) * ("no norms" not in mistakes)

    def linear(inputs: int, outputs: int) -> int:
        return inputs * outputs + outputs * ("no biases" not in mistakes)

    rows = vocabulary - ("no pad row" in mistakes)
    rows += config["max_position_embeddings"] * ("no positions" not in mistakes)
    rows += (2 if "always two segments" in mistakes else config["type_vocab_size"]) * ("no segments" not in mistakes)
    embeddings = rows * size + norm * ("no embedding norm" not in mistakes)
    heads = config["num_attention_heads"] if "projections per head" in mistakes else 1
    attention = 3 * heads * linear(size, size) + linear(size, size) * ("no output projection" not in mistakes)
    fed = linear(size, inner) + linear(inner, size) * ("half a feed-forward" not in mistakes)
    layer = attention + fed + norm * (1 if "one norm per layer" in mistakes else 2)
    has_pooler = config["model_type"] != "distilbert" or "pooler of DistilBERT" in mistakes
    pooler = linear(size, size) * (has_pooler and "no pooler" not in mistakes)
    decoder = vocabulary * size * ("decoder" in mistakes)
    return int(embeddings + layer * (1 if "one layer" in mistakes else layers) + pooler + decoder)


def _pooler_inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(mixed_seed("pooler"))
    hidden = torch.randn(3, 5, 8, generator=generator)  # (B, S, D)
    weight, bias = torch.randn(9, 8, generator=generator).split([8, 1])  # (D, D), (1, D)
    return hidden, weight / 2, bias[0] / 2


_HIDDEN, _WEIGHT, _BIAS = _pooler_inputs()
POOLER_TASK = Task(
    pool,
    [
        Case(
            "a row of one token, and no bias", (_HIDDEN[:, :1], _WEIGHT, _BIAS * 0), "Look at the linear map and tanh."
        ),
        Case("a row of one token", (_HIDDEN[:, :1], _WEIGHT, _BIAS), "Look at the bias."),
        Case("several tokens", (_HIDDEN, _WEIGHT, _BIAS), "Look at which of them is pooled."),
    ],
    POOLER,
    gradients=[0, 1, 2],
)
TINY = {
    "model_type": "bert", "vocab_size": 11, "hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 1,
    "intermediate_size": 24, "max_position_embeddings": 5, "type_vocab_size": 2,
}  # fmt: skip
BASE = TINY | {
    "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "max_position_embeddings": 512,
}  # fmt: skip
COUNT_TASK = Task(
    count,
    [
        Case("one small layer", (TINY,), "Count the tensors of section 1, one by one."),
        Case("two layers", (TINY | {"num_hidden_layers": 2},), "Look at what is counted once for each layer."),
        Case("several heads", (TINY | {"num_attention_heads": 3},), "D = N x H, so heads change nothing."),
        Case("another feed-forward size", (TINY | {"intermediate_size": 17},), "F is intermediate_size."),
        Case("three segments", (TINY | {"type_vocab_size": 3},), "Look at the segment table."),
        Case("bert-base-uncased", (BASE,), "It has 109,482,240."),
        Case(
            "DistilBERT",
            (BASE | {"model_type": "distilbert", "num_hidden_layers": 6, "type_vocab_size": 0},),
            "It has neither segments nor pooler.",
        ),
    ],
    COUNT,
)
