"""Attention: the equation by hand and torch's fused kernel are one function."""

from __future__ import annotations

import math

import pytest
import torch

from minibert.attention import attention_by_hand, attention_sdpa
from minibert.io.errors import ConfigError
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
        context, _ = attend(*given, mask=mask)
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
    context, pattern = attention_by_hand(query, key, value, mask)
    for row in range(B):
        real = mask[row].nonzero().flatten().tolist()
        for head in range(N):
            for asking in real:
                scores = [
                    sum(query[row, head, asking] * key[row, head, column]).item() / math.sqrt(H)
                    for column in real
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
    _, pattern = attention_by_hand(*_query_key_value(torch.float64), mask=mask)
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
    context, pattern = attention_by_hand(query, key, value, mask)
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
    for implementation in ("by_hand", "sdpa", "in_chunks", "auto"):
        _, ours = pair(family, name, torch.float32)
        ours.use_attention(implementation)
        found.append(outputs(name, run(ours, inputs), inputs))
    for other in found[1:]:
        ref.assert_close(found[0], other, BOUNDS["by hand against sdpa fp32"])


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rate", [0.1, 0.0])
def test_auto_takes_chunks_in_training_and_sdpa_else(rate, training, gradients, monkeypatch):
    taken = []
    for name in ("attention_by_hand", "attention_sdpa", "attention_in_chunks"):
        function = getattr(ref.minibert.attention, name)

        def watched(*args, name=name, function=function, **kwargs):
            taken.append(name)
            return function(*args, **kwargs)

        monkeypatch.setattr(ref.minibert.attention, name, watched)
    _, ours = pair("bert", "BertModel", attention_probs_dropout_prob=rate)
    with torch.set_grad_enabled(gradients):
        run(ours.train(training), batch("bert", "BertModel"))
    chunks = training and gradients
    assert set(taken) == {"attention_in_chunks" if chunks else "attention_sdpa"}


def test_sdpa_has_no_pattern_and_an_unknown_form_is_refused():
    assert attention_sdpa(*_query_key_value(torch.float32))[1] is None
    _, ours = pair("bert", "BertModel")
    with pytest.raises(ConfigError, match="no attention called 'flash'"):
        ours.use_attention("flash")


def test_varlen_is_handed_every_row_with_its_boundaries(monkeypatch):
    """The kernel runs on GPUs only: a plain one in its place, with its signature, sees the rows."""

    def in_loops(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k):
        assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
        lengths = cu_seq_q.diff().tolist()
        assert max_q == max_k == max(lengths) and cu_seq_q[0] == 0 and min(lengths) > 0
        rows = (part.split(lengths) for part in (query, key, value))
        blocks = [[part.transpose(0, 1)[None] for part in row] for row in zip(*rows, strict=True)]
        return torch.cat([attention_by_hand(*block)[0][0].transpose(0, 1) for block in blocks])

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", in_loops)
    for kind in ("holes", "full", "left"):
        inputs = batch("bert", "BertForTokenClassification", kind)
        found = []
        for implementation in ("by_hand", "varlen"):
            _, ours = pair("bert", "BertForTokenClassification")
            ours.use_attention(implementation)
            name = "BertForTokenClassification"
            found.append(outputs(name, run(ours, inputs), inputs))
        ref.assert_close(found[0], found[1], BOUNDS["fp64"])


@pytest.mark.parametrize(
    "dtype, rate, recent, expected",
    [
        (torch.bfloat16, 0.0, True, "varlen"),
        (torch.float16, 0.0, True, "varlen"),
        (torch.bfloat16, 0.1, True, "sdpa"),
        (torch.float32, 0.0, True, "sdpa"),
        (torch.bfloat16, 0.0, False, "sdpa"),
    ],
)
def test_auto_takes_varlen_on_a_gpu_that_has_it(dtype, rate, recent, expected, monkeypatch):
    module = ref.minibert.attention
    monkeypatch.setattr(module, "_has_varlen", lambda device: recent)
    _, ours = pair("bert", "BertModel", attention_probs_dropout_prob=rate)
    attention = ours.train().encoder.layers[0].attention
    query = torch.empty(1, N, H, dtype=dtype, device="meta")  # any device but a CPU
    assert attention._implementation_now(query) == expected
