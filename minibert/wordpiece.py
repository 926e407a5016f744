"""WordPiece by hand: text to pieces, the whole algorithm in plain Python.

Devlin et al. 2019, section 3, "Input/Output Representations", with the pieces of Wu et al. 2016, section 4.1.

Three steps:

1. each character is cleaned, lower-cased and stripped of accents; punctuation and Chinese characters, which are words
   by themselves, get spaces around them;
2. the text is split at the spaces into words;
3. each word is cut from the left, always at the longest piece that the vocabulary has.

    >>> pieces = WordPiece({"un": 0, "##aff": 1, "##able": 2, "!": 3})
    >>> [piece.token for piece in pieces("Unaffable!")]
    ['un', '##aff', '##able', '!']

`tokenizer.py` gives the same tokens and offsets through a library, faster; each file is tested against the other. They
know different marks and punctuation: the library those of Unicode 8.0 (2015), Python those of its own, newer version.
U+1E944, an Adlam vowel sign, is a letter to the library.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_SPECIAL = re.compile(r"(\[(?:PAD|UNK|CLS|SEP|MASK)\])")
_LONGEST_WORD = 100  # characters; a longer word is [UNK], since cutting it takes quadratic time

# The blocks of Chinese characters. Kana and Hangul are left out: text in these scripts has spaces, or words of several
# characters.
# NOTE(paper): the last but two of these blocks begins at U+2B820 in the original code, and at U+2B920 in the library
# that published models are used with, as here.
_CHINESE = (
    *(range(0x4E00, 0xA000), range(0x3400, 0x4DC0), range(0x20000, 0x2A6E0), range(0x2A700, 0x2B740)),
    *(range(0x2B740, 0x2B820), range(0x2B920, 0x2CEB0), range(0xF900, 0xFB00), range(0x2F800, 0x2FA20)),
)


class Piece(NamedTuple):
    """A token, and its place in the text: from character `start` up to and without `end`."""

    token: str
    start: int
    end: int


class WordPiece:
    """Cuts text into the pieces of a vocabulary.

    Args:
        vocabulary: piece -> id; a piece that continues a word begins with "##".
        lowercase: lower-case first (`do_lower_case` in official files).
        strip_accents: drop accents first; None means "if lower-casing", as in the original code.
        chinese_characters: each Chinese character is a word (`tokenize_chinese_chars`).
    """

    def __init__(
        self, vocabulary: Mapping[str, int], *,
        lowercase: bool = True, strip_accents: bool | None = None, chinese_characters: bool = True,
    ):  # fmt: skip
        self.vocabulary = vocabulary
        strip_accents = lowercase if strip_accents is None else strip_accents
        self._flags = (lowercase, strip_accents, chinese_characters)

    def __call__(self, text: str) -> list[Piece]:
        """The pieces of a text, without [CLS] and [SEP]."""
        pieces = []
        start = 0  # of the part
        # split() gives text, special token, text, ...: a special token in a text stays whole.
        for number, part in enumerate(_SPECIAL.split(text)):
            if number % 2:
                pieces.append(Piece(part, start, start + len(part)))
            else:
                for word, places in self._words(part):
                    for token, first, last in self._cut(word):
                        pieces.append(Piece(token, start + places[first], start + places[last] + 1))
            start += len(part)
        return pieces

    def ids(self, text: str, pair: str | None = None) -> list[int]:
        """The ids of [CLS] text [SEP], or of [CLS] text [SEP] pair [SEP]."""
        tokens = ["[CLS]", *(piece.token for piece in self(text)), "[SEP]"]
        if pair is not None:
            tokens += [*(piece.token for piece in self(pair)), "[SEP]"]
        return [self.vocabulary[token] for token in tokens]

    def _words(self, text: str) -> Iterator[tuple[str, list[int]]]:
        """Steps 1 and 2: each word, and the place in the text of each of its characters."""
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

    def _cut(self, word: str) -> list[tuple[str, int, int]]:
        """Step 3: pieces, each the longest that fits, with their first and last character.

        A word that cannot be cut to its end is [UNK] as a whole.
        """
        unknown = [("[UNK]", 0, len(word) - 1)]
        if len(word) > _LONGEST_WORD:
            return unknown
        pieces = []
        start = 0
        while start < len(word):
            prefix = "##" if start > 0 else ""
            ends = range(len(word), start, -1)  # the longest piece first
            fitting = (end for end in ends if prefix + word[start:end] in self.vocabulary)
            end = next(fitting, None)
            if end is None:
                return unknown
            pieces.append((prefix + word[start:end], start, end - 1))
            start = end
        return pieces


@functools.lru_cache(maxsize=2**16)
def normalise(character: str, lowercase: bool, strip_accents: bool, chinese_characters: bool) -> str:
    """Step 1 for one character: nothing, a space, or letters (with spaces around a word).

    No step looks at the neighbours. So a capital sigma at the end of a word becomes the plain small sigma, and not the
    final form that `str.lower` gives.
    """
    category = unicodedata.category(character)
    if character in "\t\n\r" or (character.isspace() and category != "Cc"):
        return " "
    # Control, format and private-use characters, NUL among them, and the replacement character.
    # Unassigned ones stay, as in the original code.
    if category in ("Cc", "Cf", "Co") or character == "\ufffd":
        return ""
    result = character
    if strip_accents:
        # Canonical decomposition separates a letter from its accents, which are non-spacing marks.
        parts = unicodedata.normalize("NFD", character)
        result = "".join(part for part in parts if unicodedata.category(part) != "Mn")
    if lowercase:
        result = result.lower()
    if chinese_characters and any(ord(character) in block for block in _CHINESE):
        return f" {result} "
    return "".join(f" {part} " if is_punctuation(part) else part for part in result)


def is_punctuation(character: str) -> bool:
    """Unicode's punctuation, and the ASCII symbols: "$", "+" and "^" are words by themselves."""
    ascii_sign = character.isascii() and character.isprintable() and not character.isalnum()
    return (ascii_sign and character != " ") or unicodedata.category(character).startswith("P")
