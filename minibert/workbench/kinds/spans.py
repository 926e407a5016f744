"""An answer inside a context, for each question: SQuAD, Devlin et al. 2019, sections 4.2 and 4.3.

The model gives each piece of a window two logits: for an answer to start there, and to end there.
The score of a span is the sum of both, and the best span of all windows is the answer. Only spans
of the context count: not the question, [CLS], [SEP] or padding, and none that ends before it starts
or is longer than LONGEST. [CLS] alone stands for "not in this window"; where a context may hold no
answer, "no answer" is given if it scores above the best span in every window.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from minibert.heads import BertForQuestionAnswering
from minibert.io.errors import DataError
from minibert.io.tables import shorten
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.data.examples import QuestionExample
from minibert.workbench.data.windows import NOT_HERE, Window, Windows
from minibert.workbench.kinds.evaluation import Measured, Report, share
from minibert.workbench.kinds.kind import Asked, Bags, ErrorRow, Kind, Score, require_strings
from minibert.workbench.scores import metrics
from minibert.workbench.scores.baselines import most_similar

LONGEST = 30  # pieces of an answer, as in Devlin et al.'s code
_BETWEEN = " | "  # right answers in errors.csv
_NONE = "(no answer)"
_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")  # of sentences
_CANDIDATES = 20  # spans of a window that are considered


@dataclass(frozen=True)
class Candidate:
    """A span of a context that may be the answer.

    Attributes:
        text: its characters, start to end; "" for "no answer".
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
        answer: the most likely.
        others: those after it, the most likely first.
        no_answer: the probability of "no answer".
    """

    question: str
    context: str
    answer: Candidate
    others: list[Candidate]
    no_answer: float

    def columns(self) -> dict[str, Any]:
        """The answer as cells of a table, and the others as a list."""
        best = self.answer
        found = {
            "prediction": best.text,
            "probability": best.probability,
            "prediction_start": best.start if best.text else None,
            "prediction_end": best.end if best.text else None,
            "probability_no_answer": self.no_answer,
        }
        return {**found, "prediction_others": [asdict(one) for one in self.others]} if self.others else found

    def __str__(self) -> str:
        lines = [shorten(self.question, 90)]
        for one in (self.answer, *self.others):
            place = f"{one.start}-{one.end}" if one.text else ""
            lines.append(f"  {one.probability:.3f}  {place:<11}  {shorten(one.text or _NONE)}")
        return "\n".join(lines)


class Spans(Kind):
    problem_type = "question_answering"
    head = BertForQuestionAnswering
    form = QuestionExample
    dataset = Windows
    in_windows = True
    metrics = ("f1", "exact_match", "loss")
    calibrated = True
    asks = '"a question" --pair "the context"'

    def report(self, measured: Measured) -> Report:
        """Exact match and F1 as SQuAD defines them, for the best of the right answers.

        "No answer" may be given where these data hold a question without one.
        """
        assert isinstance(measured.rows, Windows)
        unanswerable = any(not example.target for example in measured.corpus)
        decoded = decode(measured.corpus, measured.rows, measured.logits, allow_no_answer=unanswerable)
        rows = [_row(measured, number, answered) for number, answered in enumerate(decoded)]
        f1 = np.array([row["f1"] for row in rows])
        result: dict[str, Any] = {
            "examples": len(rows),
            "loss": {"value": measured.loss},
            "f1": measured.resampled(lambda a, _: float(a.mean()), f1, f1),
            "exact_match": share(sum(row["right"] for row in rows), len(rows)),
            "windows": len(measured.rows),
            "answers_in_no_window": measured.rows.cut_labels,
        }
        for name, wanted in (("has_answer", True), ("no_answer", False)):
            chosen = [row for row in rows if (row["label"] != _NONE) is wanted]
            if unanswerable and chosen:
                result[name] = {
                    "examples": len(chosen),
                    "f1": float(np.mean([row["f1"] for row in chosen])),
                    "exact_match": float(np.mean([row["right"] for row in chosen])),
                }
        return measured.report(self.problem_type, result, rows)

    def guesses(self, train: Corpus, final: Corpus, bags: Bags) -> dict[str, list[dict[str, float]]]:
        """The sentence of the context most like the question; and, where some have none, no answer."""
        found: dict[str, list[dict[str, float]]] = {"similar_sentence": [], "no_answer": []}
        for example in final:
            sentences = [each for each in _ENDS.split(example.context) if each]
            guesses = {"similar_sentence": sentences[most_similar(example.question, sentences)], "no_answer": ""}
            for name, guess in guesses.items():
                exact, f1 = metrics.answer_scores(guess, [answer.text for answer in example.answers])
                found[name].append({"right": int(exact), "f1": f1})
        unanswerable = any(not example.target for example in final)
        return {name: rows for name, rows in found.items() if unanswerable or name != "no_answer"}

    def outcomes(self, labels: Sequence[str], rows: Sequence[ErrorRow]) -> dict[str, Score]:
        return {
            "f1": Score.mean([row["f1"] for row in rows]),
            "exact_match": Score.mean([row["right"] for row in rows]),
        }

    def examples(self, texts: Sequence[Any], more: Sequence[Any] | None) -> Iterator[QuestionExample]:
        """Texts are questions; `more` has the context of each."""
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
                    raise DataError(f"Row {row} is empty, but must be {what}.", key=str(row))
        return map(QuestionExample, texts, more)

    def predictions(self, asked: Asked) -> list[Answered]:
        assert isinstance(asked.rows, Windows)
        return decode(asked.corpus, asked.rows, asked.logits, top=asked.top, allow_no_answer=asked.allow_no_answer)


def _row(measured: Measured, number: int, answered: Answered) -> dict[str, Any]:
    """The line of errors.csv for a question."""
    example = measured.corpus[number]
    assert isinstance(example, QuestionExample) and isinstance(measured.rows, Windows)
    answers, guess = example.answers or (), answered.answer
    right = [answer.text for answer in answers] or [""]
    exact, f1 = metrics.answer_scores(guess.text, right)
    return measured.row(
        number,
        _loss(measured.rows, measured.logits, number),
        _BETWEEN.join(dict.fromkeys(text or _NONE for text in right)),
        guess.text or _NONE,
        guess.probability,
        right=int(exact),
        f1=f1,
        right_at=f"{answers[0].start}-{answers[0].end}" if answers else "",
        predicted_at=f"{guess.start}-{guess.end}" if guess.text else "",
    )


def decode(
    corpus: Corpus, rows: Windows, logits: Sequence[Tensor], *, top: int = 1, allow_no_answer: bool = False
) -> list[Answered]:
    """The answer to each question, from the logits of all its windows.

    Args:
        logits: (S, 2) of each window.
        top: answers of each.
        allow_no_answer: whether "no answer" may be the first of them.
    """
    found = []
    for example, of_question in zip(corpus, rows.rows_of, strict=True):
        assert isinstance(example, QuestionExample)
        best: dict[tuple[int, int], float] = {}
        for row in of_question:
            for place, score in _spans(rows.windows[row], logits[row]):
                best[place] = max(score, best.get(place, -math.inf))
        candidates = [Candidate(example.context[start:end], start, end, score) for (start, end), score in best.items()]
        # The answer must be absent from every window: the lowest score for "not here" counts.
        absent = min(float(logits[row][NOT_HERE[0]].sum()) for row in of_question)
        none = Candidate("", 0, 0, absent)
        ranked = _with_probabilities([none, *candidates])
        no_answer = next(one.probability for one in ranked if not one.text)
        kept = ranked if allow_no_answer else [one for one in ranked if one.text] or [ranked[0]]
        kept = kept[: max(1, top)]
        found.append(Answered(example.question, example.context, kept[0], kept[1:], no_answer))
    return found


def _spans(window: Window, logits: Tensor) -> Iterator[tuple[tuple[int, int], float]]:
    """The best spans of the context in a window: ((from, to) in characters, score)."""
    pieces = len(window.offsets)
    if pieces == 0:  # cleaning left nothing of the context
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
    return [replace(one, probability=chance) for one, chance in zip(ranked, chances, strict=True)]


def _loss(rows: Windows, logits: Sequence[Tensor], number: int) -> float:
    """The training loss of a question, the mean over its windows."""
    losses = []
    for row in rows.rows_of[number]:
        columns = (rows[row]["start_positions"], rows[row]["end_positions"])
        target = torch.tensor(columns)  # (2,)
        losses.append(F.cross_entropy(logits[row].T, target).item())
    return sum(losses) / len(losses)
