"""Probes: a linear classifier on features of a frozen model, and the two ways to train it.

What a frozen layer knows of a task is what a linear map can read out of it (Alain & Bengio 2016).
`LinearProbe` is the map, from features. `ProbedModel` is frozen model and map in one, from texts;
its folder holds the frozen model as transformers opens it and, beside it, probe.safetensors (weight
and bias) and probe.json (layer, pooling, labels).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from minibert.bert import BertModel
from minibert.config import BertConfig
from minibert.data import plan_batches
from minibert.heads import ClassLoss
from minibert.io import hub
from minibert.io.errors import CheckpointError, ConfigError, TrainingError
from minibert.io.files import inside, read_object, read_tensors, write_json, write_tensors
from minibert.training import Batch
from minibert.workbench.kinds.classes import Classes
from minibert.workbench.kinds.kind import Kind
from minibert.workbench.runs.history import EpochRecord, History, StepRecord
from minibert.workbench.tasks.pooling import SentenceEncoder

RECORD, NUMBERS = "probe.json", "probe.safetensors"


@dataclass(frozen=True)
class ProbeOutput:
    """Logits (B, C), and with labels the terms of the loss."""

    logits: Tensor
    loss_terms: dict[str, tuple[Tensor, float]] = field(default_factory=dict)


class LinearProbe(nn.Module):
    """Features (B, D) -> logits (B, C): one linear map, all that a probe learns.

    Attributes:
        class_loss: the loss that trains it.
    """

    def __init__(self, features: int, classes: int, generator: torch.Generator):
        super().__init__()
        self.linear = nn.Linear(features, classes)
        # As torch draws a linear layer, from a generator of our own.
        bound = 1 / math.sqrt(features)
        nn.init.uniform_(self.linear.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.linear.bias, -bound, bound, generator=generator)
        self.class_loss = ClassLoss()

    def forward(self, features: Tensor, labels: Tensor | None = None) -> ProbeOutput:
        """features (B, D), labels (B,) class numbers."""
        logits = self.linear(features)  # (B, C)
        return ProbeOutput(
            logits, {} if labels is None else {"label": self.class_loss(logits, labels)}
        )

    def count_labels(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        return {"label": self.class_loss.count(inputs["labels"])}


class ProbedModel(nn.Module):
    """A frozen model and a probe on its features: texts in, classes out.

    Attributes:
        config: the frozen model's, with the labels of the probe.
    """

    kind = Classes.problem_type

    def __init__(self, model: BertModel, probe: LinearProbe, layer: int, pooling: str, labels: Any):
        super().__init__()
        model.freeze()
        self.encoder = SentenceEncoder(model, pooling, layer=layer)
        self.probe = probe
        self.config: BertConfig = model.config.replace(
            id2label=dict(enumerate(labels)), problem_type=self.kind
        )
        self.load_report = model.load_report

    @classmethod
    def fresh(
        cls,
        source: str | Path,
        *,
        revision: str | None,
        labels: Any,
        layer: int,
        pooling: str,
        seed: int,
    ) -> Self:
        """A pre-trained model with a probe that has learned nothing yet."""
        model = BertModel.from_pretrained(source, revision=revision)
        generator = torch.Generator().manual_seed(seed)
        probe = LinearProbe(model.config.hidden_size, len(labels), generator)
        return cls(model, probe, layer, pooling, labels)

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None) -> Self:
        """Opens what `save_pretrained` wrote.

        Raises:
            CheckpointError: a file is missing or damaged, or the probe does not fit the model.
        """
        folder = hub.resolve(source, ("config.json", RECORD, NUMBERS), revision=revision).folder
        path = inside(folder, RECORD)
        record = read_object(path)
        labels, layer, pooling = (record.get(key) for key in ("labels", "layer", "pooling"))
        names = labels if isinstance(labels, list) else []
        if not names or not all(isinstance(name, str) for name in names) or type(layer) is not int:
            raise CheckpointError(f"{path} does not name layer and labels.", path=path)
        model = BertModel.from_pretrained(source, revision=revision)
        probe = LinearProbe(model.config.hidden_size, len(names), torch.Generator())
        tensors = read_tensors(inside(folder, NUMBERS))
        wanted = {name: tuple(tensor.shape) for name, tensor in probe.linear.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if wanted != found:
            raise CheckpointError(
                f"{folder / NUMBERS} holds {found}, but the model and {RECORD} need {wanted}.",
                path=folder / NUMBERS,
            )
        probe.linear.load_state_dict(tensors)
        return cls(model, probe, layer, str(pooling), names)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the frozen model and the probe."""
        folder = Path(folder)
        self.encoder.model.save_pretrained(folder)
        write_tensors(folder / NUMBERS, self.probe.linear.state_dict())
        record = {
            "layer": self.encoder.layer,
            "pooling": self.encoder.pooling,
            "labels": [self.config.id2label[number] for number in range(self.config.num_labels)],
        }
        write_json(folder / RECORD, record)

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> ProbeOutput:
        """Inputs as for BertModel, with their layout; labels (B,)."""
        return self.probe(self.encoder(**inputs).logits, labels)

    def count_labels(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        return self.probe.count_labels(inputs)


def is_probe(source: str | Path, revision: str | None = None) -> bool:
    """Whether a folder or Hub id holds a probe."""
    folder = hub.resolve(source, ("config.json", RECORD), revision=revision).folder
    return inside(folder, RECORD).exists()


def feature_batches(
    features: Tensor, labels: Tensor, rows: list[int] | None = None, **plan: Any
) -> list[Batch]:
    """Batches of features (examples, D) with labels (examples,); `plan` goes to `plan_batches`."""
    rows = list(range(len(features))) if rows is None else rows

    def load(chosen: Sequence[int]) -> dict[str, Tensor]:
        return {"features": features[chosen], "labels": labels[chosen]}

    return [
        Batch(chosen, partial(load, chosen), len(chosen))
        for places in plan_batches([1] * len(rows), **plan)
        for chosen in [[rows[place] for place in places]]
    ]


def fit_logistic(
    probe: LinearProbe,
    features: Tensor,
    labels: Tensor,
    *,
    c: float = 1.0,
    tolerance: float = 1e-7,
    most_steps: int = 5000,
    measure: Callable[[], dict[str, float]] = dict,
) -> History:
    """Logistic regression by L-BFGS, in double precision, until nothing moves any more.

    The smallest sum of losses + |W|^2 / (2 c), biases left out of the penalty: scikit-learn's
    LogisticRegression with its C = c. (Liu & Nocedal 1989, algorithm 2.1; the steps that it takes
    differ, the minimum is one.) For two classes it has a single vector w, the difference of the
    two here, which at the minimum are w / 2 and -w / 2: the penalty then counts twice, to be |w|^2
    / (2 c) as well.

    Args:
        features, labels: (examples, D) and (examples,).
        tolerance: the greatest slope of the objective, divided by the number of examples, at which
            it is done.
        measure: gives the metrics of the one epoch of the history.

    Raises:
        TrainingError: the loss is not finite, or there is no minimum within `most_steps`.
    """
    linear, size = probe.linear.double(), len(labels)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    # One place of BERT's vectors can be ten times as large as all others, and L-BFGS then takes
    # thousands of steps. It works on centred features of like spread instead; the objective stays
    # that of the features as they are, since W x + b = (W s) ((x - m) / s) + (b + W m).
    features = features.double()  # (examples, D)
    centre = features.mean(dim=0)  # (D,)
    spread = (features.var(dim=0, correction=0) + 1 / (c * size)).sqrt()  # (D,)
    features = (features - centre) / spread  # (examples, D)
    weight_of_penalty = (2 if len(linear.bias) == 2 else 1) / (2 * c)
    # torch's own rules for stopping are off: they end on small changes, far from a flat minimum.
    optimizer = torch.optim.LBFGS(
        linear.parameters(),
        max_iter=1,
        max_eval=25,
        history_size=20,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    evaluations: list[tuple[float, float]] = []  # of one step: the first is where it starts

    def objective() -> Tensor:
        optimizer.zero_grad()
        total, _ = probe.class_loss(linear(features), labels)  # ()
        penalty = weight_of_penalty * (linear.weight / spread).square().sum()  # ()
        loss = (total + penalty) / size  # ()
        loss.backward()
        slope = max(part.grad.abs().max().item() for part in linear.parameters())  # type: ignore
        evaluations.append((loss.item(), slope))
        return loss

    history = History(best_epoch=1)
    started = step_started = time.perf_counter()
    for step in range(1, most_steps + 1):
        evaluations.clear()
        optimizer.step(objective)
        loss, slope = evaluations[0]
        if not math.isfinite(loss + slope):
            raise TrainingError(f"Step {step}: the loss is {loss}.", key="loss")
        now = time.perf_counter()
        speed = size / max(now - step_started, 1e-9)
        record = StepRecord(step, 1, loss, 1.0, slope, size, speed, skipped=False)
        step_started = now
        history.steps.append(record)
        if slope <= tolerance:
            break
    else:
        raise TrainingError(
            f"Logistic regression found no minimum in {most_steps} steps: its slope is still "
            f"{slope:.1e}.",
            key="slope",
        )
    with torch.no_grad():
        linear.weight.div_(spread)  # (C, D)
        linear.bias.sub_(linear.weight @ centre)  # (C,)
    probe.float()
    history.seconds = time.perf_counter() - started
    epoch = EpochRecord(1, loss, history.seconds, step * size, measure(), best=True)
    history.epochs.append(epoch)
    return history


def require_classes(kind: Kind) -> None:
    """Raises ConfigError unless each text has one class."""
    if not kind.one_class:
        raise ConfigError(
            f"A probe predicts one class for each text, and these labels are for "
            f"{kind.problem_type}.",
            key="probe",
        )
