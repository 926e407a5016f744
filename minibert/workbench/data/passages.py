"""Passages: documents of sentences, as the rows of ids that pre-training reads.

    [CLS] sentences of a document [SEP]                                masked LM alone
    [CLS] sentences [SEP] the sentences after them, or others [SEP]    and next sentence

Devlin et al. 2019, section 3.1 ("Next Sentence Prediction") and appendix A.2; for rows without it
Liu et al. 2019, section 4.2 (DOC-SENTENCES). Sentences are packed whole into a row, as many as it
takes, and no row but a pair with a stranger goes beyond its document. Every sentence is in exactly
one row; none is dropped. Short documents make short rows, which cost no padding where a batch is
measured in tokens.

A row is five numbers, places in one array that holds the ids of all documents, so that an epoch can
have pairs of its own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minibert.data import IGNORED_LABEL, Rows, chunks
from minibert.io.errors import ConfigError, DataError
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.documents import Document, sentences

FOLLOWS, STRANGER = 0, 1  # the classes of next-sentence prediction

# Rows looked at for one that fits, before a row stays as it is.
_TRIES = 100


@dataclass(frozen=True)
class Pieces:
    """Documents as one array of ids, tokenised once.

    Attributes:
        ids: (pieces,) int32, without special tokens.
        sentences: where each sentence begins in `ids`, and where the last one ends.
        documents: which sentence each document begins with, and how many there are.
        split: how many sentences were longer than a row takes, and became several.
        empty: how many documents have no piece, and are left out.
    """

    ids: NDArray[np.int32]
    sentences: list[int]
    documents: list[int]
    split: int = 0
    empty: int = 0

    def spans(self) -> Iterator[tuple[int, int]]:
        """(first sentence, one past the last) of each document."""
        return zip(self.documents, self.documents[1:], strict=False)


def tokenise(
    documents: Sequence[Document], tokenizer: BertTokenizer, *, most: int, progress: bool = False
) -> Pieces:
    """The sentences of documents as ids.

    "[MASK]" in a text is read as the characters that it is.

    Args:
        most: a sentence with more pieces becomes several, each as long as that allows, between
            two words where it can.
        progress: show a bar on standard error, if that is a terminal.

    Raises:
        DataError: no document has a piece, or a sentence cannot be tokenised (see `BertTokenizer`).
    """
    continues = np.zeros(len(tokenizer), dtype=bool)  # (V,)
    continues[[number for piece, number in tokenizer.vocabulary.items() if piece[:2] == "##"]] = 1
    parts: list[NDArray[np.int32]] = []
    lengths: list[int] = []
    starts, split, empty = [0], 0, 0
    for _, chunk in chunks(documents, progress=progress):
        texts = [sentences(document.text) for document in chunk]
        every = [text for of_one in texts for text in of_one]
        rows = iter(tokenizer.pieces(every, split_special_tokens=True, offsets=False))
        for of_one in texts:
            before = len(lengths)
            for _ in of_one:
                ids = np.array(next(rows).ids, dtype=np.int32)  # (pieces,)
                ends = _ends(ids, most, continues)
                split += len(ends) > 1
                lengths += np.diff([0, *ends]).tolist()
                parts.append(ids)
            if len(lengths) > before:
                starts.append(len(lengths))
            else:
                empty += 1
    if not lengths:
        raise DataError(
            f"There is nothing to learn from: none of {len(documents)} documents has a word.",
            key="corpus",
        )
    places = np.cumsum([0, *lengths]).tolist()
    return Pieces(np.concatenate(parts), places, starts, split, empty)


def runs(pieces: Pieces, room: int) -> NDArray[np.int64]:
    """Rows of whole sentences, as many as fit, each within a document.

    Args:
        room: the most pieces of a row.

    Returns:
        (rows, 5): where the sentences begin and end in `pieces.ids`; twice the end, for a second
        text that is empty; and -100, as the label of next-sentence prediction.
    """
    places = pieces.sentences
    rows = []
    for first, end in pieces.spans():
        while first < end:
            last = _packed(places, first, end, room)
            rows.append((places[first], places[last], places[last], places[last], IGNORED_LABEL))
            first = last
    return np.array(rows, dtype=np.int64)


def pairs(pieces: Pieces, room: int, *, seed: int) -> NDArray[np.int64]:
    """Rows of two texts: sentences, and either those after them or some of another document.

    The sentences of a row are parted at random. Of half of the rows two at a time, of different
    documents, then exchange their second parts, if these are about as long and both, or neither,
    end their document; rows that find no other stay as they are. What is left alone at the end of a
    document, one sentence, has nothing after it and no label.

    NOTE(paper): the published code draws strangers from anywhere and fills them up to the full
    length. What is long, or does not end its document, is then likely a stranger, whatever it says.
    Here both labels have second parts of the same kind, and every sentence is read once.

    Args:
        room: the most pieces of both texts.
        seed: decides the parting, the labels and the strangers.

    Returns:
        (rows, 5): where the first and the second text begin and end in `pieces.ids`, and the label:
        0 it follows, 1 it does not, -100 there is none.

    Raises:
        DataError: there is one document only, or none has two sentences.
    """
    places, generator = pieces.sentences, np.random.default_rng(seed)
    if len(pieces.documents) < 3:
        raise DataError(
            "Next-sentence prediction needs two documents or more, and there is one.",
            key="objective",
            hint="Name more files (a .txt file is one document), or say --objective mlm.",
        )
    rows: list[list[int]] = []
    parted: dict[bool, list[_Parted]] = {False: [], True: []}  # whether they end their document
    for document, (first, end) in enumerate(pieces.spans()):
        while first < end:
            last = _packed(places, first, end, room)
            begin, stop = places[first], places[last]
            if last - first == 1:
                rows.append([begin, stop, stop, stop, IGNORED_LABEL])
            else:
                middle = places[int(generator.integers(first + 1, last))]
                parted[last == end].append(
                    _Parted(len(rows), document, middle - begin, stop - middle)
                )
                rows.append([begin, middle, middle, stop, FOLLOWS])
            first = last
    if not any(parted.values()):
        raise DataError(
            "Next-sentence prediction needs a document of two sentences, and there is none.",
            key="objective",
            hint="Say --objective mlm.",
        )
    for alike in parted.values():
        chosen = generator.permutation(len(alike))[: 2 * round(len(alike) / 4)]
        for one, other in _partners([alike[place] for place in chosen], room):
            ours, theirs = rows[one.row], rows[other.row]
            ours[2:4], theirs[2:4] = theirs[2:4], ours[2:4]
            ours[4] = theirs[4] = STRANGER
    return np.array(rows, dtype=np.int64)


class Passages(Rows):
    """Rows of pre-training, ready for batches.

    Args:
        pieces: the documents.
        places: (rows, 5), as `runs` or `pairs` gives them.
        tokenizer: knows the special tokens around them.
        next_sentence: whether rows have labels: 0 the second text follows, 1 it does not, -100.
    """

    def __init__(
        self,
        pieces: Pieces,
        places: NDArray[np.int64],
        tokenizer: BertTokenizer,
        *,
        next_sentence: bool,
    ):
        self._pieces, self._places, self._next_sentence = pieces, places, next_sentence
        self._token_types = "token_type_ids" in tokenizer.model_inputs
        self._first = np.array([tokenizer.cls_id], dtype=np.int32)
        self._after = np.array([tokenizer.sep_id], dtype=np.int32)
        first, second = places[:, 1] - places[:, 0], places[:, 3] - places[:, 2]
        self.lengths = (first + 2 + second + (second > 0)).tolist()
        self.full_lengths = self.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row: input_ids, token_type_ids if the model takes them, and labels (0, 1, -100)."""
        begin, end, start, stop, label = self._places[index].tolist()
        ids = self._pieces.ids
        parts = [self._first, ids[begin:end], self._after]
        if stop > start:
            parts += [ids[start:stop], self._after]
        item: dict[str, Any] = {"input_ids": np.concatenate(parts)}
        if self._token_types:
            types = np.zeros(self.lengths[index], dtype=np.int8)
            types[end - begin + 2 :] = 1
            item["token_type_ids"] = types
        if self._next_sentence:
            item["labels"] = label
        return item

    def ids(self, row: int) -> NDArray[np.int32]:
        return self[row]["input_ids"]


