"""The package as users have it: from a clone and from a wheel, offline, without the extras."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from minibert.io.files import read_json

ROOT = Path(__file__).parents[2]

# What tests, benchmarks and extras may import and the package on its own never does.
OUTSIDE = (
    "transformers sentence_transformers sklearn scipy matplotlib pyarrow pandas datasets accelerate PIL pytest IPython"
)
REFUSE_CONNECTIONS = """
import socket
def refuse(*_):
    raise AssertionError("a connection was tried")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


def python(code: str, *arguments: object, place: Path = ROOT, cwd: Path | None = None) -> str:
    """Runs code in a process of its own that imports minibert from `place`; gives its output."""
    surroundings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(place), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **surroundings, "HF_HUB_OFFLINE": "0"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A folder with what a wheel installs, made from the files that git knows."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, cwd=ROOT)
    if listed.returncode != 0:
        pytest.skip("the wheel is made from a clone, and git does not know this folder as one")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "notebooks/")):
            copy = folder / "source" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    build = f"{sys.executable} -m pip wheel --quiet --no-deps --no-build-isolation --no-index ./source"
    subprocess.run(build.split(), check=True, cwd=folder, timeout=300)
    [archive] = folder.glob("*.whl")
    zipfile.ZipFile(archive).extractall(folder / "installed")
    return folder / "installed"


WHAT_SHIPS = """
import pathlib, sys, minibert
from minibert import BertModel
from minibert.io.bundled import bundled, official_table
place = pathlib.Path(sys.argv[1])
assert place in pathlib.Path(minibert.__file__).parents, minibert.__file__
assert place in bundled().parents and place in official_table().parents
print(BertModel.from_pretrained("minibert-small").config.hidden_size)
assert place in bundled("minibert-sentiment").parents
from minibert.workbench.cli import main
assert main(["recipes"]) == 0
assert main(["data", "samples", "--quiet"]) == 0
"""


@pytest.mark.parametrize("form", ["clone", "wheel"])
def test_weights_samples_and_recipes_are_found(form, request, tmp_path):
    place = ROOT if form == "clone" else request.getfixturevalue("wheel")
    output = python(REFUSE_CONNECTIONS + WHAT_SHIPS, place, place=place, cwd=tmp_path)
    assert output.startswith("256\n") and "emotion-finetune" in output


def test_the_wheel_has_the_type_marker_and_every_module(wheel):
    for path in (ROOT / "minibert").rglob("*"):
        if path.is_file() and path.suffix != ".md" and "__pycache__" not in path.parts:
            assert (wheel / path.relative_to(ROOT)).is_file(), path


def test_the_command_line_imports_only_the_dependencies():
    """Not even where the others are installed, as they are here."""
    code = "import sys, minibert.workbench.cli as cli; cli.main(['data', 'samples', '--quiet'])"
    code += "; print(*sys.modules)"
    loaded = {name.split(".")[0] for name in python(code).splitlines()[-1].split()}
    assert {"torch", "numpy", "tokenizers"} <= loaded
    assert not loaded & set(OUTSIDE.split())


def test_from_a_folder_to_a_run_to_predictions_without_a_network(tiny, moods, tmp_path):
    code = """
import sys
from minibert.workbench import Embedder, MaskFiller, Predictor, Settings, finetune
model, train, output = sys.argv[1:]
finetune(Settings(model, train, output=output, epochs=1, precision="fp32"), progress=False)
predictor = Predictor.from_pretrained(output)
print(predictor("one happy day")[0].label)
print(len(MaskFiller.from_pretrained(model)("one [MASK] day")))
print(Embedder.from_pretrained(model)("one happy day").shape)
"""
    output = python(REFUSE_CONNECTIONS + code, tiny, moods / "train.csv", tmp_path / "run")
    label, masks, shape = output.splitlines()
    assert label in ("angry", "calm", "happy") and masks == "1" and shape == "(1, 32)"


def test_the_default_job_runs_from_a_clone_without_a_network(tmp_path):
    """`python -m minibert train`; two epochs of it beat chance."""
    code = """
import sys
from minibert.workbench.cli import main
sys.exit(main(["train", "--epochs", "2", "--threads", "1"]))
"""
    python(REFUSE_CONNECTIONS + code, cwd=tmp_path)
    metrics = read_json(tmp_path / "runs/001/metrics.json")
    assert metrics["test"]["accuracy"]["value"] > 0.6
    settings = read_json(tmp_path / "runs/001/run.json")["settings"]
    assert (settings["model"], settings["train"]) == ("minibert-small", "samples")


def test_parquet_without_pyarrow_is_a_clear_error(tiny, tmp_path, monkeypatch, capsys):
    from minibert.workbench.cli import main

    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    assert main(["train", "--model", str(tiny), "--train", str(tmp_path / "x.parquet")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("minibert: ") and "pip install 'minibert[parquet]'" in message
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_runs_draw_no_pictures_without_matplotlib(tiny, moods, tmp_path):
    code = """
import sys, warnings
sys.modules["matplotlib"] = None
from minibert.workbench import Settings, finetune
model, train, output = sys.argv[1:]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    finetune(Settings(model, train, output=output, epochs=1, precision="fp32"), progress=False)
print(sum("pip install 'minibert[plots]'" in str(warning.message) for warning in caught))
"""
    assert python(code, tiny, moods / "train.csv", tmp_path / "run") == "1\n"
    assert not list((tmp_path / "run").glob("*.png"))
    assert (tmp_path / "run/model/model.safetensors").exists()
