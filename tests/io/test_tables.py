"""Tables: aligned columns, numbers to the right."""

from __future__ import annotations

from minibert.io.tables import table


def test_numbers_stand_to_the_right_and_texts_to_the_left():
    rows = [("pooler", 2, 1234567), ("encoder.layers.0", 16, 8)]
    assert table(rows, ("part", "tensors", "parameters")).split("\n") == [
        "part              tensors  parameters",
        "pooler                  2   1,234,567",
        "encoder.layers.0       16           8",
    ]


def test_one_text_makes_a_column_of_texts():
    assert table([("a", 1), ("b", "-")], ("name", "n")).split("\n") == ["name  n", "a     1", "b     -"]


def test_a_table_without_rows_is_its_header():
    assert table([], ("loss", "label")) == "loss  label"
