"""SIGKILL at any moment of a small run, then --resume: every bit has to be that of a whole run.

    python -m tests.programs.kills --kills 100     100 of a plain run, 10 of each variant
    python -m tests.programs.kills --kills 5 --variants 1

Every trial is a fork of this process, which has imported everything. It kills itself, so that the
place is known to the instruction: half of them at a random moment of the run's time, the others at
a random file operation of a save (before or after a write, an fsync, a rename, a deletion). A run
may be killed several times. Compared are the loss of every step, to the last bit, also of steps
taken twice, and the sha256 sum of the final weights. The exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch._dynamo  # noqa: F401 (the first optimizer imports it: once here, not once a fork)

from minibert.io.files import check_manifest, read_json, sha256
from minibert.io.tables import table
from minibert.training import Epoch, Step, train
from minibert.workbench.runs import session as sessions
from minibert.workbench.runs.state import checkpoints
from minibert.workbench.tasks import finetune as task
from minibert.workbench.tasks.finetune import Settings, finetune, resume
from tests.workbench.conftest import save_model, write_moods

VARIANTS: dict[str, dict[str, Any]] = {
    "bf16": {"precision": "bf16"},
    "fp16 with the scaler": {"precision": "fp16"},
    "accumulation of 3": {"accumulate": 3},
    "gradient checkpointing": {"gradient_checkpointing": True},
}
FILE_OPERATIONS = ["fsync", "replace", "unlink", "rmdir", "mkdir", "open"]
HANG = 120  # seconds; a guard alone


@dataclass
class Outcome:
    """What the trials of one variant came to."""

    variant: str
    kills: int = 0
    in_saves: int = 0  # or in another writing of files
    from_checkpoint: int = 0  # resumed runs that found a checkpoint
    different: int = 0
    seconds: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="of the plain run")
    parser.add_argument("--variants", type=int, default=10, metavar="N", help="of each variant")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)  # a fork must not inherit a pool of threads
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        place = Path(folder)
        save_model(place / "model")
        for seed, (name, count) in enumerate({"train": 104, "validation": 20}.items()):
            write_moods(place / f"{name}.csv", count, seed)
        outcomes = [_trials(place, "fp32, accumulation of 2", {}, options.kills, draw)]
        outcomes += [_trials(place, name, changes, options.variants, draw) for name, changes in VARIANTS.items()]
    rows = [
        [one.variant, one.kills, one.in_saves, one.from_checkpoint, one.different, round(one.seconds)]
        for one in outcomes
    ]
    header = ["run", "kills", "of them in saves", "resumed from a checkpoint", "different", "seconds"]
    print(table(rows, header))
    return 1 if any(one.different for one in outcomes) else 0


def _trials(place: Path, name: str, changes: dict[str, Any], kills: int, draw: random.Random) -> Outcome:
    """Kills runs until there were so many kills; compares each when it is finished."""
    settings = {
        "model": str(place / "model"),
        "train": str(place / "train.csv"),
        "validation": str(place / "validation.csv"),
        "epochs": 3,
        "batch_size": 4,
        "accumulate": 2,
        "learning_rate": 3e-3,
        "precision": "fp32",
        "save_every": 4,
        "allow_data_faults": True,  # so few different texts repeat themselves
        **changes,
    }
    outcome = Outcome(name)
    if kills == 0:
        return outcome
    started = time.monotonic()
    whole = place / f"{name}-whole"
    assert _fork(whole, settings) == 0, "the whole run failed"
    length = time.monotonic() - started
    operations = int((whole.parent / f"{whole.name}.operations").read_text())
    expected = _facts(whole)
    assert len(expected[0]) >= 20
    trial = 0
    while outcome.kills < kills:
        run = place / f"{name}-{trial}"
        trial += 1
        settings["keep"] = draw.randint(1, 3)
        while True:
            kill_at = draw.randrange(operations) if draw.random() < 0.5 else None
            delay = None if kill_at is not None else draw.uniform(0.0, length)
            found = newest_whole(run / "state")
            code = _fork(run, settings, kill_at, delay if outcome.kills < kills else None)
            outcome.from_checkpoint += found
            if code != -signal.SIGKILL:
                break
            outcome.kills += 1
            outcome.in_saves += kill_at is not None
            if outcome.kills == kills:  # the last of them has to come to its end
                assert _fork(run, settings) == 0
                break
        different = _different(_facts(run), expected)
        if code not in (0, -signal.SIGKILL) or different:
            outcome.different += 1
            print(f"{name}, trial {trial}: exit code {code}, {different}", file=sys.stderr)
        else:
            shutil.rmtree(run)
    outcome.seconds = time.monotonic() - started
    return outcome


def newest_whole(folder: Path) -> bool:
    """Whether a folder has a checkpoint, and that those after a kill are all whole."""
    found = [path for path in checkpoints(folder) if (path / "manifest.json").exists()]
    for path in found:
        check_manifest(path)
    return bool(found)


def _fork(run: Path, settings: dict[str, Any], kill_at: int | None = None, delay: float | None = None) -> int:
    """Starts or resumes a run in a fork; its exit code, -9 if it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(HANG)
            warnings.simplefilter("ignore")  # of locks that killed processes left
            if delay is not None:
                signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
                signal.setitimer(signal.ITIMER_REAL, max(delay, 1e-4))
            with open(f"{run}.losses", "a", buffering=1) as log:
                count = _watch(log, kill_at)
                if _is_finished(run):
                    pass  # killed when all was done
                elif (run / "run.json").exists():
                    resume(run, progress=False)
                else:
                    finetune(Settings(**settings, output=str(run)), progress=False)
            Path(f"{run}.operations").write_text(str(count()))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _is_finished(run: Path) -> bool:
    path = run / "run.json"
    return path.exists() and read_json(path)["status"] == "finished"


