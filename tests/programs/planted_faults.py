"""Do the tests see mistakes? Plants one at a time and runs the test file that must fail.

    python -m tests.programs.planted_faults             all of them, about five minutes on one core
    python -m tests.programs.planted_faults network     those of tests/programs/faults/network.py
    python -m tests.programs.planted_faults dropout     those with "dropout" in their name

The checkout is copied to a temporary folder; nothing outside it is changed. The exit code is 1 if
a fault stays green, if its text is no longer in the file, or if the tests are red without a fault.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import hypothesis  # noqa: F401 (imported once here, not once a fault)
import pytest
import torch
import transformers.models.bert.modeling_bert
import transformers.models.distilbert.modeling_distilbert  # noqa: F401

from tests.programs.faults import convert, corpora, fast, kinds, loop, network, pretraining, processes, resume
from tests.programs.faults.fault import ROOT, Fault

TEST_FAILED = 1  # pytest's exit code; another one means that no test ran
PARTS = {
    part.__name__.rpartition(".")[2]: part.FAULTS
    for part in (network, loop, fast, processes, resume, pretraining, kinds, corpora, convert)
}
FAULTS = [fault for faults in PARTS.values() for fault in faults]


def main(wanted: str = "") -> int:
    torch.set_num_threads(1)  # a fork must not inherit a pool of threads
    sys.dont_write_bytecode = True
    chosen = PARTS.get(wanted) or [one for one in FAULTS if wanted in one.name]
    if not chosen:
        print(f"No fault has {wanted!r} in its name.\n\n{__doc__}")
        return 2
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copy = Path(folder) / "checkout"
        hidden = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "notebooks")
        shutil.copytree(ROOT, copy, ignore=hidden)
        tests = sorted({one.tests for one in chosen})
        code, said = _pytest(copy, *tests)
        if code != 0:
            print(f"red without a fault, so nothing is proven:\n{said}")
            return 1
        width = max(len(one.name) for one in chosen)
        unseen = 0
        for one in chosen:
            verdict = _plant(copy, one)
            unseen += not verdict.startswith("red")
            print(f"{one.name:{width}}  {verdict}", flush=True)
    print(f"{len(chosen) - unseen} of {len(chosen)} faults were seen")
    return 1 if unseen else 0


def _plant(copy: Path, one: Fault) -> str:
    """What became of a fault: "red: the first test that failed", or why not."""
    try:
        path = one.file(copy)
    except LookupError as error:
        return f"NOT PLANTED: {error}"
    whole = path.read_text(encoding="utf-8")
    path.write_text(one.planted(whole) or "", encoding="utf-8")
    try:
        code, said = _pytest(copy, "-x", one.tests)
    finally:
        path.write_text(whole, encoding="utf-8")
    failed = re.search(r"^(?:FAILED|ERROR) \S*?(test_\w+\.py.*?)(?: - |$)", said, re.MULTILINE)
    if code == TEST_FAILED and failed:
        return f"red: {failed[1]}"
    return f"GREEN: {one.tests}" if code == 0 else f"BROKEN (exit code {code}): {said[-300:]}"


def _pytest(copy: Path, *arguments: str) -> tuple[int, str]:
    """pytest's exit code and output, in a fork of this process, which has done the slow imports."""
    with tempfile.TemporaryFile("w+") as said:
        process = os.fork()
        if process == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            os.chdir(copy)
            sys.path.insert(0, str(copy))
            for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "minibert")]:
                del sys.modules[name]
            # Processes that a test starts run the main module again: not this one's slow imports.
            sys.modules["__main__"] = ModuleType("__main__")
            code = pytest.main(["-p", "no:cacheprovider", "--tb=no", *arguments])
            sys.stdout.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        said.seek(0)
        return code, said.read()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
