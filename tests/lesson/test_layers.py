"""Layer norm, activations, feed-forward and new weights, each against its equation.

Dropout has a file of its own, test_dropout.py.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from minibert import BertConfig
from minibert.layers import (
    ACTIVATIONS,
    Embedding,
    FeedForward,
    LayerNorm,
    Linear,
    default_generator,
    initialise,
)
from minibert.trace import NO_TRACE
from tests.conftest import BOUNDS

POINTS = torch.linspace(-4, 4, 33, dtype=torch.float64)

EQUATIONS = {
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "tanh": math.tanh,
}
EQUATIONS["gelu_pytorch_tanh"] = EQUATIONS["gelu_new"]
EQUATIONS["swish"] = EQUATIONS["silu"]


def test_every_activation_is_its_equation():
    assert EQUATIONS.keys() == ACTIVATIONS.keys()
    for name, equation in EQUATIONS.items():
        expected = torch.tensor([equation(x) for x in POINTS.tolist()], dtype=torch.float64)
        assert (ACTIVATIONS[name](POINTS) - expected).abs().max() <= BOUNDS["fp64"], name


def test_the_two_forms_of_gelu_differ_where_the_note_says():
    points = torch.linspace(-6, 6, 100_001, dtype=torch.float64)
    difference = (ACTIVATIONS["gelu"](points) - ACTIVATIONS["gelu_new"](points)).abs().max()
    assert 4.6e-4 < difference < 4.8e-4


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 0.5])
def test_layer_norm_is_its_equation(eps):
    norm = LayerNorm(5, eps).double()
    with torch.no_grad():
        norm.weight.copy_(torch.arange(5) - 1.5)
        norm.bias.copy_(torch.arange(5) * 0.1)
    hidden = torch.randn(4, 5, dtype=torch.float64)
    mean = hidden.mean(dim=1, keepdim=True)
    variance = (hidden - mean).pow(2).mean(dim=1, keepdim=True)
    expected = (hidden - mean) / (variance + eps).sqrt() * norm.weight + norm.bias
    assert (norm(hidden) - expected).abs().max() <= BOUNDS["fp64"]


def test_feed_forward_treats_each_position_alone():
    config = BertConfig(hidden_size=6, num_attention_heads=2, intermediate_size=11)
    block = FeedForward(config).double()
    initialise(block, 1.0, torch.Generator().manual_seed(0))
    hidden = torch.randn(4, 6, dtype=torch.float64)
    inner = hidden @ block.inner.weight.T + block.inner.bias
    expected = ACTIVATIONS["gelu"](inner) @ block.outer.weight.T + block.outer.bias
    whole = block(hidden, NO_TRACE)
    assert (whole - expected).abs().max() <= BOUNDS["fp64"]
    alone = torch.cat([block(row[None], NO_TRACE) for row in hidden])
    assert (whole - alone).abs().max() <= BOUNDS["fp64"]


def test_building_a_layer_draws_no_numbers():
    state = torch.get_rng_state()
    Linear(3, 4)
    Embedding(5, 6)
    assert torch.equal(torch.get_rng_state(), state)


def test_new_weights_pass_over_the_meta_device():
    with torch.device("meta"):
        layer = nn.ModuleList([Linear(3, 4), Embedding(5, 6, padding_idx=0)])
    generator = default_generator(None)
    state = generator.get_state()
    initialise(layer, 0.02, generator)
    assert torch.equal(generator.get_state(), state)


def test_models_built_without_a_generator_are_equal():
    drawn = [torch.randn(3, generator=default_generator(None)) for _ in range(2)]
    assert torch.equal(*drawn)
    given = torch.Generator()
    assert default_generator(given) is given
