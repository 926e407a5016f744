"""The notebooks: their form, and that running them from clean prints the text that they show."""

from __future__ import annotations

import ast
import re
import runpy
import statistics
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import minibert
from minibert import workbench
from minibert.study import exercises
from tests.test_architecture import RESHAPING, SHAPE

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CHAPTERS = [FOLDER / f"{path.stem}.ipynb" for path in sorted((FOLDER / "solutions").glob("*.py"))]
LAST_BUILD_CHAPTER = 10  # the chapters after it use the lesson and take it apart
BUILD_CHAPTERS = [path for path in CHAPTERS if int(path.stem[:2]) <= LAST_BUILD_CHAPTER]
# The chapter that builds a file. A chapter imports what earlier ones have built, and anything for its proof.
BUILT = {
    "wordpiece": 1, "tokenizer": 1, "embeddings": 2, "attention": 3, "layers": 4, "encoder": 4, "config": 5, "bert": 5,
    "inputs": 5, "outputs": 5, "base": 5, "names": 6, "checkpoint": 6, "heads": 7, "losses": 7, "layout": 8, "data": 8,
    "trace": 9, "training": 10, "optim": 10,
}  # fmt: skip
LARGEST = 200_000  # bytes
PATIENCE = 600  # seconds for one cell: a hang guard, many times what any cell takes
LAST_DIGIT = 2  # how far the last printed digit of a number may be off on another machine
OTHER_IMPORTS = {"numpy", "torch", "matplotlib", "transformers", *sys.stdlib_module_names}
MACHINE_PATH = re.compile(r"(?:^|[\s'\"(=:])(?:/[\w.-]+){2,}|[A-Za-z]:\\|~/|site-packages")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d*)?(?:e[+-]?\d+)?")

PUBLIC = {"minibert": minibert, "minibert.workbench": workbench}

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
every_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
every_build_chapter = pytest.mark.parametrize("path", BUILD_CHAPTERS, ids=lambda path: path.stem)


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


@every_notebook
def test_is_small_and_valid(path):
    nbformat.validate(nbformat.read(path, 4))
    assert path.stat().st_size < LARGEST


@every_notebook
def test_headings_are_numbered(path):
    prose = "\n".join(re.sub(r"```.*?```", "", cell.source, flags=re.S) for cell in cells(path, "markdown"))
    titles = re.findall(r"^# .+", prose, flags=re.M)
    numbers = re.findall(r"^## (\S+)", prose, flags=re.M)
    assert len(titles) == 1 and prose.startswith(titles[0])
    assert numbers == [f"{number}." for number in range(1, len(numbers) + 1)]
    assert "What you can now explain" in prose


@every_notebook
def test_cells_are_short_and_explained(path):
    lengths = [len(cell.source.splitlines()) for cell in cells(path, "code")]
    assert max(lengths) <= 25
    assert statistics.median(lengths) <= 6
    assert len(cells(path, "markdown")) >= len(lengths)


