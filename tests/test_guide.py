"""The guides, how to change BERT and how to take it apart: every section runs and prints what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from minibert.workbench.kinds import KINDS

PACKAGE = Path(__file__).parents[1] / "minibert"
SECTIONS = [
    (start, section)
    for guide in ("CHANGING.md", "study/README.md")
    for start, *sections in [re.split(r"^## ", (PACKAGE / guide).read_text(encoding="utf-8"), flags=re.MULTILINE)]
    for section in sections
]


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def _kinds_as_before():
    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


@pytest.mark.parametrize(("start", "section"), SECTIONS, ids=[section.splitlines()[0] for _, section in SECTIONS])
def test_a_section_runs_and_prints_what_it_shows(start, section, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "guide"}
    for code in (*blocks(start, "python"), *blocks(section, "python")):
        exec(compile(code, "guide", "exec"), names)
    assert capsys.readouterr().out == "".join(blocks(section, "output"))
