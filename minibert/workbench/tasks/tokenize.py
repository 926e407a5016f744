"""`minibert tokenize`: the pieces of texts, with their ids and places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minibert.io.source import Source
from minibert.io.tables import shorten
from minibert.tokenizer import BertTokenizer


@dataclass(frozen=True)
class TokenizedText:
    """A text as its pieces.

    Attributes:
        pieces: (piece, id, start, end), with the characters of the text that the piece covers.
        cut: how many pieces truncation removed.
    """

    text: str
    pieces: list[tuple[str, int, int, int]]
    cut: int

    def __str__(self) -> str:
        cut = f", {self.cut} more cut" if self.cut else ""
        lines = [f"{shorten(self.text)} ({len(self.pieces)} pieces{cut})"]
        for piece, number, start, end in self.pieces:
            place = f"{start}-{end}" if end else ""  # special tokens have none
            lines.append(f"  {number:>6}  {piece:<18}  {place}".rstrip())
        return "\n".join(lines)


def tokenize(
    source: str | Path | Source,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    revision: str | None = None,
) -> list[TokenizedText]:
    """The pieces of each text, or of each pair of texts."""
    tokenizer = BertTokenizer.from_pretrained(source, revision=revision)
    rows = []
    for text, encoded in zip(texts, tokenizer.encode(list(texts), pairs), strict=True):
        places = zip(encoded.tokens, encoded.input_ids, encoded.offsets, strict=True)
        pieces = [(token, number, start, end) for token, number, (start, end) in places]
        rows.append(TokenizedText(text, pieces, encoded.cut))
    return rows
