"""The checks of a GPU on a CPU with tiny sizes: every line of the program runs."""

from __future__ import annotations

import json

import pytest

from tests.programs.gpu import __main__ as program
from tests.programs.gpu.table import Row


def test_every_section_holds_on_a_cpu(transformers, tmp_path, capsys):
    rows = program.main(["--device", "cpu", "--output", str(tmp_path)])
    assert {row.section for row in rows} == set(program.SECTIONS)
    assert not [row for row in rows if row.holds is False]
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == len(rows)
    assert capsys.readouterr().out.count(rows[-1].name) == 2


@pytest.mark.parametrize("budget", [100.0, 0.0])
def test_a_failure_and_the_end_of_the_time_leave_a_row(transformers, tmp_path, monkeypatch, budget):
    def fails():
        raise RuntimeError("a kernel")

    found = [("first", fails), ("second", lambda: [Row("second", 1.0)])]
    monkeypatch.setattr("tests.programs.gpu.graphs.checks", lambda setting: found)
    arguments = ["--device", "cpu", "--output", str(tmp_path), "--only", "graphs", "--budget", str(budget)]
    rows = program.main(arguments)
    expected = [("first", "failed"), ("second", 1.0)] if budget else [("first", "not run"), ("second", "not run")]
    assert [(row.name, row.value) for row in rows] == expected
