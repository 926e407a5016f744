"""Scores from rows of errors.csv equal the metrics of the report."""

from __future__ import annotations

import numpy as np
import pytest

from minibert.workbench.kinds import KINDS
from minibert.workbench.scores import metrics
from tests.conftest import BOUNDS

EXACT = BOUNDS["fp64"]
NAMES = ["angry", "calm", "happy", "never"]


def rows_of(labels, predictions):
    return [
        {"label": str(label), "prediction": str(prediction)}
        for label, prediction in zip(labels, predictions, strict=True)
    ]


def value(score):
    return float(score.of_sums(score.added.sum(axis=0)))


@pytest.fixture
def draw():
    return np.random.default_rng(0)


def test_classes(draw):
    truth, predicted = draw.integers(0, 3, (2, 60))
    rows = rows_of([NAMES[i] for i in truth], [NAMES[i] for i in predicted])
    found = KINDS["single_label_classification"].outcomes(NAMES, rows)
    assert list(found) == ["accuracy", "macro_f1", "matthews"]
    expected = metrics.matthews(truth, predicted, len(NAMES))
    assert abs(value(found["matthews"]) - expected) <= EXACT
    assert value(found["accuracy"]) == metrics.accuracy(truth, predicted)
    expected = metrics.class_scores(truth, predicted, len(NAMES)).macro_f1
    assert abs(value(found["macro_f1"]) - expected) <= EXACT


def test_several_labels(draw):
    truth, predicted = draw.random((2, 60, 4)) < 0.3

    def cells(holds):
        return [", ".join(np.array(NAMES)[row]) for row in holds]

    found = KINDS["multi_label_classification"].outcomes(NAMES, rows_of(cells(truth), cells(predicted)))
    expected = metrics.multilabel_scores(truth, predicted)["micro_f1"]
    assert abs(value(found["micro_f1"]) - expected) <= EXACT


def test_numbers(draw):
    truth = draw.normal(1e6, 1, 60)  # far from 0, where sums of squares lose their digits
    predicted = truth + draw.normal(0, 1, 60)
    found = KINDS["regression"].outcomes((), rows_of(truth, predicted))
    expected = metrics.regression_scores(truth, predicted)
    for name in ("pearson", "mse"):
        assert abs(value(found[name]) - expected[name]) <= EXACT
    constant = KINDS["regression"].outcomes((), rows_of([1.0, 1.0], [2.0, 3.0]))
    assert value(constant["pearson"]) == 0


def test_tags():
    truth = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC"]]
    predicted = [["B-PER", "O", "O", "B-LOC"], ["B-PER", "B-LOC"]]
    rows = rows_of([" ".join(tags) for tags in truth], [" ".join(tags) for tags in predicted])
    found = KINDS["token_classification"].outcomes(["O", "B-PER", "I-PER", "B-LOC"], rows)
    expected = metrics.entity_scores(truth, predicted)["micro"]["f1"]
    assert value(found["entity_f1"]) == expected


def test_tags_that_are_not_iob(draw):
    rows = rows_of(["NOUN VERB X", "X"], ["NOUN X X", "X"])
    found = KINDS["token_classification"].outcomes(["NOUN", "VERB", "X"], rows)
    assert list(found) == ["word_accuracy"] and value(found["word_accuracy"]) == 3 / 4


def test_ambiguous_label_names_give_no_score():
    assert KINDS["multi_label_classification"].outcomes(["a, b", "a", "b"], rows_of(["a"], ["a"])) == {}
    assert KINDS["token_classification"].outcomes(["B-X Y"], rows_of(["B-X Y"], ["B-X Y"])) == {}


def test_an_unknown_label_is_a_value_error():
    with pytest.raises(ValueError, match="furious"):
        KINDS["single_label_classification"].outcomes(NAMES, rows_of(["angry"], ["furious"]))
    with pytest.raises(ValueError):
        KINDS["regression"].outcomes((), rows_of([1.0], ["much"]))
