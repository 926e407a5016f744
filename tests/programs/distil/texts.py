"""The prepared texts as ids on a device, and batches of rows that need no padding."""

from __future__ import annotations

import functools
import gzip
import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minibert.layout import Layout
from minibert.tokenizer import BertTokenizer

KINDS = ("review", "prose", "short", "sample", "made up", "test")
NATURAL = ("review", "prose", "short")  # what masked words are learned from; the others are left out


@dataclass(frozen=True)
class Pieces:
    """All texts in the pieces of one tokenizer, one after the other.

    Attributes:
        ids: (pieces,) int32, on the device.
        ends: (fragments + 1,) where each fragment begins and the last ends.
        cls, sep, mask: the ids of these tokens.
        ordinary: the ids of all others.
    """

    ids: Tensor
    ends: NDArray[np.int64]
    cls: int
    sep: int
    mask: int
    ordinary: Tensor

    def rows(self, starts: NDArray[np.int64], columns: int) -> Tensor:
        """(rows, columns) ids of texts that begin at these pieces, [CLS] and [SEP] included."""
        begin = torch.from_numpy(starts).to(self.ids.device)  # (R,)
        within = torch.arange(columns - 2, device=self.ids.device)  # (S - 2,)
        text = self.ids[begin[:, None] + within].long()  # (R, S - 2)
        edge = text.new_ones(len(text), 1)  # (R, 1)
        return torch.cat([edge * self.cls, text, edge * self.sep], dim=1)  # (R, S)


@dataclass(frozen=True)
class Texts:
    """Documents of fragments, in the pieces of the student and of the teacher.

    Attributes:
        first: (documents + 1,) the first fragment of each document.
        kinds: (documents,) indices of KINDS; natural text comes first.
        labels: (documents,) 1 positive, 0 negative, -1 unknown.
    """

    student: Pieces
    teacher: Pieces
    first: NDArray[np.int64]
    kinds: NDArray[np.int64]
    labels: NDArray[np.int64]

    @property
    def document_of_fragment(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.kinds)), np.diff(self.first))

    def is_kind(self, *kinds: str) -> NDArray[np.bool_]:
        return np.isin(self.kinds, [KINDS.index(kind) for kind in kinds])


