"""Slices of errors, confusions and suspected labels, on rows made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from minibert.io.errors import DataError
from minibert.workbench.reports.error_analysis import (
    Row,
    by_label,
    by_length,
    calibration,
    confusion_counts,
    confusions,
    easiest,
    rows_of,
    suspects,
)
from minibert.workbench.runs.folders import SavedRun


def row(loss, label, prediction, probability=0.6, tokens=5, text="a text") -> Row:
    right = label == prediction
    return Row(loss, label, prediction, probability, tokens, "file.csv:2", text, right=right)


def saved(row: dict[str, str]) -> SavedRun:
    return SavedRun(Path("runs/001"), {}, {}, [], [row])


ROWS = [
    row(6.0, "joy", "anger", 0.99, 30),
    row(3.0, "joy", "fear", 0.95, 3),
    row(2.0, "anger", "joy", 0.89, 8),
    row(1.0, "joy", "anger", 0.6, 9),
    row(0.1, "anger", "anger", 0.9, 4),
    row(0.01, "joy", "joy", 0.99, 7),
]


def test_slices_by_label():
    anger, joy = by_label(ROWS)
    assert (anger.name, anger.count, anger.right) == ("anger", 2, 1)
    assert (joy.name, joy.count, joy.right, joy.accuracy) == ("joy", 4, 1, 0.25)
    assert joy.loss == pytest.approx(10.01 / 4) and joy.confidence == pytest.approx(3.53 / 4)
    assert joy.low < 0.25 < joy.high


def test_slices_by_length_hold_every_row_once_in_the_order_of_length():
    slices = by_length(ROWS, parts=3)
    assert [(part.name, part.count) for part in slices] == [("3 to 4", 2), ("5 to 8", 2), ("9 to 30", 2)]
    assert [part.right for part in slices] == [1, 1, 0]
    same = [row(1.0, "joy", "joy", tokens=6)] * 5
    assert [(part.name, part.count) for part in by_length(same)] == [("6 to 6", 5)]
    assert by_length([row(1.0, "joy", "joy", tokens=None)]) == []
    assert sum(part.count for part in by_length(ROWS[:2], parts=4)) == 2


def test_confusions_are_errors_the_most_frequent_first():
    pairs = [(row.label, row.prediction) for row in ROWS]
    assert confusions(pairs) == [("joy", "anger", 2), ("anger", "joy", 1), ("joy", "fear", 1)]
    assert confusion_counts(pairs, ["joy", "anger"]).tolist() == [[1, 2], [1, 1]]


def test_suspects_contradict_their_label_strongly():
    assert suspects(ROWS) == [ROWS[0], ROWS[1]]  # 0.89 is not enough, and 0.99 on the label is none
    assert suspects(ROWS, most=1) == [ROWS[0]]
    assert suspects([row(1.0, "1.5", "2.5", probability=None)]) == []


def test_the_easiest_have_the_lowest_loss():
    assert easiest(ROWS, most=2) == [ROWS[5], ROWS[4]]


def test_calibration_counts_every_probability():
    assert sum(each.count for each in calibration(ROWS)) == 6
    assert calibration([row(1.0, "1.5", "2.5", probability=None)]) == ()


def test_rows_are_read_by_the_names_of_columns():
    line = {"text": "so", "guid": "f:1", "probability": "0.5", "prediction": "joy", "label": "joy", "loss": "0.25"}
    assert rows_of(saved(line)) == [Row(0.25, "joy", "joy", 0.5, None, "f:1", "so", right=True)]
    known = rows_of(saved({**line, "tokens": "7", "text_pair": "and", "probability": ""}))
    assert known == [Row(0.25, "joy", "joy", None, 7, "f:1", "so", "and", right=True)]
    for damage in ({"loss": "much"}, {"tokens": "seven"}):
        with pytest.raises(DataError) as caught:
            rows_of(saved({**line, **damage}))
        assert caught.value.path == Path("runs/001/errors.csv")
    del line["label"]
    with pytest.raises(DataError):
        rows_of(saved(line))
