"""What a measurement ran on: the machine, its versions, its load, its matrix peak."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from tests.programs.benchmarks.clock import Stopwatch

PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "numpy", "minibert")
ENGINES = ("openvino", "onnxruntime", "sentence-transformers")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def describe() -> dict[str, Any]:
    """The machine and the versions, for the record of a run."""
    cpu = _cpu_info()
    return {
        "cpu": cpu.get("model name", platform.processor() or platform.machine()),
        "family/model/stepping": "/".join(cpu.get(key, "?") for key in ("cpu family", "model", "stepping")),
        "flags": [flag for flag in FLAGS if flag in cpu.get("flags", "").split()],
        "processors": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in (*PACKAGES, *ENGINES)},
        "commit": _commit(),
        "load average": os.getloadavg(),
    }


def matrix_peaks(clock: str) -> dict[str, float]:
    """Operations a second of the best large matrix product, in each dtype."""
    return {"fp32": matrix_peak(torch.float32, clock), "bf16": matrix_peak(torch.bfloat16, clock)}


def matrix_peak(dtype: torch.dtype, clock: str, size: int = 2048) -> float:
    """The best floating-point operations a second of a large matrix product.

    Tried as it stands and, as in a linear layer, with the right side transposed.
    """
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))  # (size, size) each
    best = 0.0
    for other in (right, right.t()):
        for _ in range(4):
            timed = Stopwatch(clock)
            with timed:
                left @ other
            best = max(best, 2 * size**3 / timed.seconds)
    return best


def _cpu_info() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n")[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of this checkout, with a plus sign if the package has changes on top of it."""
    here = Path(__file__).parents[3]
    command = ["git", "-C", str(here)]
    try:
        commit = subprocess.run(
            [*command, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run([*command, "diff", "--quiet", "HEAD", "--", "minibert"])
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed.returncode else "")
