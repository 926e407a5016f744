"""Resuming and DistributedDataParallel give the same bits, with torch's deterministic algorithms.

cuBLAS has to be told before it is first used, so on a GPU this section runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from minibert.fast.accelerate import accelerate
from minibert.optim import Schedule, build_optimizer, parameter_groups
from minibert.training import Batch, Step, Training, train
from minibert.workbench.runs import together
from minibert.workbench.runs.ranks import ALONE
from minibert.workbench.runs.state import RunState, checkpoints, random_states_of, restore_state, save_state
from tests.programs.gpu import models
from tests.programs.gpu.table import Check, Row, Setting

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
STEPS = 6


def checks(setting: Setting) -> Iterator[Check]:
    if setting.device.type == "cuda" and CUBLAS not in os.environ:
        yield "in a process of its own", partial(_in_a_child, setting)
        return
    for precision, dtype in (("fp32", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        yield f"resume {precision}", partial(_resume, setting, precision, dtype)
    yield "DistributedDataParallel", partial(_distributed, setting)


def _in_a_child(setting: Setting) -> list[Row]:
    folder = setting.folder / "repeat"
    command = [sys.executable, "-m", "tests.programs.gpu", "--only", "repeat", "--output", str(folder)]
    done = subprocess.run(command, env={**os.environ, CUBLAS: ":4096:8"}, capture_output=True, text=True, timeout=150)
    if not (folder / "results.json").exists():
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-1000:]}")
    rows = json.loads((folder / "results.json").read_text(encoding="utf-8"))["rows"]
    return [Row(**row) for row in rows]


@contextmanager
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def _training(setting: Setting, dtype: torch.dtype | None) -> Training:
    torch.manual_seed(0)
    model = accelerate(models.pair(models.TINY, setting)[1])
    optimizer = build_optimizer(parameter_groups(model.named_parameters(), weight_decay=0.01), learning_rate=1e-3)
    schedule = Schedule(optimizer, "linear", warmup=2, total=STEPS)
    return Training(model, optimizer, schedule, dtype=dtype, place=together.lay_out)


def _batches(setting: Setting, epoch: int) -> Sequence[Batch]:
    made = models.batches("tweets", 16, STEPS, setting) * STEPS
    return [Batch(range(len(batch["labels"])), lambda batch=batch: batch) for batch in made[:STEPS]]


def _run(training: Training, batches: Sequence[Batch], last: int = STEPS) -> None:
    for record in train(training, lambda epoch: batches, 1):
        if isinstance(record, Step) and record.step == last:
            return


def _differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> int:
    return sum(not torch.equal(value, other[name]) for name, value in one.items())


def _resume(setting: Setting, precision: str, dtype: torch.dtype | None) -> list[Row]:
    batches = _batches(setting, 0)
    folder = setting.folder / f"states-{precision}"
    with _deterministic():
        whole, first, second = (_training(setting, dtype) for _ in range(3))
        torch.manual_seed(3)
        _run(whole, batches)
        torch.manual_seed(3)
        _run(first, batches, STEPS // 2)
        names = {name: name for name in first.model.state_dict()}
        path = save_state(folder, RunState(first.model, first, names), keep=1, random=random_states_of(ALONE))
        torch.manual_seed(4)
        restore_state(path, RunState(second.model, second, names))
        _run(second, batches)
    assert checkpoints(folder) == [path]
    differing = _differing(whole.model.state_dict(), second.model.state_dict())
    moved = _differing(whole.model.state_dict(), first.model.state_dict())
    return [Row(f"resume {precision}: tensors with other bits", differing, f"0 of {moved}", differing == 0 < moved)]


def _distributed(setting: Setting) -> list[Row]:
    """One process with DistributedDataParallel beside one without."""
    backend = "nccl" if setting.device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        with _deterministic():
            found = []
            for shared in (False, True):
                training, batches = _training(setting, torch.bfloat16), _batches(setting, 0)
                model = training.model
                if shared:
                    training.model = together._SharedModel.of(model, ALONE)
                    batches = [
                        replace(batch, load=partial(together._load_share, batch, model, ALONE, True))
                        for batch in batches
                    ]
                torch.manual_seed(3)
                _run(training, batches)
                found.append(model.state_dict())
    finally:
        dist.destroy_process_group()
    differing = _differing(*found)
    return [Row("DistributedDataParallel: tensors with other bits", differing, f"0 of {len(found[0])}", differing == 0)]
