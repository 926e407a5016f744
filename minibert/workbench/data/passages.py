"""Passages: documents of sentences, as the rows of ids that pre-training reads.

    [CLS] sentences of a document [SEP]                                masked LM alone
    [CLS] sentences [SEP] the sentences after them, or others [SEP]    and next sentence

Devlin et al. 2019, section 3.1 ("Next Sentence Prediction") and appendix A.2; for rows without it
Liu et al. 2019, section 4.2 (DOC-SENTENCES). A row holds as many whole sentences as fit, and stays
within its document except for a second part from elsewhere. Every sentence is in exactly one row.
Short documents make short rows, which cost no padding where a batch is measured in tokens.

A row is stored as five numbers, four of them places in one array of the ids of all documents, so
each epoch can pair the sentences anew.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minibert.data import IGNORED_LABEL
from minibert.io.errors import ConfigError, DataError
from minibert.io.rows import Rows
from minibert.io.text_input import chunks
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.documents import Document, sentences

FOLLOWS, STRANGER = 0, 1  # the classes of next-sentence prediction

_TRIES = 100  # rows that are tried as a partner of one row


@dataclass(frozen=True)
class Pieces:
    """Documents as one array of ids, tokenised once.

    Attributes:
        ids: (pieces,) int32, without special tokens.
        sentences: where each sentence begins in `ids`, and where the last one ends.
        documents: the first sentence of each document, and the number of sentences.
        split: how many sentences were longer than a row and became several.
        empty: how many documents have no pieces and are left out.
    """

    ids: NDArray[np.int32]
    sentences: list[int]
    documents: list[int]
    split: int = 0
    empty: int = 0

    def spans(self) -> Iterator[tuple[int, int]]:
        """(first sentence, one past the last) of each document."""
        return zip(self.documents, self.documents[1:], strict=False)


def tokenise(documents: Sequence[Document], tokenizer: BertTokenizer, *, most: int, progress: bool = False) -> Pieces:
    """The sentences of documents as ids. "[MASK]" in a text is read as plain characters.

    Args:
        most: a sentence with more pieces is split, between two words where possible.
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
        raise DataError(f"There is nothing to learn from: none of {len(documents)} documents has a word.", key="corpus")
    places = np.cumsum([0, *lengths]).tolist()
    return Pieces(np.concatenate(parts), places, starts, split, empty)


