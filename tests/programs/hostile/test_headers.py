"""The error about a header that lies names the file and the tensor, for programs."""

from __future__ import annotations

import pytest

from minibert.io.errors import CheckpointError
from minibert.io.files import read_header
from tests.programs.hostile.case import WEIGHTS, write_good_folder
from tests.programs.hostile.headers import BIAS, GROUPS

CASES = {case.name: case for group in GROUPS for case in group.cases}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("the first 7 bytes alone", "header"),
        ("a header of 2147483648 bytes", "header"),
        ("a header of 100 MB of blanks", "header"),
        ("nothing but zeros", "header"),
        ("the JSON [] for a header", "header"),
        ("__metadata__ 'pt'", None),
        ("null in place of a tensor", BIAS),
        ("a dtype 'F33'", None),
        ("a shape [-3]", None),
        ("data_offsets [0]", None),
        ("a shape that needs more bytes than it has", None),
        ("a tensor that overlaps the one before", BIAS),
        ("a hole before a tensor", BIAS),
        ("the last byte cut off", None),
        ("no tensors", None),
    ],
)
def test_the_error_names_the_file_and_the_tensor(name, key, tmp_path):
    write_good_folder(tmp_path)
    CASES[name].spoil(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        read_header(tmp_path / WEIGHTS)
    error = caught.value
    assert (error.path, error.key) == (tmp_path / WEIGHTS, key)
