"""The checks of the course: right code passes in any style, known mistakes are named, unknown ones never misnamed."""

from __future__ import annotations

import itertools
import math
import random
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from minibert.study import exercises as check
from minibert.study import mistakes
from minibert.study.exercises import network

FOLDER = Path(__file__).parents[2] / "notebooks" / "solutions"
SOLUTIONS = runpy.run_path(str(FOLDER / "03_self_attention.py"))
SWAPS = {"query and key swapped": (0, 1), "key and value swapped": (1, 2), "query and value swapped": (0, 2)}


def wrong_attention(*names):
    def attention(query, key, value, mask):
        parts = [query, key, value]
        for name, (first, second) in SWAPS.items():
            if name in names:
                parts[first], parts[second] = parts[second], parts[first]
        return mistakes.attend(*parts, mask, frozenset(names))[2]

    return attention


def wrong_self_attention(*names):
    def self_attention(hidden, mask, weights, heads):
        official = {
            name.replace("output", "attention.output.dense") if "output" in name else f"attention.self.{name}": tensor
            for name, tensor in weights.items()
        }
        return mistakes.attention({"num_attention_heads": heads}, official, hidden, mask, frozenset(names), {}, "")

    return self_attention


def wrong_embeddings(*names):
    def embeddings(ids, segments, tables, eps):
        official = {
            "embeddings.word_embeddings.weight": tables["word"],
            "embeddings.position_embeddings.weight": tables["position"],
            "embeddings.token_type_embeddings.weight": tables["segment"],
            "embeddings.LayerNorm.weight": tables["weight"],
            "embeddings.LayerNorm.bias": tables["bias"],
        }
        return mistakes.embed({"layer_norm_eps": eps}, official, ids, segments, frozenset(names))

    return embeddings


def wrong_layer(*names):
    def layer(hidden, attend, weights, eps):
        def norm(name, x):
            part = {end: weights[f"{name}.{end}"] for end in ("weight", "bias")}
            return mistakes.norm({"layer_norm_eps": eps}, part, x, frozenset(names))

        def fed(x):
            official = {"inner": "intermediate", "outer": "output"}
            ends = [(mine, name, end) for mine, name in official.items() for end in ("weight", "bias")]
            part = {f"{name}.dense.{end}": weights[f"{mine}.{end}"] for mine, name, end in ends}
            return mistakes.feed_forward(part, x, frozenset(names))

        total = hidden
        for kind, sublayer in (("attention", attend), ("feed_forward", fed)):
            before = total if "residual of the sum" in names else hidden
            before = before * (f"no {kind.replace('_', '-')} residual" not in names)
            if "pre-norm" in names:
                hidden = total = before + sublayer(norm(f"{kind}_norm", hidden))
            elif "norm inside the residual" in names:
                hidden = total = before + norm(f"{kind}_norm", sublayer(hidden))
            else:
                total = before + sublayer(hidden)
                hidden = norm(f"{kind}_norm", total)
        return hidden

    return layer


CHECKS = {
    "layer": (check.layer, wrong_layer, network.LAYER),
    "embeddings": (check.embeddings, wrong_embeddings, network.EMBEDDINGS),
    "attention": (check.attention, wrong_attention, network.ATTENTION),
    "self_attention": (check.self_attention, wrong_self_attention, network.SELF_ATTENTION),
}
SINGLES = [(kind, name) for kind, (_, _, known) in CHECKS.items() for name in known]

# Right code, written differently.


def by_sdpa(query, key, value, mask):
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])


def in_place_with_a_large_number(query, key, value, mask):
    query /= query.shape[-1] ** 0.5
    scores = torch.matmul(query, key.mT)
    scores += (1.0 - mask[:, None, None, :].float()) * -10000.0
    pattern = torch.exp(scores - scores.amax(-1, keepdim=True))
    pattern = pattern / pattern.sum(-1, keepdim=True)
    return torch.matmul(pattern, value), pattern


def for_padding_on_the_right(query, key, value, mask):
    rows = []
    for each, length in enumerate(mask.sum(dim=1).tolist()):
        q, k, v = (x[each, :, :length] for x in (query, key, value))
        context = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
        rows.append(F.pad(context, (0, 0, 0, mask.shape[1] - length)))
    return torch.stack(rows)


RIGHT = [SOLUTIONS[f"my_attention{style}"] for style in ("", "_with_einsum", "_with_loops")]
RIGHT += [by_sdpa, in_place_with_a_large_number, for_padding_on_the_right, SOLUTIONS["nearly"]]


@pytest.mark.parametrize("function", RIGHT, ids=lambda function: function.__name__)
def test_right_code_passes_in_any_style(function):
    verdict = check.attention(function)
    assert verdict.right and verdict.mistakes == (), verdict


