"""What CUDA graphs and torch.compile would add to `fast/`, on batches of one shape."""

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
from tests.programs.gpu import models
from tests.programs.gpu.speed import Case, our_step, seconds_of
from tests.programs.gpu.table import Check, Row, Setting


def checks(setting: Setting) -> Iterator[Check]:
    if setting.device.type != "cuda":
        yield "graphs", lambda: [Row("CUDA graphs and torch.compile", "not run", "only on a GPU")]
        return
    for size in ("MiniLM", "BERT-base"):
        for kind in ("tweets", "long"):
            yield f"graph {size}, {kind}", partial(_graph, setting, Case(size, kind, 32))
    yield "compiled layers", partial(_compiled_training, setting, Case("BERT-base", "long", 32, True))
    yield "compiled inference", partial(_compiled, setting, Case("MiniLM", "tweets", 32))


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
def _graph(setting: Setting, case: Case) -> list[Row]:
    run = _body(setting, case)
    plain = _milliseconds(run, setting)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    graph.replay()
    same = torch.equal(captured, run())
    replayed = _milliseconds(graph.replay, setting)
    name = str(case)
    return [
        Row(f"{name}: prepared, ms", plain),
        Row(f"{name}: CUDA graph, ms", replayed, "same bits" if same else "other bits", same),
    ]


@torch.inference_mode()
def _compiled(setting: Setting, case: Case) -> list[Row]:
    run = _body(setting, case)
    expected = run()
    compiled = torch.compile(run, mode="reduce-overhead")
    error = ((compiled() - expected).norm() / expected.norm()).item()
    name = f"{case}: reduce-overhead"
    return [Row(f"{name}, ms", _milliseconds(compiled, setting)), Row(f"{name}, difference", error)]


def _compiled_training(setting: Setting, case: Case) -> list[Row]:
    batches = case.batches(setting)
    rows = []
    for compiled in (False, True):
        model: Any = accelerate(models.pair(case.size, setting)[1])
        if compiled:
            for layer in model.body.encoder.layers:
                layer.compile(dynamic=True)
        step = our_step(model)
        first = seconds_of(lambda step=step: [step(batch) for batch in batches], setting)
        later = [seconds_of(lambda step=step: [step(batch) for batch in batches], setting) for _ in range(5)]
        name = f"{case}: {'compiled' if compiled else 'plain'} layers"
        rows += [
            Row(f"{name}, first round s", first),
            Row(f"{name}, ms a batch", 1000 * statistics.median(later) / len(batches)),
        ]
    return rows
