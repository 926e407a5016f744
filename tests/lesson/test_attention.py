"""Attention: the equation by hand and torch's fused kernel are one function."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch

from minibert import attention
from minibert.attention import attend_by_length, attend_padded, attention_by_hand, attention_sdpa
from minibert.io.errors import InputError
from tests.conftest import BOUNDS
from tests.lesson import reference as ref
from tests.lesson.reference import MASKS, B, D, N, S, batch, outputs, pair, run

H = D // N
HALF = {torch.bfloat16, torch.float16}


def _bound(dtype: torch.dtype) -> float:
    if dtype in HALF:
        return BOUNDS["module bf16"]
    return BOUNDS["fp64" if dtype == torch.float64 else "by hand against sdpa fp32"]


def _query_key_value(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(B, N, S, H, generator=generator) for _ in range(3)]
    return [part.to(dtype).requires_grad_() for part in drawn]


def _by_hand(*given: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The context and the pattern."""
    tapped = {}
    context = attention_by_hand(*given, **options, tap=lambda name, x: tapped.setdefault(name, x))
    return context, tapped["pattern"]


def _mask(kind: str) -> torch.Tensor | None:
    return None if kind == "none" else torch.tensor(MASKS[kind], dtype=torch.bool)


@pytest.mark.parametrize("kind", [*MASKS, "none"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_by_hand_equals_sdpa(dtype, kind):
    mask = _mask(kind)
    real = torch.ones(B, S, dtype=torch.bool) if mask is None else mask
    results = []
    for attend in (attention_by_hand, attention_sdpa):
        given = _query_key_value(dtype)
        context = attend(*given, mask=mask)
        context = context.transpose(1, 2)[real]
        context.float().pow(2).sum().backward()
        results.append((context, *(part.grad for part in given)))
    for by_hand, sdpa in zip(results[0][:1], results[1][:1], strict=True):
        assert (by_hand - sdpa).abs().max() <= _bound(dtype)
    if dtype not in HALF:
        for by_hand, sdpa in zip(results[0][1:], results[1][1:], strict=True):
            assert (by_hand - sdpa).norm() / sdpa.norm() <= _bound(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_by_hand_is_the_equation(dtype):
    """Equation 1 of Vaswani et al. 2017, one query at a time, in loops."""
    query, key, value = (part.detach() for part in _query_key_value(dtype))
    mask = _mask("holes")
    context, pattern = _by_hand(query, key, value, mask)
    for row in range(B):
        real = mask[row].nonzero().flatten().tolist()
        for head in range(N):
            for asking in real:
                scores = [
                    sum(query[row, head, asking] * key[row, head, column]).item() / math.sqrt(H) for column in real
                ]
                highest = max(scores)
                weights = [math.exp(score - highest) for score in scores]
                total = sum(weights)
                expected = torch.zeros(H, dtype=dtype)
                for weight, column in zip(weights, real, strict=True):
                    expected += weight / total * value[row, head, column]
                    found = pattern[row, head, asking, column].item()
                    assert abs(found - weight / total) <= _bound(dtype)
                assert (context[row, head, asking] - expected).abs().max() <= _bound(dtype)


@pytest.mark.parametrize("kind", [*MASKS, "none"])
def test_the_pattern_is_a_distribution_over_real_columns(kind):
    mask = _mask(kind)
    _, pattern = _by_hand(*_query_key_value(torch.float64), mask=mask)
    real = torch.ones(B, S, dtype=torch.bool) if mask is None else mask
    sums = pattern.sum(dim=-1)
    expected = real[:, None, :].expand_as(sums).double()
    assert (sums - expected).abs().max() <= BOUNDS["fp64"]
    assert not pattern.transpose(1, 3)[~real].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1.0, 10.0, 100.0])
def test_empty_rows_and_large_scores_stay_finite(dtype, size):
    """Scores of up to 100: a product of two vectors of H numbers over sqrt(H)."""
    query, key, value = _query_key_value(dtype)
    with torch.no_grad():
        largest = (query.float() @ key.float().transpose(-2, -1) / math.sqrt(H)).abs().max()
        query.mul_(size / largest)
    mask = _mask("right")
    mask[1] = False
    context, pattern = _by_hand(query, key, value, mask)
    assert context.isfinite().all() and pattern.isfinite().all()
    assert not context[1].any() and not pattern[1].any()
    context.float().sum().backward()
    assert all(part.grad.isfinite().all() for part in (query, key, value))


@pytest.mark.parametrize("kind", ["right", "left", "holes"])
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_the_whole_model_by_hand_and_by_sdpa(family, kind):
    name = "BertForTokenClassification"
    inputs = batch(family, name, kind)
    found = []
    for implementation in ("by_hand", "sdpa", "in_chunks", "fast"):
        _, ours = pair(family, name, torch.float32)
        ref.attend_by(ours, implementation)
        found.append(outputs(name, run(ours, inputs), inputs))
    for other in found[1:]:
        ref.assert_close(found[0], other, BOUNDS["by hand against sdpa fp32"])


def test_a_function_that_cannot_show_its_pattern_is_refused_and_not_passed_by():
    def halved(query, key, value, layout, dropout_p):
        return attend_by_length(query, key, value / 2, layout, dropout_p)

    def halved_by_hand(query, key, value, layout, dropout_p, tap):
        return attend_padded(query, key, value / 2, layout, dropout_p, tap)

    _, ours = pair("bert", "BertModel")
    ours.encoder.layers[1].attention.attend = halved
    inputs = batch("bert", "BertModel")
    plain = run(ours, inputs).last_hidden_state
    with pytest.raises(InputError) as caught:
        run(ours, inputs, attentions=True)
    assert caught.value.key == "attend"
    attention.REFERENCES[halved] = halved_by_hand
    shown = run(ours, inputs, attentions=True)
    assert (shown.last_hidden_state - plain).abs().max() <= BOUNDS["fp64"]
    del attention.REFERENCES[halved]


def test_a_partial_with_a_form_of_the_users_is_refused_too():
    def first_only(query, key, value, mask=None, dropout_p=0.0):
        return value

    _, ours = pair("bert", "BertModel")
    ours.encoder.layers[0].attention.attend = partial(attend_by_length, form=first_only)
    with pytest.raises(InputError) as caught:
        run(ours, batch("bert", "BertModel"), attentions=True)
    assert caught.value.key == "attend"
    ours.encoder.layers[0].attention.attend = partial(attend_by_length, form=attention_by_hand)
    run(ours, batch("bert", "BertModel"), attentions=True)
