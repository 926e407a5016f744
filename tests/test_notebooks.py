"""The notebooks: their form, and that running them from clean prints the text that they show."""

from __future__ import annotations

import ast
import re
import statistics
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import minibert
from minibert import workbench

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 200_000  # bytes
PATIENCE = 600  # seconds for one cell: a hang guard, many times what any cell takes
LAST_DIGIT = 2  # how far the last printed digit of a number may be off on another machine
OTHER_IMPORTS = {"numpy", "torch", "matplotlib", *sys.stdlib_module_names}
MACHINE_PATH = re.compile(r"(?:^|[\s'\"(=:])(?:/[\w.-]+){2,}|[A-Za-z]:\\|~/|site-packages")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d*)?(?:e[+-]?\d+)?")

PUBLIC = {"minibert": minibert, "minibert.workbench": workbench}

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == kind]


def outputs(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell prints and returns as text, warnings on stderr included; not its pictures."""
    found = []
    for output in cell.outputs:
        if output.output_type == "stream":
            found.append(output.text)
        elif "text/plain" in output.get("data", {}) and "image/png" not in output.data:
            found.append(output.data["text/plain"])
    return found


def test_is_small_and_valid(path):
    nbformat.validate(nbformat.read(path, 4))
    assert path.stat().st_size < LARGEST


def test_headings_are_numbered(path):
    prose = "\n".join(re.sub(r"```.*?```", "", cell.source, flags=re.S) for cell in cells(path, "markdown"))
    titles = re.findall(r"^# .+", prose, flags=re.M)
    numbers = re.findall(r"^## (\S+)", prose, flags=re.M)
    assert len(titles) == 1 and prose.startswith(titles[0])
    assert numbers == [f"{number}." for number in range(1, len(numbers) + 1)]
    assert "What you can now explain" in prose


def test_cells_are_short_and_explained(path):
    lengths = [len(cell.source.splitlines()) for cell in cells(path, "code")]
    assert max(lengths) <= 25
    assert statistics.median(lengths) <= 6
    assert len(cells(path, "markdown")) >= len(lengths)


def test_was_run_from_top_to_bottom(path):
    code = cells(path, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert all(output.output_type != "error" for output in cell.outputs), cell.source
        assert all(output.get("name") != "stderr" for output in cell.outputs), cell.source


def test_shows_no_machine(path):
    for cell in nbformat.read(path, 4).cells:
        texts = [cell.source] if cell.cell_type == "markdown" else outputs(cell)
        for text in texts:
            assert not MACHINE_PATH.search(text), MACHINE_PATH.search(text)


def test_imports_public_names_only(path):
    for cell in cells(path, "code"):
        for module, name in imported(cell.source):
            package = module.split(".")[0]
            if package != "minibert":
                assert package in OTHER_IMPORTS, module
            elif module in PUBLIC:
                assert name in PUBLIC[module].__all__, name
            else:
                assert not re.search(r"(^|\.)_", f"{module}.{name}"), f"{module}.{name}"


def imported(source: str) -> list[tuple[str, str]]:
    """(module, name) of each import; the name is empty for `import module`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module or "", alias.name) for alias in node.names]
    return found


def test_runs_from_clean_to_the_same_text(path, minilm, tmp_path):
    committed = cells(path, "code")
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3", resources=place).execute()
    executed = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for before, after in zip(committed, executed, strict=True):
        assert_same_text("".join(outputs(before)), "".join(outputs(after)))
    assert list(tmp_path.iterdir()) == []  # a notebook leaves no files behind


def assert_same_text(shown: str, found: str) -> None:
    """Equal except for white space and the last digits of decimals."""
    words = [re.sub(r"\s", "", NUMBER.sub("#", text)) for text in (shown, found)]
    assert words[0] == words[1], f"shown:\n{shown}\nfound:\n{found}"
    for first, second in zip(NUMBER.findall(shown), NUMBER.findall(found), strict=True):
        allowed = LAST_DIGIT * last_digit(first)
        assert abs(float(first) - float(second)) <= allowed * 1.001, f"{first} and {second}"


def last_digit(number: str) -> float:
    """What one step of the last printed digit is worth; 0 for a whole number, which is exact."""
    mantissa, _, exponent = number.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 10.0 ** (int(exponent or 0) - decimals) if "." in mantissa else 0.0
