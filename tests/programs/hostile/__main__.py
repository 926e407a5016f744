"""python -m tests.programs.hostile: tries every case and prints what came out."""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

import argparse
import collections
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from tests.programs.hostile import cage, fuzz
from tests.programs.hostile.groups import GROUPS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.hostile", description=__doc__)
    parser.add_argument("--fuzz", type=int, metavar="N", help="in place of the cases: N mutants")
    parser.add_argument("--json", action="store_true", help="one result a line, for programs")
    parser.add_argument("--cases", action="store_true", help="every message, not the table alone")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a forked child has no other threads
    if options.fuzz is not None:
        return _fuzz(options.fuzz)
    return _cases(options.json, options.cases)


def _fuzz(count: int) -> int:
    rows: dict[str, collections.Counter[str]] = {}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        cage.warm_up(Path(temporary, "good"))
        for target, kinds, crashes in fuzz.run(count):
            rows[target] = kinds
            wrong += crashes
    _print_table(rows, ("error", "loaded", "crash"))
    print(*wrong, sep="\n")
    return 1 if wrong else 0


def _cases(as_json: bool, every_message: bool) -> int:
    rows: dict[str, collections.Counter[str]] = {}
    most = {"seconds": 0.0, "megabytes": 0.0}
    wrong = []
    for group, case, result in cage.run(GROUPS):
        complaint = result.complaint(case.outcome)
        counts = rows.setdefault(group.name, collections.Counter())
        counts.update(["wrong" if complaint else case.outcome.kind])
        most = {key: max(value, getattr(result, key)) for key, value in most.items()}
        if complaint:
            wrong.append(f"{group.name}: {case.name}: {complaint}")
        if as_json:
            line = {"group": group.name, "case": case.name, **asdict(result)}
            print(json.dumps({**line, "complaint": complaint}))
        elif every_message:
            print(f"{group.name}: {case.name}\n    {result.kind}: {result.text}")
    if not as_json:
        _print_table(rows, ("error", "warning", "loaded", "wrong"))
        print("at most {seconds:.2f} s and {megabytes:.0f} MB for one case".format(**most))
        print(*wrong, sep="\n")
    return 1 if wrong else 0


def _print_table(rows: Mapping[str, collections.Counter[str]], kinds: tuple[str, ...]) -> None:
    print(f"{'':<12}{'tried':>8}", *(f"{kind:>9}" for kind in kinds))
    for name, counts in {**rows, "all": sum(rows.values(), collections.Counter())}.items():
        print(f"{name:<12}{counts.total():>8}", *(f"{counts[kind]:>9}" for kind in kinds))


if __name__ == "__main__":
    sys.exit(main())
