"""What acts on each position alone: linear maps, layer norm, activations, dropout, feed-forward.

Layer norm: Ba, Kiros, Hinton 2016, section 3, equation 4. GELU: Hendrycks, Gimpel 2016, section 2.
Dropout: Srivastava et al. 2014, section 4. Feed-forward: Vaswani et al. 2017, section 3.3.
Nothing in this module moves information from one position to another.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from minibert.config import BertConfig
    from minibert.trace import Scope

# NOTE(paper): "gelu" is the exact form with erf, which the published weights were trained with;
# the tanh approximation differs from it by up to 4.7e-4 and has a name of its own.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


class Linear(nn.Linear):
    """y = x W^T + b. As torch's, but it leaves the numbers to `initialise`, which has the seed."""

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """A table of vectors, looked up by row. As torch's, but without drawing numbers."""

    def reset_parameters(self) -> None:
        pass


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the D numbers of each position."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))  # (D,)
        self.bias = nn.Parameter(torch.zeros(size))  # (D,)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.layer_norm(hidden, self.weight.shape, self.weight, self.bias, self.eps)  # (T, D)


class Dropout(nn.Module):
    """In training, zeroes each number with probability p and scales the others by 1/(1 - p)."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, hidden: Tensor) -> Tensor:
        return dropout(hidden, self.p) if self.training else hidden

    def extra_repr(self) -> str:
        return f"p={self.p}"


def dropout(values: Tensor, p: float) -> Tensor:
    """Dropout from torch's default generator, with a cheap mask on a CPU.

    torch draws one number for each element, on one thread. Here one draw of 64 bits is cut into
    four 16-bit pieces, and an element is dropped where its piece is among the lowest p * 65536. So
    p is rounded to the nearest 1/65536, and the scale is that of the rate used.
    """
    if values.device.type != "cpu":
        return F.dropout(values, p)
    bits = dropout_bits(values.numel(), p)  # (numbers,)
    if bits is None:
        return values
    return (values * dropout_mask(bits, p, values)).mul_(dropout_scale(p))  # as values


def dropout_bits(numbers: int, p: float) -> Tensor | None:
    """16 random bits for each of so many numbers, (numbers,) int16; None if p drops nothing."""
    if _dropped_of_65536(p) == 0:
        return None
    draws = torch.empty(-(-numbers // 4), dtype=torch.int64)  # (draws,), four pieces each
    draws.random_(-(2**63), None)  # plain random_() would leave the top bit out
    return draws.view(torch.int16)[:numbers]  # (numbers,)


def dropout_mask(bits: Tensor, p: float, like: Tensor) -> Tensor:
    """1 to keep, 0 to drop, in the shape of `like`.

    In its dtype as well: a product of numbers with bools is several times slower than with numbers.
    """
    mask = torch.empty_like(like, requires_grad=False)  # as like
    return torch.ge(bits.view(like.shape), _dropped_of_65536(p) - 32768, out=mask)  # as like


def dropout_scale(p: float) -> float:
    """What the numbers that are kept are multiplied by: 1 / (1 - the rate used)."""
    return 65536 / (65536 - _dropped_of_65536(p))


def _dropped_of_65536(p: float) -> int:
    return min(round(p * 65536), 65535)


class FeedForward(nn.Module):
    """Two linear maps with an activation between them: D -> F -> D, each position alone."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.inner = Linear(config.hidden_size, config.intermediate_size)
        self.outer = Linear(config.intermediate_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Tensor, scope: Scope) -> Tensor:
        inner = scope("inner", self.inner(hidden))  # (T, F)
        active = scope("activation", self.activation(inner))  # (T, F)
        return scope("output", self.outer(active))  # (T, D)


def initialise(module: nn.Module, standard_deviation: float, generator: torch.Generator) -> None:
    """The one rule for new weights: normal tables and matrices, zero biases, a zero pad row.

    Layer norms get weight 1 and bias 0. Parameters on the meta device have no values and are passed
    over.

    NOTE(paper): the paper is silent; the published code draws from a normal distribution truncated
    at two deviations, the PyTorch ports from an untruncated one, as here.
    """
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, LayerNorm):
                part.weight.fill_(1.0)
                part.bias.zero_()
            if not isinstance(part, (nn.Linear, nn.Embedding)) or part.weight.is_meta:
                continue
            part.weight.normal_(0.0, standard_deviation, generator=generator)
            if isinstance(part, nn.Linear) and part.bias is not None:
                part.bias.zero_()
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                part.weight[part.padding_idx].zero_()


def default_generator(generator: torch.Generator | None) -> torch.Generator:
    """The generator given, or one with seed 0: models built without one are equal."""
    return torch.Generator().manual_seed(0) if generator is None else generator
