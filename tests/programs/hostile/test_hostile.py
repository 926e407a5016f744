"""Every hostile folder has the outcome that its case names; see tests/programs/README.md."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.programs.hostile.groups import GROUPS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the cage is made of /proc")

CASES = [(group.name, case.name) for group in GROUPS for case in group.cases]


@pytest.fixture(scope="module")
def results() -> dict[tuple[str, str], dict]:
    """One process for all cases: it forks a child for each, which pytest's own should not do."""
    command = [sys.executable, "-m", "tests.programs.hostile", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines, done.stderr
    return {(line["group"], line["case"]): line for line in lines}


@pytest.mark.parametrize(("group", "case"), CASES)
def test_the_outcome_is_the_one_that_it_must_have(group, case, results):
    assert results[group, case]["complaint"] == ""


def test_names_are_unique():
    assert len(set(CASES)) == len(CASES)
