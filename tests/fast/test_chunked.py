"""Attention in chunks is attention by hand, forwards and backwards, with dropout and without."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from minibert.attention import attention_by_hand, attention_sdpa
from minibert.fast import chunked
from minibert.fast.chunked import attention_in_chunks
from minibert.fast.dropout import dropout
from minibert.io.errors import InputError
from tests.conftest import BOUNDS
from tests.lesson import reference as ref
from tests.lesson.reference import D, N, batch, outputs, pair, run

H = D // N
GROUPS = ((2, 1), (3, 4), (1, 6), (2, 7))  # (rows, length)
T = sum(rows * length for rows, length in GROUPS)


@pytest.fixture(params=["one chunk a group", "one row a chunk"])
def _size_of_a_chunk(request: Any, monkeypatch: Any) -> None:
    if request.param == "one row a chunk":
        monkeypatch.setattr(chunked, "_CHUNK", 1)


def _parts(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(T, N, H, generator=generator, dtype=torch.float64) for _ in range(4)]
    return [part.to(dtype).requires_grad_() for part in drawn]


def _by_group(
    query: Tensor, key: Tensor, value: Tensor, groups: Any, p: float, form: Any = attention_by_hand
) -> Tensor:
    sizes = [rows * length for rows, length in groups]
    contexts = []
    for group, *parts in zip(groups, *(x.split(sizes) for x in (query, key, value)), strict=True):
        blocks = [part.unflatten(0, group).transpose(1, 2) for part in parts]  # (R, N, S, H)
        context = form(*blocks, dropout_p=p)
        contexts.append(context.transpose(1, 2).flatten(0, 1))  # (R * S, N, H)
    return torch.cat(contexts)


def _with_gradients(attend: Any, dtype: torch.dtype, groups: Any, p: float) -> list[Tensor]:
    query, key, value, weights = _parts(dtype)
    torch.manual_seed(7)
    context = attend(query, key, value, groups, p)
    gradients = torch.autograd.grad((context * weights.detach()).sum(), (query, key, value))
    return [context.detach(), *gradients]


@pytest.mark.usefixtures("_size_of_a_chunk")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_without_dropout_context_and_gradients_are_those_by_hand(dtype):
    bounds = {
        torch.float64: BOUNDS["fp64"],
        torch.float32: BOUNDS["by hand against sdpa fp32"],
        torch.bfloat16: BOUNDS["module bf16"],
    }
    expected = _with_gradients(_by_group, torch.float64, GROUPS, 0.0)
    found = _with_gradients(attention_in_chunks, dtype, GROUPS, 0.0)
    for one, other in zip(expected, found, strict=True):
        assert other.dtype == dtype
        assert (one - other).norm() / one.norm() <= bounds[dtype]


def test_sharp_attention_in_bf16_is_as_near_as_the_kernel_of_torch():
    """Scores of 20 and more, which 16 bits hold to 0.06: the pattern must not be made of such."""
    group = (6, 8)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(48, N, 64, generator=generator).bfloat16() for _ in range(4)]
    drawn[0] *= 4  # the queries, and with them the scores
    found = {}
    for name, dtype, attend in (
        ("exact", torch.float64, _by_group),
        ("in chunks", torch.bfloat16, attention_in_chunks),
        ("sdpa", torch.bfloat16, partial(_by_group, form=attention_sdpa)),
    ):
        query, key, value, weights = (part.to(dtype).requires_grad_() for part in drawn)
        context = attend(query, key, value, (group,), 0.0)
        gradients = torch.autograd.grad((context * weights.detach()).sum(), (query, key, value))
        found[name] = [context.detach(), *gradients]
    for exact, ours, theirs in zip(*found.values(), strict=True):
        bound = BOUNDS["model bf16 ratio"] * (theirs - exact).norm()
        assert (ours - exact).norm() <= bound


@pytest.fixture
def _same_draws(monkeypatch: Any) -> None:
    """torch's dropout draws as the fast one does."""

    def same(input: Tensor, p: float, training: bool = True, inplace: bool = False) -> Tensor:
        return dropout(input, p) if training else input

    monkeypatch.setattr(torch.nn.functional, "dropout", same)


