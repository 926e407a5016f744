"""Layer by layer: which parts of a model are frozen, and the learning rates of the others."""

from __future__ import annotations

import re
from collections.abc import Callable

from minibert.base import Model
from minibert.io.errors import ConfigError


def freeze_lower_layers(model: Model, count: int) -> None:
    """Freezes the embeddings and the `count` lowest layers; 0 freezes nothing.

    Raises:
        ConfigError: the model has fewer layers.
    """
    layers = list(model.body.encoder.layers)
    if count > len(layers):
        raise ConfigError(f"freeze_layers is {count}, but the model has {len(layers)} layers.", key="freeze_layers")
    if count:
        model.freeze(model.body.embeddings, *layers[:count])


def rate_by_layer(layers: int, decay: float) -> Callable[[str], float]:
    """Name of a parameter -> its learning rate as a fraction of the head's.

    Head and pooler have 1, the top layer `decay`, each layer below it `decay` times the rate of
    the layer above, the embeddings decay ** (layers + 1) (Howard & Ruder 2018, section 3.2,
    discriminative fine-tuning; Sun et al. 2019, section 5.4.3).
    """

    def rate(name: str) -> float:
        layer = re.search(r"\bencoder\.layers\.(\d+)\.", name)
        if layer is not None:
            return decay ** (layers - int(layer[1]))
        return decay ** (layers + 1) if "embeddings." in name else 1.0

    return rate
