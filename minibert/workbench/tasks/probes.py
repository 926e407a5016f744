"""Probes: a linear classifier on features of a frozen model.

What a frozen layer knows of a task is what a linear map can read out of it (Alain & Bengio 2016).
`LinearProbe` is the map, from features. `ProbedModel` is the frozen model and the map in one, from
texts; its folder holds the frozen model as transformers opens it, and beside it probe.safetensors
(weight and bias) and probe.json (layer, pooling, labels).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from minibert.bert import BertModel
from minibert.config import BertConfig
from minibert.heads import ClassLoss
from minibert.io.errors import CheckpointError, ConfigError
from minibert.io.files import read_object, read_tensors, write_json, write_tensors
from minibert.io.source import Source, open_source
from minibert.training import Batch
from minibert.workbench.kinds.classes import Classes
from minibert.workbench.kinds.kind import Kind
from minibert.workbench.tasks.common import batches_of
from minibert.workbench.tasks.pooling import Output, SentenceEncoder

RECORD, NUMBERS = "probe.json", "probe.safetensors"


class LinearProbe(nn.Module):
    """Features (B, D) -> logits (B, C): one linear map.

    Attributes:
        class_loss: the loss that trains it.
    """

    def __init__(self, features: int, classes: int, generator: torch.Generator):
        super().__init__()
        self.linear = nn.Linear(features, classes)
        # torch's own rule for linear layers, with a generator.
        bound = 1 / math.sqrt(features)
        nn.init.uniform_(self.linear.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.linear.bias, -bound, bound, generator=generator)
        self.class_loss = ClassLoss()

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Output:
        """features (B, D), labels (B,) class numbers."""
        logits = self.linear(features)  # (B, C)
        return Output(logits, {} if labels is None else {"label": self.class_loss(logits, labels)})

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
        self.config: BertConfig = model.config.replace(id2label=dict(enumerate(labels)), problem_type=self.kind)
        self.load_report = model.load_report

    @classmethod
    def fresh(cls, source: Source, *, labels: Any, layer: int, pooling: str, seed: int) -> Self:
        """A pre-trained model with a freshly initialised probe."""
        model = BertModel.from_pretrained(source)
        generator = torch.Generator().manual_seed(seed)
        probe = LinearProbe(model.config.hidden_size, len(labels), generator)
        return cls(model, probe, layer, pooling, labels)

    @classmethod
    def from_pretrained(cls, source: str | Path | Source, *, revision: str | None = None) -> Self:
        """Opens what `save_pretrained` wrote.

        Raises:
            CheckpointError: a file is missing or damaged, or the probe does not fit the model.
        """
        source = open_source(source, revision, ("config.json", RECORD, NUMBERS))
        path = source.path(RECORD)
        record = read_object(path)
        labels, layer, pooling = (record.get(key) for key in ("labels", "layer", "pooling"))
        names = labels if isinstance(labels, list) else []
        if not names or not all(isinstance(name, str) for name in names) or type(layer) is not int:
            raise CheckpointError(f"{path} does not name layer and labels.", path=path)
        model = BertModel.from_pretrained(source)
        probe = LinearProbe(model.config.hidden_size, len(names), torch.Generator())
        tensors = read_tensors(source.path(NUMBERS))
        wanted = {name: tuple(tensor.shape) for name, tensor in probe.linear.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if wanted != found:
            raise CheckpointError(
                f"{source.path(NUMBERS)} holds {found}, but the model and {RECORD} need {wanted}.",
                path=source.path(NUMBERS),
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

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> Output:
        """Inputs as for BertModel, with their layout; labels (B,)."""
        return self.probe(self.encoder(**inputs).logits, labels)

    def count_labels(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        return self.probe.count_labels(inputs)


def is_probe(source: Source) -> bool:
    """Whether a model comes with a probe."""
    source.fetch("config.json", RECORD)  # the first is in every repository
    return source.path(RECORD).exists()


def feature_batches(features: Tensor, labels: Tensor, rows: Sequence[int] | None = None, **plan: Any) -> list[Batch]:
    """Batches of features (examples, D) with labels (examples,); `plan` goes to `plan_batches`."""

    def load(chosen: Sequence[int]) -> dict[str, Tensor]:
        return {"features": features[chosen], "labels": labels[chosen]}

    return batches_of([1] * len(features), load, rows, **plan)


def require_classes(kind: Kind) -> None:
    """Raises ConfigError unless each text has one class."""
    if not kind.one_class:
        raise ConfigError(
            f"A probe predicts one class for each text, and these labels are for {kind.problem_type}.", key="probe"
        )
