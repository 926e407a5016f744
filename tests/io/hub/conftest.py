"""A Hub on loopback, and processes with the real client in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.io.hub_server import HubServer

TOKEN = "hf_thisisasecrettoken"

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights" * 1000,
    "vocab.txt": b"[PAD]\n",
    "data/train-00000-of-00001.parquet": b"rows",
    "pytorch_model.bin": b"pickle",
    "training_args.pkl": b"pickle",
    "modeling.py": b"code",
    "model.onnx": b"graph",
}
WEIGHTS = ("config.json", "model.safetensors", "model.safetensors.index.json")


@pytest.fixture
def server():
    server = HubServer(dict(FILES))
    yield server
    server.close()


@pytest.fixture(scope="session")
def _warm():
    child = Path(__file__).with_name("child.py")
    process = subprocess.Popen(
        [sys.executable, child],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.stdin.close()
    process.wait()


@pytest.fixture
def hub(_warm, server, tmp_path):
    """Carries out steps (see child.py) in a new process with a cache and a token of its own.

    Gives what each step found, and under "log" all that was printed. With `processes` above 1,
    several do the same at a time, and a list of such lists is given.
    """

    def run(*steps: list, processes: int = 1, code: int = 0, **environment: str) -> list:
        output = tmp_path / "output"
        settings = {
            "HF_HOME": str(tmp_path / "home"),
            "HF_ENDPOINT": server.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
            **environment,
        }
        case = {"environment": settings, "processes": processes, "steps": steps, "output": str(output)}
        _warm.stdin.write(json.dumps(case) + "\n")
        _warm.stdin.flush()
        codes = json.loads(_warm.stdout.readline())
        logs = [output.with_name(f"output.{number}.log").read_text() for number in range(processes)]
        assert codes == [code] * processes, logs
        results = []
        for number, log in enumerate(logs):
            text = output.with_name(f"output.{number}").read_text() if code == 0 else "[]"
            assert TOKEN not in text + log
            results.append([{**found, "log": log} for found in json.loads(text)])
        return results if processes > 1 else results[0]

    return run


@pytest.fixture
def fetch(hub):
    """One `resolve` in a process of its own."""

    def fetch(source="owner/tiny", patterns=WEIGHTS, revision=None, kind="model", **environment):
        return hub(["resolve", source, patterns, revision, kind], **environment)[0]

    return fetch
