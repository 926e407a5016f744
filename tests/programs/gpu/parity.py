"""Every head beside transformers with tiny random weights, and fp16 through an overflow."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from minibert.fast.accelerate import accelerate
from minibert.fast.precision import DTYPES
from minibert.io.device import move
from minibert.optim import Schedule, build_optimizer, parameter_groups
from minibert.training import Batch, Training, optimizer_step
from minibert.workbench.runs.together import lay_out
from tests.conftest import BOUNDS
from tests.lesson import reference as ref
from tests.programs.gpu.table import Check, Row, Setting, at_most

SCALE = 256.0  # of the loss, so that small gradients do not vanish in fp16
FORMS: dict[str, Callable[[Any], Any]] = {"lesson": lambda model: model, "accelerated": accelerate}


def checks(setting: Setting) -> Iterator[Check]:
    for precision in DTYPES:
        for form in FORMS:
            yield f"{form} {precision}", partial(_heads, setting, precision, form)
    yield "fp16 overflow", partial(_overflow, setting)


def _heads(setting: Setting, precision: str, form: str) -> list[Row]:
    """In fp32 the worst head; in 16 bits, where one ReLU may flip, the geometric mean of all."""
    dtype = DTYPES[precision]
    found: dict[str, dict[str, float]] = {"outputs": {}, "gradients": {}}
    for family, name in ref.CASES:
        theirs, ours = ref.pair(family, name, torch.float32)
        inputs = move(ref.batch(family, name), setting.device)
        models = [model.to(setting.device) for model in (copy.deepcopy(theirs).double(), theirs, FORMS[form](ours))]
        passes = [
            _outputs(model, name, inputs, setting.device, None if number == 0 else dtype)
            for number, model in enumerate(models)
        ]
        gradients = ref.gradients(models[1], models[2])
        exact = {key: value.grad for key, value in models[0].named_parameters() if key in gradients}
        sides = [{key: side[number] for key, side in gradients.items()} for number in (0, 1)]
        for part, (right, their, our) in {"outputs": passes, "gradients": [exact, *sides]}.items():
            size = _error(their, right) if dtype else _norm(their)
            found[part][f"{family} {name}"] = _error(our, right if dtype else their) / size
    rows = []
    for part, errors in found.items():
        head, worst = max(errors.items(), key=lambda item: item[1])
        if dtype is None:
            row = at_most(f"{form} {precision} {part}", worst, BOUNDS["gradient fp32"])
            note = "the norm of the difference from theirs over the norm"
        else:
            mean = statistics.geometric_mean(errors.values())
            row = at_most(f"{form} {precision} {part}", mean, BOUNDS["model bf16 ratio"])
            note = "times their error against fp64"
        rows.append(replace(row, bound=f"{row.bound} {note}; worst {worst:.2g}, {head}", numbers=errors))
    return rows


def _outputs(
    model: Any, name: str, inputs: dict[str, Tensor], device: torch.device, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """Everything that a pass returns; its gradients are in the model."""
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        result = ref.run(model, inputs)
    with torch.device(device):
        loss = ref.loss_of(name, result, inputs)
    (SCALE * loss).backward()
    return {key: value.detach() for key, value in ref.outputs(name, result, inputs).items()}


def _error(found: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> float:
    """The norm of the difference over all tensors together."""
    return _norm({key: found[key].double() - value.double() for key, value in exact.items()})


def _norm(values: Mapping[str, Tensor]) -> float:
    return sum(value.double().square().sum().item() for value in values.values()) ** 0.5


def _overflow(setting: Setting) -> list[Row]:
    """A step that overflows changes nothing but the scale, and the training resumes."""
    name = "BertForSequenceClassification"
    _, model = ref.pair("bert", name, torch.float32)
    model = accelerate(model.to(setting.device))
    optimizer = build_optimizer(parameter_groups(model.named_parameters(), weight_decay=0.01), learning_rate=1e-3)
    schedule = Schedule(optimizer, "constant", warmup=0, total=100)
    training = Training(model, optimizer, schedule, dtype=torch.float16, place=lay_out)
    training.scaler = torch.amp.GradScaler(setting.device.type, init_scale=2.0**60)
    window = [Batch(range(ref.B), partial(ref.batch, "bert", name), 13)]
    before = copy.deepcopy(model.state_dict())
    model.train()
    first = optimizer_step(training, window)
    same = all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    fell = training.scaler.get_scale() < 2.0**60 and schedule.updates == 0
    training.scaler.update(1024.0)
    steps = [optimizer_step(training, window) for _ in range(10)]
    resumed = not any(step.skipped for step in steps) and steps[-1].terms.mean() < steps[0].terms.mean()
    return [
        Row(
            "fp16 overflow: the step is skipped and changes nothing",
            str(first.skipped and same),
            "",
            first.skipped and same,
        ),
        Row("fp16 overflow: the scale falls, the schedule waits", str(fell), "", fell),
        Row("fp16 overflow: the training resumes and the loss falls", str(resumed), "", resumed),
    ]
