"""The plan of the package, read from its source: how long, who imports whom, what never occurs."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import minibert
from minibert import workbench
from tests.programs.planted_faults import FAULTS

ROOT = Path(minibert.__file__).parent
PATHS = {
    ".".join(("minibert", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in PATHS.items()}
LESSON = {path.stem for path in ROOT.glob("*.py")} - {"__init__", "__main__"}


# How long the lesson may be; all lines count.


def test_the_lesson_is_within_its_budgets():
    lines = {name: len((ROOT / f"{name}.py").read_text(encoding="utf-8").splitlines()) for name in LESSON}
    assert {name: count for name, count in lines.items() if count > 410} == {}
    spine = ("embeddings", "layers", "attention", "encoder", "bert")
    assert sum(lines[name] for name in spine) <= 500
    assert sum(lines.values()) <= 3_300


# Who imports whom. A part may import itself and the parts named here.

BELOW_TASKS = {"reports", "kinds", "runs", "scores", "data", "study", "fast", "lesson", "io"}
PARTS = {
    "io": set(),
    "lesson": {"io"},
    "fast": {"lesson", "io"},
    "study": {"lesson", "io"},
    "data": {"study", "fast", "lesson", "io"},
    "scores": {"data", "study", "fast", "lesson", "io"},
    "runs": {"scores", "data", "study", "fast", "lesson", "io"},
    "kinds": {"scores", "data", "study", "fast", "lesson", "io"},
    "reports": BELOW_TASKS - {"reports"},
    "recipes": BELOW_TASKS,
    "tasks": BELOW_TASKS,
    "cli": BELOW_TASKS | {"tasks", "recipes"},
}
# In the lesson: a module of the network may import its own row and the rows below it.
NETWORK = [
    {"heads"},
    {"bert"},
    {"base", "encoder", "embeddings", "inputs", "outputs"},
    {"attention", "layers"},
    {"layout", "trace", "config"},
]
# What else a module of the lesson may import of it; the rest imports nothing of the lesson.
ALSO = {"heads": {"losses"}, "checkpoint": {"names"}.union(*NETWORK[2:]), "data": {"tokenizer"}, "training": {"optim"}}
# Two short methods, from_pretrained and save_pretrained, import it when they are called.
UPWARD = ("minibert.base", "minibert.checkpoint")


def imports(module: str) -> Iterator[str]:
    """Everything that a module imports, in full, type-only imports and those in functions too."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(module: str) -> set[str]:
    """The modules of the package that a module imports, the root package among them."""
    found = set()
    for name in imports(module):
        while name.startswith("minibert") and name not in PATHS:
            name = name.rpartition(".")[0]
        if name in PATHS and name != module and (module, name) != UPWARD:
            found.add(name)
    return found


def part(module: str) -> str:
    """The row of PARTS that a module belongs to; the two doors of the package are the command's."""
    names = module.split(".")[1:] or ["lesson"]
    if names[0] == "workbench":
        return names[1] if len(names) > 1 and names[1] in PARTS else "cli"
    if names[0] in ("io", "fast", "study"):
        return names[0]
    return "cli" if names == ["__main__"] else "lesson"


def test_imports_follow_the_arrows():
    wrong = []
    for module in PATHS.keys() - {"minibert"}:
        for other in ours(module):
            if other == "minibert" or part(other) not in {part(module), *PARTS[part(module)]}:
                wrong.append(f"{module} imports {other}")
    for name in LESSON:
        rows = [set().union(*NETWORK[place:]) for place, row in enumerate(NETWORK) if name in row]
        allowed = set().union(*rows, ALSO.get(name, set()))
        for other in ours(f"minibert.{name}"):
            if part(other) == "lesson" and other.removeprefix("minibert.") not in allowed:
                wrong.append(f"minibert.{name} imports {other}")
    assert sorted(wrong) == []


def test_there_are_no_cycles():
    try:
        TopologicalSorter({module: ours(module) for module in PATHS}).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


