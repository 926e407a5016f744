"""Pooling: the hidden states of a text's real tokens become one vector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minibert.bert import BertModel
from minibert.io.errors import ConfigError
from minibert.layout import Layout
from minibert.workbench.runs.settings import POOLINGS


@dataclass(frozen=True)
class Vectors:
    """In the form that the evaluation loop reads: one row of `logits` for each text."""

    logits: Tensor
    loss_terms: dict[str, Any] = field(default_factory=dict)


class SentenceEncoder(nn.Module):
    """A BertModel and a pooling over its real tokens: one vector for each text.

    Args:
        pooling: "mean" (Reimers, Gurevych 2019, section 3), "cls", or "max".
        normalize: scale each vector to length 1, so that a dot product is a cosine.
        layer: which hidden state: 0 the embeddings, L or -1 the last layer.

    Raises:
        ConfigError: there is no such pooling, or no such layer.
    """

    def __init__(self, model: BertModel, pooling: str, normalize: bool = False, layer: int = -1):
        super().__init__()
        if pooling not in POOLINGS:
            raise ConfigError(
                f"There is no pooling called {pooling!r}.",
                key="pooling",
            )
        self.model = model
        self.pooling = pooling
        self.normalize = normalize
        self.layer = layer_number(layer, model.config.num_hidden_layers)

    def forward(self, layout: Layout, **inputs: Any) -> Vectors:
        """Inputs as for BertModel -> (B, D); padding has no part in it."""
        hidden = self.model.encode(layout=layout, **inputs).states[self.layer].float()  # (T, D)
        if self.pooling == "cls":
            pooled = layout.first_tokens(hidden)  # (B, D)
        elif self.pooling == "mean":
            tokens = layout.mask.sum(dim=1, keepdim=True)  # (B, 1)
            pooled = layout.pad(hidden).sum(dim=1) / tokens.clamp(min=1)  # (B, D)
        else:
            pooled = layout.pad(hidden, value=-torch.inf).amax(dim=1)  # (B, D)
        return Vectors(F.normalize(pooled, dim=-1) if self.normalize else pooled)

    def count_labels(self, inputs: Any) -> dict[str, int]:
        return {}


def layer_number(layer: int, layers: int) -> int:
    """A layer as a number from 0 (the embeddings) to L: -1 is L.

    Raises:
        ConfigError: the model has no such layer.
    """
    if not -layers - 1 <= layer <= layers:
        raise ConfigError(
            f"There is no layer {layer}: the model has {layers}, and 0 are the embeddings.",
            key="layer",
        )
    return layer % (layers + 1)
