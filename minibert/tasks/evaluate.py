"""Evaluating a model on labelled text: scores with intervals, and every example by its loss."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from minibert.errors import DataError
from minibert.files import write_json, write_text
from minibert.model import BertForSequenceClassification, BertForTokenClassification
from minibert.tables import table
from minibert.tasks.common import (
    commit_of,
    pick_device,
    planned,
    prepare_on,
    ready_for_inference,
    require_class,
    shorten,
)
from minibert.tasks.probes import ProbedModel, is_probe
from minibert.text.batches import Dataset
from minibert.text.corpora import Corpus, TaggedExample, read
from minibert.text.tokenizer import BertTokenizer
from minibert.training import loop, metrics
from minibert.training.precision import Precision, choose_precision
from minibert.training.ranks import ALONE, Ranks

Classifier = BertForSequenceClassification | BertForTokenClassification | ProbedModel

# What is measured for each kind of label. The first decides which epoch was the best, unless
# another is asked for.
METRICS = {
    "single_label_classification": ("accuracy", "macro_f1", "weighted_f1", "loss"),
    "multi_label_classification": ("micro_f1", "macro_f1", "subset_accuracy", "loss"),
    "regression": ("pearson", "spearman", "mse", "loss"),
    "token_classification": (
        "entity_f1",
        "entity_precision",
        "entity_recall",
        "word_accuracy",
        "loss",
    ),
}
BOOTSTRAP_SEED = 0  # intervals of F1 and correlation are drawn; the same numbers give the same ones


@dataclass(frozen=True)
class Report:
    """What a model made of one split.

    Attributes:
        split: its name, such as "test".
        problem_type: as in the official config, or "token_classification".
        label_names: the classes, in order.
        metrics: name -> {"value", "low", "high"} (95% interval), {"value"} alone where no interval
            is to be had, or a plain number; "classes" holds the scores of each class.
        confusion: (C, C) counts, rows are labels and columns predictions; None for other problems.
        rows: one mapping an example (for tags, a sentence), the highest loss first.
    """

    split: str
    problem_type: str
    label_names: tuple[str, ...]
    metrics: dict[str, Any]
    confusion: np.ndarray | None
    rows: list[dict[str, Any]] = field(repr=False)

    def values(self) -> dict[str, float]:
        """Metric -> value, without intervals."""
        return {
            name: metric["value"]
            for name, metric in self.metrics.items()
            if isinstance(metric, Mapping) and "value" in metric
        }

    def summary(self) -> str:
        """The scores and the confusion matrix as text for people."""
        lines = [f"{self.split}: {self.metrics['examples']} examples"]
        for name, metric in self.metrics.items():
            if isinstance(metric, Mapping) and "value" in metric:
                interval = ""
                if "low" in metric:
                    interval = f"  (95% interval {metric['low']:.4f} to {metric['high']:.4f})"
                lines.append(f"  {name:<14} {metric['value']:.4f}{interval}")
        classes = self.metrics.get("classes", {})
        if 0 < len(classes) <= 30:
            rows = [
                (name, *(f"{scores[key]:.3f}" for key in ("precision", "recall", "f1")))
                + (int(scores["support"]),)
                for name, scores in classes.items()
            ]
            lines += ["", table(rows, ("class", "precision", "recall", "f1", "support"))]
        return "\n".join(lines)

    def worst(self, count: int = 5) -> str:
        """The examples of the highest loss, as text for people."""
        rows = [
            (
                f"{row['loss']:.3f}",
                _cell(row["label"]),
                _cell(row["prediction"]),
                shorten(row["text"]),
            )
            for row in self.rows[:count]
        ]
        return table(rows, ("loss", "label", "prediction", "text"))

    def write(self, folder: Path) -> None:
        """Writes metrics.json, confusion.csv and errors.csv."""
        write_json(folder / "metrics.json", {self.split: finite(self.metrics)})
        self.write_tables(folder)

    def write_tables(self, folder: Path) -> None:
        """Writes confusion.csv (if there is a matrix) and errors.csv."""
        if self.confusion is not None:
            counts = zip(self.label_names, self.confusion.tolist(), strict=True)
            header = ["label \\ prediction", *self.label_names]
            write_csv(folder / "confusion.csv", header, [[name, *row] for name, row in counts])
        header = list(self.rows[0])
        write_csv(folder / "errors.csv", header, [list(row.values()) for row in self.rows])


def evaluate_file(
    source: str | Path,
    data: str | Path,
    *,
    revision: str | None = None,
    reading: Mapping[str, Any] | None = None,
    batch_size: int = 32,
    max_length: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    progress: bool = True,
) -> Report:
    """Evaluates a fine-tuned model (a run folder, a model folder, a Hub id) on a file.

    Args:
        reading: how to read the file: the keyword arguments of `corpora.read`.

    Raises:
        CheckpointError: the model is not a classifier of texts or words, or was never trained.
        DataError: the file cannot be read, or has labels that the model does not know.
    """
    revision = commit_of(source, revision)
    model = open_classifier(source, revision)
    tokenizer = BertTokenizer.from_pretrained(source, revision=revision)
    kind_of_labels = problem_type(model)
    corpus = read(
        data,
        label_names=label_names(model),
        problem_type="regression" if kind_of_labels == "regression" else None,
        **(reading or {}),
    )
    require_kind(corpus, kind_of_labels, "the model")
    chosen = ready_for_inference(model, choose_precision(precision, pick_device(device)))
    dataset = Dataset(corpus, tokenizer, max_length=max_length, progress=progress)
    return evaluate(
        model,
        tokenizer,
        corpus,
        dataset,
        split=Path(data).name,
        batch_size=batch_size,
        precision=chosen,
        progress=progress,
    )


def open_classifier(source: str | Path, revision: str | None) -> Classifier:
    """A fine-tuned model, or a frozen one with its probe.

    Raises:
        CheckpointError: it is neither.
    """
    if is_probe(source, revision):
        return ProbedModel.from_pretrained(source, revision=revision)
    kinds = (BertForSequenceClassification, BertForTokenClassification)
    kind = require_class(source, revision, *kinds)
    return kind.from_pretrained(source, revision=revision)


def label_names(model: Classifier) -> tuple[str, ...] | None:
    """The names of a model's classes in order; None for regression, which has none."""
    if problem_type(model) == "regression":
        return None
    return tuple(model.config.id2label[number] for number in range(model.config.num_labels))


