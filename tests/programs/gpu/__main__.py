"""The command line; see the package's docstring."""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch

from tests.programs.gpu.table import Row, Setting, line

SECTIONS = ("parity", "attention", "waiting", "speed", "repeat", "graphs")


def main(arguments: list[str] | None = None) -> list[Row]:
    options = _parser().parse_args(arguments)
    setting = Setting(torch.device(options.device), options.output)
    options.output.mkdir(parents=True, exist_ok=True)
    machine = _machine(setting.device)
    print(machine, flush=True)
    # The bounds of fp32 are those of fp32: TF32 has 10 bits of mantissa.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    rows: list[Row] = []
    for row in _rows(options.only or SECTIONS, setting, options.budget):
        rows.append(row)
        print(line(row), f"({row.seconds:.1f} s)", flush=True)
        record = {"machine": machine, "rows": [asdict(row) for row in rows]}
        (options.output / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        if row.traceback:
            print(f"\n{row.section}, {row.name}: {row.traceback[-1500:]}")
    print("", machine, *map(line, rows), sep="\n", flush=True)
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.gpu", description="Checks and measures a GPU.")
    parser.add_argument("--only", nargs="+", default=[], choices=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--device", default="cuda", help="cuda (default), or cpu to run the code through")
    parser.add_argument("--budget", type=float, default=480, help="seconds after which no check starts (default 480)")
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"), help="the folder of results.json")
    return parser


def _rows(sections: list[str], setting: Setting, budget: float) -> Iterator[Row]:
    """Runs the checks of the sections in order, each as if it were alone."""
    started = time.perf_counter()
    for section in sections:
        checks = importlib.import_module(f"tests.programs.gpu.{section}").checks
        for name, check in checks(setting):
            began = time.perf_counter()
            if began - started > budget:
                yield Row(name, "not run", "out of time", section=section)
                continue
            try:
                found = check()
            except Exception as error:  # whatever it is, the other checks run
                message = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
                found = [Row(name, "failed", message[:160], False, traceback=traceback.format_exc())]
            seconds = time.perf_counter() - began
            yield from (replace(row, section=section, seconds=seconds) for row in found)
            gc.collect()  # models are in cycles with their optimizers and hooks
            if setting.device.type == "cuda":
                torch.cuda.empty_cache()


def _machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{name}, torch {torch.__version__}, transformers {importlib.import_module('transformers').__version__}"


if __name__ == "__main__":
    sys.exit(any(row.holds is False for row in main()))
