"""Settings: everything that decides a run, and the rules that they have to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from minibert.io.errors import ConfigError
from minibert.workbench.tasks.faults import require_known
from minibert.workbench.data.tag_schemes import TAG_SCHEMES
from minibert.optim import SCHEDULES

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


Rules = dict[str, tuple[bool, str]]  # key -> whether its value keeps the rule, and the rule


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a model is trained and where: what fine-tuning and pre-training have in common.

    Attributes:
        command: what to type after `minibert` for a run with such settings.
        output: the run folder; None: the next free number in runs/.
        revision: of the model on the Hub: a branch, tag or commit.
        validation_fraction: of the training data, put aside where there is no validation data.
        epochs, batch_size, accumulate: an update sees batch_size * accumulate rows.
        learning_rate, weight_decay, warmup, schedule, clip_norm: of AdamW; `warmup` is the share of
            all updates over which the rate rises.
        gradient_checkpointing: less memory for a third more time.
        precision, device, seed, threads: how and where; None threads: torch's own choice.
        save_every: optimizer steps between two checkpoints, beside the one at each epoch's end;
            None: those alone.
        keep: how many checkpoints stay.
        on_nonfinite: "stop" at a loss that is no longer finite, or "skip" the step.
        recipe: the recipe that these settings came from, for the record.
    """

    command: ClassVar[str]

    output: str | Path | None = None
    revision: str | None = None
    validation_fraction: float = 0.1
    epochs: int = 3
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: str = "linear"
    clip_norm: float = 1.0
    gradient_checkpointing: bool = False
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0
    threads: int | None = None
    save_every: int | None = 500
    keep: int = 2
    on_nonfinite: str = "stop"
    recipe: str | None = None

    def rules(self) -> Rules:
        """What every value has to be."""
        return {
            "validation_fraction": (0 < self.validation_fraction < 1, "above 0 and below 1"),
            "epochs": (self.epochs >= 1, "1 or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "accumulate": (self.accumulate >= 1, "1 or more"),
            "learning_rate": (0 < self.learning_rate < 1, "above 0 and below 1"),
            "weight_decay": (0 <= self.weight_decay < 1, "from 0 to 1"),
            "warmup": (0 <= self.warmup <= 1, "a share of all updates, from 0 to 1"),
            "schedule": (self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            "clip_norm": (self.clip_norm > 0, "above 0"),
            "seed": (0 <= self.seed < 2**63, "from 0 to 2**63 - 1"),
            "threads": (self.threads is None or self.threads >= 1, "1 or more"),
            "save_every": (self.save_every is None or self.save_every >= 1, "1 or more"),
            "keep": (self.keep >= 1, "1 or more"),
            "on_nonfinite": (self.on_nonfinite in ("stop", "skip"), "stop or skip"),
        }

    def refuse_contradictions(self) -> None:
        """Raises ConfigError for settings that are each right, but not together."""


@dataclass(frozen=True)
class Settings(TrainingSettings):
    """Everything that decides a run of fine-tuning; the command line has an option for each.

    Attributes:
        model: a model folder, a run folder, or a Hub id.
        train, validation, test: data files, or folders (aclImdb) and Hub data sets that have parts
            of these names. Without `validation` a stratified share of the training data,
            `validation_fraction`, is put aside for it. `test` is measured once, at the end, with
            the best epoch's weights.
        format, sep, names, quoting, text, text_pair, label, choices, tag_scheme, problem_type: see
            `corpora.read`.
        test_fraction: of the training data, put aside as the test split where there is no `test`.
        train_subset, test_subset: so many examples only, drawn with each class's share kept.
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
        allow_data_faults: train on data in which `text.checks` found a fault that makes the result
            meaningless.
        faults: mistakes of others to make on purpose, to measure what they cost (see faults.py).
        data_seed: draws the subsets and the validation split; None: `seed` does. Fixed, it lets
            runs with other seeds train and validate on the same examples.
    """

    command: ClassVar[str] = "train"

    model: str | Path
    train: str | Path
    validation: str | Path | None = None
    test: str | Path | None = None
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
    test_fraction: float | None = None
    train_subset: int | None = None
    test_subset: int | None = None
    max_length: int | None = None
    overlap: int | None = None
    patience: int | None = None
    watch: str | None = None
    freeze: bool = False
    class_weights: bool = False
    balanced: bool = False
    layer_decay: float = 1.0
    freeze_layers: int = 0
    probe: str | None = None
    layer: int = -1
    pooling: str = "cls"
    allow_data_faults: bool = False
    faults: Sequence[str] = ()
    data_seed: int | None = None

    def rules(self) -> Rules:
        fraction, data_seed = self.test_fraction, self.data_seed
        return {
            **super().rules(),
            "test_fraction": (fraction is None or 0 < fraction < 1, "above 0 and below 1"),
            "tag_scheme": (
                self.tag_scheme in (None, *TAG_SCHEMES),
                f"one of {', '.join(TAG_SCHEMES)}",
            ),
            "overlap": (self.overlap is None or self.overlap >= 0, "0 or more"),
            "patience": (self.patience is None or self.patience >= 1, "1 or more"),
            "max_length": (self.max_length is None or self.max_length >= 3, "3 or more"),
            "data_seed": (data_seed is None or 0 <= data_seed < 2**63, "from 0 to 2**63 - 1"),
            "layer_decay": (0 < self.layer_decay <= 1, "above 0 and at most 1"),
            "freeze_layers": (self.freeze_layers >= 0, "0 or more"),
            "probe": (self.probe in (None, *PROBES), f"one of {', '.join(PROBES)}"),
            "pooling": (self.pooling in POOLINGS, f"one of {', '.join(POOLINGS)}"),
        }

    def refuse_contradictions(self) -> None:
        require_known(self.faults)
        if self.test_fraction is not None and self.test is not None:
            raise ConfigError(
                f"test is {self.test} and test_fraction {self.test_fraction}: say one of them.",
                key="test_fraction",
            )
        if self.class_weights and self.balanced:
            raise ConfigError(
                "class_weights and balanced each make up for unequal classes, and together they "
                "turn the balance round.",
                key="balanced",
                hint="Leave one of the two out.",
            )
        for key, usual in (("freeze", False), ("freeze_layers", 0), ("layer_decay", 1.0)):
            if self.probe is not None and getattr(self, key) != usual:
                raise ConfigError(
                    f"{key} is {getattr(self, key)}, but a probe keeps the whole model frozen.",
                    key=key,
                    hint="Leave it out, or fine-tune without --probe.",
                )


def as_record(settings: TrainingSettings) -> dict[str, Any]:
    """The settings as run.json holds them: paths as texts, sequences as lists."""
    return {key: _plain(value) for key, value in asdict(settings).items()}


def check(settings: TrainingSettings) -> None:
    """Refuses settings that no run can have, before a file is opened.

    Raises:
        ConfigError: naming the setting and what it has to be.
    """
    settings.refuse_contradictions()
    for key, (holds, expected) in settings.rules().items():
        if not holds:
            value = getattr(settings, key)
            raise ConfigError(
                f"{key} is {value}, but it must be {expected}.",
                key=key,
            )


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
