"""python -m tests.hostile: tries every case and prints what came out."""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

import argparse
import collections
import json
import sys
from dataclasses import asdict

import torch

from tests.hostile import cage
from tests.hostile.groups import GROUPS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one result a line, for programs")
    parser.add_argument("--cases", action="store_true", help="every message, not the table alone")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a forked child has no other threads
    rows: dict[str, collections.Counter[str]] = {}
    most: dict[str, tuple[float, float]] = {}
    wrong = []
    for group, case, result in cage.run(GROUPS):
        complaint = result.complaint(case.outcome)
        counts = rows.setdefault(group.name, collections.Counter())
        counts.update(["wrong" if complaint else case.outcome.kind])
        seconds, megabytes = most.get(group.name, (0.0, 0.0))
        most[group.name] = max(seconds, result.seconds), max(megabytes, result.megabytes)
        if complaint:
            wrong.append(f"{group.name}: {case.name}: {complaint}")
        if options.json:
            line = {"group": group.name, "case": case.name, **asdict(result)}
            print(json.dumps({**line, "complaint": complaint}))
        elif options.cases:
            print(f"{group.name}: {case.name}\n    {result.kind}: {result.text}")
    if not options.json:
        _print_table(rows, most)
        print(*wrong, sep="\n")
    return 1 if wrong else 0


def _print_table(
    rows: dict[str, collections.Counter[str]], most: dict[str, tuple[float, float]]
) -> None:
    kinds = ("error", "warning", "loaded", "wrong")
    print(f"{'group':<12}{'cases':>7}", *(f"{kind:>9}" for kind in kinds), f"{'s':>7}{'MB':>6}")
    for name, counts in rows.items():
        numbers = (f"{counts[kind]:>9}" for kind in kinds)
        seconds, megabytes = most[name]
        print(f"{name:<12}{counts.total():>7}", *numbers, f"{seconds:>7.2f}{megabytes:>6.0f}")
    total = sum(rows.values(), collections.Counter())
    print(f"{'all':<12}{total.total():>7}", *(f"{total[kind]:>9}" for kind in kinds))


if __name__ == "__main__":
    sys.exit(main())
