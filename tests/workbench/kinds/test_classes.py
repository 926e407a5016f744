"""Classes: Matthews correlation against scikit-learn, alone and in a report."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import matthews_corrcoef

from minibert.data import Example
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.kinds.classes import Classes
from minibert.workbench.kinds.evaluation import Measured
from minibert.workbench.scores.metrics import matthews
from tests.conftest import BOUNDS


def theirs(truth, predicted) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of predictions of one class alone
        return matthews_corrcoef(truth, predicted)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_matthews_correlation_is_scikit_learns(classes):
    draw = np.random.default_rng(classes)
    for examples in (1, 2, 5, 50, 300):
        for _ in range(20):
            truth = draw.integers(0, classes, examples)
            random = draw.integers(0, classes, examples)
            for predicted in (random, np.where(draw.random(examples) < 0.7, truth, random), truth):
                found = matthews(truth, predicted, classes)
                assert found == pytest.approx(theirs(truth, predicted), abs=BOUNDS["fp64"])


def test_matthews_correlation_of_known_cases():
    assert matthews([0, 1, 0, 1], [0, 1, 0, 1], 2) == 1
    assert matthews([0, 1, 0, 1], [1, 0, 1, 0], 2) == -1
    assert matthews([0, 1, 0, 1], [0, 0, 1, 1], 2) == 0
    assert matthews([0, 1, 0, 1], [1, 1, 1, 1], 2) == 0  # constant predictions
    assert matthews([1, 1, 1], [0, 1, 0], 2) == 0  # constant labels
    assert matthews([1, 1, 1], [1, 1, 1], 2) == 0  # both: all right, and nothing was told apart


def test_matthews_correlation_is_reported_with_its_interval():
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 3, 60)
    logits = torch.tensor(draw.normal(size=(60, 3)))
    logits[torch.arange(60), torch.tensor(truth)] += 1.5
    corpus = Corpus(tuple(Example(f"text {row}", None, int(label)) for row, label in enumerate(truth)), ("a", "b", "c"))
    measured = Measured("test", corpus, ("a", "b", "c"), 1.0, list(logits), [3] * 60)
    found = Classes().report(measured).metrics["matthews"]
    predicted = logits.argmax(dim=-1).numpy()
    assert found["value"] == pytest.approx(theirs(truth, predicted), abs=BOUNDS["fp64"])
    drawn = [draw.integers(0, 60, 60) for _ in range(1000)]
    scores = [theirs(truth[rows], predicted[rows]) for rows in drawn]
    spread = np.std(scores)  # other draws than the report's: the ends differ by a small part of it
    assert abs(found["low"] - np.quantile(scores, 0.025)) < spread / 3
    assert abs(found["high"] - np.quantile(scores, 0.975)) < spread / 3
    assert found["low"] < found["value"] < found["high"]
