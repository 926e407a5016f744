"""Tests of significance against scipy, and over simulations of chance and of real differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from minibert.io.errors import InputError
from minibert.workbench.kinds import KINDS
from minibert.workbench.scores.metrics import bootstrap_interval, class_scores
from minibert.workbench.scores.significance import (
    holm,
    mcnemar,
    mean_interval,
    paired_bootstrap,
    paired_t,
    t_quantile,
    t_within,
)
from tests.conftest import BOUNDS

EXACT = BOUNDS["fp64"]


@pytest.mark.parametrize(
    "counts", [(0, 0), (1, 0), (0, 5), (3, 9), (9, 3), (12, 12), (12, 13), (300, 351), (4000, 4200)]
)
def test_mcnemar_equals_scipys_binomial_test(counts):
    total = sum(counts)
    expected = scipy.stats.binomtest(min(counts), total).pvalue if total else 1.0
    assert abs(mcnemar(*counts) - expected) <= EXACT


def test_mcnemar_of_very_many_is_no_overflow():
    assert mcnemar(20_000, 20_000) == 1.0
    assert 0 <= mcnemar(0, 25_000) < 1e-300


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 30, 101])
def test_t_equals_scipys(freedom):
    for t in (0.0, 0.1, 1.0, 2.5, 40.0):
        expected = 2 * scipy.stats.t.cdf(t, freedom) - 1
        assert abs(t_within(t, freedom) - expected) <= EXACT
    for share in (0.5, 0.75, 0.95, 0.975, 0.995):
        expected = scipy.stats.t.ppf(share, freedom)
        assert abs(t_quantile(share, freedom) - expected) <= EXACT * max(1, expected)


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_means_of_seeds_equal_scipys(count):
    draw = np.random.default_rng(count)
    first, second = draw.normal(0.9, 0.01, count), draw.normal(0.91, 0.01, count)
    expected = scipy.stats.ttest_rel(second, first)
    low, high = expected.confidence_interval(0.95)
    found = paired_t(first, second)
    assert np.allclose(
        [found.value, found.low, found.high, found.p],
        [(second - first).mean(), low, high, expected.pvalue],
        rtol=0,
        atol=EXACT,
    )
    interval = scipy.stats.t.interval(0.95, count - 1, first.mean(), scipy.stats.sem(first))
    assert np.allclose(mean_interval(first), [first.mean(), *interval], rtol=0, atol=EXACT)


def test_seeds_that_differ_by_the_same_have_no_spread():
    assert paired_t([0.5, 0.6], [0.5, 0.6]).p == 1
    found = paired_t([0.5, 0.6], [0.75, 0.85])
    assert math.isnan(found.p) and math.isnan(found.low) and found.value == pytest.approx(0.25, abs=EXACT)


def test_holm_by_hand():
    # 0.01 * 4, 0.02 * 3, 0.03 * 2 and 0.04 * 1, none below one before it
    assert holm([0.04, 0.01, 0.03, 0.02]) == [0.06, 0.04, 0.06, 0.06]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.3]) == [0.3]
    assert holm([]) == []


def accuracy_of(sums):
    return sums[..., 0] / sums[..., 1]


def hits(right):
    return np.stack([right, np.ones(len(right))], axis=1)


def test_a_system_against_itself_does_not_differ():
    right = np.random.default_rng(0).random(200) < 0.8
    found = paired_bootstrap(accuracy_of, hits(right), hits(right), seed=0)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_the_bootstrap_is_a_function_of_the_seed():
    draw = np.random.default_rng(0)
    first, second = hits(draw.random(200) < 0.8), hits(draw.random(200) < 0.8)
    runs = [paired_bootstrap(accuracy_of, first, second, seed=seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    back = paired_bootstrap(accuracy_of, second, first, seed=1)
    assert back.value == -runs[0].value


def test_the_interval_of_a_difference_is_that_of_95_percent():
    draw = np.random.default_rng(5)
    gains = draw.normal(size=400)
    first, second = (np.stack([values, np.ones(400)], axis=1) for values in (np.zeros(400), gains))
    found = paired_bootstrap(accuracy_of, first, second, seed=0, resamples=4000)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * gains.std() / 20, rel=0.05)


def test_drawing_in_blocks_is_drawing_all_at_once(monkeypatch):
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(2, 50, 2)) + 5
    whole = paired_bootstrap(accuracy_of, first, second, seed=0)
    monkeypatch.setattr("minibert.workbench.scores.significance._BLOCK", 50 * 7)
    assert paired_bootstrap(accuracy_of, first, second, seed=0) == whole


def test_counts_of_kinds_are_as_wide_as_examples_drawn_one_by_one():
    """The interval against the plain bootstrap, which draws example by example."""
    draw = np.random.default_rng(3)
    truth = draw.integers(0, 3, 400)
    guesses = [np.where(draw.random(400) < share, truth, 0) for share in (0.7, 0.75)]
    both = np.stack(guesses, axis=1)

    def gain(labels, predictions):
        scores = [class_scores(labels[:, 0], predictions[:, at], 3).macro_f1 for at in (1, 0)]
        return scores[0] - scores[1]

    expected = bootstrap_interval(gain, np.stack([truth, truth], 1), both, seed=0)
    names = ["a", "b", "c"]
    scores = [
        KINDS["single_label_classification"].outcomes(
            names,
            [{"label": names[label], "prediction": names[guess]} for label, guess in zip(truth, guess_of, strict=True)],
        )["macro_f1"]
        for guess_of in guesses
    ]
    found = paired_bootstrap(scores[0].of_sums, scores[0].added, scores[1].added, seed=0)
    assert found.value == pytest.approx(gain(np.stack([truth, truth], 1), both), abs=EXACT)
    # Two draws of 1,000: the ends agree to a fraction of the width, and no better.
    width = expected[1] - expected[0]
    assert np.abs(np.subtract((found.low, found.high), expected)).max() < 0.15 * width


def test_chance_is_called_a_difference_about_as_rarely_as_it_should_be():
    """400 pairs of equally good systems: at 0.05 about 20 alarms, by McNemar's test fewer."""
    draw = np.random.default_rng(0)
    alarms = {"mcnemar": 0, "bootstrap": 0, "t": 0}
    for trial in range(400):
        first, second = draw.random((2, 300)) < 0.85
        alone = int((first & ~second).sum()), int((second & ~first).sum())
        alarms["mcnemar"] += mcnemar(*alone) < 0.05
        found = paired_bootstrap(accuracy_of, hits(first), hits(second), seed=trial, resamples=400)
        alarms["bootstrap"] += found.p < 0.05
        alarms["t"] += paired_t(*draw.normal(size=(2, 4))).p < 0.05
    # A binomial of 400 at 0.05 lies within 8..33 with a chance of 0.997.
    assert 4 <= alarms["mcnemar"] <= 33
    assert 8 <= alarms["bootstrap"] <= 33
    assert 8 <= alarms["t"] <= 33


def test_a_planted_difference_is_found():
    draw = np.random.default_rng(0)
    first = draw.random(2000) < 0.80
    second = first | (draw.random(2000) < 0.15)  # about 3 points better, never worse
    found = paired_bootstrap(accuracy_of, hits(first), hits(second), seed=0)
    assert found.p == 1 / 1001
    assert found.low > 0.02 and found.high < 0.05
    assert mcnemar(int((first & ~second).sum()), int((second & ~first).sum())) < 1e-9


@pytest.mark.parametrize(
    "call",
    [
        lambda: mcnemar(-1, 3),
        lambda: mean_interval([0.5]),
        lambda: paired_t([0.5], [0.6]),
        lambda: paired_bootstrap(accuracy_of, np.ones((3, 2)), np.ones((4, 2)), seed=0),
        lambda: paired_bootstrap(accuracy_of, np.ones((0, 2)), np.ones((0, 2)), seed=0),
    ],
)
def test_what_cannot_be_tested_is_an_error(call):
    with pytest.raises(InputError):
        call()
