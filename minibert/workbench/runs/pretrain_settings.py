"""Settings of pre-training: everything that decides a run, and the rules that they have to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from minibert.io.errors import ConfigError
from minibert.workbench.runs.settings import Rules, TrainingSettings

OBJECTIVES = ("mlm", "mlm+nsp")

# The sizes of a model that is drawn anew, where nothing else is said; F is 4 * D.
LAYERS, HIDDEN_SIZE, HEADS = 4, 256, 4
VOCABULARY_SIZE = 8000
# The settings of a vocabulary that is made of the text, and of a model that is drawn anew.
MADE = ("vocabulary_size", "cased")
_SIZES = ("layers", "hidden_size", "heads", "intermediate_size")
DRAWN = ("vocabulary", *_SIZES, "dropout", *MADE)


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(TrainingSettings):
    """Everything that decides a run of pre-training; the command line has an option for each.

    Attributes:
        corpus: text files, folders of them, or "installed-docs"; see `text.documents`.
        validation: the same, to measure on; None: `validation_fraction` of the documents, held out.
        column: the key of the text in .jsonl files.
        model: a model folder, run folder or Hub id to go on from; None: a model drawn anew.
        vocabulary: a model to take the vocabulary from; None: one is made of the training text.
        vocabulary_size, cased: of a vocabulary that is made; None: 8000, and in lower case.
        objective: "mlm", or "mlm+nsp" with next-sentence prediction.
        layers, hidden_size, heads, intermediate_size: L, D, N, F of a model that is drawn anew.
        max_positions: the longest row that it will ever take. A model to go on from gets more
            positions, see `with_positions`. None: `max_length`, and those that a model has.
        dropout: everywhere in a model that is drawn anew; None: 0.1.
        max_length: tokens of a row.
        mask_share: of the tokens, how many are hidden.
        whole_words: words are hidden with all of their pieces.
        batch_size: a batch has as many tokens as so many full rows; of short rows it has more.
        epoch_share: of the batches of each epoch, trained on; they are others in each.
    """

    command: ClassVar[str] = "pretrain"

    corpus: Sequence[str | Path]
    validation: Sequence[str | Path] | None = None
    column: str = "text"
    model: str | Path | None = None
    vocabulary: str | Path | None = None
    vocabulary_size: int | None = None
    cased: bool | None = None
    objective: str = "mlm+nsp"
    layers: int | None = None
    hidden_size: int | None = None
    heads: int | None = None
    intermediate_size: int | None = None
    max_positions: int | None = None
    dropout: float | None = None
    max_length: int = 128
    mask_share: float = 0.15
    whole_words: bool = False
    validation_fraction: float = 0.02
    epoch_share: float = 1.0
    learning_rate: float = 5e-4

    @property
    def next_sentence(self) -> bool:
        return self.objective == "mlm+nsp"

    def rules(self) -> Rules:
        values = {key: getattr(self, key) for key in _SIZES}
        width, heads = self.hidden_size or HIDDEN_SIZE, self.heads or HEADS
        return {
            **super().rules(),
            "corpus": (
                len(self.corpus) > 0 and not isinstance(self.corpus, str),
                "a list of one file, folder or name, or more",
            ),
            "objective": (self.objective in OBJECTIVES, f"one of {', '.join(OBJECTIVES)}"),
            "vocabulary_size": (
                self.vocabulary_size is None or self.vocabulary_size >= 6,
                "6 or more",
            ),
            "max_length": (self.max_length >= 8, "8 or more"),
            "max_positions": (
                self.max_positions is None or self.max_positions >= self.max_length,
                f"max_length, which is {self.max_length}, or more",
            ),
            "mask_share": (0 < self.mask_share < 1, "above 0 and below 1"),
            "epoch_share": (0 < self.epoch_share <= 1, "above 0 and at most 1"),
            "dropout": (self.dropout is None or 0 <= self.dropout < 1, "at least 0 and below 1"),
            **{key: (value is None or value >= 1, "1 or more") for key, value in values.items()},
            "hidden_size": (width >= 1 and width % heads == 0, f"a multiple of heads, {heads}"),
        }

    def refuse_contradictions(self) -> None:
        for source, keys in (("model", DRAWN), ("vocabulary", MADE)):
            given = getattr(self, source)
            for key in keys:
                if given is not None and getattr(self, key) is not None:
                    raise ConfigError(
                        f"{key} is {getattr(self, key)}, but {source} is {given}, which has its "
                        "own.",
                        key=key,
                        hint="Leave one of the two out.",
                    )
