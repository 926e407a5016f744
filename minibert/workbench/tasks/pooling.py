"""Pooling: the hidden states of a text's tokens become one vector.

To add a pooling, write a function like those below and give it a name in POOLINGS, and in POOLINGS
of runs/settings.py for the command line. It is given hidden states (B, S, D), which are zero at
padding, and the mask (B, S), True at real tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minibert.io.errors import ConfigError
from minibert.layout import Layout


def first_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """The [CLS] of each text: hidden (B, S, D), mask (B, S) -> (B, D)."""
    first = mask.int().argmax(dim=1)  # (B,)
    return hidden[torch.arange(len(hidden), device=hidden.device), first]  # (B, D)


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean over real tokens (Reimers & Gurevych 2019, section 3)."""
    tokens = mask.sum(dim=1, keepdim=True)  # (B, 1)
    return hidden.sum(dim=1) / tokens.clamp(min=1)  # (B, D)


def maximum(hidden: Tensor, mask: Tensor) -> Tensor:
    """The largest value of each place over real tokens."""
    return hidden.masked_fill(~mask[:, :, None], -torch.inf).amax(dim=1)  # (B, D)


Pooling = Callable[[Tensor, Tensor], Tensor]  # hidden (B, S, D), mask (B, S) -> (B, D)

POOLINGS: dict[str, Pooling] = {"cls": first_token, "mean": mean, "max": maximum}


class UnitLength(nn.Module):
    """Scales vectors to length 1, so that a dot product is a cosine."""

    def forward(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1)  # (B, D)


class Truncated(nn.Module):
    """Keeps the first numbers of each vector (Kusupati et al. 2022, "Matryoshka")."""

    def __init__(self, dimensions: int):
        super().__init__()
        self.dimensions = dimensions

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors[:, : self.dimensions]  # (B, dimensions)


@dataclass(frozen=True)
class Output:
    """What the evaluation loop reads: a row of `logits` for each text, and the terms of a loss."""

    logits: Tensor
    loss_terms: dict[str, tuple[Tensor, float]] = field(default_factory=dict)


class SentenceEncoder(nn.Module):
    """A BertModel and a pooling over its real tokens: one vector for each text.

    Args:
        model: a BertModel, or one that is prepared for inference.
        pooling: a name in POOLINGS.
        steps: what is done to the pooled vectors (B, D), one after the other.
        layer: which hidden state: 0 the embeddings, L or -1 the last layer.

    Raises:
        ConfigError: the pooling or the layer does not exist.
    """

    def __init__(self, model: Any, pooling: str, steps: Sequence[nn.Module] = (), layer: int = -1):
        super().__init__()
        if pooling not in POOLINGS:
            raise ConfigError(f"pooling is {pooling!r}, but it must be one of {', '.join(POOLINGS)}.", key="pooling")
        self.model = model
        self.pooling = pooling
        self.steps = nn.Sequential(*steps)
        self.layer = layer_number(layer, model.config.num_hidden_layers)

    def forward(self, layout: Layout, **inputs: Any) -> Output:
        """Inputs as for BertModel -> (B, D); padding has no part in it."""
        below_last = self.layer < self.model.config.num_hidden_layers
        output = self.model(layout=layout, output_hidden_states=below_last, **inputs)
        states = output.hidden_states
        hidden = states[self.layer] if below_last else output.last_hidden_state  # (B, S, D)
        pooled = POOLINGS[self.pooling](hidden.float(), layout.mask)  # (B, D)
        return Output(self.steps(pooled))

    def count_labels(self, inputs: Any) -> dict[str, int]:
        return {}


def layer_number(layer: int, layers: int) -> int:
    """A layer as a number from 0 (the embeddings) to L: -1 is L.

    Raises:
        ConfigError: the model does not have such a layer.
    """
    if not -layers - 1 <= layer <= layers:
        raise ConfigError(
            f"layer is {layer}, but the model has {layers} layers, and 0 stands for the embeddings.", key="layer"
        )
    return layer % (layers + 1)
