"""The package as it is installed: its public names, its imports, its metadata, no network."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minibert
from tests.workbench.conftest import moods, tiny

__all__ = ["moods", "tiny"]  # fixtures, used by name

# What tests, benchmarks and extras may import, and the package on its own never does.
NOT_IMPORTED = (
    "transformers sentence_transformers sklearn scipy matplotlib pyarrow pandas datasets "
    "accelerate PIL pytest IPython"
)


def python(code: str, *arguments: object, **environment: str) -> str:
    """Runs a piece of Python as a process of its own; gives its standard output."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_those_listed():
    listed = minibert.__all__
    assert listed == sorted(listed) and len(set(listed)) == len(listed)
    for name in listed:
        assert getattr(minibert, name).__doc__, name
    public = {
        name
        for name, value in vars(minibert).items()
        if not name.startswith("_") and not isinstance(value, type(sys))
    }
    assert public == set(listed)


def test_importing_the_package_imports_nothing_but_its_dependencies():
    """Not even where the others are installed, as they are here."""
    output = python(
        "import sys, json, minibert, minibert.workbench.cli; print(json.dumps([*sys.modules]))"
    )
    loaded = {name.split(".")[0] for name in json.loads(output)}
    assert {"torch", "numpy", "tokenizers", "safetensors", "huggingface_hub", "tqdm"} <= loaded
    assert not loaded & set(NOT_IMPORTED.split())


def test_the_version_is_the_same_everywhere():
    assert importlib.metadata.version("minibert") == minibert.__version__
    done = subprocess.run(
        [sys.executable, "-m", "minibert", "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"minibert {minibert.__version__}\n")


def test_the_metadata_has_the_dependencies_and_extras_of_the_design():
    metadata = importlib.metadata.metadata("minibert")
    requirements = importlib.metadata.requires("minibert") or []
    core = {re.split(r"[^\w-]", line)[0] for line in requirements if "extra ==" not in line}
    assert core == {"torch", "numpy", "tokenizers", "safetensors", "huggingface-hub", "tqdm"}
    extras = set(metadata.get_all("Provides-Extra") or [])
    assert {"plots", "parquet", "notebooks", "test", "dev"} <= extras
    assert metadata["Requires-Python"] == ">=3.11"
    [script] = [
        entry
        for entry in importlib.metadata.entry_points(group="console_scripts")
        if entry.name == "minibert"
    ]
    assert script.value == "minibert.workbench.cli:main"


def test_the_whole_way_works_without_a_network(tiny, moods, tmp_path):
    """From a folder to a run to predictions, with every connection refused."""
    cut = """
import socket, sys
def refuse(*_):
    raise AssertionError("a connection was tried")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import minibert
model, train, output = sys.argv[1:]
run = minibert.finetune(
    minibert.Settings(model, train, output=output, epochs=1, precision="fp32"), progress=False
)
predictor = minibert.Predictor.from_pretrained(output)
print(predictor("one happy day")[0].label)
print(len(minibert.MaskFiller.from_pretrained(model)("one [MASK] day")))
print(minibert.Embedder.from_pretrained(model)("one happy day").shape)
"""
    output = python(
        cut,
        tiny,
        moods / "train.csv",
        tmp_path / "run",
        HF_HUB_OFFLINE="0",
        CUDA_VISIBLE_DEVICES="",
    )
    label, masks, shape = output.splitlines()
    assert label in ("angry", "calm", "happy") and masks == "1" and shape == "(1, 32)"


def test_parquet_without_pyarrow_is_a_clear_error(tiny, tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    code = """
import sys
sys.modules["pyarrow"] = None  # as if it were not installed
from minibert.workbench.cli import main
sys.exit(main(["train", "--model", sys.argv[1], "--train", sys.argv[2]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny), str(tmp_path / "x.parquet")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("minibert: ") and "pip install 'minibert[parquet]'" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_runs_draw_no_pictures_without_matplotlib(tiny, moods, tmp_path):
    code = """
import sys
sys.modules["matplotlib"] = None
import minibert
model, train, output = sys.argv[1:]
settings = minibert.Settings(model, train, output=output, epochs=1, precision="fp32")
minibert.finetune(settings, progress=False)
"""
    python(code, tiny, moods / "train.csv", tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.png"))
    assert (tmp_path / "run/model/model.safetensors").exists()


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "pyproject.toml"])
def test_the_project_has_its_files(name):
    assert (Path(__file__).parent.parent / name).is_file()
