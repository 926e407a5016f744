"""Settings: everything that decides a run, and the rules that they have to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minibert.errors import ConfigError
from minibert.tasks.faults import require_known
from minibert.text.tag_schemes import TAG_SCHEMES
from minibert.training.optim import SCHEDULES

PROBES = ("linear", "logistic")
POOLINGS = ("cls", "mean", "max")
# The settings that `corpora.read` takes.
READING = (
    "format",
    "sep",
    "names",
    "quoting",
    "text",
    "text_pair",
    "label",
    "choices",
    "tag_scheme",
    "problem_type",
)


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run; the command line has an option for each.

    Attributes:
        model: a model folder, a run folder, or a Hub id.
        train, validation, test: data files, or folders (aclImdb) and Hub data sets that have parts
            of these names. Without `validation` a stratified share of the training data,
            `validation_fraction`, is put aside for it. `test` is measured once, at the end, with
            the best epoch's weights.
        output: the run folder; None: the next free number in runs/.
        revision: of the model on the Hub: a branch, tag or commit.
        format, sep, names, quoting, text, text_pair, label, choices, tag_scheme, problem_type: see
            `corpora.read`.
        test_fraction: of the training data, put aside as the test split where there is no `test`.
        train_subset, test_subset: so many examples only, drawn with each class's share kept.
        epochs, batch_size, accumulate: an update sees batch_size * accumulate examples.
        learning_rate, weight_decay, warmup, schedule, clip_norm: of AdamW; `warmup` is the share of
            all updates over which the rate rises.
        max_length: texts are cut to so many tokens, in the run and by the model that it saves;
            None: as many as the model takes. Contexts of questions are not cut but read in windows.
        overlap: tokens that two windows share; None: see `text.windows`.
        patience: stop after so many epochs without a gain on validation; None: never.
        watch: the validation metric that chooses the epoch; None: the main one of the task.
        freeze: train the head alone.
        class_weights: weigh each class in the loss by the inverse of its share.
        balanced: draw every class equally often in an epoch, rare examples several times.
        layer_decay: the learning rate of each layer over that of the layer above it; 1: all alike.
        freeze_layers: keep the embeddings and so many of the lowest layers as they were.
        probe: train on features of the frozen model alone: "linear" (AdamW on a linear layer) or
            "logistic" (logistic regression by L-BFGS); None: fine-tune.
        layer, pooling: of the features of a probe: which hidden state (0 the embeddings, -1 the
            last layer) and how its rows become one vector ("cls", "mean", "max").
        save_every: optimizer steps between two checkpoints, beside the one at each epoch's end;
            None: those alone.
        keep: how many checkpoints stay.
        on_nonfinite: "stop" at a loss that is no longer finite, or "skip" the step.
        allow_data_faults: train on data in which `text.checks` found a fault that makes the result
            meaningless.
        faults: mistakes of others to make on purpose, to measure what they cost (see faults.py).
        recipe: the recipe that these settings came from, for the record.
        gradient_checkpointing: less memory for a third more time.
        precision, device, seed, threads: how and where; None threads: torch's own choice.
        data_seed: draws the subsets and the validation split; None: `seed` does. Fixed, it lets
            runs with other seeds train and validate on the same examples.
    """

    model: str | Path
    train: str | Path
    validation: str | Path | None = None
    test: str | Path | None = None
    output: str | Path | None = None
    revision: str | None = None
    format: str | None = None
    sep: str | None = None
    names: Sequence[str] | None = None
    quoting: bool | None = None
    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    choices: Sequence[str] | None = None
    tag_scheme: str | None = None
    problem_type: str | None = None
    validation_fraction: float = 0.1
    test_fraction: float | None = None
    train_subset: int | None = None
    test_subset: int | None = None
    epochs: int = 3
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: str = "linear"
    clip_norm: float = 1.0
    max_length: int | None = None
    overlap: int | None = None
    patience: int | None = None
    watch: str | None = None
    freeze: bool = False
    gradient_checkpointing: bool = False
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0
    threads: int | None = None
    class_weights: bool = False
    balanced: bool = False
    layer_decay: float = 1.0
    freeze_layers: int = 0
    probe: str | None = None
    layer: int = -1
    pooling: str = "cls"
    save_every: int | None = 500
    keep: int = 2
    on_nonfinite: str = "stop"
    allow_data_faults: bool = False
    faults: Sequence[str] = ()
    recipe: str | None = None
    data_seed: int | None = None