@pytest.mark.parametrize("attend", RIGHT[:2] + RIGHT[3:4], ids=lambda function: function.__name__)
def test_a_right_layer_passes_in_any_style(attend):
    def self_attention(hidden, mask, weights, heads):
        matrix = torch.cat([weights[f"{kind}.weight"] for kind in ("query", "key", "value")])
        bias = torch.cat([weights[f"{kind}.bias"] for kind in ("query", "key", "value")])
        parts = torch.einsum("bsd,ed->bse", hidden, matrix) + bias
        parts = parts.view(*hidden.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
        context = attend(*parts, mask)
        context = context[0] if isinstance(context, tuple) else context
        merged = torch.cat(context.unbind(1), dim=-1)
        return merged @ weights["output.weight"].T + weights["output.bias"]

    assert check.self_attention(self_attention).right
    assert check.self_attention(SOLUTIONS["my_self_attention"]).right


def embeddings_by_torch(ids, segments, tables, eps):
    positions = torch.arange(ids.shape[1])
    total = F.embedding(ids, tables["word"]) + F.embedding(segments, tables["segment"])
    total = total + F.embedding(positions, tables["position"]).unsqueeze(0)
    return F.layer_norm(total, total.shape[-1:], tables["weight"], tables["bias"], eps)


def embeddings_by_products(ids, segments, tables, eps):
    indices = {"word": ids, "position": torch.arange(ids.shape[1]), "segment": segments}
    total = sum(F.one_hot(index, len(tables[name])).float() @ tables[name] for name, index in indices.items())
    centred = total - total.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps) * tables["weight"] + tables["bias"]


@pytest.mark.parametrize("function", [embeddings_by_torch, embeddings_by_products])
def test_right_embeddings_pass_in_any_style(function):
    assert check.embeddings(function).right


def layer_by_modules(hidden, attend, weights, eps):
    def module(kind, name, *sizes):
        made = kind(*sizes)
        return lambda x: torch.func.functional_call(made, {e: weights[f"{name}.{e}"] for e in ("weight", "bias")}, x)

    inner, size = weights["inner.weight"].shape
    first, second = (module(nn.LayerNorm, f"{name}_norm", size, eps) for name in ("attention", "feed_forward"))
    up, down = module(nn.Linear, "inner", size, inner), module(nn.Linear, "outer", inner, size)
    hidden = first(attend(hidden).add_(hidden))
    return second(hidden + down(nn.GELU()(up(hidden))))


def layer_token_by_token(hidden, attend, weights, eps):
    def norm(x, name):
        x = (x - x.mean()) / (x.var(unbiased=False) + eps) ** 0.5
        return x * weights[f"{name}_norm.weight"] + weights[f"{name}_norm.bias"]

    def token(before, attended):
        x = norm(before + attended, "attention")
        inner = weights["inner.weight"] @ x + weights["inner.bias"]
        active = inner * torch.distributions.Normal(0.0, 1.0).cdf(inner)
        return norm(x + weights["outer.weight"] @ active + weights["outer.bias"], "feed_forward")

    pairs = zip(hidden.flatten(0, 1), attend(hidden).flatten(0, 1), strict=True)
    return torch.stack([token(*pair) for pair in pairs]).view(hidden.shape)


@pytest.mark.parametrize("function", [layer_by_modules, layer_token_by_token])
def test_right_layers_pass_in_any_style(function):
    verdict = check.layer(function)
    assert verdict.right, verdict


# Known mistakes.


@pytest.mark.parametrize("kind, name", SINGLES)
@pytest.mark.parametrize("how", [(), (mistakes.MINUS_INFINITY,)], ids=["smallest number", "minus infinity"])
def test_every_known_mistake_is_named_and_no_other(kind, name, how):
    judge, wrong, _ = CHECKS[kind]
    verdict = judge(wrong(name, *how))
    assert not verdict.right and verdict.mistakes == ((name,),)
    assert mistakes.MISTAKES[name] in str(verdict)


def same_numbers(kind, first, second):
    """Whether two sets of mistakes cannot be told apart at real tokens."""
    judge, wrong, _ = CHECKS[kind]
    same = []

    def compare(*given):
        masks = [each for each in given if isinstance(each, torch.Tensor) and each.dtype == torch.bool]
        mask = masks[0] if masks else torch.ones_like(given[0], dtype=torch.bool)
        one, other = (wrong(*names)(*given) for names in (first, second))
        real = [(x.transpose(1, 2) if x.dim() == 4 else x)[mask] for x in (one, other)]
        same.append(torch.allclose(*real, atol=1e-5))
        return one

    judge(compare)
    return all(same)


