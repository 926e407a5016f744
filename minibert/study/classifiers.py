"""The classifiers that a probe can be: a linear one, and one with a hidden layer.

Each is fitted to features (rows, D) and classes (rows,) on the CPU, draws nothing from torch's default generator, and
gives the same numbers every time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from minibert.study.logistic import fit_logistic

Fit = Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]]  # features and classes -> (features -> logits (rows, C))


def linear(classes: int) -> Fit:
    """Logistic regression with the penalty of scikit-learn's C = 1."""

    def fit(features: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        layer = skip_init(nn.Linear, features.shape[1], classes)
        fit_logistic(layer, _summed_loss, features, labels, tolerance=1e-4)
        return _without_gradients(layer)

    return fit


def with_hidden_layer(classes: int, hidden: int, seed: int, steps: int = 200) -> Fit:
    """A perceptron with one hidden layer, by AdamW on all rows at once."""

    def fit(features: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        centre, spread = features.mean(dim=0), features.std(dim=0, correction=0) + 1e-6  # (D,) each
        first, last = skip_init(nn.Linear, len(centre), hidden), skip_init(nn.Linear, hidden, classes)
        generator = torch.Generator().manual_seed(seed)
        for layer in (first, last):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        network = nn.Sequential(first, nn.ReLU(), last)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(network((features - centre) / spread), labels).backward()
            optimizer.step()
        return _without_gradients(lambda new: network((new - centre) / spread))

    return fit


def _summed_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    return F.cross_entropy(logits, labels, reduction="sum"), len(labels)


def _without_gradients(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return torch.no_grad()(lambda features: function(features))
