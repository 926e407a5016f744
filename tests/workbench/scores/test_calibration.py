"""Calibration, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from minibert.io.errors import InputError
from minibert.workbench.scores.calibration import expected_calibration_error, reliability
from tests.conftest import BOUNDS


def test_a_table_by_hand():
    confidences = [0.05, 0.1, 0.55, 0.6, 0.95, 1.0, 1.0]
    right = [False, True, True, False, True, True, False]
    table = reliability(confidences, right)
    counts = [each.count for each in table]
    assert counts == [2, 0, 0, 0, 0, 2, 0, 0, 0, 3]  # a bin has its upper end, not its lower
    assert table[1].confidence is None and table[1].accuracy is None
    assert table[0].accuracy == table[5].accuracy == 0.5
    assert table[9].confidence == pytest.approx(2.95 / 3) and table[9].accuracy == 2 / 3
    gaps = 2 * (0.5 - 0.075) + 2 * (0.575 - 0.5) + 3 * (2.95 / 3 - 2 / 3)
    assert expected_calibration_error(table) == pytest.approx(gaps / 7, abs=BOUNDS["fp64"])


def test_it_agrees_with_scikit_learn():
    draw = np.random.default_rng(0)
    confidences = draw.random(5000)
    right = draw.random(5000) < confidences**1.5
    accuracies, means = calibration_curve(right, confidences, n_bins=10)
    table = reliability(confidences, right, bins=10)
    assert [each.accuracy for each in table] == pytest.approx(list(accuracies), abs=BOUNDS["fp64"])
    assert [each.confidence for each in table] == pytest.approx(list(means), abs=BOUNDS["fp64"])


def test_a_model_that_is_as_right_as_it_is_sure_has_no_error():
    table = reliability([0.75] * 4, [True, True, True, False])
    assert expected_calibration_error(table) == 0
    assert expected_calibration_error(reliability([1.0] * 4, [False] * 4)) == 1


@pytest.mark.parametrize(
    ("confidences", "right", "key"),
    [
        ([], [], None),
        ([0.5], [True, False], None),
        ([0.5, 1.2], [True, True], "confidences"),
        ([-0.1], [True], "confidences"),
        ([float("nan")], [True], "confidences"),
    ],
)
def test_only_confidences_are_taken(confidences, right, key):
    with pytest.raises(InputError) as caught:
        reliability(confidences, right)
    assert caught.value.key == key