@pytest.mark.parametrize("kind", CHECKS)
def test_pairs_are_named(kind):
    judge, wrong, known = CHECKS[kind]
    for pair in random.Random(3).sample([*itertools.combinations(known, 2)], 30):
        verdict = judge(wrong(*pair))
        assert not verdict.right and verdict.mistakes, pair
        assert verdict.mistakes == (pair,) or all(same_numbers(kind, pair, names) for names in verdict.mistakes), pair


def test_the_chapters_faulty_function_is_named():
    def nearly(query, key, value, mask):
        scores = query @ key.transpose(-2, -1) / query.shape[-1]
        scores = scores.masked_fill(~mask[:, None, :, None], -math.inf)
        return scores.softmax(dim=-1) @ value

    assert check.attention(nearly).mistakes == (("scale without root", "mask on queries"),)


def test_torchs_own_attention_leaves_zeros_where_nothing_may_be_read():
    def on_queries(query, key, value, mask):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, :, None])

    def inverted(query, key, value, mask):
        return by_sdpa(query, key, value, ~mask)

    assert check.attention(on_queries).mistakes == (("mask on queries",),)
    assert check.attention(inverted).mistakes == (("mask inverted",),)


def test_the_mask_that_comes_as_a_product_is_named():
    def on_scores(query, key, value, mask):
        return (scores_of(query, key) * mask[:, None, None, :]).softmax(-1) @ value

    def on_the_pattern(query, key, value, mask):
        pattern = scores_of(query, key).softmax(-1) * mask[:, None, None, :]
        return pattern @ value, pattern

    assert check.attention(on_scores).mistakes == (("masked scores of zero",),)
    assert check.attention(on_the_pattern).mistakes == (("mask after the softmax",),)


# Mistakes that it does not know: the first step that departs, and no wrong name.


def scores_of(query, key):
    return query @ key.mT / math.sqrt(query.shape[-1])


def hide(scores, mask, least=-1e9):
    return scores.masked_fill(~mask[:, None, None, :], least)


def doubled_values(query, key, value, mask):
    return hide(scores_of(query, key), mask).softmax(-1) @ (2 * value)


def sigmoid(query, key, value, mask):
    return hide(scores_of(query, key), mask).sigmoid() @ value


def not_itself(query, key, value, mask):
    scores = hide(scores_of(query, key), mask)
    return scores.masked_fill(torch.eye(scores.shape[-1], dtype=torch.bool), -1e9).softmax(-1) @ value


def base_two(query, key, value, mask):
    return hide(scores_of(query, key) * math.log(2), mask).softmax(-1) @ value


def cosines(query, key, value, mask):
    return hide(F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT, mask).softmax(-1) @ value


def masked_scores_of_minus_one(query, key, value, mask):
    return hide(scores_of(query, key), mask, -1.0).softmax(-1) @ value


def mask_of_the_row_before(query, key, value, mask):
    return by_sdpa(query, key, value, mask.roll(1, dims=0))


def the_largest_takes_all(query, key, value, mask):
    scores = hide(scores_of(query, key), mask)
    return F.one_hot(scores.argmax(-1), scores.shape[-1]).float() @ value


def doubled_keys(query, key, value, mask):
    return by_sdpa(query, 2 * key, value, mask)


def scores_without_sign(query, key, value, mask):
    return hide(scores_of(query, key).abs(), mask).softmax(-1) @ value


def mask_shifted_by_one(query, key, value, mask):
    return by_sdpa(query, key, value, mask.roll(1, dims=1))


UNKNOWN = {
    the_largest_takes_all: "the softmax",
    doubled_keys: "the scores",
    scores_without_sign: "the scores",
    mask_shifted_by_one: "the mask",
    doubled_values: "the values",
    sigmoid: "the values",
    not_itself: "the softmax",
    base_two: "the scores",
    cosines: "the scores",
    masked_scores_of_minus_one: "the mask",
    mask_of_the_row_before: "the mask",
}


