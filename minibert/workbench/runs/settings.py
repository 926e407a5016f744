"""Settings: everything that decides a run, each declared once.

A field carries its default, its help text and the rule that its value has to keep. The options of
the command line, `--help`, the checks and run.json all derive from the fields: a field that is
added here has an option, `--help` and a check at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

from minibert.io.errors import ConfigError

# Names that options can take. They stand here, and not beside what they name, so that --help need
# not import torch; a test compares the two.
SCHEDULES = ("linear", "cosine", "constant", "exponential")
PRECISIONS = ("auto", "bf16", "fp16", "fp32")
PROBES = ("linear", "logistic")
POOLINGS = ("cls", "mean", "max")
FORMATS = ("csv", "tsv", "jsonl", "parquet", "conll", "squad", "folder")
TAG_SCHEMES = ("iob1", "iob2", "io", "none")
FAULTS = {
    "double-softmax": "the loss applies a softmax to probabilities",
    "sorted-validation": "validation is the end of the sorted training file",
    "last-epoch": "the last epoch is tested, not the best",
    "batch-means": "loss and accuracy are means of batch means",
}


class Rule(NamedTuple):
    """What a value has to be."""

    words: str  # that follow "it must be"
    holds: Callable[[Any], bool]
    choices: Sequence[str] | None = None  # the only values, if they have names


def at_least(least: int) -> Rule:
    return Rule(f"{least} or more", lambda value: value >= least)


def one_of(names: Sequence[str]) -> Rule:
    return Rule(f"one of {', '.join(names)}", lambda value: value in names, names)


POSITIVE = Rule("above 0", lambda value: value > 0)
FRACTION = Rule("above 0 and below 1", lambda value: 0 < value < 1)
FRACTION_OR_0 = Rule("at least 0 and below 1", lambda value: 0 <= value < 1)
FRACTION_OR_1 = Rule("above 0 and at most 1", lambda value: 0 < value <= 1)
SHARE = Rule("from 0 to 1", lambda value: 0 <= value <= 1)
SEED = Rule("from 0 to 2**63 - 1", lambda value: 0 <= value < 2**63)


def setting(group: str, default: Any, help: str, rule: Rule | None = None, metavar: str | None = None) -> Any:
    """A field of a settings class.

    Args:
        group: the heading that its option stands under in --help, see `arguments.GROUPS`.
        default: what it is unless given; MISSING if it has to be given.
        help: what it does, for --help, which adds the default.
        rule: what it has to be, or each item of a list; None is always allowed where it is the
            default.
        metavar: how --help writes its value, unless that is a number.
    """
    metadata = {"group": group, "help": help, "rule": rule, "metavar": metavar}
    return field(default=default, metadata=metadata)


# The groups, by the names that read well before a default.
general = partial(setting, "")
data = partial(setting, "data", metavar="DATA")
reading = partial(setting, "reading", metavar="COLUMN")
training = partial(setting, "training")
probing = partial(setting, "probe")
machine = partial(setting, "run")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How and where a model is trained: what fine-tuning and pre-training have in common."""

    command: ClassVar[str]  # what to type after `minibert` for a run with such settings

    recipe: str | None = general(None, "start from a recipe (see minibert recipes) or a .toml file", metavar="NAME")

    epochs: int = training(3, "passes over the training data", at_least(1))
    batch_size: int = training(32, "texts in a batch", at_least(1))
    accumulate: int = training(1, "batches per update; exact, and saves memory", at_least(1))
    learning_rate: float | None = training(
        None, "peak learning rate (default: 5e-5 for models as wide as BERT-base, more for narrower ones)", FRACTION
    )
    weight_decay: float = training(0.01, "not on biases and layer norms", FRACTION_OR_0)
    warmup: float = training(0.1, "share of all updates in which the learning rate rises", SHARE)
    schedule: str = training("linear", "after the warm-up; exponential: times 0.95 after each epoch", one_of(SCHEDULES))
    clip_norm: float = training(1.0, "largest norm of a gradient", POSITIVE)
    gradient_checkpointing: bool = training(False, "less memory for a third more time")
    on_nonfinite: str = training(
        "stop", "at a loss that is not finite: stop, or skip the step", one_of(("stop", "skip"))
    )
    seed: int = training(0, "for new weights, dropout and data order", SEED)

    output: str | Path | None = machine(None, "run folder (default: the next number in runs/)", metavar="FOLDER")
    save_every: int | None = machine(500, "steps between checkpoints, besides one after each epoch", at_least(1))
    keep: int = machine(2, "checkpoints to keep", at_least(1))
    revision: str | None = machine(None, "branch, tag or commit of the model on the Hub")
    device: str = machine("auto", "auto, cuda, mps or cpu")
    precision: str = machine("auto", "auto: bf16 where it is fast, else fp16 on cuda, else fp32", one_of(PRECISIONS))
    threads: int | None = machine(None, "CPU threads (default: torch's choice)", at_least(1))

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """(key, reason) of each setting that contradicts another, or has no effect beside it."""
        yield from ()

    def changed(self, *keys: str) -> list[str]:
        """Which of these settings differ from their defaults."""
        defaults = {item.name: item.default for item in fields(self)}
        return [key for key in keys if getattr(self, key) != defaults[key]]