@pytest.mark.usefixtures("_size_of_a_chunk", "_same_draws")
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("group", [(1, 8), (5, 6)])
def test_dropout_draws_the_same_mask_as_by_hand_for_rows_of_one_length(group, p):
    """One group is one draw by hand as well, so the same seed must give the same numbers."""
    groups = (group,)
    tokens = group[0] * group[1]
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(tokens, N, H, generator=generator).double() for _ in range(4)]
    results = []
    for attend in (_by_group, attention_in_chunks):
        query, key, value, weights = (part.clone().requires_grad_() for part in drawn)
        torch.manual_seed(7)
        context = attend(query, key, value, groups, p)
        gradients = torch.autograd.grad((context * weights.detach()).sum(), (query, key, value))
        results.append([context, *gradients, torch.rand(1)])  # as much was drawn
    for one, other in zip(*results, strict=True):
        assert (one - other).abs().max() <= BOUNDS["fp64"]


def test_gradients_are_those_of_finite_differences_with_dropout():
    parts = [part.detach()[:10].requires_grad_() for part in _parts(torch.float64)[:3]]

    def attend(*parts: Tensor) -> Tensor:
        torch.manual_seed(3)
        return attention_in_chunks(*parts, ((2, 3), (1, 4)), 0.3)

    assert torch.autograd.gradcheck(attend, parts)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_mean_over_many_masks_is_the_context_without_dropout(p):
    """Neither the scale nor a mask that is stuck would pass."""
    query, key, value, _ = (part.detach() for part in _parts(torch.float64))
    expected = attention_in_chunks(query, key, value, GROUPS)
    torch.manual_seed(0)
    runs = torch.stack([attention_in_chunks(query, key, value, GROUPS, p) for _ in range(4000)])
    error = (runs.mean(dim=0) - expected).abs()
    assert (error <= 6 * runs.std(dim=0) / 4000**0.5 + 1e-3).all()


@pytest.mark.usefixtures("_same_draws")
def test_a_model_in_training_gives_what_it_gives_by_hand():
    """Full rows of 8, so that both draw alike; everything around attention draws as well."""
    rates = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.3}
    name = "BertForSequenceClassification"
    found = []
    for implementation in ("by_hand", "in_chunks"):
        _, ours = pair("bert", name, **rates)
        ref.attend_by(ours.train(), implementation)
        torch.manual_seed(0)
        inputs = batch("bert", name, "full")
        output = run(ours, inputs)
        output.loss.backward()
        gradients = {key: part.grad for key, part in ours.named_parameters()}
        found.append({**outputs(name, output, inputs), **gradients})
    ref.assert_close(found[0], found[1], BOUNDS["fp64"])


def test_no_tokens_give_no_context():
    empty = torch.empty(0, N, H, requires_grad=True)
    assert attention_in_chunks(empty, empty, empty, (), 0.1).shape == (0, N, H)


def test_a_second_derivative_is_refused_and_not_wrong():
    """Asked for one input alone, torch's own guard against it lets a wrong number through."""
    name = "BertForSequenceClassification"
    _, ours = pair("bert", name)
    ref.attend_by(ours, "fast")
    inputs = batch("bert", name)
    vectors = ours.body.embeddings.word(inputs.pop("input_ids")).detach().requires_grad_()

    def first_derivative() -> Tensor:
        loss = run(ours.train(), {**inputs, "inputs_embeds": vectors}).loss
        (gradient,) = torch.autograd.grad(loss, vectors, create_graph=True)
        return gradient

    with pytest.raises(InputError):
        first_derivative()
    ref.attend_by(ours, "by_hand")
    (second,) = torch.autograd.grad(first_derivative().square().sum(), vectors)
    assert second.any()
