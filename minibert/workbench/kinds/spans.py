"""An answer inside a context, for each question: SQuAD, Devlin et al. 2019, sections 4.2 and 4.3.

The model gives each piece of a window two numbers: how well an answer starts there, ends there. The
score of a stretch is the sum of both, and the best stretch of all windows is the answer. Only
stretches of the context count: not the question, not [CLS] and [SEP], not padding, none that ends
before it starts or is longer than LONGEST. [CLS] alone stands for "not in this window"; where a
context may hold no answer, that one is given if it scores above the best stretch in every window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from minibert.data import Rows
from minibert.examples import QuestionExample
from minibert.heads import BertForQuestionAnswering
from minibert.io.errors import DataError
from minibert.io.tables import shorten
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.data.windows import NOT_HERE, Window, Windows
from minibert.workbench.kinds.evaluation import Measured, Report, with_interval
from minibert.workbench.kinds.kind import Asked, ErrorRow, Kind, Score, require_strings
from minibert.workbench.scores import metrics

LONGEST = 30  # pieces of an answer, as in Devlin et al.'s code
_BETWEEN = " | "  # right answers in errors.csv
_NONE = "(no answer)"
_CANDIDATES = 20  # stretches of a window that are looked at


@dataclass(frozen=True)
class Candidate:
    """A stretch of a context that may be the answer.

    Attributes:
        text: its characters, start to end; "" where the context is said to hold no answer.
        score: the sum of its two logits.
        probability: among the candidates of all windows and "no answer".
    """

    text: str
    start: int
    end: int
    score: float
    probability: float = 0.0


@dataclass(frozen=True)
class Answered:
    """What a model answers to a question.

    Attributes:
        answer: the likeliest.
        others: those after it, the likeliest first.
        no_answer: the probability that the context does not hold one, as the model sees it.
    """

    question: str
    context: str
    answer: Candidate
    others: list[Candidate]
    no_answer: float

    def __str__(self) -> str:
        lines = [shorten(self.question, 90)]
        for one in (self.answer, *self.others):
            place = f"{one.start}-{one.end}" if one.text else ""
            lines.append(f"  {one.probability:.3f}  {place:<11}  {shorten(one.text or _NONE)}")
        return "\n".join(lines)


class Spans(Kind):
    problem_type = "question_answering"
    head = BertForQuestionAnswering
    metrics = ("f1", "exact_match", "loss")
    more_texts = "context"
    asks = '"a question" --pair "the context"'

    def rows(
        self,
        corpus: Corpus,
        tokenizer: BertTokenizer,
        *,
        max_length: int | None = None,
        overlap: int | None = None,
        progress: bool = False,
    ) -> Rows:
        questions: Any = corpus
        return Windows(
            questions, tokenizer, max_length=max_length, overlap=overlap, progress=progress
        )

    def report(self, measured: Measured) -> Report:
        """EM and F1 as SQuAD defines them, the better of those against each right answer.

        "No answer" may be given where these data hold a question without one.
        """
        assert isinstance(measured.rows, Windows)
        unanswerable = any(not example.target for example in measured.corpus)
        decoded = decode(
            measured.corpus, measured.rows, measured.logits, allow_no_answer=unanswerable
        )
        rows = []
        for number, (example, answered) in enumerate(zip(measured.corpus, decoded, strict=True)):
            assert isinstance(example, QuestionExample)
            answers = example.answers or ()
            right = [answer.text for answer in answers] or [""]
            guess = answered.answer.text
            exact, f1 = metrics.answer_scores(guess, right)
            rows.append(
                measured.row(
                    number,
                    _loss(measured.rows, measured.logits, number),
                    _BETWEEN.join(dict.fromkeys(text or _NONE for text in right)),
                    guess or _NONE,
                    answered.answer.probability,
                    right=int(exact),
                    f1=f1,
                    right_at=f"{answers[0].start}-{answers[0].end}" if answers else "",
                    predicted_at=f"{answered.answer.start}-{answered.answer.end}" if guess else "",
                )
            )
        result = _scores(measured, rows)
        result["windows"] = len(measured.rows)
        result["answers_in_no_window"] = measured.rows.cut_labels
        if unanswerable:
            for name, wanted in (("has_answer", True), ("no_answer", False)):
                chosen = [row for row in rows if (row["label"] != _NONE) is wanted]
                if chosen:
                    result[name] = {
                        "examples": len(chosen),
                        "f1": float(np.mean([row["f1"] for row in chosen])),
                        "exact_match": float(np.mean([row["right"] for row in chosen])),
                    }
        return measured.report(self.problem_type, result, rows)

    def outcomes(self, labels: Sequence[str], rows: Sequence[ErrorRow]) -> dict[str, Score]:
        return {
            name: Score(
                lambda sums: sums[..., 0] / len(rows),
                np.array([[float(row[column])] for row in rows]),
            )
            for name, column in (("f1", "f1"), ("exact_match", "right"))
        }

    def unlabelled(self, texts: Sequence[Any], more: Sequence[Any] | None) -> Corpus:
        """Questions, and the context of each."""
        if more is None:
            raise DataError(
                "A question needs a context to be answered from.",
                key="pairs",
                hint="Give one for each question: pairs=[...] (on the command line --pair TEXT).",
            )
        for column, what in ((texts, "a question"), (more, "a context")):
            require_strings(column, what)
            for row, text in enumerate(column):
                if not text.strip():
                    raise DataError(
                        f"Row {row} is empty, and {what} is needed.",
                        key=str(row),
                    )
        return Corpus(
            tuple(
                QuestionExample(question, context)
                for question, context in zip(texts, more, strict=True)
            )
        )

    def predictions(self, asked: Asked) -> list[Answered]:
        assert isinstance(asked.rows, Windows)
        return decode(
            asked.corpus,
            asked.rows,
            asked.logits,
            top=asked.top,
            allow_no_answer=asked.allow_no_answer,
        )


def decode(
    corpus: Corpus,
    rows: Windows,
    logits: Sequence[Tensor],
    *,
    top: int = 1,
    allow_no_answer: bool = False,
) -> list[Answered]:
    """The answer to each question, of what was said of all its windows.

    Args:
        logits: (S, 2) of each window.
        top: answers of each.
        allow_no_answer: whether "no answer" may be the first of them.
    """
    found = []
    for example, of_question in zip(corpus, rows.rows_of, strict=True):
        assert isinstance(example, QuestionExample)
        windows = [rows.windows[row] for row in of_question]
        scored = [logits[row] for row in of_question]
        best: dict[tuple[int, int], float] = {}
        for window, numbers in zip(windows, scored, strict=True):
            for place, score in _stretches(window, numbers):
                best[place] = max(score, best.get(place, -math.inf))
        candidates = [
            Candidate(example.context[start:end], start, end, score)
            for (start, end), score in best.items()
        ]
        # "Not here" has to be said of every window: the least of them counts.
        none = Candidate("", 0, 0, min(float(numbers[NOT_HERE[0]].sum()) for numbers in scored))
        ranked = _with_probabilities([none, *candidates])
        no_answer = next(one.probability for one in ranked if not one.text)
        kept = ranked if allow_no_answer else [one for one in ranked if one.text] or [ranked[0]]
        kept = kept[: max(1, top)]
        found.append(Answered(example.question, example.context, kept[0], kept[1:], no_answer))
    return found


def _stretches(window: Window, logits: Tensor) -> Iterator[tuple[tuple[int, int], float]]:
    """The best stretches of the context in a window: ((from, to) in characters, score)."""
    pieces = len(window.offsets)
    if pieces == 0:  # cleaning has left nothing of the context
        return
    start, end = logits[window.first : window.first + pieces].unbind(dim=-1)  # (pieces,) each
    ends = F.pad(end, (0, LONGEST - 1), value=-torch.inf).unfold(0, LONGEST, 1)  # (pieces, LONGEST)
    scores = (start[:, None] + ends).flatten()  # (pieces * LONGEST,)
    values, places = scores.topk(min(_CANDIDATES, len(scores)))  # (candidates,) each
    for value, place in zip(values.tolist(), places.tolist(), strict=True):
        if value > -math.inf:
            first, more = divmod(place, LONGEST)
            columns = (window.first + first, window.first + first + more)
            yield window.characters_of(*columns), value


def _with_probabilities(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, the best first, with the softmax of their scores."""
    ranked = sorted(candidates, key=lambda one: (-one.score, one.start, one.end))
    chances = torch.tensor([one.score for one in ranked]).softmax(dim=0).tolist()
    return [
        Candidate(one.text, one.start, one.end, one.score, chance)
        for one, chance in zip(ranked, chances, strict=True)
    ]


def _loss(rows: Windows, logits: Sequence[Tensor], number: int) -> float:
    """The mean over a question's windows of the loss that it is trained on."""
    losses = []
    for row in rows.rows_of[number]:
        columns = (rows[row]["start_positions"], rows[row]["end_positions"])
        target = torch.tensor(columns)  # (2,)
        losses.append(F.cross_entropy(logits[row].T, target).item())
    return sum(losses) / len(losses)


def _scores(measured: Measured, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    count, exact = len(rows), sum(row["right"] for row in rows)
    f1 = np.array([row["f1"] for row in rows])
    return {
        "examples": count,
        "loss": {"value": measured.loss},
        "f1": measured.resampled(lambda a, _: float(a.mean()), f1, f1),
        "exact_match": with_interval(exact / count, metrics.wilson_interval(exact, count)),
    }
