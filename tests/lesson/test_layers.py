"""Activations, feed-forward and new weights, each against its equation."""

from __future__ import annotations

import math

import torch
from torch import nn

from minibert import BertConfig, config
from minibert.base import initialise
from minibert.io.seeds import default_generator
from minibert.layers import ACTIVATIONS, FeedForward
from minibert.layout import Layout
from minibert.trace import Scope
from tests.conftest import BOUNDS

SCOPE = Scope(Layout.from_mask(torch.ones(1, 4)))
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


def test_feed_forward_treats_each_position_alone():
    sizes = BertConfig(hidden_size=6, num_attention_heads=2, intermediate_size=11)
    block = FeedForward(sizes).double()
    initialise(block, 1.0, torch.Generator().manual_seed(0))
    hidden = torch.randn(4, 6, dtype=torch.float64)
    inner = hidden @ block.inner.weight.T + block.inner.bias
    expected = ACTIVATIONS["gelu"](inner) @ block.outer.weight.T + block.outer.bias
    whole = block(hidden, SCOPE)
    assert (whole - expected).abs().max() <= BOUNDS["fp64"]
    alone = torch.cat([block(row[None], SCOPE) for row in hidden])
    assert (whole - alone).abs().max() <= BOUNDS["fp64"]


def test_new_weights_pass_over_the_meta_device():
    with torch.device("meta"):
        layer = nn.ModuleList([nn.Linear(3, 4), nn.Embedding(5, 6, padding_idx=0)])
    generator = default_generator(None)
    state = generator.get_state()
    initialise(layer, 0.02, generator)
    assert torch.equal(generator.get_state(), state)


def test_models_built_without_a_generator_are_equal():
    drawn = [torch.randn(3, generator=default_generator(None)) for _ in range(2)]
    assert torch.equal(*drawn)
    given = torch.Generator()
    assert default_generator(given) is given


def test_the_config_names_the_activations_that_there_are():
    assert tuple(ACTIVATIONS) == config.ACTIVATIONS


def test_new_weights_are_normal_with_zero_biases_and_pad_row():
    parts = nn.ModuleList([nn.Linear(300, 400), nn.Embedding(500, 300, padding_idx=0)])
    parts.append(nn.LayerNorm(7))
    initialise(parts, 0.02, torch.Generator().manual_seed(0))
    for weight in (parts[0].weight, parts[1].weight[1:]):
        assert abs(weight.std().item() - 0.02) < 2e-4 and abs(weight.mean().item()) < 4e-4
    assert not parts[0].bias.any() and not parts[1].weight[0].any()
    assert (parts[2].weight == 1).all() and not parts[2].bias.any()
    assert all(parameter.requires_grad for parameter in parts.parameters())
