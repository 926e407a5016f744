"""Training a vocabulary: plain text in, a tokenizer and a report on it out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from minibert.io.errors import ConfigError, DataError
from minibert.io.text_input import check_text
from minibert.io.tokenizer_files import DEFAULT_MAX_LENGTH, SPECIAL_TOKENS
from minibert.tokenizer import BertTokenizer, train_wordpiece
from minibert.workbench.data.documents import read_documents, sentences
from minibert.workbench.tasks.common import require_new_folder

_HELD_OUT = 50  # every 50th sentence is held out, to measure on
_LONGEST_SHOWN = 8
_LEAST_COUNT = 2  # what occurs once is chance
_LONGEST_WORD = 100  # characters; longer words are [UNK]


def train_tokenizer(
    texts: Iterable[str],
    *,
    size: int,
    lowercase: bool = True,
    max_length: int = DEFAULT_MAX_LENGTH,
    progress: bool = False,
) -> BertTokenizer:
    """Trains a vocabulary: the characters of the texts, then frequent sequences of them.

    The special tokens come first, in the official order, then every character that occurs twice or
    more, alone and, if longer words hold it, as a "##" piece; then pieces, each made of the two
    that stand side by side most often, until there are `size` (fewer, if no two stand side by side
    twice). The same texts give the same vocabulary.

    NOTE(paper): Wu et al. 2016, section 4.1, join the pieces that raise the likelihood of the text
    most; the library, like most today, the most frequent pairs (Sennrich et al. 2016, section 3.2).

    Args:
        texts: of any length, read once.
        size: pieces, special tokens included.
        lowercase: lower-case the text and strip accents, now and when it is used.
        max_length: the most tokens that the model will take.
        progress: show progress bars.

    Raises:
        ConfigError: there are more than `size` special tokens and characters.
        DataError: a text is not a string, or has half of a surrogate pair; there are no words.
    """
    words = _count_words(texts, lowercase, progress)
    first = _first_pieces(words)
    if len(first) > size:
        raise ConfigError(
            f"A vocabulary of {size} pieces has no room for the {len(first)} that the text needs: "
            f"{len(SPECIAL_TOKENS)} special tokens, and its characters.",
            key="size",
            hint="Raise it, or leave out text in other scripts.",
        )
    # Only words that the vocabulary can spell: the library would join across a missing character.
    spelt = {word: words[word] for word in sorted(words) if len(word) <= _LONGEST_WORD and set(first).issuperset(word)}
    vocabulary = train_wordpiece(spelt, first, size, least=_LEAST_COUNT, progress=progress)
    return BertTokenizer(vocabulary, lowercase=lowercase, max_length=max_length)


def _count_words(texts: Iterable[str], lowercase: bool, progress: bool) -> Counter[str]:
    """How often each word occurs, as the tokenizer splits text into words.

    Runs of characters between spaces are counted first, so that each is normalised once: the
    normaliser looks at one character at a time, and text may be parted at any space.
    """
    runs: Counter[str] = Counter()
    for row, text in enumerate(tqdm(texts, "words", unit="text", disable=None if progress else True)):
        check_text(row, text, most=None)
        runs.update(re.findall(r"[^ \t\n\r]+", text))
    splitter = BertTokenizer({token: number for number, token in enumerate(SPECIAL_TOKENS)}, lowercase=lowercase)
    words: Counter[str] = Counter()
    for run, count in runs.items():
        for word in splitter.words(run):
            words[word] += count
    if not words:
        raise DataError("There are no words to make a vocabulary of.")
    return words


def _first_pieces(words: Mapping[str, int]) -> list[str]:
    """The special tokens, and the characters in both of their forms, sorted."""
    counts: Counter[str] = Counter()
    inside: set[str] = set()
    for word, count in words.items():
        for character in word:
            counts[character] += count
        if len(word) > 1:
            inside.update(word)
    often = sorted(character for character, count in counts.items() if count >= _LEAST_COUNT)
    continuing = ["##" + character for character in often if character in inside]
    return [*SPECIAL_TOKENS, *often, *continuing]


@dataclass(frozen=True)
class VocabularyReport:
    """How a trained vocabulary cuts text that it was not trained on.

    Args:
        folder: where the tokenizer is.
        pieces: how many there are, special tokens included.
        sentences: how many it was trained on.
        held_out: how many it was measured on; 0 if the text was too short to hold any out, and
            the measurements are on the training text.
        words: how many these have; a punctuation mark counts as one.
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
        where = f"{self.held_out:,} held-out sentences" if self.held_out else "the same sentences"
        return (
            f"{self.pieces:,} pieces from {self.sentences:,} sentences, in {self.folder}\n"
            f"On {where} ({self.words:,} words and punctuation marks): "
            f"{self.pieces_per_word:.3f} pieces per word, {self.unknown:.3%} [UNK]\n"
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
        output: a folder, created if it does not exist.
        size, lowercase: as for `train_tokenizer`.
        progress: show bars.

    Raises:
        ConfigError: the folder is not empty; the size is too small for the text's characters.
        DataError: a source cannot be used.
        DiskError: the folder cannot be written to.
    """
    output = Path(output)
    require_new_folder(output)
    documents = read_documents(sources, column=column, progress=progress)
    every = [sentence for document in documents for sentence in sentences(document.text)]
    held_out = every[_HELD_OUT - 1 :: _HELD_OUT]
    del every[_HELD_OUT - 1 :: _HELD_OUT]
    tokenizer = train_tokenizer(every, size=size, lowercase=lowercase, progress=progress)
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
    """How many words, pieces and [UNK] texts have, up to where truncation cuts them."""
    words = pieces = unknown = 0
    for row in tokenizer.encode(texts, split_special_tokens=True):
        words += len({word for word in row.word_ids if word is not None})
        pieces += len(row.input_ids) - 2  # [CLS] and [SEP]
        unknown += row.input_ids.count(tokenizer.unk_id)
    return words, pieces, unknown