def _watch(log: Any, kill_at: int | None) -> Callable[[], int]:
    """Notes every step in a log of its own, and dies at a file operation, counted from 0."""
    counted = 0

    def counting(operation: Callable[..., Any]) -> Callable[..., Any]:
        def counted_operation(*arguments: Any, **options: Any) -> Any:
            nonlocal counted
            for before in (True, False):
                if not before:
                    result = operation(*arguments, **options)
                if counted == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                counted += 1
            return result

        return counted_operation

    for name in FILE_OPERATIONS:
        setattr(os, name, counting(getattr(os, name)))
    safetensors.torch.save_file = counting(safetensors.torch.save_file)

    def logged(*arguments: Any) -> Iterator[Step | Epoch]:
        for record in train(*arguments):
            if isinstance(record, Step):
                log.write(f"{record.step} {record.terms.mean().hex()}\n")
            yield record

    sessions.train = logged
    task.pictures = lambda *_: []
    return lambda: counted


def _facts(run: Path) -> tuple[dict[int, str], str, str]:
    """Losses by step, the sum of the final weights, and log.csv without the speed.

    Raises nothing: a step with two losses, or a file that is missing, is a fact too.
    """
    losses: dict[int, str] = {}
    for line in Path(f"{run}.losses").read_text().splitlines():
        step, _, loss = line.partition(" ")
        if losses.setdefault(int(step), loss) != loss:
            losses[int(step)] += f" and {loss}"
    weights = rows = "missing"
    with contextlib.suppress(OSError):
        weights = sha256(run / "model/model.safetensors")
        lines = (run / "log.csv").read_text().splitlines()
        rows = "\n".join(",".join(c for i, c in enumerate(r.split(",")) if i != 6) for r in lines)
    return losses, weights, rows


def _different(found: tuple[Any, ...], expected: tuple[Any, ...]) -> list[Any]:
    """The facts that are not as expected, the losses step by step."""
    steps = [(step, found[0].get(step), loss) for step, loss in expected[0].items() if found[0].get(step) != loss]
    names = ["weights", "log.csv"]
    return steps + [name for name, a, b in zip(names, found[1:], expected[1:], strict=True) if a != b]


if __name__ == "__main__":
    sys.exit(main())