def problem_type(model: Classifier) -> str:
    """What kind of labels a model gives: a key of METRICS."""
    if isinstance(model, BertForTokenClassification):
        return "token_classification"
    single = "regression" if model.config.num_labels == 1 else "single_label_classification"
    return model.config.problem_type or single


def require_kind(corpus: Corpus, expected: str, whose: str) -> None:
    """Raises DataError if the labels of a corpus are of another kind than `whose` are."""
    found = corpus.problem_type
    if found is None:
        raise DataError(f"{corpus.source} has no labels.", path=corpus.source, key="label")
    if found != expected:
        raise DataError(
            f"The labels of {corpus.source} are for {found}, and those of {whose} for {expected}.",
            path=corpus.source,
            key="label",
            expected=expected,
            found=found,
        )


def evaluate(
    model: Classifier,
    tokenizer: BertTokenizer,
    corpus: Corpus,
    dataset: Dataset,
    *,
    split: str,
    precision: Precision,
    batch_size: int = 32,
    progress: bool = True,
    intervals: bool = True,
    ranks: Ranks = ALONE,
) -> Report:
    """Evaluates a model on a corpus and its tokenised form.

    Args:
        split: what to call the data.
        intervals: whether to draw the intervals that need a thousand resamples.
        ranks: the processes that share the work; each gets the whole report.
    """
    result = loop.evaluate(
        model,
        planned(dataset, tokenizer, batch_size=batch_size, shuffle=False),
        precision=precision,
        prepare=prepare_on(precision.device),
        progress=f"evaluating {split}" if progress else None,
        ranks=ranks,
    )
    return score(
        model, corpus, result, split, dataset.lengths, dataset.word_ids, intervals=intervals
    )


def score(
    model: Classifier,
    corpus: Corpus,
    result: loop.Evaluation,
    split: str,
    lengths: Sequence[int],
    word_ids: Sequence[Sequence[int | None]] | None = None,
    *,
    intervals: bool = True,
) -> Report:
    """The report of what a model has said of a corpus.

    Args:
        lengths: tokens of each example.
        word_ids: for tagged sentences, the word of each piece.
    """
    scored = _Scored(split, corpus, lengths, label_names(model) or (), intervals)
    kind = problem_type(model)
    if word_ids is not None:
        return scored.tags(result.loss, result.logits, word_ids)
    logits = torch.stack(result.logits)  # (examples, C)
    if kind == "regression":
        return scored.numbers(result.loss, logits)
    if kind == "multi_label_classification":
        return scored.several(result.loss, logits)
    return scored.classes(logits)


