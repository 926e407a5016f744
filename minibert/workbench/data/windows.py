"""Windows: a question with a context that may be longer than the model can read at once.

    [CLS] question [SEP] part of the context [SEP]

A long context is read in several windows, each with the whole question. Two neighbours share some
tokens, so that an answer at the edge of one lies inside the other. In a window that does not hold
the whole answer the right answer is "not here", which is [CLS] (Devlin et al. 2019, section 4.3,
and the code published with it).

Offsets are characters of the context as it was given. The way from an answer to columns and back
(`pieces_of`, `Window.characters_of`) widens it to whole pieces: nothing else can be pointed at.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from minibert.data import Rows, chunks
from minibert.examples import Answer, QuestionExample
from minibert.io.errors import DataError
from minibert.tokenizer import BertTokenizer, Encoded
from minibert.workbench.data.corpora import Corpus

MOST_OF_A_QUESTION = 64  # tokens; Devlin et al.'s code cuts questions there, too
NOT_HERE = (0, 0)  # the columns of the answer where it is not in a window: those of [CLS]


@dataclass(frozen=True)
class Window:
    """Where the pieces of one row stand in the context.

    Attributes:
        question: the number of the question.
        first: the column of the first piece of the context; those before it are the question's.
        start: which piece of the whole context that is.
        offsets: (pieces, 2) start and end of each piece here, in characters of the context.
    """

    question: int
    first: int
    start: int
    offsets: np.ndarray

    def columns_of(self, pieces: tuple[int, int] | None) -> tuple[int, int] | None:
        """The columns of a stretch of the context's pieces; None if it is not all here."""
        if pieces is None or pieces[0] < self.start or pieces[1] >= self.start + len(self.offsets):
            return None
        return self.first + pieces[0] - self.start, self.first + pieces[1] - self.start

    def characters_of(self, first: int, last: int) -> tuple[int, int]:
        """The characters (from, to) of the context that columns first to last stand for."""
        return int(self.offsets[first - self.first, 0]), int(self.offsets[last - self.first, 1])


def pieces_of(answer: Answer, offsets: np.ndarray) -> tuple[int, int] | None:
    """The first and the last piece of an answer, of the offsets (pieces, 2) of its whole context.

    None where no piece stands for any of its characters.
    """
    starts, ends = offsets[:, 0], offsets[:, 1]  # (pieces,), (pieces,)
    inside = np.flatnonzero((ends > answer.start) & (starts < answer.end))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


class Windows(Rows):
    """Questions as rows of ids, one row or more for each.

    Args:
        questions: a corpus of questions, or examples.
        tokenizer: cuts the texts.
        max_length: tokens of a row; None: as many as the model takes.
        overlap: tokens of the context that two windows share; None: 128, or a third of the room
            beside the question where that is less.
        progress: shows a bar on standard error, if that is a terminal.

    Attributes:
        windows: for each row where it stands.
        rows_of: for each question its rows.
        lengths: the number of tokens of each row.
        full_lengths: of each question, whole, with its whole context.
        cut: how many questions (not contexts) were too long and cut. A warning tells.
        cut_labels: how many questions have an answer of which no window holds all.

    Raises:
        DataError: there are no questions, or a text cannot be used.
        ConfigError: the overlap leaves a window nothing of its own.
    """

    def __init__(
        self,
        questions: Corpus | Sequence[QuestionExample],
        tokenizer: BertTokenizer,
        *,
        max_length: int | None = None,
        overlap: int | None = None,
        progress: bool = False,
    ):
        examples: list[Any] = list(questions)
        if not examples:
            raise DataError(
                "There are no questions to make windows of.",
            )
        self._token_types = "token_type_ids" in tokenizer.model_inputs
        self.windows: list[Window] = []
        self.rows_of: list[list[int]] = []
        self.full_lengths: list[int] = []
        self._items = []
        self.cut = self.cut_labels = 0
        with tqdm(
            total=len(examples),
            desc="tokenising",
            unit="question",
            disable=None if progress else True,
        ) as bar:
            for start, chunk in chunks(examples):
                encoded = tokenizer.encode_windows(
                    [example.question for example in chunk],
                    [example.context for example in chunk],
                    most_of_the_first=MOST_OF_A_QUESTION,
                    max_length=max_length,
                    overlap=overlap,
                    first_row=start,
                )
                for number, (example, rows) in enumerate(zip(chunk, encoded, strict=True), start):
                    self._add(number, example, rows)
                bar.update(len(chunk))
        self.lengths = [len(item["input_ids"]) for item in self._items]
        if self.cut:
            warnings.warn(
                f"{self.cut} of {len(examples)} questions had more than {MOST_OF_A_QUESTION} "
                "tokens, or more than half of the room, and were cut.",
                stacklevel=2,
            )
        if self.cut_labels:
            warnings.warn(
                f"{self.cut_labels} of {len(examples)} questions have an answer that no window "
                "holds all of: they are trained on as if their context did not answer them.",
                stacklevel=2,
            )

    def tokens_read(self) -> list[int]:
        return self.full_lengths  # all of it, though in several windows

    def _add(self, number: int, example: QuestionExample, rows: Sequence[Encoded]) -> None:
        """The windows of one question."""
        self.rows_of.append(list(range(len(self._items), len(self._items) + len(rows))))
        windows = list(_windows(number, rows))
        whole = np.concatenate([window.offsets for window in windows])  # with what they share
        places = np.concatenate(
            [window.start + np.arange(len(window.offsets)) for window in windows]
        )
        whole = whole[np.unique(places, return_index=True)[1]]  # (pieces of the context, 2)
        pieces = pieces_of(example.answers[0], whole) if example.answers else None
        found = [window.columns_of(pieces) for window in windows]
        for row, columns in zip(rows, found, strict=True):
            item: dict[str, Any] = {"input_ids": np.array(row.input_ids, dtype=np.int32)}
            if self._token_types:
                item["token_type_ids"] = np.array(row.token_type_ids, dtype=np.int8)
            if example.answers is not None:
                item["start_positions"], item["end_positions"] = columns or NOT_HERE
            self._items.append(item)
        self.windows += windows
        self.cut += rows[0].cut > 0
        self.cut_labels += bool(example.answers) and not any(found)
        self.full_lengths.append(windows[0].first + rows[0].cut + len(whole) + 1)


def _windows(number: int, rows: Sequence[Encoded]) -> Iterator[Window]:
    start = 0
    for row in rows:
        sequences = row.sequence_ids
        first = sequences.index(1) if 1 in sequences else len(sequences) - 1
        offsets = np.array(row.offsets[first:-1], dtype=np.int64).reshape(-1, 2)  # (pieces, 2)
        yield Window(number, first, start, offsets)
        start += len(offsets) - row.shared
