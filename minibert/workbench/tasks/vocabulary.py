"""A vocabulary of one's own: plain text in, the files of a tokenizer and an account of it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minibert.io.errors import ConfigError
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.documents import read_documents, sentences

_HELD_OUT = 50  # one sentence in as many is kept from training, to measure on
_LONGEST_SHOWN = 8


@dataclass(frozen=True)
class VocabularyReport:
    """What a trained vocabulary does to text that it was not trained on.

    Args:
        folder: where the tokenizer is.
        pieces: how many there are, special tokens included.
        sentences: trained on.
        held_out: sentences measured on; 0: the text was too short, and what it was trained on is
            measured.
        words: in those; a sign of punctuation counts as one.
        pieces_per_word: how many pieces a word is cut into, on average.
        unknown: the share of words that are [UNK].
        longest: the longest pieces.
    """

    folder: Path
    pieces: int
    sentences: int
    held_out: int
    words: int
    pieces_per_word: float
    unknown: float
    longest: tuple[str, ...]

    def summary(self) -> str:
        where = f"{self.held_out:,} sentences kept aside" if self.held_out else "the same sentences"
        return (
            f"{self.pieces:,} pieces from {self.sentences:,} sentences, in {self.folder}\n"
            f"On {where} ({self.words:,} words and signs): {self.pieces_per_word:.3f} pieces to a "
            f"word, {self.unknown:.3%} [UNK]\n"
            f"Longest pieces: {', '.join(self.longest)}"
        )


def train_vocabulary(
    sources: Sequence[str | Path],
    output: str | Path,
    *,
    size: int,
    lowercase: bool = True,
    column: str = "text",
    progress: bool = False,
) -> VocabularyReport:
    """Trains a vocabulary on plain text, saves it as a tokenizer, and measures it.

    Args:
        sources, column: as for `read_documents`.
        output: a folder, made if it is not there.
        size, lowercase: as for `BertTokenizer.train`.
        progress: show bars.

    Raises:
        ConfigError: the folder holds something; the size is too small for the text's characters.
        DataError: a source cannot be used.
        DiskError: the folder cannot be written to.
    """
    output = Path(output)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ConfigError(
            f"{output} is there already, and a model's vocabulary must not change under it.",
            path=output,
            key="output",
            hint="Name another folder, or remove this one.",
        )
    documents = read_documents(sources, column=column, progress=progress)
    every = [sentence for document in documents for sentence in sentences(document.text)]
    held_out = every[_HELD_OUT - 1 :: _HELD_OUT]
    del every[_HELD_OUT - 1 :: _HELD_OUT]
    tokenizer = BertTokenizer.train(every, size=size, lowercase=lowercase, progress=progress)
    words, pieces, unknown = _measure(tokenizer, held_out or every)
    tokenizer.save_pretrained(output)
    longest = sorted(tokenizer.vocabulary, key=lambda piece: (-len(piece), piece))
    return VocabularyReport(
        folder=output,
        pieces=tokenizer.vocab_size,
        sentences=len(every),
        held_out=len(held_out),
        words=words,
        pieces_per_word=pieces / words if words else 0.0,
        unknown=unknown / words if words else 0.0,
        longest=tuple(longest[:_LONGEST_SHOWN]),
    )


def _measure(tokenizer: BertTokenizer, texts: Sequence[str]) -> tuple[int, int, int]:
    """Words, pieces, and words that are [UNK]; of a very long sentence those that are not cut."""
    words = pieces = unknown = 0
    for row in tokenizer.encode(texts, split_special_tokens=True):
        words += len({word for word in row.word_ids if word is not None})
        pieces += len(row.input_ids) - 2  # [CLS] and [SEP]
        unknown += row.input_ids.count(tokenizer.unk_id)
    return words, pieces, unknown