@every_notebook
def test_was_run_from_top_to_bottom(path):
    code = cells(path, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert all(output.output_type != "error" for output in cell.outputs), cell.source
        assert all(output.get("name") != "stderr" for output in cell.outputs), cell.source


@every_notebook
def test_shows_no_machine(path):
    for cell in nbformat.read(path, 4).cells:
        texts = [cell.source] if cell.cell_type == "markdown" else outputs(cell)
        for text in texts:
            assert not MACHINE_PATH.search(text), MACHINE_PATH.search(text)


@every_notebook
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


# The chapters of the course.


@every_chapter
def test_a_chapter_opens_and_closes_in_the_same_form(path):
    first, *_, last = cells(path, "markdown")
    builds = path in BUILD_CHAPTERS
    work = "**It builds**" if builds else "**It uses**"
    for part in ("**You will be able to**", "**It assumes**", "**Time**", work, "**Source**"):
        assert part in first.source, part
    headings = re.findall(r"^## \S+ (.+)", "\n".join(cell.source for cell in cells(path, "markdown")), flags=re.M)
    if builds:
        assert headings[-3] == "The proof" and headings[-2].startswith("Reading ")
    assert headings[-1] == "What you can now explain" and re.search(r"\*\*You (built|measured)\*\*", last.source)


@every_build_chapter
def test_a_chapter_imports_only_what_earlier_ones_have_built(path):
    chapter, proof = int(path.stem[:2]), False
    for cell in nbformat.read(path, 4).cells:
        proof = proof or bool(cell.cell_type == "markdown" and re.search(r"^## \S+ The proof", cell.source, re.M))
        for module, name in imported(cell.source) if cell.cell_type == "code" and not proof else []:
            if module == "minibert":
                module = getattr(minibert, name).__module__
            root, _, rest = module.partition(".")
            if root == "minibert" and not rest.startswith(("io.", "study")):
                assert BUILT[rest] < chapter, f"{module}.{name}"


@every_chapter
def test_lines_that_reshape_a_tensor_end_in_its_shape(path):
    lines = [line for cell in cells(path, "code") for line in cell.source.splitlines()]
    assert [line for line in lines if RESHAPING.search(line) and not SHAPE.search(line)] == []


@every_chapter
def test_pictures_have_a_text_alternative(path):
    for cell in cells(path, "code"):
        for output in cell.outputs:
            data = output.get("data", {})
            assert "image/png" not in data, cell.source
            for image in re.findall(r"<img[^>]*>", data.get("text/html", "")):
                assert len(re.search(r'alt="(.*?)"', image)[1].split()) >= 8, image


@every_build_chapter
def test_the_reading_quotes_the_file(path):
    text = cells(path, "markdown")[-1].source
    names = re.findall(r"\S+\.py", re.search(r"^## \S+ Reading (.+)$", text, flags=re.M)[1])
    files = [(Path(minibert.__file__).parent / name).read_text(encoding="utf-8") for name in names]
    lines = {line.strip() for file in files for line in file.splitlines()}
    quoted = [
        line.strip() for block in re.findall(r"```python\n(.*?)```", text, flags=re.S) for line in block.splitlines()
    ]
    assert quoted and [line for line in quoted if line and line not in lines] == []


@every_chapter
def test_exercises_have_hints_and_tested_solutions(path):
    prose = [cell.source for cell in cells(path, "markdown") if cell.source.startswith("### Exercise")]
    solutions = (FOLDER / "solutions" / f"{path.stem}.py").read_text(encoding="utf-8")
    everywhere = re.findall(r"^### Exercise", "\n".join(cell.source for cell in cells(path, "markdown")), flags=re.M)
    assert 2 <= len(prose) <= 4 and len(everywhere) == len(prose)  # each begins a cell
    for number, text in enumerate(prose, 1):
        assert text.startswith(f"### Exercise {number}: ") and re.search(r"[●○]{3} · \d+ minutes", text)
        hint, solution = re.findall(r"<details><summary>(Hint|Solution)</summary>", text)
        assert (hint, solution) == ("Hint", "Solution")
        [code] = re.findall(r"```python\n(.*?)```", text, flags=re.S)
        assert code in solutions
    found = runpy.run_path(str(FOLDER / "solutions" / f"{path.stem}.py"))
    for cell in cells(path, "code"):
        for judge, name in re.findall(r"^check\.(\w+)\((\w+)\)$", cell.source, flags=re.M):
            verdict = getattr(exercises, judge)(found[name])
            assert verdict.right, f"{name}: {verdict}"


def test_the_map_lists_each_notebook_and_no_other():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| \[\w+\]\((\w+)\.ipynb\)", text, flags=re.M)) == [path.stem for path in NOTEBOOKS]


def test_the_map_states_the_minutes_of_the_chapters():
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("| [")]
    stated = {row[1].partition("]")[0][1:]: row[4] for row in rows}
    for path in CHAPTERS:
        opening = cells(path, "markdown")[0].source
        reading, exercise = re.search(r"\*\*Time\*\*: (\d+) minutes to read, (\d+) for", opening).groups()
        assert stated[path.stem] == f"{reading}, {exercise}", path.stem


@every_notebook
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