def hold_out(
    documents: Sequence[Document], share: float, *, seed: int, least: int = 1
) -> tuple[list[Document], list[Document]]:
    """Documents to train on and documents to measure on, each part in the order of the corpus.

    Args:
        share: of the documents, to measure on.
        least: documents to measure on at the least.

    Raises:
        ConfigError: a part would be empty.
    """
    count = max(least, round(share * len(documents)))
    if count >= len(documents):
        raise ConfigError(
            f"There is no document to train on beside the {count} to hold out, of "
            f"{len(documents)} in all.",
            key="validation_fraction",
            hint="Name more files (a .txt file is one document), or --validation.",
        )
    chosen = np.zeros(len(documents), dtype=bool)
    chosen[np.random.default_rng(seed).permutation(len(documents))[:count]] = True
    both = list(zip(documents, chosen, strict=True))
    return [one for one, held in both if not held], [one for one, held in both if held]


def _ends(ids: NDArray[np.int32], most: int, continues: NDArray[np.bool_]) -> list[int]:
    """Where the parts of a sentence end; one part, if it is no longer than `most`."""
    ends: list[int] = []
    start = 0
    while len(ids) - start > most:
        end = start + most
        while end > start and continues[ids[end]]:
            end -= 1  # a word stays whole, unless it is longer than that
        start = end if end > start else start + most
        ends.append(start)
    return [*ends, len(ids)] if len(ids) else []


def _packed(places: list[int], first: int, end: int, room: int) -> int:
    """One past the last sentence that still fits into a row that begins with `first`."""
    fits = bisect_right(places, places[first] + room, first, end + 1) - 1
    return max(fits, first + 1)


class _Parted(NamedTuple):
    """A row in two parts, of so many pieces each."""

    row: int
    document: int
    first: int
    second: int


def _partners(rows: Sequence[_Parted], room: int) -> Iterator[tuple[_Parted, _Parted]]:
    """Pairs of rows that can exchange their second parts, of the nearest lengths that fit.

    A row is left out where all that are near are of its document, or too full for its second part.
    """
    waiting: list[_Parted] = []
    for row in sorted(rows, key=lambda row: row.second):
        # The last ones that wait are the nearest in length, and no longer than this one.
        for place in range(len(waiting) - 1, max(-1, len(waiting) - 1 - _TRIES), -1):
            other = waiting[place]
            if other.document != row.document and other.first + row.second <= room:
                yield waiting.pop(place), row
                break
        else:
            waiting.append(row)
