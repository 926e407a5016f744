"""WordPiece tokens: text to the integers that the network reads, and back.

The algorithm is that of the published models (Devlin et al. 2019, section 3, "Input/Output
Representations"; Wu et al. 2016, section 4.1) and runs inside the `tokenizers` library: clean the
text, split it at spaces, punctuation and Chinese characters, then cut each word greedily into the
longest pieces of the vocabulary. `wordpiece.py` beside this file is the same in plain Python.

What the network sees of one text and of a pair:

    [CLS] a pieces [SEP]                    token types 0
    [CLS] a pieces [SEP] b pieces [SEP]     token types 0 ... 0 1 ... 1

The only module that imports `tokenizers`.
"""

from __future__ import annotations

import contextlib
import functools
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from tqdm import tqdm

from minibert.io import hub
from minibert.io.errors import ConfigError, DataError, InputError, TokenizerError
from minibert.io.files import half_a_pair, write_json, write_text
from minibert.io.tokenizer_files import (
    DEFAULT_MAX_LENGTH,
    FILES,
    SPECIAL_TOKENS,
    check_vocabulary,
    read_folder,
    read_vocab,
)

# Of one text. What is cut off has been read before it is cut: a million characters take seconds
# and, in Chinese, a gigabyte, and both grow with the length.
MOST_CHARACTERS = 1_000_000

MOST_SHARED = 128  # pieces of a long context that two windows share

# Of a vocabulary that is trained: what occurs once is chance, and what is longer is read as [UNK].
LEAST_COUNT = 2
LONGEST_WORD = 100

Side = Literal["left", "right"]


@dataclass(frozen=True)
class Encoded:
    """One text or pair as the network will read it. All lists have one entry for each token.

    Args:
        input_ids: the vocabulary's numbers, [CLS] and [SEP] included, no padding.
        token_type_ids: 0 for the first text with its [CLS] and [SEP], 1 for the second.
        cut: how many pieces truncation removed.
        shared: of a window, how many pieces of its second text the next one has too.
    """

    input_ids: list[int]
    token_type_ids: list[int]
    cut: int
    _parts: tuple[tuple[tokenizers.Encoding, int], ...]  # one or two texts, and pieces kept of each
    shared: int = 0

    @property
    def tokens(self) -> list[str]:
        """The pieces as text, such as "token", "##ization"."""
        return self._spread("[CLS]", "[SEP]", lambda part: part.tokens)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """(start, end) of each piece in its own text, in characters; (0, 0) for special tokens."""
        return self._spread((0, 0), (0, 0), lambda part: part.offsets)

    @property
    def word_ids(self) -> list[int | None]:
        """Which word of its own text a piece belongs to; None for special tokens."""
        return self._spread(None, None, lambda part: part.word_ids)

    @property
    def sequence_ids(self) -> list[int | None]:
        """0 or 1, the text that a piece comes from; None for special tokens."""
        texts = iter(range(len(self._parts)))
        return self._spread(None, None, lambda part: [next(texts)] * len(part))

    @property
    def special_tokens_mask(self) -> list[int]:
        """1 at the [CLS] and [SEP] that were put around the texts, 0 elsewhere."""
        return [int(sequence is None) for sequence in self.sequence_ids]

    def _spread(
        self, first: Any, after: Any, values: Callable[[tokenizers.Encoding], list[Any]]
    ) -> list[Any]:
        """`first`, then what `values` gives for the pieces kept of each text, each with `after`."""
        result = [first]
        for part, kept in self._parts:
            result += values(part)[:kept]
            result.append(after)
        return result