def runs(pieces: Pieces, room: int) -> NDArray[np.int64]:
    """Rows of whole sentences, as many as fit, each within a document.

    Args:
        room: the most pieces of a row.

    Returns:
        (rows, 5): where the sentences begin and end in `pieces.ids`; the end twice more, for an
        empty second text; and -100, the ignored label of next-sentence prediction.
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
    """Rows of two texts: sentences, and either those that follow or some of another document.

    Each row is split in two at a random sentence. Half of the rows then exchange their second part
    with a row of another document whose second part is about as long and, like theirs, does or does
    not end its document; rows without such a partner stay as they are. A single sentence left over
    at the end of a document has no second part and no label.

    NOTE(paper): the published code draws the second part from anywhere and fills it up to the full
    length, so a long one, or one that does not end its document, gives itself away as a stranger.
    Here the second parts of both labels look alike, and every sentence is read once.

    Args:
        room: the most pieces of both texts.
        seed: decides where rows are split, the labels and the partners.

    Returns:
        (rows, 5): where the first and the second text begin and end in `pieces.ids`, and the label:
        0 follows, 1 does not, -100 none.

    Raises:
        DataError: there is only one document, or none has two sentences.
    """
    places, generator = pieces.sentences, np.random.default_rng(seed)
    if len(pieces.documents) < 3:
        raise DataError(
            "Next-sentence prediction needs two documents or more, but there is one.",
            key="objective",
            hint="Name more files (a .txt file is one document), or use --objective mlm.",
        )
    rows: list[list[int]] = []
    split: dict[bool, list[_Split]] = {False: [], True: []}  # by whether they end their document
    for document, (first, end) in enumerate(pieces.spans()):
        while first < end:
            last = _packed(places, first, end, room)
            begin, stop = places[first], places[last]
            if last - first == 1:
                rows.append([begin, stop, stop, stop, IGNORED_LABEL])
            else:
                middle = places[int(generator.integers(first + 1, last))]
                split[last == end].append(_Split(len(rows), document, middle - begin, stop - middle))
                rows.append([begin, middle, middle, stop, FOLLOWS])
            first = last
    if not any(split.values()):
        raise DataError(
            "Next-sentence prediction needs a document with two sentences or more.",
            key="objective",
            hint="Use --objective mlm.",
        )
    for alike in split.values():
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
        places: (rows, 5), from `runs` or `pairs`.
        tokenizer: gives the ids of [CLS] and [SEP].
        next_sentence: whether rows have labels: 0 the second text follows, 1 it does not, -100.
    """

    def __init__(self, pieces: Pieces, places: NDArray[np.int64], tokenizer: BertTokenizer, *, next_sentence: bool):
        super().__init__(tokenizer.model_inputs)
        self._pieces, self._places, self._next_sentence = pieces, places, next_sentence
        self._tokenizer = tokenizer
        first, second = places[:, 1] - places[:, 0], places[:, 3] - places[:, 2]
        self.lengths = (first + 2 + second + (second > 0)).tolist()
        self.full_lengths = self.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row: input_ids, token_type_ids if the model takes them, and labels (0, 1, -100)."""
        begin, end, start, stop, label = self._places[index].tolist()
        texts = [self._pieces.ids[begin:end].tolist(), self._pieces.ids[start:stop].tolist()]
        ids, types = self._tokenizer.frame(*(text for text in texts if text))
        return self.item(ids, types, **({"labels": label} if self._next_sentence else {}))

    def ids(self, row: int) -> NDArray[np.int32]:
        return self[row]["input_ids"]


def hold_out(
    documents: Sequence[Document], share: float, *, seed: int, least: int = 1
) -> tuple[list[Document], list[Document]]:
    """Documents to train on and documents held out, each part in the order of the corpus.

    Args:
        share: the share of the documents to hold out.
        least: how many to hold out at least.

    Raises:
        ConfigError: a part would be empty.
    """
    count = max(least, round(share * len(documents)))
    if count >= len(documents):
        raise ConfigError(
            f"There is no document to train on beside the {count} held out, of {len(documents)}.",
            key="validation_fraction",
            hint="Name more files (a .txt file is one document), or use --validation.",
        )
    chosen = np.zeros(len(documents), dtype=bool)
    chosen[np.random.default_rng(seed).permutation(len(documents))[:count]] = True
    both = list(zip(documents, chosen, strict=True))
    return [one for one, held in both if not held], [one for one, held in both if held]


def _ends(ids: NDArray[np.int32], most: int, continues: NDArray[np.bool_]) -> list[int]:
    """Where the parts of a sentence end; it is one part if it has at most `most` pieces."""
    ends: list[int] = []
    start = 0
    while len(ids) - start > most:
        end = start + most
        while end > start and continues[ids[end]]:
            end -= 1  # a word stays whole, unless it alone is too long
        start = end if end > start else start + most
        ends.append(start)
    return [*ends, len(ids)] if len(ids) else []


def _packed(places: list[int], first: int, end: int, room: int) -> int:
    """One past the last sentence that fits into a row that begins with sentence `first`."""
    fits = bisect_right(places, places[first] + room, first, end + 1) - 1
    return max(fits, first + 1)


class _Split(NamedTuple):
    """A row in two parts: its number, its document, and how many pieces each part has."""

    row: int
    document: int
    first: int
    second: int


def _partners(rows: Sequence[_Split], room: int) -> Iterator[tuple[_Split, _Split]]:
    """Pairs of rows that can exchange their second parts, with lengths as close as possible.

    A row is left out if all that are close belong to its document or have no room for its part.
    """
    waiting: list[_Split] = []
    for row in sorted(rows, key=lambda row: row.second):
        # The last ones waiting are the closest in length, and no longer than this one.
        for place in range(len(waiting) - 1, max(-1, len(waiting) - 1 - _TRIES), -1):
            other = waiting[place]
            if other.document != row.document and other.first + row.second <= room:
                yield waiting.pop(place), row
                break
        else:
            waiting.append(row)
