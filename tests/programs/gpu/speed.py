"""Tokens a second beside transformers on the same batches, and the share of the card's matrix peak."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from minibert.fast.accelerate import accelerate
from minibert.fast.prepare import prepare
from minibert.io.device import move
from minibert.optim import Schedule, build_optimizer, parameter_groups
from minibert.training import Batch, Training, optimizer_step
from minibert.workbench.runs.together import lay_out
from tests.programs.gpu import models
from tests.programs.gpu.table import Check, Row, Setting

ROUNDS, WARM_UP = 5, 3
AGREEMENT = 5e-2  # of logits in bf16, the difference over the norm: 24 layers of 8 bits of mantissa

Step = Callable[[models.Batch], Any]


@dataclass(frozen=True)
class Case:
    """A size of model, batches of one kind, and inference or training."""

    size: str
    kind: str
    rows: int
    training: bool = False

    def __str__(self) -> str:
        return f"{'training' if self.training else 'inference'} {self.size}, {self.rows} {self.kind}"

    def batches(self, setting: Setting) -> list[models.Batch]:
        return models.batches(self.kind, self.rows, 4, setting)

    def goals(self) -> tuple[float | None, float | None]:
        """The least ratio to transformers, and the least share of the peak."""
        if self.size == models.TINY:
            return None, None
        if self.training:
            return (2.0 if self.kind == "tweets" else 1.3), None
        return None, 0.6 if self.size == "BERT-base" and self.kind == "long" else None


FORMS = {"plain": False, "graphs": True}
KINDS = (("tweets", 32), ("tweets", 256), ("long", 32))
PROFILED = (
    Case("MiniLM", "tweets", 32, True),
    Case("BERT-base", "tweets", 256, True),
    Case("BERT-base", "long", 32, True),
)


def checks(setting: Setting) -> Iterator[Check]:
    peak = 1e12 if setting.tiny else matrix_peak(setting)
    yield "bf16 matrix peak", lambda: [Row("bf16 matrix peak, TFLOP/s", peak / 1e12)]
    sizes = [size for size in models.SIZES if (size == models.TINY) == setting.tiny]
    for size in sizes:
        for kind, rows in KINDS:
            yield f"inference {size}, {rows} {kind}", partial(_inference, setting, Case(size, kind, rows), peak)
            yield f"training {size}, {rows} {kind}", partial(_training, setting, Case(size, kind, rows, True), peak)
    for case in PROFILED[: 1 if setting.tiny else None]:
        yield f"profile of {case}", partial(_profile, setting, case)


def matrix_peak(setting: Setting) -> float:
    """Operations a second of a large product of random bf16 matrices."""
    one, other = (torch.randn(8192, 8192, device=setting.device, dtype=torch.bfloat16) for _ in range(2))
    seconds = [seconds_of(lambda: [one @ other for _ in range(10)], setting) / 10 for _ in range(6)]
    return 2 * 8192**3 / statistics.median(seconds[1:])


def _inference(setting: Setting, case: Case, peak: float) -> list[Row]:
    theirs, ours = models.pair(case.size, setting)
    batches = case.batches(setting)
    fast = {name: prepare(ours, torch.bfloat16, graphs) for name, graphs in FORMS.items()}
    theirs = theirs.to(torch.bfloat16).eval()
    del ours

    def reference(batch: models.Batch) -> Any:
        inputs = {name: value for name, value in move(batch, setting.device).items() if name != "labels"}
        return theirs(**inputs).logits

    def prepared(model: Any, batch: models.Batch) -> Any:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        return model(**lay_out(inputs, setting.device)).logits

    steps = {"transformers": reference, **{name: partial(prepared, model) for name, model in fast.items()}}
    with torch.inference_mode():
        times = _rounds(steps, batches, setting)
        difference = max(_agreement(steps[name], reference, batches) for name in FORMS)
    return _report(case, batches, times, difference, peak)


def _training(setting: Setting, case: Case, peak: float) -> list[Row]:
    theirs, ours = models.pair(case.size, setting)
    batches = case.batches(setting)
    fast = {name: accelerate(copy.deepcopy(ours).eval(), graphs) for name, graphs in FORMS.items()}
    theirs.eval()

    def reference(batch: models.Batch) -> Any:
        return theirs(**move(batch, setting.device)).logits

    def accelerated(model: Any, batch: models.Batch) -> Any:
        return model(**lay_out(batch, setting.device)).logits

    with torch.inference_mode(), torch.autocast(setting.device.type, torch.bfloat16):
        difference = max(_agreement(partial(accelerated, model), reference, batches) for model in fast.values())
    steps = {"transformers": _their_step(theirs, setting), **{name: our_step(model) for name, model in fast.items()}}
    return _report(case, batches, _rounds(steps, batches, setting), difference, peak)


def _their_step(model: Any, setting: Setting) -> Step:
    """A step as a good loop with transformers takes it; the loss is never waited for."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    model.train()

    def step(batch: models.Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(setting.device.type, torch.bfloat16):
            loss = model(**move(batch, setting.device)).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def our_step(model: Any) -> Step:
    """A step of the lesson's loop, which reads the loss and the gradient's norm."""
    optimizer = build_optimizer(parameter_groups(model.named_parameters(), weight_decay=0.01), learning_rate=1e-5)
    schedule = Schedule(optimizer, "constant", warmup=0, total=1000)
    training = Training(model, optimizer, schedule, dtype=torch.bfloat16, place=lay_out)
    model.train()
    return lambda batch: optimizer_step(training, [Batch([], lambda: batch)])


def _rounds(steps: dict[str, Step], batches: list[models.Batch], setting: Setting) -> dict[str, list[float]]:
    """Seconds of each round over all batches; the sides take turns, and each begins every other round."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(WARM_UP + (1 if setting.tiny else ROUNDS)):
        for name in list(steps)[:: 1 if number % 2 else -1]:
            step = steps[name]
            seconds = seconds_of(lambda step=step: [step(batch) for batch in batches], setting)
            if number >= WARM_UP:
                times[name].append(seconds)
    return times


def seconds_of(work: Callable[[], object], setting: Setting) -> float:
    setting.wait()
    started = time.perf_counter()
    work()
    setting.wait()
    return time.perf_counter() - started


def _agreement(ours: Step, theirs: Step, batches: list[models.Batch]) -> float:
    """How far our outputs are from theirs; an error where they disagree."""
    found, expected = (torch.cat([step(batch).float() for batch in batches]) for step in (ours, theirs))
    difference = ((found - expected).norm() / expected.norm()).item()
    if not difference <= AGREEMENT:
        raise AssertionError(f"the outputs differ by {difference:.3g}, more than {AGREEMENT}")
    return difference


def _report(
    case: Case, batches: list[models.Batch], times: dict[str, list[float]], difference: float, peak: float
) -> list[Row]:
    """How many times as fast as transformers, and the share of the card's matrix peak."""
    tokens = sum(map(models.tokens_of, batches))
    work = sum(models.operations(case.size, batch) for batch in batches) * (3 if case.training else 1)
    theirs = times["transformers"]
    rows = []
    for name in FORMS:
        seconds = statistics.median(times[name])
        ratio = statistics.median(their / our for their, our in zip(theirs, times[name], strict=True))
        share = work / seconds / peak
        numbers = {
            "tokens/s": tokens / seconds,
            "transformers tokens/s": tokens / statistics.median(theirs),
            "ms a batch": 1000 * seconds / len(batches),
            "share of the peak": share,
            "difference of outputs": difference,
        }
        speed, peaks = case.goals() if FORMS[name] else (None, None)
        notes = "{tokens/s:,.0f} tokens/s, theirs {transformers tokens/s:,.0f}; {ms a batch:.2f} ms".format(**numbers)
        rows.append(
            Row(f"{case}, {name}: times theirs", ratio, f"{_goal(speed)}{notes}", speed and ratio >= speed, numbers)
        )
        rows.append(Row(f"{case}, {name}: of the peak", share, _goal(peaks), peaks and share >= peaks))
    return rows


def _goal(goal: float | None) -> str:
    return "" if goal is None else f">= {goal:g}  "


def _profile(setting: Setting, case: Case) -> list[Row]:
    """Where training steps spend their time: a table by kernel and one by the processor's time, for each side."""
    theirs, ours = models.pair(case.size, setting)
    batches = case.batches(setting)[:2]
    rows = []
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if setting.device.type == "cuda" else []
    for side, step in {
        "minibert": our_step(accelerate(ours, graphs=True)),
        "transformers": _their_step(theirs, setting),
    }.items():
        for _ in range(4):
            [step(batch) for batch in batches]
        with torch.profiler.profile(activities=activities) as profile:
            [step(batch) for batch in batches]
            setting.wait()
        averages = profile.key_averages()
        kernels = [event for event in averages if event.device_type == torch.autograd.DeviceType.CUDA]
        busy = sum(event.self_device_time_total for event in kernels) / 1000 / len(batches)
        sort = "self_cuda_time_total" if setting.device.type == "cuda" else "self_cpu_time_total"
        text = averages.table(sort_by=sort, row_limit=40) + averages.table(sort_by="self_cpu_time_total", row_limit=40)
        name = f"{case} {side}".replace(",", "").replace(" ", "-")
        (setting.folder / f"{name}.txt").write_text(text, encoding="utf-8")
        rows.append(Row(f"{case}: {side}, ms of kernels a batch", busy))
    return rows
