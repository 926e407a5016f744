"""`minibert fill-mask`: the most likely pieces for each [MASK] of a text."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from tqdm import tqdm

from minibert.heads import BertForMaskedLM, BertForPreTraining
from minibert.io.errors import ConfigError, DataError
from minibert.io.source import Source, open_source
from minibert.io.tables import shorten
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.checks import UNKNOWN_IS_A_FAULT
from minibert.workbench.data.records import Record
from minibert.workbench.runs.together import lay_out
from minibert.workbench.tasks.common import pick_device, require_class


@dataclass(frozen=True)
class FilledMask:
    """The most likely pieces for one [MASK] of a text: (piece, probability), best first.

    Attributes:
        number, of: which [MASK] of the text it is, counted from 1, and how many there are.
    """

    text: str
    pieces: list[tuple[str, float]]
    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        which = f" ([MASK] {self.number} of {self.of})" if self.of > 1 else ""
        lines = [shorten(self.text, 90) + which]
        return "\n".join(lines + [f"  {chance:.3f}  {piece}" for piece, chance in self.pieces])


@dataclass(frozen=True)
class FilledText:
    """Every [MASK] of a text, filled."""

    masks: list[FilledMask]

    def columns(self) -> dict[str, Any]:
        """The best pieces as cells of a table, and for each [MASK] the others, too."""
        best = [mask.pieces[0] for mask in self.masks]
        return {
            "prediction": [piece for piece, _ in best],
            "probability": best[0][1] if len(best) == 1 else [chance for _, chance in best],
            "candidates": [mask.pieces for mask in self.masks],
        }


class MaskFiller:
    """A masked language model with its tokenizer."""

    def __init__(self, model: BertForMaskedLM | BertForPreTraining, tokenizer: BertTokenizer, device: torch.device):
        self.model = model.to(device).eval()
        self.tokenizer = tokenizer
        self.device = device

    @classmethod
    def from_pretrained(cls, source: str | Path | Source, *, revision: str | None = None, device: str = "auto") -> Self:
        """Opens a checkpoint with a masked-LM head.

        Raises:
            CheckpointError: the checkpoint has no such head.
        """
        source = open_source(source, revision)
        model = require_class(source, BertForMaskedLM, BertForPreTraining).from_pretrained(source)
        tokenizer = BertTokenizer.from_pretrained(source)
        return cls(model, tokenizer, pick_device(device))

    def __call__(self, text: str, *, top: int = 5) -> list[FilledMask]:
        """For each [MASK] of the text, in order, the `top` most likely pieces.

        Several masks are filled independently of one another, as in training.

        Raises:
            ConfigError: `top` is below 1.
            DataError: the text has no [MASK], or one of them is cut off.
        """
        if top < 1:
            raise ConfigError(f"top is {top}, but it must be 1 or more.", key="top")
        # Whatever the tokenizer's setting: if "[MASK]" were split, there would be nothing to fill.
        inputs = self.tokenizer(text, split_special_tokens=False)  # (1, S)
        masks = (inputs["input_ids"][0] == self.tokenizer.mask_id).nonzero().flatten()  # (masks,)
        self._require_masks(text, len(masks))
        self._warn_of_unknown(text, inputs["input_ids"])
        with torch.inference_mode():
            output = self.model(**lay_out(inputs, self.device))
        both_heads = isinstance(self.model, BertForPreTraining)
        logits = output.prediction_logits if both_heads else output.logits  # (1, S, V)
        chances = logits[0, masks].float().softmax(dim=-1).cpu()  # (masks, V)
        best, ids = chances.topk(min(top, chances.shape[-1]))  # (masks, top), (masks, top)
        return [
            FilledMask(text, list(zip(self.tokenizer.tokens(row), values.tolist(), strict=True)), number, len(masks))
            for number, (row, values) in enumerate(zip(ids, best, strict=True), start=1)
        ]

    def of_records(self, records: Sequence[Record], *, top: int = 5, progress: bool = False) -> list[FilledText]:
        """Fills the masks in the texts of records, as readers give them; an error names its record."""
        found = []
        hidden = None if progress and len(records) > 1 else True
        for record in tqdm(records, desc="filling", unit="text", disable=hidden):
            try:
                found.append(FilledText(self(record.sentence, top=top)))
            except DataError as problem:
                if len(records) > 1:
                    problem.add_note(f"It is {record.where}.")
                raise
        return found

    def _require_masks(self, text: str, found: int) -> None:
        written = text.count("[MASK]")
        if found < written:
            raise DataError(
                f"{written - found} of {written} [MASK] in {shorten(text)!r} are cut off: the "
                f"model reads {self.tokenizer.max_length} tokens.",
                key="[MASK]",
                hint="Shorten the text before them.",
            )
        if found == 0:
            raise DataError(
                f"There is no [MASK] in {shorten(text)!r}.",
                key="[MASK]",
                hint="Write [MASK] for the missing word: Paris is the [MASK] of France.",
            )

    def _warn_of_unknown(self, text: str, ids: torch.Tensor) -> None:
        unknown = int((ids == self.tokenizer.unk_id).sum())
        if unknown > UNKNOWN_IS_A_FAULT * (ids.shape[1] - 2):  # [CLS] and [SEP] aside
            warnings.warn(
                f"{unknown} pieces of {shorten(text)!r} are [UNK], not in the model's vocabulary: "
                "its predictions for this text are meaningless.",
                stacklevel=3,
            )