_OF_A_PROBE = ("layer", "pooling")
_OF_LAYERS = ("freeze_layers", "layer_decay", "gradient_checkpointing")
_OF_FINE_TUNING = ("freeze", *_OF_LAYERS)
_OF_STEPS = (
    *("epochs", "batch_size", "accumulate", "learning_rate", "weight_decay", "warmup"),
    *("schedule", "clip_norm", "on_nonfinite", "patience", "watch", "save_every", "keep"),
)


@dataclass(frozen=True)
class Settings(TrainingSettings):
    """Everything that decides a run of fine-tuning."""

    command: ClassVar[str] = "train"

    model: str | Path = general(MISSING, "model folder, run folder or Hub id")

    train: str | Path = data(MISSING, "file, folder, Hub data set (owner/name or owner/name:part), or samples")
    validation: str | Path | None = data(None, "chooses the best epoch (default: a share of --train)")
    test: str | Path | None = data(None, "measured once, at the end")
    validation_fraction: float = data(0.1, "share of --train to validate on; whole contexts of questions", FRACTION)
    test_fraction: float | None = data(None, "share of --train to test on; whole contexts of questions", FRACTION)
    train_subset: int | None = data(None, "train on N examples, stratified by class")
    test_subset: int | None = data(None, "test on N examples, stratified by class")
    data_seed: int | None = data(None, "seed for subsets and splits (default: --seed)", SEED)
    max_length: int | None = data(
        None, "tokens per text or window of a context (default: the model's limit)", at_least(3)
    )
    overlap: int | None = data(
        None, "tokens in common between windows of a context (default: 128 or less)", at_least(0)
    )
    allow_data_faults: bool = data(False, "train even if minibert data says that results would be meaningless")

    format: str | None = reading(None, "default: by the name of the file", one_of(FORMATS))
    sep: str | None = reading(None, "what separates columns, such as ';'", metavar="CHAR")
    names: Sequence[str] | None = reading(None, "column names, for a table without a header line")
    quoting: bool | None = reading(
        None, 'treat " as a quote character (default: in .csv files, and in others that are written so)'
    )
    encoding: str | None = reading(None, "of the text, such as windows-1252 (default: utf-8)", metavar="NAME")
    text: str = reading("text", "column with the text")
    text_pair: str | None = reading(None, "column with the second text of a pair")
    label: str | Sequence[str] = reading(
        "label", "column with the label; several: classes, with 0 or 1 for each that applies"
    )
    label_sep: str | None = reading(None, "what separates several labels in one cell, such as ','", metavar="CHAR")
    choices: Sequence[str] | None = reading(
        None, "one column with a list, or several; the label is an index from 0, or the text"
    )
    tag_scheme: str | None = reading(
        None, "how tags encode entities; none: score words (default: as the tags look)", one_of(TAG_SCHEMES)
    )
    part: str = reading("part", "column whose values divide the examples into parts with scores of their own")
    problem_type: str | None = reading(
        None, "such as regression (default: as labels look; whole numbers are classes)", metavar="KIND"
    )
    drop_bad_rows: bool = reading(False, "leave out rows that cannot be used, and say which")

    patience: int | None = training(None, "stop after N epochs without improvement", at_least(1))
    watch: str | None = training(None, "metric that chooses the epoch (default: the task's main one)", metavar="METRIC")
    freeze: bool = training(False, "train the head only")
    freeze_layers: int = training(0, "freeze the embeddings and the N lowest layers", at_least(0))
    layer_decay: float = training(1.0, "learning rate of a layer relative to the layer above it", FRACTION_OR_1)
    class_weights: bool = training(False, "weight classes in the loss by inverse frequency")
    balanced: bool = training(False, "draw every class equally often, repeating rare examples")
    faults: Sequence[str] = training(
        (),
        "a mistake to make on purpose, to measure what it costs; can be repeated. "
        + "; ".join(f"{name}: {what}" for name, what in FAULTS.items()),
        one_of(tuple(FAULTS)),
        metavar="NAME",
    )

    probe: str | None = probing(
        None, "train on features of the frozen model, in steps or by regression", one_of(PROBES)
    )
    layer: int = probing(-1, "0 the embeddings, -1 the last layer")
    pooling: str = probing("cls", "the vector of a text: of [CLS], the mean or the maximum", one_of(POOLINGS))

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.test is not None and self.test_fraction is not None:
            yield "test_fraction", f"test is {self.test}: leave one of the two out"
        if self.validation is not None and self.changed("validation_fraction"):
            yield "validation_fraction", f"validation is {self.validation}: leave one out"
        if self.class_weights and self.balanced:
            yield "balanced", "class_weights is set too, and together they correct twice"
        if self.test_subset is not None and self.test is None and self.test_fraction is None:
            yield "test_subset", "there is no test split to take it from: add --test or --test-fraction"
        for key in self.changed(*(_OF_LAYERS if self.freeze else ())):
            yield key, "freeze freezes all layers: leave one of the two out"
        for key in self.changed(*(_OF_A_PROBE if self.probe is None else ())):
            yield key, "only a probe uses it: leave it out, or add --probe"
        for key in self.changed(*(() if self.probe is None else _OF_FINE_TUNING)):
            yield key, "a probe keeps the whole model frozen: leave one of the two out"
        for key in self.changed(*(_OF_STEPS if self.probe == "logistic" else ())):
            yield key, "logistic regression is not trained in steps: leave it out"