@dataclass(frozen=True)
class _Scored:
    """Makes reports of logits, one method for each kind of label."""

    split: str
    corpus: Corpus
    lengths: Sequence[int]
    names: tuple[str, ...]
    intervals: bool

    def classes(self, logits: Tensor) -> Report:
        """One class for each text; logits (examples, C).

        The loss is the plain mean, whatever class weights the training had: runs can be compared.
        """
        labels = torch.tensor([example.label for example in self.corpus])  # type: ignore[union-attr]
        losses = F.cross_entropy(logits, labels, reduction="none")  # (examples,)
        chances, predictions = logits.softmax(dim=-1).max(dim=-1)  # (examples,), (examples,)
        truth, predicted = labels.numpy(), predictions.numpy()
        count = len(self.names)
        right = int((truth == predicted).sum())
        scores = metrics.class_scores(truth, predicted, count)
        result = {
            "examples": len(truth),
            "loss": {"value": losses.double().mean().item()},
            "accuracy": _with_interval(
                right / len(truth), metrics.wilson_interval(right, len(truth))
            ),
            "macro_f1": self._resampled(
                lambda a, b: metrics.class_scores(a, b, count).macro_f1, truth, predicted
            ),
            "weighted_f1": self._resampled(
                lambda a, b: metrics.class_scores(a, b, count).weighted_f1, truth, predicted
            ),
            "classes": {
                name: {
                    "precision": float(scores.precision[number]),
                    "recall": float(scores.recall[number]),
                    "f1": float(scores.f1[number]),
                    "support": int(scores.support[number]),
                }
                for number, name in enumerate(self.names)
            },
        }
        rows = [
            self._row(number, value, self.names[label], self.names[guess], chance)
            for number, (value, label, guess, chance) in enumerate(
                zip(losses.tolist(), truth, predicted, chances.tolist(), strict=True)
            )
        ]
        confusion = metrics.confusion_matrix(truth, predicted, count)
        return self._report("single_label_classification", result, confusion, rows)

    def several(self, loss: float, logits: Tensor) -> Report:
        """Any number of labels for each text; logits (examples, C)."""
        labels = torch.tensor([example.label for example in self.corpus])  # type: ignore[union-attr]
        losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=-1)
        chances = logits.sigmoid()  # (examples, C)
        predictions = chances > 0.5  # (examples, C)
        truth, predicted = labels.numpy(), predictions.numpy()
        result: dict[str, Any] = {"examples": len(truth), "loss": {"value": loss}}
        for name in ("micro_f1", "macro_f1", "subset_accuracy"):
            result[name] = self._resampled(
                lambda a, b, name=name: metrics.multilabel_scores(a, b)[name], truth, predicted
            )
        sureness = torch.maximum(chances, 1 - chances).amin(dim=-1)  # (examples,)
        rows = [
            self._row(number, value, self._joined(label), self._joined(guess), chance)
            for number, (value, label, guess, chance) in enumerate(
                zip(losses.tolist(), truth, predicted, sureness.tolist(), strict=True)
            )
        ]
        return self._report("multi_label_classification", result, None, rows)

    def numbers(self, loss: float, logits: Tensor) -> Report:
        """A number for each text; logits (examples, 1)."""
        labels = torch.tensor([float(example.label) for example in self.corpus])  # type: ignore
        predictions = logits[:, 0]  # (examples,)
        truth, predicted = labels.numpy(), predictions.numpy()
        result: dict[str, Any] = {"examples": len(truth), "loss": {"value": loss}}
        for name in ("pearson", "spearman", "mse"):
            result[name] = self._resampled(
                lambda a, b, name=name: metrics.regression_scores(a, b)[name], truth, predicted
            )
        losses = (labels - predictions).square()  # (examples,)
        rows = [
            self._row(number, value, label, guess, None)
            for number, (value, label, guess) in enumerate(
                zip(losses.tolist(), labels.tolist(), predictions.tolist(), strict=True)
            )
        ]
        return self._report("regression", result, None, rows)

    def tags(
        self, loss: float, logits: Sequence[Tensor], word_ids: Sequence[Sequence[int | None]]
    ) -> Report:
        """A tag for each word; logits (S, C) of each sentence, word_ids of each of its pieces.

        A word that truncation cut off was not tagged: it counts as predicted "O".
        """
        unseen = self.names.index("O") if "O" in self.names else 0
        truth: list[list[str]] = []
        guesses: list[list[str]] = []
        rows = []
        for number, (example, scores, words) in enumerate(
            zip(self.corpus, logits, word_ids, strict=True)
        ):
            assert isinstance(example, TaggedExample) and example.tags is not None
            first = {
                word: place for place, word in reversed([*enumerate(words)]) if word is not None
            }
            predicted = [unseen] * len(example.tags)
            for word, place in first.items():
                predicted[word] = int(scores[place].argmax())
            seen = sorted(first)
            chosen = scores[[first[word] for word in seen]]  # (words, C)
            labels = torch.tensor([example.tags[word] for word in seen], dtype=torch.long)
            chances = chosen.softmax(dim=-1).amax(dim=-1)  # (words,)
            truth.append([self.names[tag] for tag in example.tags])
            guesses.append([self.names[tag] for tag in predicted])
            rows.append(
                self._row(
                    number,
                    F.cross_entropy(chosen, labels).item() if seen else 0.0,
                    " ".join(truth[-1]),
                    " ".join(guesses[-1]),
                    chances.min().item() if seen else 0.0,
                )
            )
        pairs = [
            (a, b) for s, t in zip(truth, guesses, strict=True) for a, b in zip(s, t, strict=True)
        ]
        right = sum(label == guess for label, guess in pairs)
        by_type = metrics.entity_scores(truth, guesses)
        overall = by_type.pop("micro")
        counts = _entity_counts(truth, guesses)  # (sentences, 3)
        result: dict[str, Any] = {
            "examples": len(truth),
            "words": len(pairs),
            "loss": {"value": loss},
            "entity_f1": self._resampled(lambda a, _: _f1_of_counts(a), counts, counts),
            "entity_precision": {"value": overall["precision"]},
            "entity_recall": {"value": overall["recall"]},
            "word_accuracy": _with_interval(
                right / len(pairs), metrics.wilson_interval(right, len(pairs))
            ),
            "classes": by_type,
        }
        numbers = {name: number for number, name in enumerate(self.names)}
        confusion = metrics.confusion_matrix(
            [numbers[label] for label, _ in pairs],
            [numbers[guess] for _, guess in pairs],
            len(self.names),
        )
        return self._report("token_classification", result, confusion, rows)

    def _row(
        self, number: int, loss: float, label: Any, prediction: Any, probability: float | None
    ) -> dict[str, Any]:
        example = self.corpus[number]
        words = isinstance(example, TaggedExample)
        row = {
            "loss": loss,
            "label": label,
            "prediction": prediction,
            "probability": probability,
            "tokens": self.lengths[number],
            "guid": example.guid,
            "text": " ".join(example.words) if words else example.text,  # type: ignore[union-attr]
        }
        if not words and example.text_pair is not None:  # type: ignore[union-attr]
            row["text_pair"] = example.text_pair  # type: ignore[union-attr]
        return row

    def _joined(self, holds: np.ndarray) -> str:
        return ", ".join(name for name, on in zip(self.names, holds, strict=True) if on)

    def _resampled(self, metric: Any, truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
        value = metric(truth, predicted)
        if not self.intervals:
            return {"value": value}
        interval = metrics.bootstrap_interval(metric, truth, predicted, seed=BOOTSTRAP_SEED)
        return _with_interval(value, interval)

    def _report(
        self,
        problem_type: str,
        result: dict[str, Any],
        confusion: np.ndarray | None,
        rows: list[dict[str, Any]],
    ) -> Report:
        rows.sort(key=lambda row: -row["loss"])
        return Report(self.split, problem_type, self.names, result, confusion, rows)


def finite(value: Any) -> Any:
    """A value for JSON, which has no NaN and no infinity: None (null) where one of them is."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(path: Path, header: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    """Writes a comma-separated table with LF line ends, atomically."""
    lines: list[str] = []
    # The writer quotes a text for the line ends in it that it writes itself: were that LF alone, a
    # lone CR would stay bare, and a reader would tear the row there.
    for row in (header, *rows):
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(row)
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    write_text(path, "".join(lines))


def _cell(value: Any) -> str:
    """A label or a prediction, short enough that the text beside it stays in sight."""
    return f"{value:.4f}" if isinstance(value, float) else shorten(str(value), width=24)


def _with_interval(value: float, interval: tuple[float, float]) -> dict[str, float]:
    return {"value": value, "low": interval[0], "high": interval[1]}


def _entity_counts(truth: Sequence[list[str]], guesses: Sequence[list[str]]) -> np.ndarray:
    """(sentences, 3): entities that are right, predicted, and there."""
    counts = []
    for labels, tags in zip(truth, guesses, strict=True):
        there, predicted = metrics.entities(labels), metrics.entities(tags)
        counts.append((len(there & predicted), len(predicted), len(there)))
    return np.array(counts)


def _f1_of_counts(counts: np.ndarray) -> float:
    right, predicted, there = counts.sum(axis=0).tolist()
    return 2 * right / max(1, predicted + there)