def load(folder: Path, student: Path, teacher: Path, device: str, processes: int) -> Texts:
    """Reads and tokenises what `prepare` wrote."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a process for each file instead
    files = sorted(folder.glob("t*.jsonl.gz"))
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        shards = pool.map(functools.partial(_shard, student=student, teacher=teacher), files, chunksize=1)
    kinds, labels, counts = (np.concatenate([shard[part] for shard in shards]) for part in range(3))
    # Natural text first, so that it is one stream of pieces.
    order = np.argsort(kinds >= len(NATURAL), kind="stable")
    first = np.concatenate([[0], np.cumsum(counts)])
    fragments = np.concatenate([np.arange(first[d], first[d + 1]) for d in order])
    pieces = []
    for part, path in ((3, student), (4, teacher)):
        ids = np.concatenate([shard[part][0] for shard in shards])
        lengths = np.concatenate([shard[part][1] for shard in shards])
        pieces.append(_pieces(ids, lengths, fragments, BertTokenizer.from_pretrained(path), device))
    first = np.concatenate([[0], np.cumsum(counts[order])])
    return Texts(*pieces, first, kinds[order], labels[order])


def _shard(file: Path, student: Path, teacher: Path) -> tuple:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    texts = [fragment for document in documents for fragment in document["fragments"]]
    kinds = np.array([KINDS.index(document["kind"]) for document in documents], dtype=np.int64)
    labels = np.array(
        [-1 if document["label"] is None else document["label"] for document in documents], dtype=np.int64
    )
    counts = np.array([len(document["fragments"]) for document in documents], dtype=np.int64)
    return kinds, labels, counts, _ids(texts, student), _ids(texts, teacher)


def _ids(texts: Sequence[str], folder: Path) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    tokenizer = BertTokenizer.from_pretrained(folder)
    parts = []
    for start in range(0, len(texts), 4096):
        encoded = tokenizer.pieces(texts[start : start + 4096], split_special_tokens=True, offsets=False)
        parts += [np.array(text.ids, dtype=np.uint16) for text in encoded]
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    return np.concatenate([np.zeros(0, dtype=np.uint16), *parts]), lengths


def _pieces(
    ids: NDArray[np.uint16],
    lengths: NDArray[np.int64],
    fragments: NDArray[np.int64],
    tokenizer: BertTokenizer,
    device: str,
) -> Pieces:
    """The ids in another order of fragments."""
    starts = np.cumsum(lengths) - lengths
    sorted_lengths = lengths[fragments]
    ends = np.concatenate([[0], np.cumsum(sorted_lengths)])
    where = np.repeat(starts[fragments] - ends[:-1], sorted_lengths) + np.arange(ends[-1])
    special = tokenizer.special_tokens
    ordinary = np.setdiff1d(np.arange(len(tokenizer)), list(special.values()))
    on_device = torch.from_numpy(ids[where].astype(np.int32)).to(device)  # (pieces,)
    every = torch.from_numpy(ordinary).to(device)
    return Pieces(on_device, ends, special["[CLS]"], special["[SEP]"], special["[MASK]"], every)


@dataclass(frozen=True)
class Rows:
    """Texts that are read as rows of one length at a time, so that a batch needs no padding.

    Attributes:
        numbers: (rows,) which fragment or document each is.
        starts: (rows,) its first piece.
        columns: (rows,) its length with [CLS] and [SEP].
    """

    pieces: Pieces
    numbers: NDArray[np.int64]
    starts: NDArray[np.int64]
    columns: NDArray[np.int64]

    @classmethod
    def of_fragments(cls, texts: Texts, pieces: Pieces, wanted: NDArray[np.bool_], most: int = 64) -> Rows:
        """Fragments, cut after `most` columns; wanted (fragments,)."""
        lengths = np.diff(pieces.ends)
        numbers = np.flatnonzero(wanted & (lengths > 0))
        return cls(pieces, numbers, pieces.ends[numbers], np.minimum(lengths[numbers] + 2, most))

    @classmethod
    def of_documents(cls, texts: Texts, pieces: Pieces, wanted: NDArray[np.bool_], most: int = 256) -> Rows:
        """Documents, cut to a multiple of 8 columns; wanted (documents,)."""
        starts = pieces.ends[texts.first]
        columns = np.minimum((np.diff(starts) + 2) // 8 * 8, most)
        numbers = np.flatnonzero(wanted & (columns > 0))
        return cls(pieces, numbers, starts[:-1][numbers], columns[numbers])

    def epoch(self, tokens: int, draw: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Batches of about so many tokens, in random order: the numbers of the rows, and their ids (R, S)."""
        order = np.lexsort((draw.random(len(self.numbers)), self.columns))
        borders = np.flatnonzero(np.diff(self.columns[order])) + 1
        chunks = []
        for group in np.split(order, borders):
            size = max(1, tokens // int(self.columns[group[0]]))
            chunks += [group[start : start + size] for start in range(0, len(group), size)]
        for number in draw.permutation(len(chunks)):
            chunk = chunks[number]
            yield self.numbers[chunk], self.pieces.rows(self.starts[chunk], int(self.columns[chunk[0]]))

    def forever(self, tokens: int, draw: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        while len(self.numbers):
            yield from self.epoch(tokens, draw)


@functools.lru_cache(maxsize=512)
def full_layout(rows: int, columns: int, device: str) -> Layout:
    """The layout of a table without padding."""
    return Layout.from_mask(torch.ones(rows, columns, dtype=torch.bool)).to(device)
