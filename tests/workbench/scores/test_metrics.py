"""Metrics against scikit-learn and scipy, on random data and at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from minibert.io.errors import InputError
from minibert.workbench.kinds import KINDS
from minibert.workbench.scores.metrics import (
    HIGHER_IS_BETTER,
    accuracy,
    bootstrap_interval,
    class_scores,
    confusion_matrix,
    entities,
    entity_scores,
    multilabel_scores,
    regression_scores,
    wilson_interval,
)

CLASSES = 5


def pairs(element, smallest=1):
    return st.lists(st.tuples(element, element), min_size=smallest, max_size=30)


@given(pairs(st.integers(0, CLASSES - 1)))
@settings(max_examples=60, deadline=None)
def test_single_label_scores_equal_scikit_learns(examples):
    """Rare, missing and never predicted classes come up among the examples by themselves."""
    truth, predicted = np.array(examples).T
    every = list(range(CLASSES))
    matrix = sklearn.metrics.confusion_matrix(truth, predicted, labels=every)
    assert np.array_equal(confusion_matrix(truth, predicted, CLASSES), matrix)
    scores = class_scores(truth, predicted, CLASSES)
    ours = (scores.precision, scores.recall, scores.f1, scores.support)
    theirs = sklearn.metrics.precision_recall_fscore_support(truth, predicted, labels=every, zero_division=0)
    for left, right in zip(ours, theirs, strict=True):
        assert np.allclose(left, right)
    assert accuracy(truth, predicted) == pytest.approx((truth == predicted).mean())
    for average, ours_averaged in (("macro", scores.macro_f1), ("weighted", scores.weighted_f1)):
        assert ours_averaged == pytest.approx(
            sklearn.metrics.f1_score(truth, predicted, average=average, zero_division=0)
        )


def test_rows_are_labels_and_columns_predictions():
    assert confusion_matrix([0, 0, 1], [1, 1, 1], 2).tolist() == [[0, 2], [0, 1]]


@given(pairs(st.tuples(*[st.integers(0, 1)] * 3)))
@settings(max_examples=60, deadline=None)
def test_several_label_scores_equal_scikit_learns(examples):
    truth, predicted = (np.array(rows) for rows in zip(*examples, strict=True))
    scores = multilabel_scores(truth, predicted)
    for average in ("micro", "macro"):
        assert scores[f"{average}_f1"] == pytest.approx(
            sklearn.metrics.f1_score(truth, predicted, average=average, zero_division=0)
        )
    assert scores["subset_accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))


@given(pairs(st.integers(-6, 6).map(lambda n: n / 4), smallest=2))
@settings(max_examples=60, deadline=None)
def test_regression_scores_equal_scipys(examples):
    truth, predicted = np.array(examples).T
    scores = regression_scores(truth, predicted)
    assert scores["mse"] == pytest.approx(sklearn.metrics.mean_squared_error(truth, predicted))
    if np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        assert scores["pearson"] == scores["spearman"] == 0
    else:
        assert scores["pearson"] == pytest.approx(scipy.stats.pearsonr(truth, predicted)[0])
        assert scores["spearman"] == pytest.approx(scipy.stats.spearmanr(truth, predicted)[0])


def test_correlation_with_a_constant_is_zero_even_if_its_mean_is_rounded():
    assert regression_scores([0.1, 0.7, 0.3], [0.1, 0.1, 0.1])["pearson"] == 0


@pytest.mark.parametrize(
    "tags, expected",
    [
        ("", set()),
        ("O O", set()),
        ("B-PER I-PER O", {(0, 2, "PER")}),
        ("B-PER B-PER", {(0, 1, "PER"), (1, 2, "PER")}),
        ("O B-LOC", {(1, 2, "LOC")}),
        ("I-PER I-PER", {(0, 2, "PER")}),  # nothing was begun: it begins here
        ("B-PER I-LOC I-LOC", {(0, 1, "PER"), (1, 3, "LOC")}),
        ("B-PER O I-PER", {(0, 1, "PER"), (2, 3, "PER")}),
        ("B-a-b I-a-b I-b", {(0, 2, "a-b"), (2, 3, "b")}),
    ],
)
def test_entities_are_read_as_the_shared_tasks_read_them(tags, expected):
    assert entities(tags.split()) == expected


def test_entity_scores_by_hand():
    labels = [["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "O"], ["B-LOC", "I-LOC"]]
    predictions = [["B-PER", "I-PER", "O", "B-PER"], ["B-PER", "B-ORG"], ["B-LOC", "O"]]
    assert entity_scores(labels, predictions) == {
        "LOC": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2},
        "ORG": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0},
        "PER": {"precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8), "support": 2},
        "micro": {
            "precision": pytest.approx(2 / 5),
            "recall": pytest.approx(2 / 4),
            "f1": pytest.approx(4 / 9),
            "support": 4,
        },
    }


def test_entities_of_different_sentences_are_different():
    assert entity_scores([["B-X"], ["O"]], [["O"], ["B-X"]])["micro"]["f1"] == 0


@pytest.mark.parametrize(
    "right, total, low, high",
    [(23075, 25000, 0.920, 0.926), (140, 160, 0.815, 0.918), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1)],
)
def test_wilson_intervals_of_known_results(right, total, low, high):
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=5e-4)


@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=60, deadline=None)
def test_wilson_intervals_equal_scipys(total, share, confidence):
    right = round(share * total)
    expected = scipy.stats.binomtest(right, total).proportion_ci(confidence, method="wilson")
    assert wilson_interval(right, total, confidence=confidence) == pytest.approx(
        (expected.low, expected.high), abs=1e-9
    )


def test_the_bootstrap_agrees_with_wilson_and_repeats_itself():
    generator = np.random.default_rng(4)
    truth = generator.integers(0, 2, 400)
    predicted = np.where(generator.random(400) < 0.8, truth, 1 - truth)
    interval = bootstrap_interval(accuracy, truth, predicted, seed=1)
    assert interval == pytest.approx(wilson_interval(int((truth == predicted).sum()), 400), abs=0.01)
    assert interval == bootstrap_interval(accuracy, truth, predicted, seed=1)
    assert interval != bootstrap_interval(accuracy, truth, predicted, seed=2)


def test_nineteen_of_twenty_bootstrap_scores_are_inside_the_interval():
    draw = np.random.default_rng(7)
    truth, scores = draw.random(50), []

    def mean(labels, predictions):
        scores.append(float(labels.mean()))
        return scores[-1]

    low, high = bootstrap_interval(mean, truth, truth, seed=1, resamples=2000)
    inside = sum(low <= score <= high for score in scores)
    assert inside == pytest.approx(0.95 * 2000, abs=2)


def test_the_bootstrap_takes_any_metric():
    low, high = bootstrap_interval(
        lambda truth, predicted: class_scores(truth, predicted, 3).macro_f1,
        [0, 1, 2] * 20,
        [0, 1, 1] * 20,
        seed=0,
        resamples=200,
    )
    assert 0 < low < class_scores([0, 1, 2] * 20, [0, 1, 1] * 20, 3).macro_f1 < high < 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: accuracy([], []),
        lambda: accuracy([1, 2], [1]),
        lambda: accuracy([[1], [2]], [1, 2]),
        lambda: confusion_matrix([0, 3], [0, 1], 3),
        lambda: confusion_matrix([0, 1], [0, -1], 3),
        lambda: entity_scores([["O"]], []),
        lambda: entity_scores([["O"]], [["O", "O"]]),
        lambda: wilson_interval(0, 0),
        lambda: wilson_interval(11, 10),
    ],
)
def test_what_cannot_be_scored_is_an_error_and_not_a_number(call):
    with pytest.raises(InputError):
        call()


def test_no_score_is_nan():
    scores = class_scores([0, 0], [1, 1], 3)
    for values in (scores.precision, scores.recall, scores.f1):
        assert not any(map(math.isnan, values))


def test_every_metric_declares_its_direction():
    assert {name for kind in KINDS.values() for name in kind.metrics} <= HIGHER_IS_BETTER.keys()
    assert not HIGHER_IS_BETTER["loss"] and HIGHER_IS_BETTER["accuracy"]
