"""Batches: a corpus tokenised once, and a plan of which rows travel together.

Two things keep a batch cheap. Texts of about the same length go into one batch, since attention
works on a rectangle as wide as the longest row; and a batch may be measured in tokens instead of
rows, since everything but attention runs on real tokens alone. The plan is a pure function of
(seed, epoch): a run that is resumed sees the same batches.
"""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.utils.data
from tqdm import tqdm

from minibert.examples import AnyExample, ChoiceExample, Example, TaggedExample
from minibert.io.errors import ConfigError, DataError
from minibert.tokenizer import BertTokenizer, Encoded, Side, pad_rows, warn_of_cuts
from minibert.workbench.data.corpora import Corpus

# Never counts in a loss: torch.nn.functional.cross_entropy's own ignore_index.
IGNORED_LABEL = -100

# Tokenised at a time, between two movements of the progress bar: so many texts, and of long ones as
# many as have so many characters, since all pieces of a chunk are in memory, the cut ones too.
_CHUNK = 1000
_CHUNK_CHARACTERS = 1_000_000


class Rows(torch.utils.data.Dataset):
    """Rows of ids, ready for batches: what is common to data sets of every form of example.

    Attributes:
        lengths: the number of tokens of each row.
        full_lengths: of each example, before anything is cut off.
        cut: how many examples truncation made shorter.
        cut_labels: how many labels have lost what they are about.
        word_ids: for tagged sentences, which word each piece of each row belongs to (None for
            special tokens), as in `Encoded`; else None.
    """

    lengths: list[int]
    full_lengths: list[int]
    cut: int = 0
    cut_labels: int = 0
    word_ids: list[list[int | None]] | None = None
    _items: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row: input_ids, token_type_ids if the model takes them, labels if there are any."""
        return self._items[index]

    def tokens_read(self) -> list[int]:
        """How many tokens of each example the model reads."""
        return self.lengths

    def ids(self, row: int) -> np.ndarray:
        """All ids of a row, one after the other."""
        stored = self._items[row]["input_ids"]
        return np.concatenate(stored) if isinstance(stored, list) else stored


class Dataset(Rows):
    """A corpus of texts or tagged sentences as token ids.

    All texts are tokenised when it is made, by the tokenizer's own threads. It also works in a
    plain `torch.utils.data.DataLoader` with `collate_fn=collate`.

    Args:
        examples: a corpus, or examples of one kind.
        tokenizer: cuts the texts.
        max_length: the most tokens for each row; None means as many as the model takes.
        truncation: longer rows are cut, with one warning; if False they are an error.
        progress: shows a bar on standard error, if that is a terminal.

    Attributes:
        lengths: the number of tokens of each row.
        full_lengths: the same before truncation.
        cut: how many rows truncation made shorter.
        cut_labels: how many word tags have no piece left to carry them: they were cut off, or
            nothing is left of the word once it is cleaned (a lone variation selector). A warning
            tells.
        word_ids: for tagged sentences, which word each piece of each row belongs to (None for
            special tokens), as in `Encoded`; for texts None.

    Raises:
        DataError: there are no examples, or a text cannot be used; see `BertTokenizer`.
    """

    def __init__(
        self,
        examples: Corpus | Sequence[Example] | Sequence[TaggedExample],
        tokenizer: BertTokenizer,
        *,
        max_length: int | None = None,
        truncation: bool = True,
        progress: bool = False,
    ):
        rows = list(examples)
        if not rows:
            raise DataError(
                "There are no examples to make a data set of.",
            )
        self._token_types = "token_type_ids" in tokenizer.model_inputs
        self._items = []
        words = isinstance(rows[0], TaggedExample)
        self.word_ids = [] if words else None
        cuts: list[int] = []
        bar = tqdm(
            total=len(rows), desc="tokenising", unit="text", disable=None if progress else True
        )
        for start, chunk in chunks(rows):
            encoded = tokenizer.encode(
                *_texts(chunk, start),
                max_length=max_length,
                truncation=truncation,
                words=words,
                first_row=start,
            )
            cuts += [row.cut for row in encoded]
            self._items += [
                self._item(example, row) for example, row in zip(chunk, encoded, strict=True)
            ]
            if self.word_ids is not None:
                self.word_ids += [row.word_ids for row in encoded]
            bar.update(len(chunk))
        bar.close()
        self.lengths = [len(item["input_ids"]) for item in self._items]
        self.full_lengths = [kept + cut for kept, cut in zip(self.lengths, cuts, strict=True)]
        self.cut = sum(cut > 0 for cut in cuts)
        warn_of_cuts(cuts, max_length or tokenizer.max_length, stacklevel=2)
        if self.cut_labels:
            tagged = [example for example in rows if isinstance(example, TaggedExample)]
            tags = sum(len(example.tags or ()) for example in tagged)
            warnings.warn(
                f"{self.cut_labels} of {tags} word tags have no piece to carry them and count for "
                "nothing: their words were cut off, or cleaning left nothing of them.",
                stacklevel=2,
            )

    def _item(self, example: Example | TaggedExample, encoded: Encoded) -> dict[str, Any]:
        item: dict[str, Any] = {"input_ids": np.array(encoded.input_ids, dtype=np.int32)}
        if self._token_types:
            item["token_type_ids"] = np.array(encoded.token_type_ids, dtype=np.int8)
        if isinstance(example, Example) and example.label is not None:
            item["labels"] = example.label
        if isinstance(example, TaggedExample) and example.tags is not None:
            labels = piece_labels(example.tags, encoded.word_ids)
            item["labels"] = np.array(labels, dtype=np.int64)
            self.cut_labels += len(example.tags) - len({*encoded.word_ids} - {None})
        return item


class Choices(Rows):
    """A corpus of texts with choices: a row is a list of ids for each choice, with the text first.

    Zellers et al. 2018 (SWAG) and Devlin et al. 2019, section 4.4: the text is the first of a pair,
    the choice the second.

    Args:
        examples: a corpus of choices, or examples.
        tokenizer, max_length, progress: as for `Dataset`; each pair is cut for itself.

    Attributes:
        lengths: the tokens of all the pairs of a row together.
    """

    def __init__(
        self,
        examples: Corpus | Sequence[ChoiceExample],
        tokenizer: BertTokenizer,
        *,
        max_length: int | None = None,
        progress: bool = False,
    ):
        rows: list[Any] = list(examples)
        pairs = [Example(row.text, choice) for row in rows for choice in row.choices]
        flat = Dataset(pairs, tokenizer, max_length=max_length, progress=progress)
        ends = list(itertools.accumulate(len(row.choices) for row in rows))
        spans = list(zip([0, *ends], ends, strict=False))
        self._items = []
        for row, (start, end) in zip(rows, spans, strict=True):
            items = [flat[place] for place in range(start, end)]
            item = {name: [one[name] for one in items] for name in items[0]}
            self._items.append(item if row.label is None else {**item, "labels": row.label})
        self.lengths = [sum(flat.lengths[start:end]) for start, end in spans]
        self.full_lengths = [sum(flat.full_lengths[start:end]) for start, end in spans]
        self.cut = sum(
            flat.full_lengths[start:end] != flat.lengths[start:end] for start, end in spans
        )


def piece_labels(tags: Sequence[int], word_ids: Sequence[int | None]) -> list[int]:
    """One label for each piece, of one tag for each word.

    The first piece of a word carries its tag. The others are ignored, so that a word counts once
    in the loss however many pieces it has (Devlin et al. 2019, section 5.3); so are [CLS] and
    [SEP].
    """
    labels, before = [], None
    for word in word_ids:
        labels.append(IGNORED_LABEL if word is None or word == before else tags[word])
        before = word
    return labels


def collate(
    items: Sequence[Mapping[str, Any]], *, pad_id: int = 0, padding_side: Side = "right"
) -> dict[str, torch.Tensor]:
    """Pads rows to the longest of them.

    Args:
        items: rows of a `Dataset`.
        pad_id: the tokenizer's `pad_id`.
        padding_side: where the padding goes.

    Returns:
        CPU tensors: input_ids, attention_mask (1 at real tokens) and token_type_ids, int64,
        (B, S); labels by their kind: a class int64 (B,), numbers float32 (B,), several labels
        float32 (B, C), word tags int64 (B, S) with -100 at padding; start_positions and
        end_positions int64 (B,). Of choices the tables are (B, choices, S); a row that has fewer of
        them than another has rows of padding in their place.
    """
    if isinstance(items[0]["input_ids"], list):
        return _collate_choices(items, pad_id, padding_side)
    columns = max(len(item["input_ids"]) for item in items)
    mask = [np.ones(len(item["input_ids"]), dtype=np.int64) for item in items]
    values = {name: [item[name] for item in items] for name in items[0]}
    batch = {
        "input_ids": pad_rows(values["input_ids"], pad_id, columns=columns, side=padding_side),
        "attention_mask": pad_rows(mask, 0, columns=columns, side=padding_side),
    }  # (B, S) each
    if "token_type_ids" in values:
        batch["token_type_ids"] = pad_rows(
            values["token_type_ids"], 0, columns=columns, side=padding_side
        )  # (B, S)
    for name in ("start_positions", "end_positions"):
        if name in values:  # columns move with padding on the left
            moved = [
                columns - len(item["input_ids"]) if padding_side == "left" else 0 for item in items
            ]
            batch[name] = torch.tensor(values[name]) + torch.tensor(moved)  # (B,)
    if "labels" in values:
        labels = values["labels"]
        if isinstance(labels[0], np.ndarray):
            batch["labels"] = pad_rows(
                labels, IGNORED_LABEL, columns=columns, side=padding_side
            )  # (B, S)
        else:
            kind = torch.int64 if isinstance(labels[0], int) else torch.float32
            batch["labels"] = torch.tensor(labels, dtype=kind)  # (B,) or (B, C)
    return batch


def _collate_choices(
    items: Sequence[Mapping[str, Any]], pad_id: int, padding_side: Side
) -> dict[str, torch.Tensor]:
    most = max(len(item["input_ids"]) for item in items)
    tables = [name for name in items[0] if name != "labels"]
    none = np.zeros(0, dtype=np.int32)
    flat = [
        {name: item[name][place] if place < len(item[name]) else none for name in tables}
        for item in items
        for place in range(most)
    ]
    batch = {
        name: table.unflatten(0, (len(items), most))  # (B, choices, S)
        for name, table in collate(flat, pad_id=pad_id, padding_side=padding_side).items()
    }
    if "labels" in items[0]:
        batch["labels"] = torch.tensor([item["labels"] for item in items])  # (B,)
    return batch


def plan_batches(
    lengths: Sequence[int],
    *,
    batch_size: int | None = None,
    token_budget: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    epoch: int = 0,
    window: int = 50,
) -> list[list[int]]:
    """Which rows go into which batch, as lists of indices. Every row is in exactly one.

    Shuffled: rows in random order, sorted by length inside windows of `window` batches, cut into
    batches, and these in random order. Not shuffled (evaluation, prediction): sorted by length,
    longest first, so that memory runs out at once if it does; the indices put results back in
    order.

    Args:
        lengths: tokens of each row.
        batch_size: rows in a batch.
        token_budget: real tokens in a batch, instead of `batch_size`.
        shuffle: random batches of similar length, or all sorted.
        seed, epoch: decide the order. Nothing else does.
        window: batches that are sorted together; 1 means random batches.

    Raises:
        ConfigError: not exactly one of `batch_size` and `token_budget` is given, it is not
            positive, or a row alone is over the budget.
    """
    size = batch_size if token_budget is None else token_budget
    if size is None or size < 1 or (batch_size is not None and token_budget is not None):
        raise ConfigError(
            f"batch_size is {size}, but it must be 1 or more."
            if batch_size is not None and token_budget is None
            else f"batch_size is {batch_size} and token_budget {token_budget}: one of them has to "
            "be a positive number, the other None.",
            key="batch_size",
        )
    if token_budget is not None and max(lengths, default=0) > token_budget:
        raise ConfigError(
            f"A row of {max(lengths)} tokens does not fit into token_budget {token_budget}.",
            key="token_budget",
            hint="Raise the budget or lower max_length.",
        )
    costs = lengths if token_budget is not None else [1] * len(lengths)
    if not shuffle:
        order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
        return _fill(order, costs, size)
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for rows in _fill(order, costs, size * window):
        rows.sort(key=lambda row: -lengths[row])
        batches += _fill(rows, costs, size)
    return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]


def mixed_seed(*parts: object) -> int:
    """One 63-bit seed of several parts, so that (0, 1) and (1, 0) have nothing in common."""
    digest = hashlib.sha256(" ".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


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


def chunks(rows: Sequence[Any]) -> Iterator[tuple[int, Sequence[Any]]]:
    """Parts of `rows`, each with the number of its first row."""
    start = characters = 0
    for row, example in enumerate(rows):
        size = _characters(example)
        if row - start == _CHUNK or (row > start and characters + size > _CHUNK_CHARACTERS):
            yield start, rows[start:row]
            start, characters = row, 0
        characters += size
    yield start, rows[start:]


def _characters(example: AnyExample) -> int:
    """Roughly how long; whether it is text at all is asked later."""
    if isinstance(example, TaggedExample):
        return len(str(example.words))
    return sum(len(str(text)) for text in example.texts)


def _texts(
    examples: Sequence[Example | TaggedExample], start: int
) -> tuple[list[Any], list[Any] | None]:
    """First texts (or words), and second texts if these examples have them."""
    if isinstance(examples[0], TaggedExample):
        return [example.words for example in examples], None  # type: ignore[union-attr]
    paired = examples[0].text_pair is not None
    for row, example in enumerate(examples, start=start):
        if (example.text_pair is not None) != paired:  # type: ignore[union-attr]
            raise DataError(
                f"Row {row} has {'no' if paired else 'a'} second text, unlike the rows before it.",
                key=str(row),
            )
    texts = [example.text for example in examples]  # type: ignore[union-attr]
    return texts, [example.text_pair for example in examples] if paired else None  # type: ignore
