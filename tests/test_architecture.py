"""The plan of the package, read from its source: who imports whom, and what never occurs."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import minibert
from tests.programs.planted_faults import FAULTS

ROOT = Path(minibert.__file__).parent
MODULES = {
    ".".join(("minibert", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(ROOT.rglob("*.py"))
}

# Folder or top-level module -> what it may import of ours beyond itself, errors and files.
ARROWS = {
    "minibert": {"minibert", "minibert.tasks", "minibert.text", "minibert.study"},
    "minibert.__main__": {"minibert.workbench.cli"},
    "minibert.workbench.cli": {
        "minibert.workbench.arguments",
        "minibert.tasks",
        "minibert.study",
        "minibert.__version__",
    },
    "minibert.workbench.arguments": {"minibert.tasks", "minibert.training", "minibert.__version__"},
    "minibert.tasks": {
        "minibert.training",
        "minibert.text",
        "minibert.checkpoint",
        "minibert",
    },
    "minibert.study": {
        "minibert.training",
        "minibert.text",
        "minibert.checkpoint",
        "minibert",
    },
    "minibert": {"minibert.pretrained"},
    "minibert.text": {"minibert.io.hub"},
    "minibert.checkpoint": set(),
    "minibert.training": set(),
    "minibert.io.files": set(),
    "minibert.io.errors": set(),
    "minibert.io.tables": set(),
}
FOR_ALL = {"minibert.io.errors", "minibert.io.files", "minibert.io.tables"}

# What is imported from elsewhere -> the one module that may, or None: any.
OUTSIDE = {
    "torch": None,
    "numpy": None,
    "tqdm": None,
    "huggingface_hub": "minibert.io.hub",
    "safetensors": "minibert.io.files",
    "tokenizers": "minibert.tokenizer",
}
# Extras: imported where they are used, inside a function, never with the package.
OPTIONAL = {"pyarrow", "matplotlib", "umap"}

NEVER_IMPORTED = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
NEVER_IMPORTED |= {"importlib", "runpy", "imp", "code", "builtins", "subprocess", "ctypes", "yaml"}
BUT_FOR = {"importlib.metadata"}  # versions of packages
NEVER_CALLED = {"eval", "exec", "compile", "__import__"}
NEVER_USED = {"torch.load", "torch.save", "torch.jit", "torch.hub", "torch.package", "torch.export"}
NEVER_USED |= {"numpy.load", "np.load", "os.system", "os.popen", "sys.path"}
NEVER_USED |= {"importlib.import_module", "importlib.util"}
NEVER_ALLOWED = {"allow_pickle", "trust_remote_code"}


def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def _imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """(module or name in full, whether it runs with the module), of all but type-only imports."""
    for node, at_top in _statements(tree, True):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, at_top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", at_top


def _statements(node: ast.AST, at_top: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child, at_top
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from _statements(child, at_top and not inside)


def _part(name: str) -> str:
    """The folder or top-level module that a name of ours belongs to."""
    two = ".".join(name.split(".")[:2])
    return two if two in ARROWS else "minibert"


def _within(name: str, allowed: str) -> bool:
    return name == allowed or name.startswith(allowed + ".")


def _module_of(name: str) -> str:
    """The module that holds a name of ours: itself, or what stands before the last dot."""
    return name if name in MODULES else name.rpartition(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_arrows(module):
    part = _part(module)
    allowed = {part, *ARROWS[part], *FOR_ALL} if part != "minibert" else ARROWS[part] | FOR_ALL
    for name, _ in _imports(_tree(module)):
        if name == "minibert":
            assert _asked_of_the_root(module) <= {"__version__"}, module
        elif name.split(".")[0] == "minibert":
            assert any(_within(name, one) for one in allowed), f"{module} imports {name}"


def _asked_of_the_root(module: str) -> set[str]:
    """What a module that says `import minibert` takes from it."""
    return {
        node.attr
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "minibert"
    }


def test_every_module_stands_in_the_table():
    assert {_part(module) for module in MODULES} == ARROWS.keys()


def test_no_circles():
    graph = {
        module: {
            _module_of(name)
            for name, _ in _imports(_tree(module))
            if name.split(".")[0] == "minibert" and _module_of(name) in MODULES
        }
        - {module}
        for module in MODULES
    }
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for target in sorted(graph[module]):
                walk(target, (*path, module))
            done.add(module)

    for targets in graph.values():  # the root is asked for the version alone, see test_arrows
        targets.discard("minibert")
    for module in graph:
        walk(module, ())


@pytest.mark.parametrize("module", MODULES)
def test_what_is_imported_from_elsewhere(module):
    for name, at_top in _imports(_tree(module)):
        package = name.split(".")[0]
        if package in sys.stdlib_module_names or package == "minibert":
            continue
        if package in OPTIONAL:
            assert not at_top, f"{module} imports {package} with the package"
            continue
        assert package in OUTSIDE, f"{module} imports {package}"
        assert OUTSIDE[package] in (None, module), f"{module} imports {package}"


@pytest.mark.parametrize("module", MODULES)
def test_no_pickle_and_no_code_from_data(module):
    assert list(_runs_data(_tree(module))) == []


def _runs_data(tree: ast.Module) -> Iterator[str]:
    """Everything in a module that could turn what was read into code."""
    for name, _ in _imports(tree):
        if name in NEVER_USED or (name not in BUT_FOR and name.split(".")[0] in NEVER_IMPORTED):
            yield f"imports {name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in NEVER_CALLED:
            yield f"line {node.lineno}: {node.id}"
        if isinstance(node, ast.Attribute) and ast.unparse(node) in NEVER_USED:
            yield f"line {node.lineno}: {ast.unparse(node)}"
        argument = node.arg if isinstance(node, ast.keyword) else None
        if argument in NEVER_ALLOWED and ast.unparse(node.value) != "False":
            yield f"line {node.value.lineno}: {argument}"


@pytest.mark.parametrize(
    "code",
    [
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
    ],
)
def test_code_that_runs_data_is_seen(code):
    assert list(_runs_data(ast.parse(code)))


def test_code_that_does_not_is_not():
    code = "import importlib.metadata\nmodel.eval()\nre.compile(x)\nnumpy.load_it\n"
    assert not list(_runs_data(ast.parse(code)))


MODEL = [module for module in MODULES if _within(module, "minibert")]
METHODS = "view|transpose|reshape|permute|unflatten|flatten|expand|index_select|unbind|gather"
MAKERS = "new_full|new_zeros|new_ones|new_empty|new_tensor|stack|cat"
RESHAPING = re.compile(rf"\.({METHODS}|{MAKERS})\(")
# A shape: "(B, N, S, H)", "(T,)", "()"; a letter of the legend is in it, or a comma, or nothing.
SHAPE = re.compile(r"# (as \w+|.*\(([^()]*\b[BSTDNHFLVC]\b[^()]*|[^()]*,[^()]*|)\).*)$")


@pytest.mark.parametrize("module", MODEL)
def test_every_line_that_reshapes_a_tensor_says_the_shape(module):
    for number, line in enumerate(MODULES[module].read_text().splitlines(), 1):
        if RESHAPING.search(line):
            assert SHAPE.search(line), f"{module}:{number}: {line.strip()}"


SOURCED = ("attention", "bert", "config", "embeddings", "encoder", "heads", "layers")


TITLE = re.compile(r"(\S+ ){4,}\S+[.?!]")  # five words or more, and a stop, on one line
SOURCE = re.compile(r"[A-Z]\w+ (et al\. |and [A-Z]\w+ )?\d{4}.*?\bsections? [A-Z]?\d", re.DOTALL)


def test_every_module_says_on_one_line_what_it_holds():
    titles = [
        (ast.get_docstring(_tree(module)) or "").split("\n")[0]
        for module, path in MODULES.items()
        if path.name != "__init__.py" or path.read_text()
    ]
    assert [title for title in titles if not TITLE.fullmatch(title)] == []
    assert len(set(titles)) == len(titles), "two modules say the same"


@pytest.mark.parametrize("name", SOURCED)
def test_modules_of_the_network_name_their_source(name):
    assert SOURCE.search(ast.get_docstring(_tree(f"minibert.{name}")) or "")


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        (TITLE, "The heads: what hidden states are turned into.", "Heads. And much more of it"),
        (SOURCE, "Devlin et al. 2019, section 3.1", "This section is of 2019"),
        (SHAPE, "x = y.view(-1)  # (T, D)", "x = y.view(-1)  # flat (it is quicker)"),
        (SHAPE, "x = y.view(-1)  # (T,), of the mask", "x = y.view(-1)  # (Better)"),
        (SHAPE, "x = y.sum().reshape(())  # ()", "x = y.reshape(B, S)"),
        (RESHAPING, "x = torch.stack(rows)", "x = stacked(rows)"),
        (RESHAPING, "x = y.index_select(0, rows)", "x = y.index(0)"),
        (RESHAPING, "x = y.new_full((3,), 0)", "x = y.fill_(0)"),
    ],
)
def test_the_rules_above_tell_right_from_wrong(pattern, right, wrong):
    search = pattern.fullmatch if pattern is TITLE else pattern.search
    assert search(right) and not search(wrong)


def test_the_legend_stands_at_the_top_of_the_package():
    legend = minibert.__doc__ or ""
    for letter in "BSTDNHFLVC":
        assert re.search(rf"(^|\s){letter}  \w", legend), letter


def test_every_planted_fault_still_has_the_text_that_it_changes():
    stale = [
        one.name
        for one in FAULTS
        if any(
            old not in (ROOT.parent / one.file).read_text() for old, _ in one.edits if old != "\0"
        )
    ]
    assert not stale