# Library -> where it may be imported; the others, and what is not listed, nowhere.
LIBRARIES = {
    "torch": "minibert",
    "numpy": "minibert",
    "tqdm": "minibert",
    "filelock": "minibert",
    "huggingface_hub": "minibert.io.hub",
    "safetensors": "minibert.io.files",
    "tokenizers": "minibert.tokenizer",
    "argparse": "minibert.workbench",
    "jinja2": ("minibert.workbench.reports", "minibert.study"),
    "matplotlib": ("minibert.workbench.reports", "minibert.study.pictures"),
    "umap": "minibert.workbench.reports",
    "pyarrow": "minibert.workbench.data",
}
EXTRAS = {"matplotlib", "umap", "pyarrow"}  # imported inside functions, never with their module
NOT_ON_WINDOWS = {"fcntl", "grp", "pwd", "pty", "resource", "termios", "tty"}


def test_libraries_are_imported_only_where_they_belong():
    wrong = []
    for module, tree in TREES.items():
        at_top = {
            name.split(".")[0]
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in [getattr(node, "module", None) or node.names[0].name]
        }
        wrong += [f"{module} imports {name} with itself" for name in at_top & EXTRAS]
        for name in {name.split(".")[0] for name in imports(module)} - {"minibert"}:
            place = LIBRARIES.get(name)
            if place is None:
                fine = name in sys.stdlib_module_names and name not in NOT_ON_WINDOWS
            else:
                places = (place,) if isinstance(place, str) else place
                fine = any(f"{module}.".startswith(f"{one}.") for one in places)
            if not fine:
                wrong.append(f"{module} imports {name}")
    assert wrong == []


# What could turn bytes that were read into code.
NEVER_IMPORTED = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
NEVER_IMPORTED |= {"importlib", "runpy", "imp", "code", "builtins", "subprocess", "ctypes", "yaml"}
NEVER_CALLED = {"eval", "exec", "compile", "__import__"}
NEVER_USED = {"torch.load", "torch.save", "torch.jit", "torch.hub", "torch.package", "torch.export"}
NEVER_USED |= {"numpy.load", "np.load", "os.system", "os.popen", "sys.path"}
NEVER_USED |= {"importlib.import_module", "importlib.util"}
NEVER_ALLOWED = {"allow_pickle", "trust_remote_code"}
HARMLESS = {"importlib.metadata", "importlib.resources"}
# These look modules up in a table of names that they hold themselves.
LAZY_TABLES = {"minibert", "minibert.workbench", "minibert.workbench.cli"}
RUNS_THE_USERS_FILE = "minibert.workbench.tasks.doctor"  # which is what the user asks for


def runs_data(tree: ast.Module, lazy_table: bool = False) -> Iterator[str]:
    """Everything in a module that could run what was read."""
    allowed = HARMLESS | ({"importlib", "importlib.import_module"} if lazy_table else set())
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            two = ".".join(name.split(".")[:2])
            never = name.split(".")[0] in NEVER_IMPORTED or name in NEVER_USED
            if never and name not in allowed and two not in allowed:
                yield f"imports {name}"
        if isinstance(node, ast.Name) and node.id in NEVER_CALLED:
            yield f"line {node.lineno}: {node.id}"
        if isinstance(node, ast.Attribute) and ast.unparse(node) in NEVER_USED - allowed:
            yield f"line {node.lineno}: {ast.unparse(node)}"
        argument = node.arg if isinstance(node, ast.keyword) else None
        if argument in NEVER_ALLOWED and ast.unparse(node.value) != "False":
            yield f"line {node.value.lineno}: {argument}"


FORBIDDEN = [
    "import pickle",
    "from pickle import loads",
    "import importlib",
    "from importlib import import_module",
    "import importlib.util",
    "import importlib.metadata\nimportlib.import_module(name)",
    "from torch import load",
    "import torch\ntorch.load(path)",
    "import torch\ntorch.hub.load(path)",
    "def read(text):\n    import runpy",
    "run = eval",
    "exec(text)",
    "__import__(name)",
    "import numpy as np\nnp.load(path)",
    "read(path, allow_pickle=True)",
    "read(path, trust_remote_code=yes)",
]
FINE = "import importlib.metadata\nmodel.eval()\nre.compile(x)\nnumpy.load_it\n"


