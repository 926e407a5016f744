"""The text of a pre-training run: read, split into training and validation, and tokenised."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minibert.io.errors import ConfigError, DataError, MinibertError
from minibert.io.files import inside, read_object
from minibert.io.seeds import mixed_seed
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data import passages
from minibert.workbench.data.checks import UNKNOWN, UNKNOWN_IS_A_FAULT
from minibert.workbench.data.documents import Document, fingerprint, read_documents
from minibert.workbench.data.passages import Passages, Pieces
from minibert.workbench.runs.folders import RECORD, begun
from minibert.workbench.runs.pretrain_settings import PretrainSettings


@dataclass(frozen=True)
class Part:
    """The tokenised documents of one split; `record` describes them in run.json."""

    pieces: Pieces
    record: dict[str, Any]

    def rows(self, settings: PretrainSettings, tokenizer: BertTokenizer, epoch: object) -> Passages:
        """The rows of an epoch; next-sentence pairs are drawn again for each."""
        if settings.next_sentence:
            seed = mixed_seed(settings.seed, "pairs", epoch)
            places = passages.pairs(self.pieces, settings.max_length - 3, seed=seed)
        else:
            places = passages.runs(self.pieces, settings.max_length - 2)
        return Passages(self.pieces, places, tokenizer, next_sentence=settings.next_sentence)


def read_parts(settings: PretrainSettings, progress: bool) -> dict[str, list[Document]]:
    """The documents of "train" and "validation", without duplicates."""
    read = partial(read_documents, column=settings.column, progress=progress)
    known: set[str] = set()  # texts without their spacing, so that no text is in both splits
    held_out = [] if settings.validation is None else _distinct(read(settings.validation), known)
    corpus = _distinct(read(settings.corpus), known)
    if settings.validation is not None:
        if not corpus:
            raise ConfigError(
                "All of the corpus is in the validation text too: none is left to train on.", key="validation"
            )
        return {"train": corpus, "validation": held_out}
    train, held_out = passages.hold_out(
        corpus,
        settings.validation_fraction,
        seed=mixed_seed(settings.seed, "held out"),
        least=2 if settings.next_sentence else 1,  # a pair of unrelated segments needs two
    )
    return {"train": train, "validation": held_out}


def tokenise_parts(
    documents: Mapping[str, Sequence[Document]], settings: PretrainSettings, tokenizer: BertTokenizer, progress: bool
) -> dict[str, Part]:
    """The same, tokenised.

    Raises:
        DataError: hardly a piece of a split is in the vocabulary.
    """
    room = settings.max_length - 3
    most = room // 2 if settings.next_sentence else room + 1
    parts = {}
    for name, part in documents.items():
        pieces = passages.tokenise(part, tokenizer, most=most, progress=progress)
        record = {
            **fingerprint(part),
            "sentences": len(pieces.sentences) - 1,
            "pieces": len(pieces.ids),
            "split_sentences": pieces.split,
            "empty_documents": pieces.empty,
        }
        parts[name] = Part(pieces, record)
        _require_known_pieces(name, pieces, tokenizer)
    return parts


def rows_to_measure_on(part: Part, settings: PretrainSettings, tokenizer: BertTokenizer) -> Passages:
    """The rows of the validation split, the same after every epoch."""
    try:
        return part.rows(settings, tokenizer, "validation")
    except DataError as problem:
        raise DataError(
            f"The documents to measure on are too few. {problem}",
            key="validation",
            hint="Hold out more (--validation-fraction, --validation).",
        ) from problem


def warn_of_leakage(settings: PretrainSettings, data: Mapping[str, Any]) -> None:
    """Warns if the model of an earlier run may have been trained on what is held out now.

    Two corpora with a file in common, or with as many characters, are taken to be the same. A
    run.json that cannot be read is passed over, since other programs write files of that name.
    """
    if settings.model is None:
        return
    folder = Path(settings.model)
    if folder.name == "model" and not begun(folder):
        folder = folder.parent  # RUN/model
    if not begun(folder):
        return
    try:
        record = read_object(inside(folder, RECORD))
        before = record["data"]
        files, size = _paths(record["settings"]["corpus"]), _characters(before)
        same = bool(files & _paths(settings.corpus)) or size == _characters(data)
        other = same and before["validation"]["sha256"] != data["validation"]["sha256"]
    except (MinibertError, KeyError, TypeError):
        return
    if other:
        warnings.warn(
            f"{settings.model} held out other documents of the same corpus, and may have been "
            "trained on some of those that are held out now, so the scores may be too good. Hold "
            "out the same ones (--seed, --validation-fraction, --validation).",
            stacklevel=2,
        )


def _distinct(documents: Sequence[Document], known: set[str]) -> list[Document]:
    """The documents whose texts are not in `known`, to which they are added; warns of the rest."""
    found = []
    for document in documents:
        text = " ".join(document.text.split())
        if text not in known:
            known.add(text)
            found.append(document)
    if len(found) < len(documents):
        warnings.warn(
            f"{len(documents) - len(found):,} of {len(documents):,} documents repeat others, and are left out.",
            stacklevel=3,
        )
    return found


def _require_known_pieces(name: str, pieces: Pieces, tokenizer: BertTokenizer) -> None:
    """[UNK] is never masked, so a text of nothing else teaches nothing and measures nothing."""
    unknown = float(np.mean(pieces.ids == tokenizer.unk_id))
    if unknown <= UNKNOWN:
        return
    message = f"{unknown:.1%} of the pieces of the {name} text are [UNK], not in the vocabulary"
    hint = "The vocabulary has to suit the language of all text (--vocabulary, --validation)."
    if unknown > UNKNOWN_IS_A_FAULT:
        raise DataError(f"{message}.", key="vocabulary", hint=hint)
    warnings.warn(f"{message}. {hint}", stacklevel=3)


def _paths(corpus: Sequence[str | Path]) -> set[str]:
    return {os.path.realpath(source) for source in corpus}


def _characters(data: Mapping[str, Any]) -> int:
    return int(data["train"]["characters"] + data["validation"]["characters"])
