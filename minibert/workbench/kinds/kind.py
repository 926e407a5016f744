"""The contract of a kind of task: what the rest of the package has to know of it, in one class.

Everything else is common to all kinds: the loop, the run folder, resume, the report, comparing. A
new kind is one file with one subclass, and a line in `minibert/tasks/kinds/__init__.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minibert.data import Dataset, Rows
from minibert.examples import Example
from minibert.heads import ModelWithHead
from minibert.io.errors import DataError
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.kinds.evaluation import Measured, Report

ErrorRow = Mapping[str, str]  # a line of errors.csv


@dataclass(frozen=True)
class Score:
    """A score as a function of sums: (..., K) -> (...), and what each row adds to them, (n, K)."""

    of_sums: Callable[[NDArray[Any]], NDArray[Any]]
    added: NDArray[Any]


@dataclass(frozen=True)
class Asked:
    """Examples without labels, and what a model has said of them.

    Attributes:
        corpus, rows: the examples, and the same as rows of ids.
        names: the classes of the model, in order.
        logits: of each row, in their order.
        top: how many answers to give where there are several to choose from.
        allow_no_answer: whether a context may be said to hold no answer.
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
        problem_type: its name, that of the config where the official code has one.
        head: the model.
        metrics: what may be measured, the main one first; `scores.metrics.HIGHER_IS_BETTER` has
            the direction of each.
        labels_are: what the labels of its data are in the words of `Corpus.problem_type`; None: the
            same as `problem_type`.
        one_class: whether a text has one class, and the head a `class_loss`: what class weights,
            probes and baselines are for.
        more_texts: what a second text is to it, and choices are: "pair", "context", "choices";
            "" where it takes none.
        asks: what to type after `minibert predict RUN`.
    """

    problem_type: ClassVar[str]
    head: ClassVar[type[ModelWithHead]]
    metrics: ClassVar[tuple[str, ...]]
    labels_are: ClassVar[str | None] = None
    one_class: ClassVar[bool] = False
    more_texts: ClassVar[str] = "pair"
    asks: ClassVar[str] = '"your text"'

    def claims(self, model: Any) -> bool:
        """Whether a model was trained for this kind of task."""
        return isinstance(model, self.head)

    def names_of(self, model: Any) -> tuple[str, ...]:
        """The names of a model's classes, in order; () where there are none."""
        return ()

    def rows(
        self,
        corpus: Corpus,
        tokenizer: BertTokenizer,
        *,
        max_length: int | None = None,
        overlap: int | None = None,
        progress: bool = False,
    ) -> Rows:
        """The examples as rows of ids; `overlap` is for contexts that are read in windows."""
        return Dataset(corpus, tokenizer, max_length=max_length, progress=progress)

    def fresh(
        self, source: str | Path, corpus: Corpus, *, revision: str | None, seed: int
    ) -> ModelWithHead:
        """A pre-trained body with a head for the labels of this corpus."""
        return self.head.from_pretrained(
            source,
            revision=revision,
            fresh_head=True,
            generator=torch.Generator().manual_seed(seed),
        )

    def watched(self, corpus: Corpus) -> str:
        """The metric that chooses the epoch, unless another is asked for."""
        return self.metrics[0]

    @abstractmethod
    def report(self, measured: Measured) -> Report:
        """The scores, and every example with its loss, label and prediction."""

    @abstractmethod
    def outcomes(self, labels: Sequence[str], rows: Sequence[ErrorRow]) -> dict[str, Score]:
        """The scores that rows of errors.csv give, the main one first, for comparing two runs.

        Args:
            labels: the names of the classes; none where there are none.

        Returns:
            Metric -> Score; empty where the rows cannot be read back.

        Raises:
            ValueError: a label or prediction is no number, or none of `labels`.
        """

    def unlabelled(self, texts: Sequence[Any], more: Sequence[Any] | None) -> Corpus:
        """Texts to predict as a corpus; `more` are second texts or choices.

        Raises:
            DataError: it is not what this kind takes.
        """
        return Corpus(tuple(map(Example, texts, [None] * len(texts) if more is None else more)))

    @abstractmethod
    def predictions(self, asked: Asked) -> list[Any]:
        """One prediction for each example, with a text for people as its `str`."""


def class_names(model: Any) -> tuple[str, ...]:
    """The names that a model's config has for its classes, in order."""
    return tuple(model.config.id2label[number] for number in range(model.config.num_labels))


def require_strings(texts: Sequence[Any], what: str) -> None:
    """Raises DataError if one of them is none, naming it by its row."""
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"Row {row} is not {what} but {text!r:.50} ({type(text).__name__}).",
                key=str(row),
            )


def f1_of_sums(sums: NDArray[Any]) -> NDArray[np.float64]:
    """F1 of sums of what is right, predicted and there, (..., 3); 0 where nothing is."""
    return 2 * sums[..., 0] / np.maximum(1, sums[..., 1] + sums[..., 2])


def memberships(names: Sequence[Sequence[str]], labels: Sequence[str]) -> NDArray[np.bool_]:
    """(n, C): which of the classes each row names.

    Raises:
        ValueError: a name is none of `labels`.
    """
    places = {label: place for place, label in enumerate(labels)}
    found = np.zeros((len(names), len(labels)), bool)
    for row, of_row in enumerate(names):
        for name in of_row:
            if name not in places:
                raise ValueError(f"{name!r} is none of the labels")
            found[row, places[name]] = True
    return found
