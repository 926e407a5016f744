"""The error about a header that lies has the two numbers that disagree, for programs."""

from __future__ import annotations

import pytest

from minibert.io.errors import CheckpointError
from minibert.io.files import LARGEST_JSON, tensor_shapes
from tests.programs.hostile.case import WEIGHTS, write_good_folder
from tests.programs.hostile.headers import BIAS, GROUPS

CASES = {case.name: case for group in GROUPS for case in group.cases}


@pytest.mark.parametrize(
    ("name", "key", "expected", "found"),
    [
        ("the first 7 bytes alone", "header", None, 7),
        ("a header of 2147483648 bytes", "header", 2**31 + 8, None),
        ("a header of 100 MB of blanks", "header", LARGEST_JSON, 100 * 2**20 - 8),
        ("nothing but zeros", "header", b"{", b""),
        ("the JSON [] for a header", "header", b"{", b"["),
        ("__metadata__ 'pt'", "__metadata__", "object of strings", "pt"),
        ("null in place of a tensor", BIAS, ["dtype", "shape", "data_offsets"], None),
        ("a dtype 'F33'", BIAS, None, "F33"),
        ("a shape [-3]", BIAS, None, [-3]),
        ("data_offsets [0]", BIAS, "[start, end]", [0]),
        ("a shape that needs more bytes than it has", BIAS, 16, 12),
        ("a tensor that overlaps the one before", BIAS, 5856, 5852),
        ("a hole before a tensor", BIAS, 5856, 5860),
        ("the last byte cut off", "classifier.weight", 5964, 5963),
        ("no tensors", None, 0, 5964),
    ],
)
def test_the_error_has_what_was_due_and_what_was_found(name, key, expected, found, tmp_path):
    write_good_folder(tmp_path)
    CASES[name].spoil(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        tensor_shapes(tmp_path / WEIGHTS)
    error = caught.value
    assert (error.path, error.key) == (tmp_path / WEIGHTS, key)
    assert expected in (None, error.expected) and found in (None, error.found)
    assert (error.expected, error.found) != (None, None)
