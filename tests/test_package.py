"""The package as it is installed: its public names and its metadata."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import minibert
import minibert.workbench

ROOT = Path(__file__).parents[1]


def test_the_public_names_exist_and_are_documented():
    assert len(set(minibert.__all__)) == len(minibert.__all__)
    for name in minibert.__all__:
        assert getattr(minibert, name).__doc__, name


@pytest.mark.parametrize("package", [minibert, minibert.workbench])
def test_type_checkers_see_the_public_names(package):
    """The imports for them name the same modules as the table that `import` uses."""
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {alias.asname: node.module for node in block.body for alias in node.names}
    assert imported == package._HOME
    assert {*package.__all__} <= {*dir(package)}
    assert not hasattr(package, "nothing")


def test_the_version_is_the_same_everywhere():
    assert importlib.metadata.version("minibert") == minibert.__version__
    done = subprocess.run([sys.executable, "-m", "minibert", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"minibert {minibert.__version__}\n")


def test_the_metadata_has_the_dependencies_and_extras_of_the_design():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[^\w-]", line)[0] for line in project["dependencies"]}
    required = "torch numpy tokenizers safetensors huggingface-hub tqdm filelock jinja2"
    assert names == set(required.split())
    assert {"plots", "parquet", "notebooks", "test", "bench", "dev"} == set(project["optional-dependencies"])
    assert project["requires-python"] == ">=3.11"
    assert project["scripts"] == {"minibert": "minibert.workbench.cli:main"}


def test_every_folder_of_the_package_is_listed_for_the_wheel():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(pyproject["tool"]["setuptools"]["packages"]) - {"minibert.weights"}
    found = {
        ".".join(path.relative_to(ROOT).parts)
        for path in (ROOT / "minibert").rglob("*")
        if path.is_dir() and any(path.glob("*.*")) and path.name != "__pycache__"
    }
    assert found | {"minibert"} == listed
