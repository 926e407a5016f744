"""Windows: a question with a context that may be longer than the model can read at once.

    [CLS] question [SEP] part of the context [SEP]

A long context is read in several windows, each with the whole question. Neighbours overlap, so
that an answer at the edge of one lies inside the other. The right answer for a window that does
not hold all of it is [CLS], "not here" (Devlin et al. 2019, section 4.3, and the published code).

Offsets count characters of the context as given. Going from an answer to columns and back
(`pieces_of`, `Window.characters_of`) widens it to whole pieces: a model points at pieces.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minibert.io.errors import ConfigError, DataError
from minibert.io.rows import Rows
from minibert.io.text_input import chunks
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.examples import Answer, QuestionExample

MOST_OF_A_QUESTION = 64  # pieces; the published code cuts questions there, too
MOST_SHARED = 128  # pieces of a context that two windows share, unless told otherwise
NOT_HERE = (0, 0)  # the columns of an answer that is not in the window: those of [CLS]


@dataclass(frozen=True)
class Window:
    """Where the pieces of one row stand in the context.

    Attributes:
        question: the number of the question.
        first: the column of the first piece of the context; those before it are the question's.
        start: the number of that piece in the whole context.
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
    """The first and last piece of an answer, given the offsets (pieces, 2) of the whole context.

    None where no piece stands for any of its characters.
    """
    starts, ends = offsets[:, 0], offsets[:, 1]  # (pieces,), (pieces,)
    inside = np.flatnonzero((ends > answer.start) & (starts < answer.end))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


class Windows(Rows):
    """Questions as rows of ids, one row or more for each.

    Args:
        questions: the questions with their contexts.
        tokenizer: cuts the texts.
        max_length: tokens per row; by default as many as the model takes.
        overlap: pieces of the context that two windows share; by default 128, or a third of the
            room beside the question where that is less.
        progress: show a bar on standard error, if that is a terminal.

    Attributes:
        windows: where each row stands.
        rows_of: the rows of each question.
        lengths: the number of tokens of each row.
        full_lengths: of each question, whole, with its whole context.
        cut: how many questions (not contexts) were too long and cut. A warning says so.
        cut_labels: how many questions have an answer that does not fit in any window.

    Raises:
        DataError: there are no questions, or a text cannot be used.
        InputError: a row has no room for a question and a context.
        ConfigError: the overlap is not less than the room for the context.
    """

    def __init__(
        self,
        questions: Iterable[QuestionExample],
        tokenizer: BertTokenizer,
        *,
        max_length: int | None = None,
        overlap: int | None = None,
        progress: bool = False,
    ):
        super().__init__(tokenizer.model_inputs)
        examples = list(questions)
        if not examples:
            raise DataError("There are no questions to make windows of.")
        self.windows: list[Window] = []
        self.rows_of: list[list[int]] = []
        self._tokenizer, self._overlap = tokenizer, overlap
        self._room = tokenizer.limit(max_length, 5) - 3  # [CLS], and a [SEP] after each text
        for start, chunk in chunks(examples, unit="question", progress=progress):
            asked = tokenizer.pieces([example.question for example in chunk], first_row=start)
            contexts = tokenizer.pieces([example.context for example in chunk], first_row=start)
            for example, question, context in zip(chunk, asked, contexts, strict=True):
                self._add_question(example, question.ids, context.ids, context.offsets)
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

    def _add_question(
        self, example: QuestionExample, question: list[int], context: list[int], offsets: list[tuple[int, int]]
    ) -> None:
        """The windows of one question, from the ids of both texts and the context's offsets."""
        kept = min(len(question), MOST_OF_A_QUESTION, self._room // 2)
        room = self._room - kept
        starts = [0]
        step = room - _shared(room, self._overlap)
        while starts[-1] + room < len(context):
            starts.append(starts[-1] + step)
        places = np.array(offsets, dtype=np.int64).reshape(-1, 2)  # (pieces of the context, 2)
        windows = [Window(len(self.rows_of), kept + 2, start, places[start : start + room]) for start in starts]
        pieces = pieces_of(example.answers[0], places) if example.answers else None
        found = [window.columns_of(pieces) for window in windows]
        self.rows_of.append(list(range(len(self), len(self) + len(windows))))
        self.windows += windows
        self.cut += kept < len(question)
        self.cut_labels += bool(example.answers) and not any(found)
        self.full_lengths.append(len(question) + len(context) + 3)
        for start, columns in zip(starts, found, strict=True):
            ids, types = self._tokenizer.frame(question[:kept], context[start : start + room])
            labels: dict[str, Any] = {}
            if example.answers is not None:
                labels["start_positions"], labels["end_positions"] = columns or NOT_HERE
            self.add(ids, types, **labels)


def _shared(room: int, overlap: int | None) -> int:
    """How many pieces two windows share, of `room` for the context."""
    if overlap is None:
        return min(MOST_SHARED, room // 3)
    if not 0 <= overlap < room:
        raise ConfigError(
            f"overlap is {overlap}, but a window has room for {room} pieces of a context.",
            key="overlap",
            hint="Lower it, or raise max_length.",
        )
    return overlap
