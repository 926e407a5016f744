"""WordPiece by hand: the whole algorithm in plain Python, for reading and for checking.

Devlin et al. 2019, section 3, "Input/Output Representations", on the pieces of Wu et al. 2016,
section 4.1. Three steps:

1. each character alone is cleaned, lower-cased and stripped of accents, and one that is a word by
   itself (punctuation, a Chinese character) gets spaces around it;
2. the text is split at the spaces into words;
3. each word is cut from the left, always at the longest piece that the vocabulary has.

It gives the tokens and offsets of `tokenizer.py`, whose library it does not import, so that each
checks the other. They differ in one thing: which marks and punctuation exist. The library's list
is that of Unicode 8.0 (2015), Python's is newer with each release; characters that came between
the two (U+1E944, an Adlam vowel sign) are letters to the library.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_SPECIAL = re.compile(r"(\[(?:PAD|UNK|CLS|SEP|MASK)\])")
_LONGEST_WORD = 100  # characters; a longer word is [UNK], since cutting it takes quadratic time

# The blocks of CJK ideographs. Kana and Hangul are not among them: those scripts have spaces, or
# words of several characters.
# NOTE(paper): the original code begins the last but two of these blocks at U+2B820. The library
# that published models are used with begins it at U+2B920, and that counts here.
_CHINESE = (
    range(0x4E00, 0xA000),
    range(0x3400, 0x4DC0),
    range(0x20000, 0x2A6E0),
    range(0x2A700, 0x2B740),
    range(0x2B740, 0x2B820),
    range(0x2B920, 0x2CEB0),
    range(0xF900, 0xFB00),
    range(0x2F800, 0x2FA20),
)


class Piece(NamedTuple):
    """A token, and where it stands in the text: characters `start` up to, not with, `end`."""

    token: str
    start: int
    end: int


class WordPiece:
    """Cuts text into the pieces of a vocabulary.

    Args:
        vocabulary: piece -> id; a piece that goes on with a word begins with "##".
        lowercase: lower-case first.
        strip_accents: drop accents first; None means "when lower-casing".
        chinese_characters: each Chinese character is a word.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        chinese_characters: bool = True,
    ):
        self.vocabulary = vocabulary
        self._flags = (
            lowercase,
            lowercase if strip_accents is None else strip_accents,
            chinese_characters,
        )

    def __call__(self, text: str) -> list[Piece]:
        """The pieces of a text, without [CLS] and [SEP]."""
        pieces = []
        start = 0
        # The special tokens themselves stay whole wherever they stand.
        for number, part in enumerate(_SPECIAL.split(text)):
            if number % 2:
                pieces.append(Piece(part, start, start + len(part)))
            else:
                for word, places in self._words(part):
                    pieces += [
                        Piece(token, start + places[first], start + places[last] + 1)
                        for token, first, last in self._cut(word)
                    ]
            start += len(part)
        return pieces

    def ids(self, text: str, pair: str | None = None) -> list[int]:
        """[CLS] text [SEP], and for a pair the second text [SEP], as ids."""
        tokens = ["[CLS]", *(piece.token for piece in self(text)), "[SEP]"]
        if pair is not None:
            tokens += [*(piece.token for piece in self(pair)), "[SEP]"]
        return [self.vocabulary[token] for token in tokens]

    def _words(self, text: str) -> Iterator[tuple[str, list[int]]]:
        """Steps 1 and 2: words, and for each of their characters its place in the text."""
        word, places = "", []
        for place, character in enumerate(text):
            for result in normalise(character, *self._flags):
                if result != " ":
                    word += result
                    places.append(place)
                elif word:
                    yield word, places
                    word, places = "", []
        if word:
            yield word, places

    def _cut(self, word: str) -> Iterator[tuple[str, int, int]]:
        """Step 3: the longest piece that fits, then on from its end; first and last character.

        A word with a stretch that no piece fits is [UNK] as a whole.
        """
        pieces = []
        start = 0
        while start < len(word) <= _LONGEST_WORD:
            for end in range(len(word), start, -1):
                token = word[start:end] if start == 0 else "##" + word[start:end]
                if token in self.vocabulary:
                    pieces.append((token, start, end - 1))
                    start = end
                    break
            else:
                break
        yield from pieces if start == len(word) else [("[UNK]", 0, len(word) - 1)]


@functools.lru_cache(maxsize=2**16)
def normalise(
    character: str, lowercase: bool, strip_accents: bool, chinese_characters: bool
) -> str:
    """What becomes of one character: nothing, a space, or letters (with spaces, if a word).

    Every step looks at one character alone. That is why a capital sigma at the end of a word
    becomes the plain small sigma, and not the final form that `str.lower` gives.
    """
    if character in "\t\n\r" or character.isspace() and unicodedata.category(character) != "Cc":
        return " "
    # Control, format and private-use characters, NUL among them, and the replacement character.
    # Unassigned ones stay, as in the original code.
    if unicodedata.category(character) in ("Cc", "Cf", "Co") or character == "\ufffd":
        return ""
    result = character
    if strip_accents:
        # Canonical decomposition parts a letter from its accents, which are non-spacing marks.
        parts = unicodedata.normalize("NFD", character)
        result = "".join(part for part in parts if unicodedata.category(part) != "Mn")
    if lowercase:
        result = result.lower()
    if chinese_characters and any(ord(character) in block for block in _CHINESE):
        return f" {result} "
    return "".join(f" {part} " if is_punctuation(part) else part for part in result)


def is_punctuation(character: str) -> bool:
    """Unicode's punctuation, and every ASCII character that is no letter, digit, space or control.

    So "$", "+" and "^" are words of their own, though Unicode calls them symbols.
    """
    ascii_sign = character.isascii() and character.isprintable() and not character.isalnum()
    return (ascii_sign and character != " ") or unicodedata.category(character).startswith("P")
