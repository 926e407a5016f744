"""Dropout with four pieces to a draw: its random numbers are good ones."""

from __future__ import annotations

import math

import pytest
import torch

from minibert.fast.dropout import FastDropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_keep_rate_in_each_of_the_four_pieces_of_a_draw(p):
    """The fourth piece holds the top bit, which random_() would leave at zero."""
    torch.manual_seed(1)
    count = 400_000
    kept = dropout(torch.ones(count, 4), p) != 0  # (draws, pieces)
    deviation = math.sqrt(p * (1 - p) / count)
    rates = kept.double().mean(dim=0)
    assert (rates - (1 - p)).abs().max() < 5 * deviation + 1 / 65536


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_pieces_of_a_draw_and_neighbouring_draws_are_independent(p):
    torch.manual_seed(2)
    count = 200_000
    kept = (dropout(torch.ones(count, 4), p) != 0).double()
    neighbours = torch.cat([kept[:-1], kept[1:]], dim=1).T  # (8, draws)
    correlation = torch.corrcoef(neighbours) - torch.eye(8)
    assert correlation.abs().max() < 5 / math.sqrt(count)


@pytest.mark.parametrize("p", [0.1, 1 / 3, 0.5])
def test_the_scale_is_that_of_the_rate_used(p):
    values = torch.randn(1000, dtype=torch.float64)
    dropped = dropout(values, p)
    used = round(p * 65536) / 65536
    kept = dropped != 0
    assert torch.allclose(dropped[kept], values[kept] / (1 - used), rtol=1e-15, atol=0)


@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (5, 7), (2, 3, 5, 5)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_any_shape_and_dtype(shape, dtype):
    dropped = dropout(torch.ones(shape, dtype=dtype), 0.5)
    assert dropped.shape == shape and dropped.dtype == dtype
    assert set(dropped.flatten().tolist()) <= {0.0, 2.0}


def test_a_seed_gives_the_same_mask_and_another_seed_another():
    values = torch.ones(1000)
    masks = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        masks.append(dropout(values, 0.5))
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_no_rate_draws_nothing():
    values = torch.randn(10)
    state = torch.get_rng_state()
    assert dropout(values, 0.0) is values
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_go_through_what_was_kept():
    values = torch.randn(100, requires_grad=True)
    dropped = dropout(values, 0.5)
    dropped.sum().backward()
    assert torch.equal(values.grad, 2.0 * (dropped != 0))


def test_the_largest_rate_below_one_drops_all_but_a_few():
    torch.manual_seed(0)
    kept = (dropout(torch.ones(65536), 1 - 1e-9) != 0).sum()
    assert kept < 12


def test_a_rate_of_one_drops_everything():
    values = torch.randn(65536 * 4, requires_grad=True)
    dropped = FastDropout(1.0)(values)
    dropped.sum().backward()
    assert not dropped.any() and not values.grad.any()


def test_nothing_is_dropped_in_eval_mode():
    values = torch.randn(100)
    assert torch.equal(FastDropout(0.5).eval()(values), values)
    assert not torch.equal(FastDropout(0.5)(values), values)