def as_record(settings: Settings) -> dict[str, Any]:
    """The settings as run.json holds them: paths as texts, sequences as lists."""
    return {
        key: str(value)
        if isinstance(value, Path)
        else list(value)
        if isinstance(value, tuple)
        else value
        for key, value in asdict(settings).items()
    }


def check(settings: Settings) -> None:
    """Refuses settings that no run can have, before a file is opened."""
    require_known(settings.faults)
    rules = {
        "epochs": (settings.epochs >= 1, "1 or more"),
        "batch_size": (settings.batch_size >= 1, "1 or more"),
        "accumulate": (settings.accumulate >= 1, "1 or more"),
        "learning_rate": (0 < settings.learning_rate < 1, "above 0 and below 1"),
        "weight_decay": (0 <= settings.weight_decay < 1, "from 0 to 1"),
        "warmup": (0 <= settings.warmup <= 1, "a share of all updates, from 0 to 1"),
        "schedule": (settings.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
        "clip_norm": (settings.clip_norm > 0, "above 0"),
        "validation_fraction": (0 < settings.validation_fraction < 1, "above 0 and below 1"),
        "test_fraction": (
            settings.test_fraction is None or 0 < settings.test_fraction < 1,
            "above 0 and below 1",
        ),
        "tag_scheme": (
            settings.tag_scheme in (None, *TAG_SCHEMES),
            f"one of {', '.join(TAG_SCHEMES)}",
        ),
        "overlap": (settings.overlap is None or settings.overlap >= 0, "0 or more"),
        "threads": (settings.threads is None or settings.threads >= 1, "1 or more"),
        "patience": (settings.patience is None or settings.patience >= 1, "1 or more"),
        "max_length": (settings.max_length is None or settings.max_length >= 3, "3 or more"),
        "seed": (0 <= settings.seed < 2**63, "from 0 to 2**63 - 1"),
        "data_seed": (
            settings.data_seed is None or 0 <= settings.data_seed < 2**63,
            "from 0 to 2**63 - 1",
        ),
        "layer_decay": (0 < settings.layer_decay <= 1, "above 0 and at most 1"),
        "freeze_layers": (settings.freeze_layers >= 0, "0 or more"),
        "probe": (settings.probe in (None, *PROBES), f"one of {', '.join(PROBES)}"),
        "pooling": (settings.pooling in POOLINGS, f"one of {', '.join(POOLINGS)}"),
        "save_every": (settings.save_every is None or settings.save_every >= 1, "1 or more"),
        "keep": (settings.keep >= 1, "1 or more"),
        "on_nonfinite": (settings.on_nonfinite in ("stop", "skip"), "stop or skip"),
    }
    if settings.test_fraction is not None and settings.test is not None:
        raise ConfigError(
            f"test is {settings.test} and test_fraction {settings.test_fraction}: say one of them.",
            key="test_fraction",
            found=settings.test_fraction,
        )
    for key, usual in (("freeze", False), ("freeze_layers", 0), ("layer_decay", 1.0)):
        if settings.probe is not None and getattr(settings, key) != usual:
            raise ConfigError(
                f"{key} is {getattr(settings, key)}, but a probe keeps the whole model frozen.",
                key=key,
                expected=usual,
                found=getattr(settings, key),
                hint="Leave it out, or fine-tune without --probe.",
            )
    for key, (holds, expected) in rules.items():
        if not holds:
            value = getattr(settings, key)
            raise ConfigError(
                f"{key} is {value}, but it must be {expected}.",
                key=key,
                expected=expected,
                found=value,
            )
