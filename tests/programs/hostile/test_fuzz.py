"""A bounded run of the fuzzer; `python -m tests.programs.hostile --fuzz 20000` is the long one."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.programs.hostile import fuzz

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the cage is made of /proc")


@pytest.mark.parametrize("count", [1400, pytest.param(20_000, marks=pytest.mark.full)])
def test_only_errors_of_minibert_come_out(count):
    command = [sys.executable, "-m", "tests.programs.hostile", "--fuzz", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=count / 2)
    assert done.returncode == 0, done.stdout + done.stderr
    total = re.search(r"^all +(\d+) +(\d+) +(\d+) +0$", done.stdout, re.MULTILINE)
    assert total and int(total[1]) == count
    assert int(total[2]) > count / 2 and int(total[3]) > count / 20  # both happen


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_a_mutant_can_be_made_again(target, tmp_path):
    name = fuzz.TARGETS[target].file
    for folder, number in (("a", 7), ("b", 7), ("c", 8)):
        fuzz.write_mutant(target, number, tmp_path / folder)
    first, again, other = ((tmp_path / folder / name).read_bytes() for folder in "abc")
    assert first == again != other
