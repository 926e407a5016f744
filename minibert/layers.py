"""What acts on each position alone: the feed-forward block, its activation, and new weights.

Feed-forward: Vaswani et al. 2017, section 3.3. GELU: Hendrycks and Gimpel 2016, section 2. Layer
norm (Ba et al. 2016, equation 4) and dropout (Srivastava et al. 2014, section 4) are torch's own.
Nothing in this file moves information from one position to another.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minibert.config import BertConfig
from minibert.trace import Scope

# NOTE(paper): "gelu" is the exact form with erf, which the published weights were trained with. The
# tanh approximation differs from it by up to 4.7e-4 and has a name of its own.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


class FeedForward(nn.Module):
    """Two linear maps with an activation between them: D -> F -> D."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.inner = nn.Linear(config.hidden_size, config.intermediate_size)
        self.outer = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Tensor, scope: Scope) -> Tensor:
        """hidden (T, D) -> output (T, D)."""
        inner = self.inner(hidden)  # (T, F)
        inner = scope.tap("inner", inner)
        active = self.activation(inner)  # (T, F)
        active = scope.tap("activation", active)
        output = self.outer(active)  # (T, D)
        return scope.tap("output", output)


def initialise(module: nn.Module, deviation: float, generator: torch.Generator | None) -> None:
    """Draws new weights: matrices and tables from a normal distribution, zero biases and pad row.

    Layer norms get gains of 1 and biases of 0. Parameters on the meta device, which have no
    numbers, are left alone.

    Args:
        deviation: the standard deviation, `config.initializer_range`.
        generator: the source of randomness; without one, a new one with seed 0.

    NOTE(paper): the paper does not say how. The published code draws from a normal distribution
    truncated at two deviations, the PyTorch ports from an untruncated one, as here.
    """
    generator = default_generator(generator)
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            part.reset_parameters()
        if not isinstance(part, (nn.Linear, nn.Embedding)) or part.weight.is_meta:
            continue
        nn.init.normal_(part.weight, 0.0, deviation, generator=generator)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            nn.init.zeros_(part.weight.data[part.padding_idx])


def default_generator(generator: torch.Generator | None) -> torch.Generator:
    """The generator given, or one with seed 0: models built without one are equal."""
    return torch.Generator().manual_seed(0) if generator is None else generator