def test_no_pickle_and_no_code_from_data():
    assert [code for code in FORBIDDEN if not list(runs_data(ast.parse(code)))] == []
    assert list(runs_data(ast.parse(FINE))) == []
    for module, tree in TREES.items():
        found = list(runs_data(tree, module in LAZY_TABLES))
        expected = ["imports importlib.util"] if module == RUNS_THE_USERS_FILE else []
        assert [name for name in found if not name.startswith("line")] == expected, module
        assert module == RUNS_THE_USERS_FILE or found == expected, module


def test_importing_minibert_loads_only_the_lesson_and_io():
    code = """
import json, sys, minibert
for name in minibert.__all__:
    getattr(minibert, name)
print(json.dumps([*sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    outside = {name for name in loaded & PATHS.keys() if part(name) not in ("lesson", "io")}
    assert outside == set()
    unwanted = "transformers sklearn scipy matplotlib pyarrow pandas datasets accelerate jinja2"
    assert not loaded & {*unwanted.split()}


# How it is written.

METHODS = "view|transpose|reshape|permute|unflatten|flatten|expand|index_select|unbind|gather"
MAKERS = "new_full|new_zeros|new_ones|new_empty|new_tensor|stack|cat"
RESHAPING = re.compile(rf"\.({METHODS}|{MAKERS})\(")
# A shape: "(B, N, S, H)", "(T,)", "()"; a letter of the legend is in it, or a comma, or nothing.
SHAPE = re.compile(r"# (as \w+|.*\(([^()]*\b[BSTDNHFLVC]\b[^()]*|[^()]*,[^()]*|)\).*)$")


def test_the_legend_is_complete_and_lines_that_reshape_a_tensor_end_in_its_shape():
    for letter in "BSTDNHFLVC":
        assert re.search(rf"(^|\s){letter}  \w", minibert.__doc__ or ""), letter
    for line, fine in [
        ("x = y.view(-1)  # (T, D)", True),
        ("x = y.view(-1)  # (T,), of the mask", True),
        ("x = y.sum().reshape(())  # ()", True),
        ("x = y.view(-1)  # flat (it is quicker)", False),
        ("x = torch.stack(rows)  # (Better)", False),
        ("x = y.new_full((3,), 0)", False),
    ]:
        assert RESHAPING.search(line) and bool(SHAPE.search(line)) == fine, line
    wrong = [
        f"{name}.py:{number}: {line.strip()}"
        for name in sorted(LESSON)
        for number, line in enumerate((ROOT / f"{name}.py").read_text("utf-8").splitlines(), 1)
        if RESHAPING.search(line) and not SHAPE.search(line)
    ]
    assert wrong == []


TITLE = re.compile(r"(\S+ ){4,}\S+[.?!]")  # five words or more, and a stop, on one line
SOURCE = re.compile(r"[A-Z]\w+ (et al\. |and [A-Z]\w+ )?\d{4}.*?\bsections? [A-Z]?\d", re.DOTALL)
SOURCED = ("attention", "bert", "config", "embeddings", "encoder", "heads", "layers")


def test_docstrings():
    titles = [(ast.get_docstring(tree) or "").split("\n")[0] for tree in TREES.values() if tree.body]
    assert [title for title in titles if not TITLE.fullmatch(title)] == []
    assert len(set(titles)) == len(titles), "two modules say the same"
    for name in SOURCED:
        assert SOURCE.search(ast.get_docstring(TREES[f"minibert.{name}"]) or ""), name
    for package in (minibert, workbench):
        for name in package.__all__:
            assert getattr(package, name).__doc__, name
    undocumented = [
        f"{name}.{node.name}"
        for name in sorted(LESSON)
        for node in TREES[f"minibert.{name}"].body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]
    assert undocumented == []


def test_planted_faults_are_not_stale():
    stale = []
    for fault in FAULTS:
        try:
            fault.file()
        except LookupError as error:
            stale.append(str(error))
    assert stale == []
