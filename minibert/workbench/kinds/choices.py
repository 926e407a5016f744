"""One of several choices for each text: how a story goes on, the answer to a question of a test.

Devlin et al. 2019, section 4.4: each choice is read with the text before it, a vector takes the
product of its [CLS] for a score, and a softmax goes over the choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from minibert.data import Choices, Rows
from minibert.examples import ChoiceExample
from minibert.heads import BertForMultipleChoice
from minibert.io.errors import DataError
from minibert.io.tables import shorten
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.kinds.evaluation import Measured, Report, with_interval
from minibert.workbench.kinds.kind import Asked, ErrorRow, Kind, Score, require_strings
from minibert.workbench.scores import metrics


@dataclass(frozen=True)
class Chosen:
    """The choice that goes best with a text.

    Attributes:
        place: of the choice, from 0.
        probabilities: (choice, probability), the likeliest first.
    """

    text: str
    choice: str
    place: int
    probability: float
    probabilities: list[tuple[str, float]]

    def __str__(self) -> str:
        lines = [shorten(self.text, 90)]
        lines += [f"  {chance:.3f}  {shorten(name)}" for name, chance in self.probabilities]
        return "\n".join(lines)


class MultipleChoice(Kind):
    problem_type = "multiple_choice"
    head = BertForMultipleChoice
    metrics = ("accuracy", "loss")
    more_texts = "choices"
    asks = '"your text" --choice "one" --choice "another"'

    def rows(
        self,
        corpus: Corpus,
        tokenizer: BertTokenizer,
        *,
        max_length: int | None = None,
        overlap: int | None = None,
        progress: bool = False,
    ) -> Rows:
        examples: Any = corpus
        return Choices(examples, tokenizer, max_length=max_length, progress=progress)

    def report(self, measured: Measured) -> Report:
        rows = []
        for number, (example, logits) in enumerate(
            zip(measured.corpus, measured.logits, strict=True)
        ):
            assert isinstance(example, ChoiceExample) and example.label is not None
            chance, guess = logits.softmax(dim=-1).max(dim=-1)  # (), ()
            loss = F.cross_entropy(logits, torch.tensor(example.label)).item()
            row = measured.row(
                number,
                loss,
                example.choices[example.label],
                example.choices[int(guess)],
                chance.item(),
                right=int(int(guess) == example.label),
            )
            rows.append(row)
        right = sum(row["right"] for row in rows)
        result = {
            "examples": len(rows),
            "loss": {"value": float(np.mean([row["loss"] for row in rows]))},
            "accuracy": with_interval(right / len(rows), metrics.wilson_interval(right, len(rows))),
        }
        return measured.report(self.problem_type, result, rows)

    def outcomes(self, labels: Sequence[str], rows: Sequence[ErrorRow]) -> dict[str, Score]:
        right = np.array([[float(row["right"])] for row in rows])  # (n, 1)
        return {"accuracy": Score(lambda sums: sums[..., 0] / len(rows), right)}

    def unlabelled(self, texts: Sequence[Any], more: Sequence[Any] | None) -> Corpus:
        """`more` holds the choices for each text."""
        require_strings(texts, "a text")
        if more is None:
            raise DataError(
                "A model that chooses needs choices for each text.",
                key="choices",
                hint="Name them: choices=[[...], ...] (on the command line --choice A --choice B).",
            )
        for row, choices in enumerate(more):
            is_list = isinstance(choices, Sequence) and not isinstance(choices, str)
            if not is_list or len(choices) < 2:
                raise DataError(
                    f"Row {row} has {choices!r:.50} for choices, and needs 2 texts or more.",
                    key=str(row),
                )
            require_strings(choices, "a choice")
        return Corpus(
            tuple(
                ChoiceExample(text, tuple(choices))
                for text, choices in zip(texts, more, strict=True)
            )
        )

    def predictions(self, asked: Asked) -> list[Chosen]:
        found = []
        for example, logits in zip(asked.corpus, asked.logits, strict=True):
            assert isinstance(example, ChoiceExample)
            chances = logits[: len(example.choices)].softmax(dim=-1).tolist()  # (choices,)
            ranked = sorted(zip(example.choices, chances, strict=True), key=lambda item: -item[1])
            place = chances.index(max(chances))
            found.append(
                Chosen(example.text, example.choices[place], place, chances[place], ranked)
            )
        return found
