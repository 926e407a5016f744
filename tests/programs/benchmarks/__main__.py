"""The command line of the benchmarks; see the package's docstring for the commands."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path

from tests.programs.benchmarks.clock import is_idle, processors

# Of a case, all variants, one thread on a processor without AMX: for a first estimate.
SECONDS_A_ROUND = 11.0


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    notes = _settle(options)
    # Only now: the libraries read the number of threads when they are imported.
    from tests.programs.benchmarks import cases, engines, material

    if options.what == "engines" and not engines.installed():
        sys.exit(engines.run_in_venv(sys.argv[1:]))
    every = engines.all_cases() if options.what == "engines" else cases.all_cases(options.quick)
    chosen = cases.chosen(every, options.only)
    if options.list:
        print("\n".join(case.name for case in chosen))
        return
    material.require(case.name for case in chosen)
    if options.what == "profile":
        _profile(chosen, options)
    else:
        _measure(chosen, options, notes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.programs.benchmarks",
        description="Measures minibert beside transformers on the same work, in one process.",
    )
    parser.add_argument(
        "what",
        nargs="?",
        choices=("table", "profile", "engines"),
        default="table",
        help="the ratios (default); where the time of the cases goes; other engines",
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="cases with this in their name")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a tiny model, made-up texts, two rounds: shows that everything runs, and no more",
    )
    parser.add_argument("--threads", type=int, help="default: all on an idle machine, else one")
    parser.add_argument(
        "--clock",
        choices=("auto", "wall", "cpu"),
        default="auto",
        help="auto: wall on an idle machine, else the processor time of one thread",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/benchmarks"),
        help="where the results go: OUTPUT.json and OUTPUT.md (default runs/benchmarks)",
    )
    return parser


def _settle(options: argparse.Namespace) -> list[str]:
    """Decides on clock and threads by the state of the machine; the lines that say so."""
    idle = is_idle()
    if options.clock == "auto":
        options.clock = "wall" if idle else "cpu"
    if options.threads is None:
        options.threads = processors() if options.clock == "wall" else 1
    if options.quick:
        options.rounds = 2
    os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    warnings.filterwarnings("ignore", "[0-9]+ of [0-9]+ texts had more than")  # cut on purpose
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["TQDM_DISABLE"] = "1"  # the libraries' bars, here and in child processes
    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # tests/conftest.py switches it off otherwise
    notes = [] if idle else ["OTHER PROCESSES WERE RUNNING when this was started."]
    if options.quick:
        notes.append("A trial run with tiny models: its numbers mean nothing.")
    if not importlib.util.find_spec("accelerate"):
        notes.append("No Trainer: accelerate is not installed (pip install 'minibert[bench]').")
    return notes


def _measure(cases: list, options: argparse.Namespace, notes: list[str]) -> None:
    import torch

    from tests.programs.benchmarks import machine, report
    from tests.programs.benchmarks.agreement import Disagreement
    from tests.programs.benchmarks.measure import measure

    torch.set_num_threads(options.threads)
    left = len(cases) * (options.rounds + 2) * SECONDS_A_ROUND / options.threads
    _say(f"{len(cases)} cases, {options.rounds} rounds each: about {1 + left / 60:.0f} minutes")
    peaks = machine.matrix_peaks(options.clock)
    setting = machine.describe() | {
        "threads": options.threads,
        "clock": options.clock,
        "rounds": options.rounds,
        "notes": notes,
        "matrix peak": peaks,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    results, failures = [], []
    started = time.perf_counter()
    for done, case in enumerate(cases):
        spent = time.perf_counter() - started
        if done or options.quick:
            left = spent / max(done, 1) * (len(cases) - done)
        _say(f"{done + 1}/{len(cases)}  {case.name}  ({spent:.0f} s; about {left:.0f} s to go)")
        try:
            result = measure(case, rounds=options.rounds, clock=options.clock, peaks=peaks, say=_say)
        except Disagreement as error:
            failures.append(f"NO RESULT: {case.name}: {error}")
            _say(failures[-1])
            continue
        results.append(result)
        for name in result.values:
            median = f"{result.median(name):8.3f} {result.unit}"
            _say(f"         {median}  {result.ratio(name):5.2f}  {name}")
        record = {"machine": setting, "results": [asdict(result) for result in results]}
        options.output.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
        options.output.with_suffix(".md").write_text(report.markdown(results, setting))
    print(report.summary(results))
    if failures:
        sys.exit("\n".join(failures))


def _profile(cases: list, options: argparse.Namespace) -> None:
    import torch

    from tests.programs.benchmarks import machine
    from tests.programs.benchmarks.profile import profile

    torch.set_num_threads(options.threads)
    peaks = machine.matrix_peaks("wall")
    for case in cases:
        print(profile(case, peaks), end="\n\n", flush=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
