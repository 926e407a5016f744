"""The README: short, true where a program can tell, and complete."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from minibert.workbench.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = [
    ROOT / "README.md",
    *(ROOT / ".github").glob("*.md"),
    *(ROOT / "minibert").rglob("*.md"),
    ROOT / "tests/programs/README.md",
    *(ROOT / "weights").rglob("*.md"),
]


def block(label: str) -> str:
    """The text between the fences that follow `<!-- label -->`."""
    found = re.search(rf"<!-- {label} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found is not None, label
    return found[1]


def test_it_is_short_and_narrow():
    lines = README.splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 140] == []


def test_the_ten_lines_print_what_it_shows(capsys):
    code = block("python")
    assert len([line for line in code.splitlines() if line]) <= 12
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == block("output")


def test_its_table_has_every_command_and_no_other(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    ([a-z][a-z-]+)  ", capsys.readouterr().out, re.MULTILINE)
    listed = re.findall(r"^\| `minibert ([a-z-]+)` ", README, re.MULTILINE)
    assert sorted(listed) == sorted(commands)


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_guide_names_exists(path, capsys):
    text = path.read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["--help"])
    known = capsys.readouterr().out
    for command in re.findall(r"(?:^ *|`)minibert ([a-z][a-z-]+)", text, re.MULTILINE):
        assert f" {command} " in known, command
    for module in re.findall(r"python -m (tests\.[a-z_.]+)", text):
        assert importlib.util.find_spec(module), module
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in target or (path.parent / target).exists(), target
    folders = r"(?<![\w/])(?:tests|minibert|weights|notebooks|\.github)/[\w./-]*\w"
    for name in re.findall(folders, text):
        assert (ROOT / name).exists(), name


def test_the_reading_order_has_every_file_of_the_lesson_and_its_length():
    files = re.findall(r"`(\w+\.py)` \((\d+), (\d+)\)", README)
    lesson = {path.name for path in (ROOT / "minibert").glob("*.py")}
    assert sorted(name for name, _, _ in files) == sorted(lesson - {"__init__.py", "__main__.py"})
    for name, lines, _ in files:
        length = len((ROOT / "minibert" / name).read_text(encoding="utf-8").splitlines())
        assert abs(int(lines) - length) <= 10, f"{name} has {length} lines"
