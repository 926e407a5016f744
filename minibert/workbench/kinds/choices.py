"""One of several choices for each text: how a story continues, the answer to a test question.

Devlin et al. 2019, section 4.4: each choice is read as the second text of a pair, its [CLS] times a
vector is its score, and a softmax goes over the choices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from minibert.heads import BertForMultipleChoice
from minibert.io.errors import DataError
from minibert.io.tables import shorten
from minibert.workbench.data.choices import Choices
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.data.examples import ChoiceExample
from minibert.workbench.kinds.evaluation import Measured, Report, share
from minibert.workbench.kinds.kind import Asked, Bags, ErrorRow, Kind, Score, ranked, require_strings
from minibert.workbench.scores.baselines import most_similar


@dataclass(frozen=True)
class Chosen:
    """The choice that goes best with a text.

    Attributes:
        place: of the choice, from 0.
        probabilities: (choice, probability), the most likely first.
    """

    text: str
    choice: str
    place: int
    probability: float
    probabilities: list[tuple[str, float]]

    def columns(self) -> dict[str, Any]:
        """The choice as cells of a table; its place is counted from 0."""
        return {"prediction": self.choice, "prediction_place": self.place, "probability": self.probability}

    def __str__(self) -> str:
        lines = [shorten(self.text, 90)]
        lines += [f"  {chance:.3f}  {shorten(name)}" for name, chance in self.probabilities]
        return "\n".join(lines)


class MultipleChoice(Kind):
    problem_type = "multiple_choice"
    head = BertForMultipleChoice
    form = ChoiceExample
    dataset = Choices
    metrics = ("accuracy", "loss")
    calibrated = True
    takes = "choices"
    asks = '"your text" --choice "one" --choice "another"'

    def describe_labels(self, corpus: Corpus) -> str:
        examples: Any = corpus
        sizes = [len(example.choices) for example in examples]
        fewest, most = min(sizes), max(sizes)
        counts = np.bincount([example.label for example in examples], minlength=most)
        places = (f"{place}: {100 * n / len(sizes):.1f}%" for place, n in enumerate(counts))
        return (
            f"{fewest if fewest == most else f'{fewest} to {most}'} choices a text; "
            f"place of the right one {', '.join(places)}"
        )

    def report(self, measured: Measured) -> Report:
        rows = []
        for number, (example, logits) in enumerate(zip(measured.corpus, measured.logits, strict=True)):
            assert isinstance(example, ChoiceExample) and example.label is not None
            chance, guess = logits.softmax(dim=-1).max(dim=-1)  # (), ()
            row = measured.row(
                number,
                F.cross_entropy(logits, torch.tensor(example.label)).item(),
                example.choices[example.label],
                example.choices[int(guess)],
                chance.item(),
                right=int(int(guess) == example.label),
            )
            rows.append(row)
        result = {
            "examples": len(rows),
            "loss": {"value": float(np.mean([row["loss"] for row in rows]))},
            "accuracy": share(sum(row["right"] for row in rows), len(rows)),
        }
        return measured.report(self.problem_type, result, rows)

    def guesses(self, train: Corpus, final: Corpus, bags: Bags) -> dict[str, list[dict[str, int]]]:
        """The place that is right most often in training, and the choice most like the text."""
        usual = int(np.bincount([example.target for example in train]).argmax())
        guesses = {
            "frequent_place": [usual] * len(final),
            "similar_choice": [most_similar(example.text, example.choices) for example in final],
        }
        return {
            name: [{"right": int(guess == example.label)} for example, guess in zip(final, places, strict=True)]
            for name, places in guesses.items()
        }

    def outcomes(self, labels: Sequence[str], rows: Sequence[ErrorRow]) -> dict[str, Score]:
        return {"accuracy": Score.mean([row["right"] for row in rows])}

    def examples(self, texts: Sequence[Any], more: Sequence[Any] | None) -> Iterator[ChoiceExample]:
        """`more` has the choices for each text."""
        require_strings(texts, "a text")
        if more is None:
            raise DataError(
                "A model for multiple_choice needs choices for each text.",
                key="choices",
                hint="Name them: choices=[[...], ...] (on the command line --choice A --choice B).",
            )
        for row, (text, choices) in enumerate(zip(texts, more, strict=True)):
            is_list = isinstance(choices, Sequence) and not isinstance(choices, str)
            if not is_list or len(choices) < 2:
                raise DataError(
                    f"Row {row} has the choices {choices!r:.50}, but 2 texts or more are needed.", key=str(row)
                )
            require_strings(choices, "a choice")
            yield ChoiceExample(text, tuple(choices))

    def predictions(self, asked: Asked) -> list[Chosen]:
        found = []
        for example, logits in zip(asked.corpus, asked.logits, strict=True):
            assert isinstance(example, ChoiceExample)
            chances = logits[: len(example.choices)].softmax(dim=-1).tolist()  # of the choices
            place = chances.index(max(chances))
            found.append(
                Chosen(example.text, example.choices[place], place, chances[place], ranked(example.choices, chances))
            )
        return found
