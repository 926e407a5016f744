"""A kind of task: everything that the rest of the package has to know about it, in one class.

All else is common to all kinds: the loop, the run folder, resuming, the report, comparing runs. To
add a kind, write a file with a subclass of `Kind`, and add it to KINDS in `kinds/__init__.py`. To
add a metric, compute it in `report` of its kind, name it in `metrics` there, and its direction in
HIGHER_IS_BETTER of scores/metrics.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from minibert.data import Dataset, Example
from minibert.heads import ModelWithHead
from minibert.io.errors import ConfigError, DataError
from minibert.io.rows import Rows
from minibert.io.source import Source
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.data.examples import AnyExample
from minibert.workbench.kinds.evaluation import Measured, Report

ErrorRow = Mapping[str, str]  # a line of errors.csv
Bags = Callable[[], tuple[Sequence[NDArray[Any]], Sequence[NDArray[Any]], int]]  # see `Kind.guesses`


@dataclass(frozen=True)
class Score:
    """A score as a function of sums: (..., K) -> (...), and what each row adds to them, (n, K)."""

    of_sums: Callable[[NDArray[Any]], NDArray[Any]]
    added: NDArray[Any]

    @classmethod
    def mean(cls, values: ArrayLike) -> Self:
        """The mean of one value for each row, (n,)."""
        added = np.asarray(values, np.float64)[:, None]  # (n, 1)
        return cls(lambda sums: sums[..., 0] / len(added), added)

    @classmethod
    def f1(cls, counts: NDArray[Any]) -> Self:
        """F1 of what is right, predicted, and in the labels of each row, (n, 3)."""
        return cls(f1_of_sums, counts)


@dataclass(frozen=True)
class Asked:
    """Examples without labels, and the outputs of a model for them.

    Attributes:
        corpus, rows: the examples, and the same as rows of ids.
        names: the classes of the model, in order.
        logits: one for each row, in their order.
        top: how many answers to give to a question.
        allow_no_answer: whether "the context holds no answer" may be the answer.
    """

    corpus: Corpus
    rows: Rows
    names: tuple[str, ...]
    logits: Sequence[Tensor]
    top: int = 1
    allow_no_answer: bool = False


class Kind(ABC):
    """One kind of task. Its methods are called in this order.

    Attributes:
        problem_type: its name: the one in the official config where there is one.
        head: the model class; subclasses of it do this kind of task, too.
        form: the class of its examples.
        dataset: what turns them into rows of ids.
        in_windows: whether the dataset reads long texts in windows that overlap.
        metrics: what is measured, the main one first and "loss" last.
        labels_are: the `Corpus.problem_type` of its data, if it is not `problem_type`.
        named: whether labels are classes with names.
        one_class: whether each text has one class, and the head a `class_loss`: the condition for
            class weights, balanced epochs, probes and baselines.
        numeric: whether labels are numbers, so that a prediction is neither right nor wrong.
        of_words: whether each word of a text has a label.
        calibrated: whether the probability of a prediction is that of its being right.
        fewest_classes: the smallest number of classes that can be learned.
        takes: what may come with each text: "pairs", "choices" or "" for nothing.
        asks: what to type after `minibert predict RUN`.
    """

    problem_type: ClassVar[str]
    head: ClassVar[type[ModelWithHead]]
    form: ClassVar[type[Any]] = Example
    dataset: ClassVar[type[Any]] = Dataset
    in_windows: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]]
    labels_are: ClassVar[str | None] = None
    named: ClassVar[bool] = False
    one_class: ClassVar[bool] = False
    numeric: ClassVar[bool] = False
    of_words: ClassVar[bool] = False
    calibrated: ClassVar[bool] = False
    fewest_classes: ClassVar[int] = 2
    takes: ClassVar[str] = "pairs"
    asks: ClassVar[str] = '"your text"'

    @property
    def labels(self) -> str:
        """The `Corpus.problem_type` of its data."""
        return self.labels_are or self.problem_type

    def claims(self, model: Any) -> bool:
        """Whether an instance of `head` was trained for this kind, where kinds share the head."""
        return True

    def names_of(self, model: Any) -> tuple[str, ...]:
        """The names of a model's classes, in order; () where there are none."""
        names = model.config.id2label
        return tuple(names[number] for number in sorted(names)) if self.named else ()

    def rows(
        self,
        corpus: Corpus,
        tokenizer: BertTokenizer,
        *,
        max_length: int | None = None,
        overlap: int | None = None,
        progress: bool = False,
    ) -> Rows:
        """The examples as rows of ids.

        Args:
            overlap: tokens that two windows of a long context share.

        Raises:
            ConfigError: an overlap is given, and texts are not read in windows.
        """
        if overlap is not None and not self.in_windows:
            raise ConfigError(
                f"overlap is {overlap}, but only contexts of questions are read in windows.", key="overlap"
            )
        windows = {"overlap": overlap} if self.in_windows else {}
        return self.dataset(corpus, tokenizer, max_length=max_length, progress=progress, **windows)

    def fresh(self, source: Source, corpus: Corpus, *, seed: int) -> ModelWithHead:
        """A pre-trained body with a fresh head for the labels of this corpus."""
        return self.head.from_pretrained(source, generator=torch.Generator().manual_seed(seed), **self.head_for(corpus))

    def head_for(self, corpus: Corpus) -> dict[str, Any]:
        """The arguments of `from_pretrained` that ask for a head for these labels."""
        return {"labels": corpus.label_names} if self.named else {"fresh_head": True}

    def describe_labels(self, corpus: Corpus) -> str:
        """The labels of a corpus in a phrase; empty where the number of each class says it."""
        return ""

    def watched(self, corpus: Corpus) -> str:
        """The metric that chooses the epoch, unless another is asked for."""
        return self.metrics[0]

    @abstractmethod
    def report(self, measured: Measured) -> Report:
        """The scores, and every example with its loss, label and prediction."""

    def guesses(self, train: Corpus, final: Corpus, bags: Bags) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Guesses without BERT for the examples of `final`, from what is in `train`.

        Args:
            bags: gives the token ids of each training example, of each final one, and V.

        Returns:
            The name of each baseline -> rows as in errors.csv, as far as `outcomes` reads them.
        """
        return {}

    def baselines(self, train: Corpus, final: Corpus, bags: Bags) -> dict[str, dict[str, float]]:
        """Baseline -> metric -> its score on `final`; arguments as for `guesses`."""
        guesses = self.guesses(train, final, bags)
        return {name: self.scores_of(final.label_names or (), rows) for name, rows in guesses.items()}

    def scores_of(self, labels: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Metric -> its value on rows of errors.csv, of the metrics that `outcomes` has."""
        found = self.outcomes(labels, rows)
        return {name: float(score.of_sums(score.added.sum(axis=0))) for name, score in found.items()}

    def by_part(self, report: Report) -> dict[str, dict[str, float]]:
        """Part of the data -> its number of examples, and its scores."""
        parts: dict[str, list[dict[str, Any]]] = {}
        for row in sorted(report.rows, key=lambda row: row["part"]):
            parts.setdefault(row["part"] or "(none)", []).append(row)
        return {
            part: {"examples": len(rows), **self.scores_of(report.label_names, rows)} for part, rows in parts.items()
        }

    def compared(self, baselines: Mapping[str, Mapping[str, float]], measured: Iterable[str] = ()) -> str | None:
        """The metric that a model is judged by: the first that baselines have, or without any the first measured."""
        known = {name for found in baselines.values() for name in found} or set(measured)
        return next((name for name in self.metrics if name in known), None)

    @abstractmethod
    def outcomes(self, labels: Sequence[str], rows: Sequence[ErrorRow]) -> dict[str, Score]:
        """Scores computed from rows of errors.csv, the main one first, for comparing two runs.

        Args:
            labels: the names of the classes; empty where there are none.

        Returns:
            Metric -> Score; empty where labels cannot be read back from the rows.

        Raises:
            ValueError: a label or prediction is not a number, or not one of `labels`.
        """

    def unlabelled(
        self, texts: Sequence[Any], *, pairs: Sequence[Any] | None = None, choices: Sequence[Any] | None = None
    ) -> Corpus:
        """Texts to predict as a corpus.

        Args:
            pairs, choices: a second text, or several choices, for each text.

        Raises:
            DataError: something is not what this kind of task takes.
        """
        given = {"pairs": pairs, "choices": choices}
        for key, more in given.items():
            if more is not None and key != self.takes:
                raise DataError(f"A model for {self.problem_type} takes no {key}.", key=key)
            if more is not None and len(more) != len(texts):
                raise DataError(f"There are {len(texts)} texts, but {key} for {len(more)}.", key=key)
        examples: Any = tuple(self.examples(texts, given.get(self.takes)))
        return Corpus(examples)

    def examples(self, texts: Sequence[Any], more: Sequence[Any] | None) -> Iterable[AnyExample]:
        """Texts as examples without labels; `more` is what comes with each of them."""
        return map(Example, texts, [None] * len(texts) if more is None else more)

    @abstractmethod
    def predictions(self, asked: Asked) -> list[Any]:
        """One prediction for each example: `str` turns it into text, its `columns()` are cells of a table."""


def require_strings(texts: Sequence[Any], what: str) -> None:
    """Raises DataError for a row that is not a string."""
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"Row {row} is not {what} but {text!r:.50} ({type(text).__name__}).", key=str(row))


def f1_of_sums(sums: NDArray[Any]) -> NDArray[np.float64]:
    """F1 of the numbers right, predicted and in the labels, (..., 3); 0 where there are none."""
    return 2 * sums[..., 0] / np.maximum(1, sums[..., 1] + sums[..., 2])


def ranked(names: Sequence[str], probabilities: Sequence[float]) -> list[tuple[str, float]]:
    """(name, probability), the most likely first."""
    return sorted(zip(names, probabilities, strict=True), key=lambda item: -item[1])


def memberships(names: Sequence[Sequence[str]], labels: Sequence[str]) -> NDArray[np.bool_]:
    """(n, C): which of the classes each row names.

    Raises:
        ValueError: a name is not one of `labels`.
    """
    places = {label: place for place, label in enumerate(labels)}
    found = np.zeros((len(names), len(labels)), bool)
    for row, of_row in enumerate(names):
        for name in of_row:
            if name not in places:
                raise ValueError(f"{name!r} is not one of the labels")
            found[row, places[name]] = True
    return found
