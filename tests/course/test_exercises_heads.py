"""The checks of chapter 07: right code passes in any style, known mistakes are named, unknown ones are placed."""

from __future__ import annotations

import itertools
import math
import runpy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from minibert.study import exercises as check
from minibert.study.exercises import heads, losses
from minibert.study.exercises.values import difference

SOLUTIONS = runpy.run_path(str(Path(__file__).parents[2] / "notebooks/solutions/07_heads_and_losses.py"))
STYLES = {
    "masked_lm_head": ("my_head", "my_head_by_formulas", "my_head_with_einsum"),
    "masked_lm_loss": ("my_loss", "my_loss_by_torch", "my_loss_with_loops"),
    "add_losses": ("my_sum", "my_sum_by_terms", "my_sum_with_tensors"),
    "span_loss": ("my_span_loss", "my_span_loss_in_one_call", "my_span_loss_with_loops"),
}


def task_of(kind, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(heads if kind == "masked_lm_head" else losses, "judge", lambda mine, task: task)
        return getattr(check, kind)(None)


def wrong(task, *mistakes):
    return lambda *inputs: task.truth(*inputs, mistakes=frozenset(mistakes))


@pytest.mark.parametrize("kind, style", [(kind, style) for kind, styles in STYLES.items() for style in styles])
def test_right_code_passes_in_any_style(kind, style):
    verdict = getattr(check, kind)(SOLUTIONS[style])
    assert verdict.right and verdict.mistakes == (), verdict


@pytest.mark.parametrize("kind", STYLES)
def test_every_known_mistake_is_named_and_no_other(kind, monkeypatch):
    task = task_of(kind, monkeypatch)
    for name, words in task.mistakes.items():
        verdict = getattr(check, kind)(wrong(task, name))
        assert verdict.mistakes == ((name,),) and words in str(verdict), name


@pytest.mark.parametrize("kind", STYLES)
def test_pairs_are_named(kind, monkeypatch):
    task = task_of(kind, monkeypatch)

    def same(names, others):
        return not any(difference(task.right(case, *names), task.right(case, *others), 1e-4) for case in task.cases)

    for pair in itertools.combinations(task.mistakes, 2):
        verdict = getattr(check, kind)(wrong(task, *pair))
        alone = any(len(names) == 1 for names in verdict.mistakes)  # one of the two hides the other
        assert verdict.right or alone or pair in verdict.mistakes, pair
        assert all(same(names, pair) for names in verdict.mistakes), pair


# Mistakes as students make them.


def mean_over_all(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").mean()


def torchs_mean(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def softmax_first(logits, labels):
    return SOLUTIONS["my_loss"](logits.softmax(-1), labels)


def forgotten_gelu(hidden, word_table, weights, eps):
    x = F.linear(hidden, weights["dense.weight"], weights["dense.bias"])
    x = F.layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"], eps)
    return x @ word_table.T + weights["bias"]


def forgotten_bias_and_transpose(hidden, word_table, weights, eps):
    x = F.gelu(hidden @ weights["dense.weight"] + weights["dense.bias"])
    return F.layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"], eps) @ word_table.T


def unmasked_span(logits, start, end, mask):
    return SOLUTIONS["my_span_loss"](logits, start, end, torch.ones_like(mask))


def added_span(logits, start, end, mask):
    return 2 * SOLUTIONS["my_span_loss"](logits, start, end, mask)


def mean_of_means(batches):
    means = [{name: total / max(count, 1) for name, (total, count) in batch.items()} for batch in batches]
    return sum(sum(batch.values()) for batch in means) / len(means)


KNOWN = [
    ("masked_lm_loss", mean_over_all, ("all positions",)),
    ("masked_lm_loss", torchs_mean, ("0 by 0",)),
    ("masked_lm_loss", softmax_first, ("softmax twice",)),
    ("masked_lm_head", forgotten_gelu, ("no activation",)),
    ("masked_lm_head", forgotten_bias_and_transpose, ("dense transposed", "bias dropped")),
    ("span_loss", unmasked_span, ("padding",)),
    ("span_loss", added_span, ("sum of both",)),
    ("add_losses", mean_of_means, ("mean of means",)),
]


@pytest.mark.parametrize("kind, function, names", KNOWN, ids=[function.__name__ for _, function, _ in KNOWN])
def test_mistakes_written_by_hand_are_named(kind, function, names):
    assert getattr(check, kind)(function).mistakes == (names,)


def changed(style, change):
    return lambda *given: change(SOLUTIONS[style](*given))


UNKNOWN = [
    ("masked_lm_head", changed("my_head", lambda x: x * 2), "an identity"),
    ("masked_lm_head", changed("my_head", lambda x: x.flip(-1)), "an identity"),
    ("masked_lm_head", lambda h, t, w, e: SOLUTIONS["my_head"](h, t, {**w, "bias": w["bias"] * 2}, e), "all weights"),
    ("masked_lm_head", lambda h, t, w, e: SOLUTIONS["my_head"](h, t, {**w, "norm.bias": -w["norm.bias"]}, e), "norm"),
    ("masked_lm_loss", changed("my_loss", lambda x: x.exp()), "one row"),
    ("masked_lm_loss", lambda x, labels: SOLUTIONS["my_loss"](x / 2, labels), "one row"),
    ("masked_lm_loss", lambda x, labels: SOLUTIONS["my_loss"](x[:1], labels[:1]), "two rows"),
    ("span_loss", lambda x, s, e, m: SOLUTIONS["my_span_loss"](x.abs(), s, e, m), "one row without padding"),
    ("span_loss", lambda x, s, e, m: SOLUTIONS["my_span_loss"](x[:1], s[:1], e[:1], m[:1]), "rows without padding"),
    ("span_loss", lambda x, s, e, m: SOLUTIONS["my_span_loss"](x * m[..., None] * 0.5, s, e, m), "one row"),
    ("add_losses", changed("my_sum", lambda x: -x), "one batch of one term"),
    ("add_losses", lambda batches: SOLUTIONS["my_sum"](batches[::2]), "three batches"),
]


@pytest.mark.parametrize("kind, function, place", UNKNOWN)
def test_for_an_unknown_mistake_the_first_case_that_departs_is_told(kind, function, place):
    verdict = getattr(check, kind)(function)
    assert not verdict.right and verdict.mistakes == ()
    assert place in str(verdict).splitlines()[0]


def test_right_numbers_are_not_enough():
    detached = check.masked_lm_head(lambda h, table, w, eps: SOLUTIONS["my_head"](h, table.detach(), w, eps))
    assert not detached.right and str(detached).startswith("The results are right. But")
    assert "gradient" in str(check.masked_lm_loss(lambda logits, labels: SOLUTIONS["my_loss"](logits.detach(), labels)))


@pytest.mark.parametrize("kind", STYLES)
def test_nothing_written_and_errors_get_a_sentence(kind):
    assert str(getattr(check, kind)(lambda *given: None)) == "Not written yet: the function returns None."
    assert "ValueError" in str(getattr(check, kind)(lambda *given: math.log(-1)))