# The settings that `corpora.read` takes.
READING = tuple(item.name for item in fields(Settings) if item.metadata["group"] == "reading")


def check(settings: TrainingSettings) -> None:
    """Refuses settings that no run can have, before a file is opened.

    Raises:
        ConfigError: naming the setting and what it has to be.
    """
    for key, reason in _objections(settings):
        raise ConfigError(f"{key} is {getattr(settings, key)}, but {reason}.", key=key)


def _objections(settings: TrainingSettings) -> Iterator[tuple[str, str]]:
    for item in fields(settings):
        wanted = broken_rule(item, getattr(settings, item.name))
        if wanted is not None:
            yield item.name, f"it must be {wanted}"
    yield from settings.contradictions()


_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "a string"),
    "str | Path": ((str, Path), "a string"),
}


def broken_rule(item: Field[Any], value: Any) -> str | None:
    """What a field's value has to be, in words, where it is not that."""
    kind, rule = type_of(item), item.metadata["rule"]
    if value is None and str(item.type).endswith(" | None"):
        return None
    if isinstance(value, str) and str(item.type).startswith("str | Sequence["):
        value = [value]
    if is_list(item) and not isinstance(value, (list, tuple)):
        return "a list of strings"
    for one in value if is_list(item) else [value]:
        types, words = _TYPES[kind]
        if not isinstance(one, types) or (isinstance(one, bool) and kind != "bool"):
            return words
        if rule is not None and not rule.holds(one):
            return str(rule.words)
    return None


def is_list(item: Field[Any]) -> bool:
    """Whether it takes several values; of those, "str | Sequence[str]" takes one as well."""
    return "Sequence[" in str(item.type)


def type_of(item: Field[Any]) -> str:
    """The annotation of a field, or of each item of its list, without None."""
    return str(item.type).removesuffix(" | None").rpartition("Sequence[")[2].removesuffix("]")


def inputs_of(kind: type[TrainingSettings]) -> list[str]:
    """The settings that name a file or a folder to read, or what stands for one, such as a Hub id."""
    return [item.name for item in fields(kind) if type_of(item) == "str | Path" and item.name != "output"]


S = TypeVar("S", bound=TrainingSettings)


def with_absolute_paths(settings: S) -> S:
    """The settings with the absolute paths of their inputs, so that they hold in any directory."""
    found = {key: getattr(settings, key) for key in inputs_of(type(settings))}
    return replace(settings, **{key: _absolute(value) for key, value in found.items()})


def _absolute(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_absolute(one) for one in value]
    return os.path.abspath(value) if value is not None and os.path.lexists(value) else value


def as_record(settings: TrainingSettings) -> dict[str, Any]:
    """The settings as run.json holds them: paths as texts, and absolute; sequences as lists."""
    values = asdict(with_absolute_paths(settings))
    if settings.output is not None:
        values["output"] = os.path.abspath(settings.output)
    return dict(json.loads(json.dumps(values, default=str)))
