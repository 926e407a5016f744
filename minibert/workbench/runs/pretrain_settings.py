"""Settings of pre-training: everything that decides how a BERT is made from plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from minibert.workbench.runs.settings import (
    FRACTION,
    FRACTION_OR_0,
    FRACTION_OR_1,
    TrainingSettings,
    at_least,
    data,
    one_of,
    setting,
    training,
)

OBJECTIVES = ("mlm", "mlm+nsp")

# The sizes of a freshly initialised model, unless given; F is 4 * D.
LAYERS, HIDDEN_SIZE, HEADS = 4, 256, 4
VOCABULARY_SIZE = 8000
# The settings of a new vocabulary and of a freshly initialised model.
NEW_VOCABULARY = ("vocabulary_size", "cased")
SIZES = ("layers", "hidden_size", "heads", "intermediate_size", "dropout")
NEW_MODEL = ("vocabulary", *SIZES, *NEW_VOCABULARY)

network = partial(setting, "model", metavar="MODEL")
text = partial(data, metavar="TEXT")


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(TrainingSettings):
    """Everything that decides a run of pre-training."""

    command: ClassVar[str] = "pretrain"

    corpus: Sequence[str | Path] = text(
        MISSING,
        "files (.txt: one document; .jsonl, .csv and other tables: one per row; also .gz), "
        "folders of .txt and .jsonl, or "
        "installed-docs: the docstrings of Python, numpy and torch on this machine",
    )
    validation: Sequence[str | Path] | None = text(
        None, "text to measure on (default: a share of the documents of --corpus)"
    )
    validation_fraction: float = data(0.02, "share of the documents to measure on", FRACTION)
    column: str = data("text", "column of the text in tables", metavar="COLUMN")
    max_length: int = data(128, "tokens per row, packed full; 64 is better for a new model at first", at_least(8))

    model: str | Path | None = network(None, "continue from a model folder, run folder or Hub id, with its vocabulary")
    vocabulary: str | Path | None = network(None, "take the vocabulary of this model (default: train one on the text)")
    vocabulary_size: int | None = network(None, f"pieces of a new vocabulary (default: {VOCABULARY_SIZE})", at_least(6))
    cased: bool = network(False, "keep capitals and accents in a new vocabulary")
    layers: int | None = network(None, f"number of layers (default: {LAYERS})", at_least(1))
    hidden_size: int | None = network(None, f"size of a hidden state (default: {HIDDEN_SIZE})", at_least(1))
    heads: int | None = network(None, f"attention heads (default: {HEADS})", at_least(1))
    intermediate_size: int | None = network(None, "of the feed-forward network (default: 4 * hidden size)", at_least(1))
    max_positions: int | None = network(None, "longest text of the model (default: --max-length, or that of --model)")
    dropout: float | None = network(None, "dropout rate everywhere (default: 0.1)", FRACTION_OR_0)

    objective: str = training("mlm+nsp", "masked LM alone, or with next-sentence prediction", one_of(OBJECTIVES))
    mask_share: float = training(0.15, "share of the tokens to mask", FRACTION)
    whole_words: bool = training(False, "mask all pieces of a word together")
    epoch_share: float = training(1.0, "share of the batches to train on in each epoch", FRACTION_OR_1)
    batch_size: int = training(32, "full rows per batch; more rows if they are short", at_least(1))
    learning_rate: float = training(5e-4, "peak learning rate; with --model, 5e-5 is common", FRACTION)

    @property
    def next_sentence(self) -> bool:
        return self.objective == "mlm+nsp"

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if not self.corpus:
            yield "corpus", "it must name at least one text"
        width, heads = self.hidden_size or HIDDEN_SIZE, self.heads or HEADS
        if width % heads:
            default = "" if self.hidden_size else f" (the default is {HIDDEN_SIZE})"
            yield "hidden_size", f"it must be a multiple of heads, {heads}{default}"
        if self.max_positions is not None and self.max_positions < self.max_length:
            yield "max_positions", f"it must be max_length, {self.max_length}, or more"
        for key in self.changed(*(NEW_MODEL if self.model is not None else ())):
            yield key, f"model is {self.model}, which has its own: leave one of the two out"
        for key in self.changed(*(NEW_VOCABULARY if self.vocabulary is not None else ())):
            yield key, f"vocabulary is {self.vocabulary}: leave one of the two out"
        if self.validation is not None and self.changed("validation_fraction"):
            yield "validation_fraction", "validation is given: leave one of the two out"
        if self.revision is not None and self.model is None and self.vocabulary is None:
            yield "revision", "no model is given that it could be of"