@pytest.mark.parametrize("function, place", UNKNOWN.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_for_an_unknown_mistake_the_first_step_that_departs_is_told(function, place):
    verdict = check.attention(function)
    assert not verdict.right and verdict.mistakes == ()
    assert place in str(verdict).splitlines()[-1]


def norm_with_the_spread_not_its_square(ids, segments, tables, eps):
    total = tables["word"][ids] + tables["position"][: ids.shape[1]] + tables["segment"][segments]
    normed = (total - total.mean(-1, keepdim=True)) / total.var(-1, keepdim=True, unbiased=False)
    return normed * tables["weight"] + tables["bias"]


def bias_before_weight(ids, segments, tables, eps):
    bias = tables["weight"] * tables["bias"]
    return embeddings_by_torch(ids, segments, {**tables, "bias": bias}, eps)


def positions_backwards(ids, segments, tables, eps):
    return embeddings_by_torch(ids, segments, {**tables, "position": tables["position"][: ids.shape[1]].flip(0)}, eps)


def segments_reversed(ids, segments, tables, eps):
    return embeddings_by_torch(ids, 1 - segments, tables, eps)


def norm_without_mean(ids, segments, tables, eps):
    total = tables["word"][ids] + tables["position"][: ids.shape[1]] + tables["segment"][segments]
    return F.rms_norm(total, total.shape[-1:], tables["weight"], eps) + tables["bias"]


def positions_twice(ids, segments, tables, eps):
    return embeddings_by_torch(ids, segments, {**tables, "position": 2 * tables["position"]}, eps)


def segments_twice(ids, segments, tables, eps):
    return embeddings_by_torch(ids, segments, {**tables, "segment": 2 * tables["segment"]}, eps)


UNKNOWN_EMBEDDINGS = {
    norm_without_mean: "the lookup",
    positions_twice: "the positions",
    segments_twice: "the segments",
    norm_with_the_spread_not_its_square: "the lookup",
    bias_before_weight: "the norm",
    positions_backwards: "the positions",
    segments_reversed: "the segments",
}


@pytest.mark.parametrize("function, place", UNKNOWN_EMBEDDINGS.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_for_unknown_mistakes_in_embeddings_too(function, place):
    verdict = check.embeddings(function)
    assert not verdict.right and verdict.mistakes == ()
    assert place in str(verdict).splitlines()[-1]


def one_norm_for_both(hidden, attend, weights, eps):
    second = {f"attention_norm.{end}": weights[f"feed_forward_norm.{end}"] for end in ("weight", "bias")}
    return layer_by_modules(hidden, attend, {**weights, **second}, eps)


def doubled_feed_forward(hidden, attend, weights, eps):
    double = {f"outer.{end}": 2 * weights[f"outer.{end}"] for end in ("weight", "bias")}
    return layer_by_modules(hidden, attend, {**weights, **double}, eps)


def half_of_attention(hidden, attend, weights, eps):
    return layer_by_modules(hidden, lambda x: attend(x) / 2, weights, eps)


def biases_of_the_first_map_dropped(hidden, attend, weights, eps):
    return layer_by_modules(hidden, attend, {**weights, "inner.bias": 0 * weights["inner.bias"]}, eps)


UNKNOWN_LAYERS = {
    one_norm_for_both: "the norms",
    half_of_attention: "the norms",
    doubled_feed_forward: "feed-forward",
    biases_of_the_first_map_dropped: "feed-forward",
}


@pytest.mark.parametrize("function, place", UNKNOWN_LAYERS.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_for_unknown_mistakes_in_layers_too(function, place):
    verdict = check.layer(function)
    assert not verdict.right and verdict.mistakes == ()
    assert place in str(verdict).splitlines()[-1]


# What numbers alone do not show.


def detached(query, key, value, mask):
    return by_sdpa(query, key.detach(), value, mask)


def without_gradients(query, key, value, mask):
    with torch.no_grad():
        return by_sdpa(query, key, value, mask)


def through_numpy(query, key, value, mask):
    return torch.from_numpy(by_sdpa(query, key, value, mask).numpy())


def leaking(query, key, value, mask):
    return (scores_of(query, key) - 60.0 * ~mask[:, None, None, :]).softmax(-1) @ value


def pattern_of_other_rows(query, key, value, mask):
    return by_sdpa(query, key, value, mask), scores_of(query, key).softmax(-2)


@pytest.mark.parametrize("function", [detached, without_gradients, through_numpy, leaking, pattern_of_other_rows])
def test_right_numbers_are_not_enough(function):
    verdict = check.attention(function)
    assert not verdict.right and verdict.mistakes == ()
    assert str(verdict).startswith("The numbers are right.")


@pytest.mark.parametrize(
    "function",
    [
        lambda query, key, value, mask: None,
        lambda query, key, value, mask: value.tolist(),
        lambda query, key, value, mask: by_sdpa(query, key, value, mask).transpose(1, 2),
        lambda query, key, value, mask: query @ key,
        lambda query, key, value, mask: F.dropout(by_sdpa(query, key, value, mask), 0.1),
        lambda query, key: query,
    ],
)
def test_what_has_no_numbers_to_compare_gets_a_sentence(function):
    verdict = check.attention(function)
    assert not verdict.right and verdict.mistakes == () and str(verdict)


def test_an_error_is_shown_with_the_readers_own_lines_only():
    def stops(query, key, value, mask):
        raise ValueError("of the reader")

    text = str(check.attention(stops))
    assert (
        "ValueError: of the reader" in text
        and Path(__file__).name in text
        and str(Path(check.__file__).parent) not in text
    )
