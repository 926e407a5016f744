"""Labelled texts as batches: tokenised once, grouped by length, padded batch by batch.

A batch is a rectangle as wide as its longest row, so texts of similar length share a batch. All parts of the network
but attention skip the padding (`layout.py`), so a batch may also be measured in real tokens. The plan depends on (seed,
epoch) and nothing else: a resumed run sees the same batches.

    >>> rows = Dataset([Example("a good film", label=1), Example("bad", label=0)], tokenizer)
    >>> for places in plan_batches(rows.lengths, batch_size=32, shuffle=False):
    ...     collate([rows[place] for place in places], pad_id=tokenizer.pad_id)
    {'input_ids': tensor([[ 101, 1037, 2204, 2143,  102],
                          [ 101, 2919,  102,    0,    0]]), ..., 'labels': tensor([1, 0])}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from minibert.io.errors import ConfigError, DataError
from minibert.io.rows import EncodedText, Rows, Side, pad_rows, padded_batch
from minibert.io.seeds import mixed_seed
from minibert.io.text_input import chunks, texts_and_pairs, warn_of_cuts, warn_of_lost_tags
from minibert.tokenizer import BertTokenizer

IGNORED_LABEL = -100  # never counts in a loss, as in torch.nn.functional.cross_entropy

# The index of a class; for regression a number; for several labels C numbers, 1.0 for each that holds, else 0.0.
Label = int | float | tuple[float, ...]


@dataclass(frozen=True)
class Example:
    """A text, or a pair of texts, with its label."""

    text: str
    text_pair: str | None = None
    label: Label | None = None  # None if unlabelled
    guid: str = ""  # where it came from: file and line, or file name

    group = None  # examples that share a group stay together when data are split

    @property
    def texts(self) -> tuple[str, ...]:
        """One text or two."""
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)

    @property
    def target(self) -> Any:
        """What a model is to predict."""
        return self.label


@dataclass(frozen=True)
class TaggedExample:
    """A sentence with a tag, the index of its class, for each word."""

    words: tuple[str, ...]
    tags: tuple[int, ...] | None = None
    guid: str = ""

    group = None

    @property
    def texts(self) -> tuple[str, ...]:
        return (" ".join(self.words),)

    @property
    def target(self) -> Any:
        return self.tags


class Dataset(Rows):
    """Texts or tagged sentences as token ids, all tokenised when it is made.

    It also works in a plain `torch.utils.data.DataLoader` with `collate_fn=collate`.

    Args:
        examples: all of one kind.
        max_length, truncation: as for `BertTokenizer`.
        progress: show a bar on standard error, if that is a terminal.

    Attributes:
        cut_labels: how many word tags have no piece to carry them: the word was cut off, or cleaning left nothing of
            it (a lone variation selector). A warning says so.

    DataError if there are no examples, or a text cannot be used; see `BertTokenizer`.
    """

    def __init__(
        self, examples: Iterable[Example] | Iterable[TaggedExample], tokenizer: BertTokenizer, *,
        max_length: int | None = None, truncation: bool = True, progress: bool = False,
    ):  # fmt: skip
        super().__init__(tokenizer.model_inputs)
        every: list[Any] = list(examples)
        if not every:
            raise DataError("There are no examples to make a data set of.")
        tagged = isinstance(every[0], TaggedExample)
        self.word_ids = [] if tagged else None
        for start, chunk in chunks(every, progress=progress):
            words = [[example.words for example in chunk]] if tagged else None
            encoded = tokenizer.encode(
                *(words or texts_and_pairs([example.texts for example in chunk], start)),
                max_length=max_length, truncation=truncation, words=tagged, first_row=start,
            )  # fmt: skip
            for example, text in zip(chunk, encoded, strict=True):
                self._add_example(example, text)
        cuts = [full - kept for full, kept in zip(self.full_lengths, self.lengths, strict=True)]
        self.cut = sum(cut > 0 for cut in cuts)
        warn_of_cuts(cuts, tokenizer.limit(max_length), stacklevel=2)
        if tagged:
            warn_of_lost_tags(self.cut_labels, [example.tags for example in every], stacklevel=2)

    def _add_example(self, example: Example | TaggedExample, text: EncodedText) -> None:
        labels = {} if example.target is None else {"labels": example.target}
        if self.word_ids is not None:
            self.word_ids.append(text.word_ids)
            if labels:
                with_a_piece = {*text.word_ids} - {None}
                self.cut_labels += len(example.target) - len(with_a_piece)
                tags = piece_labels(example.target, text.word_ids)
                labels["labels"] = np.array(tags, dtype=np.int64)  # (tokens,)
        self.add(text.input_ids, text.token_type_ids, **labels)
        self.full_lengths.append(len(text.input_ids) + text.cut)


def piece_labels(tags: Sequence[int], word_ids: Sequence[int | None]) -> list[int]:
    """One label per piece from one tag per word.

    The first piece of a word carries its tag. The others are ignored, so that a word counts once in the loss however
    many pieces it has (Devlin et al. 2019, section 5.3); so are [CLS] and [SEP].
    """
    labels, before = [], None
    for word in word_ids:
        labels.append(IGNORED_LABEL if word is None or word == before else tags[word])
        before = word
    return labels


def collate(
    items: Sequence[Mapping[str, Any]], *, pad_id: int = 0, padding_side: Side = "right"
) -> dict[str, torch.Tensor]:
    """Pads rows of a `Dataset` to the longest of them.

    Returns CPU tensors: input_ids, attention_mask (1 at real tokens) and token_type_ids, int64 (B, S); labels: classes
    int64 (B,), numbers float32 (B,), several labels float32 (B, C), or word tags int64 (B, S) with -100 at padding;
    start_positions and end_positions, int64 (B,).
    """
    values = {name: [item[name] for item in items] for name in items[0]}
    ids, types = values["input_ids"], values.get("token_type_ids")
    lengths = [len(row) for row in ids]
    columns = max(lengths)
    batch = padded_batch(ids, types, pad_id=pad_id, columns=columns, side=padding_side)  # (B, S)
    for name in ("start_positions", "end_positions"):
        if name in values:
            batch[name] = torch.tensor(values[name])  # (B,)
            if padding_side == "left":
                batch[name] += columns - torch.tensor(lengths)  # (B,)
    if "labels" in values:
        labels = values["labels"]
        if isinstance(labels[0], np.ndarray):
            batch["labels"] = pad_rows(labels, IGNORED_LABEL, columns=columns, side=padding_side)  # (B, S)
        else:
            dtype = torch.int64 if all(isinstance(label, int) for label in labels) else torch.float32
            batch["labels"] = torch.tensor(labels, dtype=dtype)  # (B,) or (B, C)
    return batch


def plan_batches(
    lengths: Sequence[int], *, batch_size: int | None = None, token_budget: int | None = None,
    shuffle: bool = True, seed: int = 0, epoch: int = 0, window: int = 50,
) -> list[list[int]]:  # fmt: skip
    """Which rows go into which batch, as lists of indices. Every row is in exactly one.

    Shuffled: rows in random order, sorted by length within windows of `window` batches, cut into batches, and these in
    random order, as (seed, epoch) decide. Not shuffled (evaluation, prediction): sorted by length, longest first, so
    that memory runs out at once if it does; the indices put results back in order.

    Args:
        lengths: tokens of each row.
        batch_size, token_budget: rows in a batch, or instead the most real tokens.
        window: how many batches are sorted together; 1 means random batches.

    ConfigError unless one of `batch_size` and `token_budget` is given, it is positive, and each row is within it.
    """
    size = batch_size if token_budget is None else token_budget
    if size is None or size < 1 or (batch_size is not None and token_budget is not None):
        found = f"batch_size is {batch_size} and token_budget {token_budget}"
        raise ConfigError(f"{found}, but one must be a positive number and the other None.", key="batch_size")
    if token_budget is not None and max(lengths, default=0) > token_budget:
        message = f"A row of {max(lengths)} tokens does not fit into token_budget {token_budget}."
        raise ConfigError(message, key="token_budget", hint="Raise the budget or lower max_length.")
    costs = lengths if token_budget is not None else [1] * len(lengths)
    if not shuffle:
        return _fill(sorted(range(len(lengths)), key=lambda row: -lengths[row]), costs, size)
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for rows in _fill(order, costs, size * window):
        rows.sort(key=lambda row: -lengths[row])
        batches += _fill(rows, costs, size)
    return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]


def _fill(order: Sequence[int], costs: Sequence[int], size: int) -> list[list[int]]:
    """Cuts an order of rows into groups that cost at most `size`."""
    groups: list[list[int]] = []
    room = 0
    for row in order:
        if not groups or costs[row] > room:
            groups.append([])
            room = size
        groups[-1].append(row)
        room -= costs[row]
    return groups
