"""How to change BERT: every section of the guide runs and prints what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from minibert.workbench.kinds import KINDS

GUIDE = Path(__file__).parents[1] / "minibert/CHANGING.md"
START, *SECTIONS = re.split(r"^## ", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def _kinds_as_before():
    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.splitlines()[0])
def test_a_section_runs_and_prints_what_it_shows(section, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "guide"}
    for code in (*blocks(START, "python"), *blocks(section, "python")):
        exec(compile(code, GUIDE.name, "exec"), names)
    assert capsys.readouterr().out == "".join(blocks(section, "output"))
