"""Text to the integers that BERT reads, and back, through the `tokenizers` library.

Devlin et al. 2019, section 3, "Input/Output Representations". `wordpiece.py` spells the algorithm
out; here it runs fast, with what a model needs around it: pairs, truncation and padded batches.

    [CLS] first text [SEP]                       token types 0
    [CLS] first text [SEP] second text [SEP]     token types 0 ... 0 1 ... 1

    >>> tokenizer = BertTokenizer.from_pretrained("google-bert/bert-base-uncased")
    >>> tokenizer(["Tokenizing text.", "A text"])["input_ids"]  # (B, S)
    tensor([[  101, 19204,  6026,  3793,  1012,   102],
            [  101,  1037,  3793,   102,     0,     0]])
    >>> tokenizer.encode("Tokenizing text.")[0].tokens
    ['[CLS]', 'token', '##izing', 'text', '.', '[SEP]']
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from minibert.io import text_input, tokenizer_files
from minibert.io.errors import DataError, InputError
from minibert.io.rows import EncodedText, Side, padded_batch
from minibert.io.source import Source, open_source
from minibert.io.tokenizer_files import DEFAULT_MAX_LENGTH, SPECIAL_TOKENS, read_vocab


class BertTokenizer:
    """The tokenizer of a BERT or DistilBERT checkpoint; TokenizerError for a vocabulary of another kind.

    Args:
        vocabulary: piece -> id.
        lowercase, strip_accents, chinese_characters: as for `WordPiece`.
        added_tokens: further pieces, never split, each as `tokenizer.json` lists it.
        split_special_tokens: the default of that argument of a call.
        max_length: the most tokens that the model takes.
        token_types: whether the model has a segment table (BERT has, DistilBERT has not).
        source: where the vocabulary came from, for messages.
    """

    def __init__(
        self, vocabulary: Mapping[str, int], *, lowercase: bool = True, strip_accents: bool | None = None,
        chinese_characters: bool = True, added_tokens: Sequence[Mapping[str, Any]] = (),
        split_special_tokens: bool = False, max_length: int = DEFAULT_MAX_LENGTH, token_types: bool = True,
        source: str | Path = "the vocabulary",
    ):  # fmt: skip
        tokenizer_files.check_vocabulary(source, vocabulary)
        self.vocabulary = dict(vocabulary)
        self.lowercase, self.strip_accents = lowercase, strip_accents
        self.chinese_characters = chinese_characters
        self.split_special_tokens = split_special_tokens
        self.max_length, self.source = max_length, source
        self.special_tokens = {token: vocabulary[token] for token in SPECIAL_TOKENS}  # token -> id
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = self.special_tokens.values()
        # The names of the tensors that the model takes.
        self.model_inputs = ("input_ids", "attention_mask", *(["token_type_ids"] if token_types else []))
        with text_input.library_errors(source):
            self._tokenizer = self._build(added_tokens)
        # The largest id + 1, added tokens included.
        self.vocab_size = 1 + max(*vocabulary.values(), *(token["id"] for token in added_tokens))

    def _build(self, added_tokens: Sequence[Mapping[str, Any]]) -> tokenizers.Tokenizer:
        """The library's parts for the three steps of `wordpiece.py`, and for the way back."""
        result = tokenizers.Tokenizer(models.WordPiece(self.vocabulary, unk_token="[UNK]"))
        result.normalizer = normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=self.chinese_characters,
            strip_accents=self.strip_accents, lowercase=self.lowercase,
        )  # fmt: skip
        result.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        result.decoder = decoders.WordPiece(prefix="##")
        result.add_special_tokens(list(SPECIAL_TOKENS))
        for token in sorted(added_tokens, key=lambda token: token["id"]):
            flags = {key: value for key, value in token.items() if key not in ("id", "content")}
            result.add_tokens([tokenizers.AddedToken(token["content"], **flags)])
            tokenizer_files.check_place(self.source, token, result.token_to_id(token["content"]))
        return result

    @classmethod
    def from_pretrained(cls, source: str | Path | Source, *, revision: str | None = None) -> BertTokenizer:
        """Opens the tokenizer of a model folder or Hub id; `read_folder` says from which files."""
        opened = open_source(source, revision, tokenizer_files.FILES)
        return cls(**tokenizer_files.read_folder(opened.folder))

    @classmethod
    def from_vocab(
        cls, path: str | Path, *, lowercase: bool = True, max_length: int = DEFAULT_MAX_LENGTH
    ) -> BertTokenizer:
        """Makes a tokenizer from a `vocab.txt`: one piece per line, its id is the line number."""
        return cls(read_vocab(path), lowercase=lowercase, max_length=max_length, source=path)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the files that transformers and `from_pretrained` open."""
        tokenizer_files.write_folder(
            Path(folder), self.vocabulary, self._tokenizer.to_str(),
            flags={name: getattr(self, name) for name in tokenizer_files.FLAGS},
            max_length=self.max_length, token_types="token_type_ids" in self.model_inputs,
        )  # fmt: skip

    def __len__(self) -> int:
        return self.vocab_size

    def __repr__(self) -> str:
        case = "lower-casing" if self.lowercase else "cased"
        return f"BertTokenizer({self.vocab_size} pieces, {case}, max_length {self.max_length})"

    def __call__(
        self, texts: str | Sequence[str], pairs: str | Sequence[str] | None = None, *,
        max_length: int | None = None, truncation: bool = True,
        padding: Literal["longest", "max_length"] = "longest", padding_side: Side = "right",
        pad_to_multiple_of: int = 1, split_special_tokens: bool | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """A padded batch, ready for `model(**batch)`: int64 (B, S) on the CPU, named as in `model_inputs`.

        attention_mask is 1 at real tokens and 0 at padding.

        Args:
            texts: one text or several.
            pairs: the second text of each, such as a hypothesis or an answer.
            max_length: the most tokens per row; by default as many as the model takes.
            truncation: cut longer rows (the longer text of a pair first), with one warning for the
                batch; if False they are an error.
            padding, padding_side: to the "longest" row or to "max_length"; on the right or left.
            pad_to_multiple_of: round the number of columns up, as far as the model goes.
            split_special_tokens: read "[SEP]" in a text as plain characters. If False it is the
                special token, so a stranger's text can begin a second one. By default False,
                unless the tokenizer's settings say otherwise.

        Raises:
            DataError: a text cannot be read (see `check_text`), or is too long if not truncated.
            InputError: `max_length` is more than the model takes.
            ConfigError: `padding`, `padding_side` or `pad_to_multiple_of` has an unknown value.
        """
        rows = self.encode(
            texts, pairs, max_length=max_length, truncation=truncation, split_special_tokens=split_special_tokens
        )
        limit = self.limit(max_length)
        text_input.warn_of_cuts([row.cut for row in rows], limit, stacklevel=2)
        text_input.check_padding(padding, pad_to_multiple_of)
        ids = [row.input_ids for row in rows]
        columns = limit if padding == "max_length" else max(map(len, ids), default=0)
        rounded_up = -(-columns // pad_to_multiple_of) * pad_to_multiple_of
        columns = min(rounded_up, self.max_length)  # the model has no positions beyond
        types = [row.token_type_ids for row in rows] if "token_type_ids" in self.model_inputs else None
        return padded_batch(ids, types, pad_id=self.pad_id, columns=columns, side=padding_side)  # (B, S)

    def encode(
        self, texts: str | Sequence[Any], pairs: str | Sequence[Any] | None = None, *,
        max_length: int | None = None, truncation: bool = True, words: bool = False,
        split_special_tokens: bool | None = None, first_row: int = 0,
    ) -> list[EncodedText]:  # fmt: skip
        """Each text or pair on its own, unpadded, with offsets and word ids; as a call, but nothing warns.

        Args:
            words: each text is a list of words that are kept (offsets then count inside a word).
            first_row: the number of the first text in messages.
        """
        special = 2 if pairs is None else 3  # [CLS], and a [SEP] after each text
        limit = self.limit(max_length, special)
        lists = text_input.as_lists(texts, pairs, words)  # one, or two of the same length
        pieces = [self.pieces(each, words, split_special_tokens, first_row) for each in lists]
        rows = []
        for row, of_texts in enumerate(zip(*pieces, strict=True), start=first_row):
            lengths = [len(of_text) for of_text in of_texts]
            if sum(lengths) + special > limit and not truncation:
                message = f"Row {row} has {sum(lengths) + special} tokens, and {limit} are allowed."
                raise DataError(message, key=str(row), hint="Shorten the text, or allow truncation.")
            kept = _kept(lengths, limit - special)
            parts = tuple(zip(of_texts, kept, strict=True))
            ids, types = self.frame(*(of_text.ids[:count] for of_text, count in parts))
            rows.append(EncodedText(ids, types, sum(lengths) - sum(kept), parts))
        return rows

    def pieces(
        self, texts: Sequence[Any], words: bool = False, split_special_tokens: bool | None = None,
        first_row: int = 0, offsets: bool = True,
    ) -> list[tokenizers.Encoding]:  # fmt: skip
        """The pieces of each text, uncut, without [CLS] and [SEP]; without `offsets` (then 0) it is faster."""
        for row, text in enumerate(texts, start=first_row):
            text_input.check_text(row, text, words=words)
        split = self.split_special_tokens if split_special_tokens is None else split_special_tokens
        tokenizer = self._splitting_tokenizer if split else self._tokenizer
        with text_input.library_errors(self.source):
            encode = tokenizer.encode_batch if offsets else tokenizer.encode_batch_fast
            return encode(list(texts), is_pretokenized=words, add_special_tokens=False)

    @functools.cached_property
    def _splitting_tokenizer(self) -> tokenizers.Tokenizer:
        """A second one for `split_special_tokens`: the switch would affect other threads' calls."""
        result = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        result.encode_special_tokens = True
        return result

    def frame(self, *texts: Sequence[int]) -> tuple[list[int], list[int]]:
        """The ids of one or two texts with [CLS] and [SEP] around them, and their token types."""
        ids, types = [self.cls_id], [0]
        for number, text in enumerate(texts):
            ids += [*text, self.sep_id]
            types += [number] * (len(text) + 1)
        return ids, types

    def limit(self, max_length: int | None, least: int = 0) -> int:
        """The most tokens of a row: `max_length`, by default what the model takes."""
        limit = self.max_length if max_length is None else max_length
        if not least <= limit <= self.max_length:
            bounds = f"{least} (special tokens included) to {self.max_length} (the model's maximum)"
            raise InputError(f"max_length is {limit}, but must be {bounds}.", key="max_length")
        return limit

    def words(self, text: str) -> list[str]:
        """The words of a text, cleaned and lower-cased, before they are cut into pieces."""
        text = self._tokenizer.normalizer.normalize_str(text)
        return [word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(text)]

    def decode(self, ids: Sequence[int] | Tensor, *, skip_special_tokens: bool = False) -> str:
        """Ids back to text: pieces joined, without a space before punctuation."""
        return self._tokenizer.decode(text_input.checked_ids(ids), skip_special_tokens=skip_special_tokens)

    def tokens(self, ids: Sequence[int] | Tensor) -> list[str]:
        """The piece of each id; an InputError if there is none."""
        numbers = text_input.checked_ids(ids)
        pieces: list[Any] = [self._tokenizer.id_to_token(number) for number in numbers]
        if None in pieces:
            message = f"id {numbers[pieces.index(None)]} has no piece: {self.source} has {self.vocab_size}."
            raise InputError(message, key="input_ids")
        return pieces

    def ids(self, tokens: Sequence[str]) -> list[int]:
        """The id of each piece; `unk_id` for those that are not in the vocabulary."""
        found = (self._tokenizer.token_to_id(token) for token in tokens)
        return [self.unk_id if number is None else number for number in found]


def _kept(lengths: Sequence[int], room: int) -> list[int]:
    """How many pieces stay of each text: the longer one is cut first, then both evenly.

    A place left over goes to the text that was longer, as in the library; Google's code gives it to the first.
    """
    if len(lengths) == 1 or sum(lengths) <= room:
        return [min(length, room) for length in lengths]
    shorter = min(*lengths, room // 2)
    longer = room - shorter
    return [longer, shorter] if lengths[0] > lengths[1] else [shorter, longer]


def train_wordpiece(
    words: Mapping[str, int], first: Sequence[str], size: int, *, least: int, progress: bool
) -> dict[str, int]:
    """The pieces `first` and then joined ones, `size` in all; see `workbench.tasks.vocabulary`."""
    # The library would number characters in the order of a hash table, and join equally frequent
    # pairs in the order of these numbers. It takes special tokens in the order given.
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=least, special_tokens=list(first), show_progress=progress
    )
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with text_input.library_errors("the text"):
        texts = (f"{word} " * count for word, count in words.items())
        tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.get_vocab()
