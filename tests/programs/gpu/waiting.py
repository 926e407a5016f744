"""Nothing inside a step, a forward pass and prepared inference waits for the GPU.

torch raises an error, or warns, where an operation would make the processor wait. A step of the
loop has to wait once: it looks at the loss and the gradient before it touches the weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from minibert.fast.accelerate import accelerate
from minibert.fast.prepare import prepare
from minibert.workbench.runs.together import lay_out
from tests.lesson import reference as ref
from tests.programs.gpu import models
from tests.programs.gpu.parity import FORMS
from tests.programs.gpu.speed import our_step
from tests.programs.gpu.table import Check, Row, Setting, at_most

WAYS = {**FORMS, "graphs": partial(accelerate, graphs=True)}


def checks(setting: Setting) -> Iterator[Check]:
    for form in WAYS:
        yield f"{form}: forward, backward, clip, AdamW", partial(_pass, setting, form)
    yield "prepared inference", partial(_prepared, setting)
    yield "every head", partial(_heads, setting)
    yield "a step of the loop", partial(_step, setting)


@contextmanager
def _mode(setting: Setting, mode: str) -> Iterator[None]:
    if setting.device.type != "cuda":
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _model(setting: Setting, form: str) -> Any:
    _, model = models.pair("MiniLM", setting)
    return WAYS[form](model.train())


def _pass(setting: Setting, form: str) -> list[Row]:
    model = _model(setting, form)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    for mode in ("default", "default", "default", "error"):  # the first runs fill caches and record graphs
        for batch in models.batches("tweets", 32, 3, setting):
            with _mode(setting, mode):
                with torch.autocast(setting.device.type, torch.bfloat16):
                    output = model(**lay_out(batch, setting.device))
                output.loss.backward()
                norm = nn.utils.get_total_norm([part.grad for part in model.parameters()])
                nn.utils.clip_grads_with_norm_(model.parameters(), 1.0, norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    return [Row(f"{form}: forward, backward, clip, AdamW", "no wait", "", True)]


def _prepared(setting: Setting) -> list[Row]:
    fast = prepare(_model(setting, "lesson"), torch.bfloat16)
    for mode in ("default", "error"):
        for batch in models.batches("tweets", 32, 3, setting):
            with _mode(setting, mode):
                fast(**lay_out(batch, setting.device))
    return [Row("prepared inference", "no wait", "", True)]


def _heads(setting: Setting) -> list[Row]:
    waits = []
    for family, name in ref.CASES:
        _, model = ref.pair(family, name, torch.float32)
        inputs = ref.batch(family, name)
        model = FORMS["accelerated"](model.to(setting.device))
        for mode in ("default", "error"):
            try:
                with _mode(setting, mode), torch.autocast(setting.device.type, torch.bfloat16):
                    model(**lay_out(inputs, setting.device))
            except RuntimeError as error:
                waits.append(f"{family} {name}: {error}"[:120])
    return [Row("every head, forward with its loss", str(len(waits)), "; ".join(waits), not waits)]


def _step(setting: Setting) -> list[Row]:
    step = our_step(_model(setting, "accelerated"))
    batches = models.batches("tweets", 32, 3, setting)
    for batch in batches:
        step(batch)
    with warnings.catch_warnings(record=True) as caught, _mode(setting, "warn"):
        warnings.simplefilter("always")
        for batch in batches:
            step(batch)
    waits = [warning for warning in caught if "synchronizing" in str(warning.message)]
    places = sorted({f"{warning.filename.rsplit('/', 1)[-1]}:{warning.lineno}" for warning in waits})
    row = at_most("a step of the loop: waits", len(waits) / len(batches), 1)
    return [Row(row.name, row.value, f"{row.bound} {' '.join(places)}", row.holds)]