class BertTokenizer:
    """The tokenizer of a BERT or DistilBERT checkpoint.

    Args:
        vocabulary: piece -> id.
        lowercase: lower-case the text before it is cut (`do_lower_case` in official files).
        strip_accents: remove accents; None means "when lower-casing", as in the original code.
        chinese_characters: each Chinese character is a word (`tokenize_chinese_chars`).
        added_tokens: further pieces that are found whole in any text, each as it stands in the
            list of that name in `tokenizer.json`.
        split_special_tokens: what calls do that do not say it; see there.
        max_length: the most tokens that the model takes.
        token_types: whether the model has a segment table (BERT has, DistilBERT has not).
        source: where the vocabulary came from, for messages.

    Attributes:
        vocab_size: how many ids there are, added tokens included.
        max_length: as above.
        pad_id, unk_id, cls_id, sep_id, mask_id: ids of the special tokens.
        special_tokens: special token -> id.
        model_inputs: the names of the tensors that the model takes.

    Raises:
        TokenizerError: a special token is missing from the vocabulary, a piece is no text, an id
            no whole number, or two pieces have the same one.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        chinese_characters: bool = True,
        added_tokens: Sequence[Mapping[str, Any]] = (),
        split_special_tokens: bool = False,
        max_length: int = DEFAULT_MAX_LENGTH,
        token_types: bool = True,
        source: str | Path = "the vocabulary",
    ):
        check_vocabulary(source, vocabulary)
        self.vocabulary = dict(vocabulary)
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.chinese_characters = chinese_characters
        self.split_special_tokens = split_special_tokens
        self.max_length = max_length
        self.source = source
        self.special_tokens = {token: vocabulary[token] for token in SPECIAL_TOKENS}
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self.special_tokens.values()
        )
        self.model_inputs: tuple[str, ...] = ("input_ids", "attention_mask")
        if token_types:
            self.model_inputs += ("token_type_ids",)
        with _errors_of_the_library(source):
            self._tokenizer = self._build(added_tokens)
        self.vocab_size = 1 + max(*vocabulary.values(), *(token["id"] for token in added_tokens))

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None) -> BertTokenizer:
        """Opens the tokenizer of a model folder or Hub id.

        It is made from `tokenizer.json` if there is one, else from `vocab.txt`, and the tokens that
        `tokenizer_config.json` or `added_tokens.json` add. What `tokenizer_config.json` says about
        lower-casing, accents and Chinese characters counts, as in transformers 5; where it is
        silent, `tokenizer.json` counts, and then the defaults of the original code (lower-casing
        on). Padding and truncation stored in `tokenizer.json` are left out: they belong to one use
        of the model. `config.json` tells how many positions, segments and pieces the model has.

        Raises:
            TokenizerError: no vocabulary there, another kind of tokenizer, a piece or an id twice,
                a special token missing or with another name, a value of the wrong kind, two files
                that disagree, or more pieces than the model has embeddings for.
        """
        files = read_folder(hub.resolve(source, FILES, revision=revision).folder)
        return cls(
            files.vocabulary,
            added_tokens=files.added_tokens,
            max_length=files.max_length,
            token_types=files.token_types,
            source=files.path,
            **files.flags,
        )

    @classmethod
    def from_vocab(
        cls, path: str | Path, *, lowercase: bool = True, max_length: int = DEFAULT_MAX_LENGTH
    ) -> BertTokenizer:
        """Makes a tokenizer of a `vocab.txt` alone: one piece a line, the id is the line number."""
        return cls(read_vocab(path), lowercase=lowercase, max_length=max_length, source=path)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        size: int,
        lowercase: bool = True,
        max_length: int = DEFAULT_MAX_LENGTH,
        progress: bool = False,
    ) -> BertTokenizer:
        """Makes a vocabulary of a text: its characters, then the pieces that occur together most.

        The special tokens come first, in the official order, then every character that occurs twice
        or more, alone and, if longer words hold it, as one that goes on with a word; then pieces,
        each made of the two that stand side by side most often, until there are `size` of them
        (fewer, if no two stand side by side twice). The same texts give the same vocabulary.

        NOTE(paper): Wu et al. 2016, section 4.1, take the pieces that raise the likelihood of the
        text most; the library, like most that train vocabularies today, counts pairs (Sennrich et
        al. 2016, section 3.2).

        Args:
            texts: of any length, read once.
            size: pieces, special tokens included.
            lowercase: lower-case the text and strip accents, now and when it is used.
            max_length: the most tokens that the model will take.
            progress: show the library's progress bars.

        Raises:
            ConfigError: the characters alone are more than `size`.
            DataError: a text is not a string, or has half of a surrogate pair; there are no words.
        """
        words = _count_words(texts, lowercase, progress)
        first = _first_pieces(words)
        if len(first) > size:
            raise ConfigError(
                f"A vocabulary of {size} pieces has no room for the {len(first)} that the text "
                f"needs: {len(SPECIAL_TOKENS)} special tokens, and its characters.",
                key="size",
                hint="Raise it, or leave out text in other scripts.",
            )
        vocabulary = _merged(words, first, size, progress)
        return cls(vocabulary, lowercase=lowercase, max_length=max_length)

    def __len__(self) -> int:
        return self.vocab_size

    def __repr__(self) -> str:
        case = "lower-casing" if self.lowercase else "cased"
        return (
            f"BertTokenizer({self.vocab_size} pieces, {case}, at most {self.max_length} tokens, "
            f"for {', '.join(self.model_inputs)})"
        )

    def __call__(
        self,
        texts: str | Sequence[str],
        pairs: str | Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        truncation: bool = True,
        padding: Literal["longest", "max_length"] = "longest",
        padding_side: Side = "right",
        pad_to_multiple_of: int = 1,
        split_special_tokens: bool | None = None,
    ) -> dict[str, torch.Tensor]:
        """A padded batch, ready for `model(**batch)`.

        Args:
            texts: one text or several.
            pairs: for each text the second one, such as a hypothesis or an answer.
            max_length: the most tokens for each row; None means as many as the model takes.
            truncation: longer rows are cut (pairs: the longer text first) with one warning for
                the batch. If False, they are an error.
            padding: "longest" pads to the longest row, "max_length" to `max_length`.
            padding_side: where the padding goes.
            pad_to_multiple_of: rounds the number of columns up, as far as the model goes.
            split_special_tokens: whether "[SEP]" in a text is read as the plain characters that it
                is. False makes it a special token, as in transformers: a text from a stranger can
                then end itself and begin a second one. None means as the tokenizer says
                (`split_special_tokens` in its `tokenizer_config.json`), by default False.

        Returns:
            int64 tensors on the CPU, all (B, S), named as in `model_inputs`; attention_mask is 1
            at real tokens and 0 at padding.

        Raises:
            DataError: a text is not a string, has half of a surrogate pair or more than
                MOST_CHARACTERS, or is too long where truncation is off.
            InputError: `max_length` is more than the model takes.
            ConfigError: there is no such padding or padding side.
        """
        rows = self.encode(
            texts,
            pairs,
            max_length=max_length,
            truncation=truncation,
            split_special_tokens=split_special_tokens,
        )
        limit = self._limit(max_length)
        warn_of_cuts([row.cut for row in rows], limit, stacklevel=2)
        _check_choice("padding", padding, ("longest", "max_length"))
        if pad_to_multiple_of < 1:
            raise ConfigError(
                f"pad_to_multiple_of is {pad_to_multiple_of}, and has to be 1 or more.",
                key="pad_to_multiple_of",
            )
        columns = limit if padding == "max_length" else 0
        columns = max([columns, *(len(row.input_ids) for row in rows)])
        columns = -(-columns // pad_to_multiple_of) * pad_to_multiple_of
        columns = min(columns, self.max_length)  # there are no positions beyond
        values = {
            "input_ids": ([row.input_ids for row in rows], self.pad_id),
            "attention_mask": ([[1] * len(row.input_ids) for row in rows], 0),
            "token_type_ids": ([row.token_type_ids for row in rows], 0),
        }
        return {
            name: pad_rows(*values[name], columns=columns, side=padding_side)  # (B, S)
            for name in self.model_inputs
        }

    def encode(
        self,
        texts: str | Sequence[str] | Sequence[Sequence[str]],
        pairs: str | Sequence[str] | Sequence[Sequence[str]] | None = None,
        *,
        max_length: int | None = None,
        truncation: bool = True,
        words: bool = False,
        split_special_tokens: bool | None = None,
        first_row: int = 0,
    ) -> list[Encoded]:
        """Each text on its own, unpadded, with offsets and word ids.

        Args:
            texts, pairs, max_length, truncation, split_special_tokens: as for a call. Nothing
                warns here: `Encoded.cut` says what truncation removed.
            words: each text is a sequence of words that stay as they are (offsets then count
                inside a word).
            first_row: what messages call the first text, where this is a part of more.

        Raises:
            DataError, InputError: as for a call.
        """
        limit = self._limit(max_length)
        columns = [_as_list(texts, words)]
        if pairs is not None:
            columns.append(_as_list(pairs, words))
            if len(columns[0]) != len(columns[1]):
                raise DataError(
                    f"There are {len(columns[0])} texts and {len(columns[1])} second texts.",
                    key="pairs",
                )
        room = limit - 1 - len(columns)  # [CLS], and a [SEP] after each text
        if room < 0:
            raise InputError(
                f"max_length is {limit}, and the special tokens alone are {1 + len(columns)}.",
                key="max_length",
            )
        split = self.split_special_tokens if split_special_tokens is None else split_special_tokens
        encoded = [self._pieces(column, words, split, first_row) for column in columns]
        rows = []
        for row, parts in enumerate(zip(*encoded, strict=True), start=first_row):
            lengths = [len(part) for part in parts]
            if sum(lengths) > room and not truncation:
                raise DataError(
                    f"Row {row} has {sum(lengths) + limit - room} tokens, and {limit} are allowed.",
                    key=str(row),
                    hint="Shorten the text, or let it be cut (truncation).",
                )
            rows.append(self._around(parts, _kept(lengths, room)))
        return rows

    def encode_windows(
        self,
        texts: Sequence[str],
        contexts: Sequence[str],
        *,
        most_of_the_first: int,
        max_length: int | None = None,
        overlap: int | None = None,
        first_row: int = 0,
    ) -> list[list[Encoded]]:
        """Each text with its context, as one row or, where the context is too long, as several.

        Every row has the whole text, cut to `most_of_the_first` pieces (and to half of the room),
        and as much of the context as there is room for.

        Args:
            texts, contexts, max_length, first_row: as for `encode`.
            most_of_the_first: pieces of a text; what is over is cut, as `Encoded.cut` says.
            overlap: pieces of the context that two rows share; None: MOST_SHARED, or a third of the
                room for the context where that is less.

        Raises:
            DataError, InputError: as for a call.
            ConfigError: the overlap leaves a row nothing of its own.
        """
        limit = self._limit(max_length)
        room = limit - 3  # [CLS], and a [SEP] after each
        if room < 2:
            raise InputError(
                f"max_length is {limit}, which leaves no room for a text and a context.",
                key="max_length",
            )
        split = self.split_special_tokens
        first, second = (
            self._pieces(_as_list(column, False), False, split, first_row)
            for column in (texts, contexts)
        )
        rows = []
        for text, context in zip(first, second, strict=True):
            kept = min(len(text), most_of_the_first, room // 2)
            shared = _shared(room - kept, overlap)
            context.truncate(room - kept, stride=shared)
            windows = [
                self._around((text, part), (kept, len(part)))
                for part in (context, *context.overflowing)
            ]
            rows.append([replace(window, shared=shared) for window in windows])
        return rows

    def piece_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of the pieces of each text, and nothing else: no special tokens, nothing cut.

        What looks like a special token is read as the characters that it is.

        Raises:
            DataError: as for a call.
        """
        for row, text in enumerate(texts):
            _check_text(row, text, words=False)
        with _errors_of_the_library(self.source):
            return [
                encoding.ids
                for encoding in self._splitting_tokenizer.encode_batch_fast(
                    list(texts), add_special_tokens=False
                )
            ]

    def decode(
        self, ids: Sequence[int] | torch.Tensor, *, skip_special_tokens: bool = False
    ) -> str:
        """Ids back to text; pieces are joined, and there is no space before punctuation."""
        return self._tokenizer.decode(_plain(ids), skip_special_tokens=skip_special_tokens)

    def tokens(self, ids: Sequence[int] | torch.Tensor) -> list[str]:
        """The piece that each id stands for.

        Raises:
            InputError: an id that no piece has.
        """
        pieces = []
        for number in _plain(ids):
            piece = self._tokenizer.id_to_token(number)
            if piece is None:
                raise InputError(
                    f"id {number} has no piece: {self.source} has {self.vocab_size}.",
                    key="input_ids",
                )
            pieces.append(piece)
        return pieces

    def ids(self, tokens: Sequence[str]) -> list[int]:
        """The id of each piece; `unk_id` for what is not in the vocabulary."""
        found = (self._tokenizer.token_to_id(token) for token in tokens)
        return [self.unk_id if number is None else number for number in found]

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the files that transformers and `from_pretrained` open.

        A `vocab.txt`, where the line number is the id, is left out if the ids have a gap.
        """
        folder = Path(folder)
        write_text(folder / "tokenizer.json", self._tokenizer.to_str(pretty=True))
        pieces = sorted(self.vocabulary, key=self.vocabulary.__getitem__)
        if [self.vocabulary[piece] for piece in pieces] == list(range(len(pieces))):
            write_text(folder / "vocab.txt", "".join(piece + "\n" for piece in pieces))
        names = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL_TOKENS}
        write_json(folder / "special_tokens_map.json", names)
        write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": (
                    "BertTokenizer"
                    if "token_type_ids" in self.model_inputs
                    else "DistilBertTokenizer"
                ),
                "do_lower_case": self.lowercase,
                "strip_accents": self.strip_accents,
                "tokenize_chinese_chars": self.chinese_characters,
                "split_special_tokens": self.split_special_tokens,
                "model_max_length": self.max_length,
                **names,
            },
        )

    def _build(self, added_tokens: Sequence[Mapping[str, Any]]) -> tokenizers.Tokenizer:
        result = tokenizers.Tokenizer(models.WordPiece(self.vocabulary, unk_token="[UNK]"))
        result.normalizer = _normalizer(self.lowercase, self.strip_accents, self.chinese_characters)
        result.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        result.decoder = decoders.WordPiece(prefix="##")
        result.post_processor = tokenizers.processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[("[CLS]", self.cls_id), ("[SEP]", self.sep_id)],
        )
        result.add_special_tokens(list(SPECIAL_TOKENS))
        for token in sorted(added_tokens, key=lambda token: token["id"]):
            places = {key: value for key, value in token.items() if key not in ("id", "content")}
            result.add_tokens([tokenizers.AddedToken(token["content"], **places)])
            place = result.token_to_id(token["content"])
            if place != token["id"]:
                raise TokenizerError(
                    f"{self.source} gives the added token {token['content']!r} the id "
                    f"{token['id']}, but its place is {place}.",
                    path=self.source,
                    key=token["content"],
                )
        return result

    @functools.cached_property
    def _splitting_tokenizer(self) -> tokenizers.Tokenizer:
        """One for `split_special_tokens`: a switch in the first would hold in every thread."""
        result = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        result.encode_special_tokens = True
        return result

    def _limit(self, max_length: int | None) -> int:
        if max_length is None:
            return self.max_length
        if max_length > self.max_length:
            raise InputError(
                f"max_length is {max_length}, but the model takes {self.max_length} tokens.",
                key="max_length",
            )
        return max_length

    def _around(self, parts: Sequence[tokenizers.Encoding], kept: Sequence[int]) -> Encoded:
        """[CLS] before the first text, [SEP] after each; the types count the texts."""
        ids, types = [self.cls_id], [0]
        for number, (part, count) in enumerate(zip(parts, kept, strict=True)):
            ids += part.ids[:count]
            ids.append(self.sep_id)
            types += [number] * (count + 1)
        cut = sum(len(part) for part in parts) - sum(kept)
        return Encoded(ids, types, cut, tuple(zip(parts, kept, strict=True)))

    def _pieces(
        self, texts: list[Any], words: bool, split_special_tokens: bool, first_row: int
    ) -> list[tokenizers.Encoding]:
        """The pieces of each text, without special tokens around them."""
        for row, text in enumerate(texts, start=first_row):
            _check_text(row, text, words)
        tokenizer = self._splitting_tokenizer if split_special_tokens else self._tokenizer
        with _errors_of_the_library(self.source):
            return tokenizer.encode_batch(texts, is_pretokenized=words, add_special_tokens=False)


def _normalizer(
    lowercase: bool, strip_accents: bool | None = None, chinese_characters: bool = True
) -> normalizers.BertNormalizer:
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=chinese_characters,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )


# Training


def _count_words(texts: Iterable[str], lowercase: bool, progress: bool) -> Counter[str]:
    """How often each word occurs, a word being what is cut into pieces.

    What stands between spaces is counted first, and normalised once however often it occurs: the
    normaliser looks at one character at a time, so that a text may be parted at any space.
    """
    counts: Counter[str] = Counter()
    for row, text in enumerate(
        tqdm(texts, "words", unit="text", disable=None if progress else True)
    ):
        _check_type(row, text, words=False)
        _check_characters(row, text)
        counts.update(re.findall(r"[^ \t\n\r]+", text))
    normalizer, splitter = _normalizer(lowercase), pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for run, count in counts.items():
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(run)):
            words[word] += count
    if not words:
        raise DataError(
            "There are no words to make a vocabulary of.",
        )
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
    often = sorted(character for character, count in counts.items() if count >= LEAST_COUNT)
    going_on = ["##" + character for character in often if character in inside]
    return [*SPECIAL_TOKENS, *often, *going_on]


def _merged(
    words: Mapping[str, int], first: Sequence[str], size: int, progress: bool
) -> dict[str, int]:
    """The vocabulary: `first`, then pieces joined by the library's trainer.

    Left to itself the trainer numbers characters inside words as they come out of a hash table, and
    pairs that are equally frequent are joined in the order of these numbers, which another run does
    not repeat. Pieces that it is told of as special tokens have their numbers beforehand.
    """
    known = set(first)
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=LEAST_COUNT,
        special_tokens=list(first),
        show_progress=progress,
    )
    # Only words that the vocabulary can spell: the trainer would join across a missing character.
    spelt = sorted(word for word in words if len(word) <= LONGEST_WORD and known.issuperset(word))
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with _errors_of_the_library("the text"):
        tokenizer.train_from_iterator((f"{word} " * words[word] for word in spelt), trainer)
    return tokenizer.get_vocab()


@contextlib.contextmanager
def _errors_of_the_library(source: str | Path) -> Iterator[None]:
    """What goes wrong inside `tokenizers` comes out as an error of ours, a panic in Rust too."""
    try:
        yield
    except BaseException as problem:
        panic = type(problem).__name__ == "PanicException"  # no Exception, and not to be imported
        if isinstance(problem, TokenizerError) or not (panic or isinstance(problem, Exception)):
            raise
        raise TokenizerError(
            f"{source} is more than the library tokenizers can take: {str(problem)!r:.200}.",
            path=source,
        ) from problem


def pad_rows(
    rows: Sequence[Sequence[int] | np.ndarray], value: int, *, columns: int, side: Side
) -> torch.Tensor:
    """Rows of unequal length as one int64 tensor (B, S), filled up with `value`."""
    _check_choice("padding_side", side, ("left", "right"))
    result = np.full((len(rows), columns), value, dtype=np.int64)  # (B, S)
    for number, row in enumerate(rows):
        if side == "right":
            result[number, : len(row)] = row
        else:
            result[number, columns - len(row) :] = row
    return torch.from_numpy(result)  # (B, S)


def warn_of_cuts(cuts: Sequence[int], limit: int, *, stacklevel: int) -> None:
    """One warning for all the texts that were too long."""
    number = sum(cut > 0 for cut in cuts)
    if number:
        warnings.warn(
            f"{number} of {len(cuts)} texts had more than {limit} tokens and were cut "
            f"({sum(cuts)} tokens lost).",
            stacklevel=stacklevel + 1,
        )


def _check_choice(name: str, value: object, choices: tuple[str, str]) -> None:
    if value not in choices:
        raise ConfigError(
            f"{name} is {value!r}, and not one of {choices[0]!r} and {choices[1]!r}.",
            key=name,
        )


def _shared(room: int, overlap: int | None) -> int:
    """The pieces that two windows share, of `room` for the context."""
    if overlap is None:
        return min(MOST_SHARED, room // 3)
    if not 0 <= overlap < room:
        raise ConfigError(
            f"overlap is {overlap}, but a window has room for {room} pieces of a context.",
            key="overlap",
            hint="Lower it, or raise max_length.",
        )
    return overlap


def _kept(lengths: Sequence[int], room: int) -> list[int]:
    """How many pieces stay of each text: the longer one is cut first, then both evenly."""
    if len(lengths) == 1 or sum(lengths) <= room:
        return [min(length, room) for length in lengths]
    shorter = min(*lengths, room // 2)
    longer = room - shorter
    return [longer, shorter] if lengths[0] > lengths[1] else [shorter, longer]


def _as_list(texts: Any, words: bool) -> list[Any]:
    """One text alone counts as a batch of one."""
    if isinstance(texts, (str, bytes, Mapping)):
        return [texts]
    try:
        rows = list(texts)
    except TypeError:  # a number, None, an array without axes
        return [texts]
    return [rows] if words and rows and isinstance(rows[0], str) else rows


def _check_text(row: int, text: Any, words: bool) -> None:
    _check_type(row, text, words)
    whole = " ".join(text) if words else text
    if len(whole) > MOST_CHARACTERS:
        raise DataError(
            f"Row {row} has {len(whole)} characters, and a text may have {MOST_CHARACTERS}.",
            key=str(row),
            hint="Split it into several texts, or keep its beginning alone.",
        )
    _check_characters(row, whole)


def _check_type(row: int, text: Any, words: bool) -> None:
    if not words:
        right = isinstance(text, str)
    else:
        right = isinstance(text, (list, tuple)) and all(isinstance(word, str) for word in text)
    if not right:
        expected = "a sequence of words" if words else "a string"
        raise DataError(
            f"Row {row} is not {expected} but {text!r:.50} ({type(text).__name__}).",
            key=str(row),
        )


def _check_characters(row: int, text: str) -> None:
    place = half_a_pair(text)
    if place is not None:
        raise DataError(
            f"Row {row} has half of a surrogate pair (U+{ord(text[place]):04X}) at character "
            f"{place}, which is not text.",
            key=str(row),
            hint="Decode the source with errors='replace'.",
        )


def _plain(ids: Sequence[int] | torch.Tensor) -> list[int]:
    numbers = [int(number) for number in ids]
    for number in numbers:
        if not 0 <= number < 2**32:
            raise InputError(
                f"{number} is not the id of a piece.",
                key="input_ids",
            )
    return numbers
