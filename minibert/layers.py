"""What acts on each position alone: the feed-forward block and its activation.

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
