"""CUDA graphs of the encoder beside the same passes without them, and what they save."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from minibert.fast.accelerate import accelerate
from minibert.fast.prepare import prepare
from minibert.layout import Layout
from minibert.trace import Scope
from minibert.workbench.runs.together import lay_out
from tests.conftest import BOUNDS
from tests.programs.gpu import models
from tests.programs.gpu.speed import Case, seconds_of
from tests.programs.gpu.table import Check, Row, Setting, at_most

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def checks(setting: Setting) -> Iterator[Check]:
    for precision in DTYPES:
        yield f"recorded training {precision}", partial(_training, setting, precision)
    yield "recorded inference", partial(_inference, setting)
    if setting.device.type == "cuda":
        for size in ("MiniLM", "BERT-base"):
            for kind in ("tweets", "long"):
                yield f"graph {size}, {kind}", partial(_limit, setting, Case(size, kind, 32))


def _training(setting: Setting, precision: str) -> list[Row]:
    """Losses and gradients with dropout: the first passes are not recorded, the last ones are."""
    model: Any = accelerate(models.pair("MiniLM", setting)[1], graphs=True).train()
    batches = models.batches("tweets", 32, 2, setting)
    found = [[_gradients(model, [batch], setting, precision) for batch in batches] for _ in range(4)]
    both = _gradients(model, batches, setting, precision)
    errors = [_error(last, first) for last, first in zip(found[-1], found[0], strict=True)]
    rows = [
        at_most(f"training, {precision}: recorded beside not recorded", max(errors), BOUNDS["module bf16"]),
        at_most(f"training, {precision}: two batches add up", _error(both, sum(found[0])), BOUNDS["module bf16"]),
    ]
    return [*rows, _made(setting, model, f"training, {precision}")]


def _gradients(model: Any, batches: list[models.Batch], setting: Setting, precision: str) -> Tensor:
    """Loss and gradients of all parameters, one after the other."""
    model.zero_grad()
    losses = []
    for batch in batches:
        torch.manual_seed(int(batch["input_ids"].sum()))
        with torch.autocast(setting.device.type, DTYPES[precision]):
            loss = model(**lay_out(batch, setting.device)).loss
        (128 * loss).backward()
        losses.append(loss.detach())
    gradients = [part.grad.flatten() for part in model.parameters()]
    return torch.cat([torch.stack(losses).sum()[None], *gradients])  # (1 + parameters,)


def _error(found: Tensor, expected: Any) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def _made(setting: Setting, model: Any, name: str) -> Row:
    made = len(vars(model.body.encoder).get("_recordings", _Nothing).made)
    return Row(f"{name}: shapes recorded", made, "", made > 0 or setting.tiny)


class _Nothing:
    made: tuple[()] = ()


def _inference(setting: Setting) -> list[Row]:
    fast = prepare(models.pair("MiniLM", setting)[1], torch.bfloat16, graphs=True)
    batches = models.batches("tweets", 32, 2, setting)
    found = [[fast(**lay_out(batch, setting.device)).logits for batch in batches] for _ in range(4)]
    error = max(_error(last, first) for last, first in zip(found[-1], found[0], strict=True))
    row = Row("inference: recorded beside not recorded", error, "0: the same bits", error == 0)
    return [row, _made(setting, fast._model, "inference")]


def _body(setting: Setting, case: Case) -> Callable[[], Tensor]:
    """The prepared body on one batch whose layout and packed ids are on the GPU."""
    fast: Any = prepare(models.pair(case.size, setting)[1], torch.bfloat16)._model.body
    batch = case.batches(setting)[0]
    layout = Layout.from_mask(batch["attention_mask"])
    words = layout.unpad(batch["input_ids"]).to(setting.device)  # (T,)
    layout = layout.to(setting.device)
    positions, segments = layout.cells % layout.columns, torch.zeros_like(words)  # (T,), (T,)
    scope = Scope(layout)

    def run() -> Tensor:
        hidden = fast.embeddings(words, positions, segments, scope.inside("embeddings"))  # (T, D)
        return fast.encoder(hidden, scope)  # (T, D)

    return run


def _milliseconds(run: Callable[[], object], setting: Setting) -> float:
    for _ in range(3):
        run()
    return statistics.median(seconds_of(lambda: [run() for _ in range(10)], setting) * 100 for _ in range(7))


@torch.inference_mode()
def _limit(setting: Setting, case: Case) -> list[Row]:
    """The whole body as one graph of one batch: what the GPU takes when nothing keeps it waiting."""
    run = _body(setting, case)
    plain = _milliseconds(run, setting)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    graph.replay()
    same = torch.equal(captured, run())
    replayed = _milliseconds(graph.replay, setting)
    notes = f"not as a graph {plain:.3f}; {'the same' if same else 'other'} bits"
    return [Row(f"{case}: ms as one graph", replayed, notes, same)]
