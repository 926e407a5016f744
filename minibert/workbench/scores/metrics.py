"""Metrics of predictions, and their confidence intervals. numpy only.

Labels come before predictions. n is the number of examples, C of classes. A score whose denominator
is zero is 0.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minibert.io.errors import InputError

Floats = NDArray[np.float64]
Interval = tuple[float, float]

# Every metric that can choose an epoch, and the direction in which it improves.
HIGHER_IS_BETTER = {
    "loss": False,
    "mse": False,
    "masked_lm_loss": False,
    "next_sentence_loss": False,
    "perplexity": False,
    **dict.fromkeys(("accuracy", "word_accuracy", "subset_accuracy"), True),
    **dict.fromkeys(("masked_lm_accuracy", "next_sentence_accuracy"), True),
    **dict.fromkeys(("f1", "macro_f1", "micro_f1", "weighted_f1", "exact_match"), True),
    **dict.fromkeys(("entity_f1", "entity_precision", "entity_recall"), True),
    **dict.fromkeys(("matthews", "pearson", "spearman"), True),
}


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """The share of examples whose prediction is the label. Both arguments are (n,)."""
    truth, predicted = _pair(labels, predictions)
    return float(np.mean(truth == predicted))


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Counts of examples by label (row) and prediction (column), (C, C).

    Args:
        labels, predictions: (n,) class numbers from 0 to classes - 1.
        classes: C, so that a class that never occurs has its row and column, too.
    """
    truth, predicted = _pair(labels, predictions)
    for name, values in (("label", truth), ("prediction", predicted)):
        if values.min() < 0 or values.max() >= classes:
            raise InputError(
                f"Each {name} must be between 0 and {classes - 1}, but they are between "
                f"{values.min()} and {values.max()}.",
                key=name,
            )
    counts = np.bincount(truth * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes).astype(np.int64)  # (C, C)


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of each class, and how often it is label and prediction; (C,) each.

    The scores of a class that is neither label nor prediction of any example are 0.
    """

    precision: Floats
    recall: Floats
    f1: Floats
    support: NDArray[np.int64]
    predicted: NDArray[np.int64]

    def of(self, number: int | tuple[()]) -> dict[str, float]:
        """The scores of one class; () where all are one number."""
        return {
            "precision": float(self.precision[number]),
            "recall": float(self.recall[number]),
            "f1": float(self.f1[number]),
            "support": int(self.support[number]),
        }

    @property
    def macro_f1(self) -> float:
        """The unweighted mean of F1 over the classes that occur."""
        occurs = (self.support + self.predicted) > 0  # (C,)
        return float(np.mean(self.f1[occurs])) if occurs.any() else 0.0

    @property
    def weighted_f1(self) -> float:
        """The mean of the classes' F1, weighted by their support."""
        return float(np.sum(self.f1 * self.support) / max(1, self.support.sum()))


def class_scores(labels: ArrayLike, predictions: ArrayLike, classes: int) -> ClassScores:
    """Scores of each class for single-label predictions; both arguments are (n,) class numbers."""
    matrix = confusion_matrix(labels, predictions, classes)
    right = np.diagonal(matrix)
    return _scores(right, predicted=matrix.sum(axis=0), support=matrix.sum(axis=1))


def matthews(labels: ArrayLike, predictions: ArrayLike, classes: int) -> float:
    """Matthews correlation of single-label predictions, from -1 to 1; both are (n,) class numbers.

    Matthews 1975 for two classes, Gorodkin 2004 for more. It is 0 for predictions that are
    independent of the labels, however unbalanced the classes are, and where either is constant.
    """
    counts = confusion_matrix(labels, predictions, classes)  # (C, C)
    return float(matthews_of_counts(np.trace(counts), counts.sum(axis=1), counts.sum(axis=0)))


def matthews_of_counts(right: ArrayLike, truth: ArrayLike, predicted: ArrayLike) -> Floats:
    """Matthews correlation from counts: right (...), labels and predictions by class (..., C)."""
    right, truth, predicted = (np.asarray(part, dtype=np.float64) for part in (right, truth, predicted))
    total = truth.sum(axis=-1)  # (...)
    together = right * total - (truth * predicted).sum(axis=-1)  # (...)
    spread = (total**2 - (truth**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    return _divide(together, np.sqrt(spread))


def multilabel_scores(labels: ArrayLike, predictions: ArrayLike) -> dict[str, float]:
    """Scores where an example has any number of labels; both arguments are (n, C), 0 or 1.

    Returns:
        micro_f1 (over all n * C decisions), macro_f1 (mean over classes), and subset_accuracy (the
        share of examples for which all C decisions are right).
    """
    truth, predicted = (values.astype(bool) for values in _pair(labels, predictions))
    by_class = _scores((truth & predicted).sum(axis=0), predicted=predicted.sum(axis=0), support=truth.sum(axis=0))
    overall = _scores((truth & predicted).sum(), predicted=predicted.sum(), support=truth.sum())
    return {
        "micro_f1": float(overall.f1),
        "macro_f1": float(np.mean(by_class.f1)),
        "subset_accuracy": float(np.mean((truth == predicted).all(axis=1))),
    }


def regression_scores(labels: ArrayLike, predictions: ArrayLike) -> dict[str, float]:
    """Scores of predicted numbers, (n,) each.

    Returns:
        mse (mean squared error), and the correlations pearson (of values) and spearman (of ranks,
        where ties share their mean rank); a correlation with a constant is 0.
    """
    truth, predicted = (values.astype(np.float64) for values in _pair(labels, predictions))
    return {
        "mse": float(np.mean((truth - predicted) ** 2)),
        "pearson": _correlation(truth, predicted),
        "spearman": _correlation(_ranks(truth), _ranks(predicted)),
    }


Entity = tuple[int, int, str]  # first word, one past the last word, type


def entities(tags: Sequence[str]) -> set[Entity]:
    """The entities of one sentence's tags, as the CoNLL shared tasks read them.

    B-X opens an entity of type X, and each I-X that follows continues it. An I-X after anything
    else opens an entity, too, as in conlleval and seqeval's default, which most published scores
    come from. Valid IOB2 tags have no such I-X.
    """
    found: set[Entity] = set()
    first, kind = 0, ""
    for position, tag in enumerate([*tags, "O"]):
        if kind and tag != f"I-{kind}":
            found.add((first, position, kind))
            kind = ""
        if tag[:2] in ("B-", "I-") and not kind:
            first, kind = position, tag[2:]
    return found


def entity_scores(labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 of whole entities, whose ends and type must all be right.

    Tjong Kim Sang & De Meulder 2003, section 3 (the CoNLL-2003 shared task).

    Args:
        labels, predictions: for each sentence, a tag for each word.

    Returns:
        Type, or "micro" for all entities -> precision, recall, f1, support.
    """
    _check_lengths(labels, predictions)
    truth: set[tuple[int, Entity]] = set()
    predicted: set[tuple[int, Entity]] = set()
    for sentence, (true_tags, predicted_tags) in enumerate(zip(labels, predictions, strict=True)):
        _check_lengths(true_tags, predicted_tags, f"sentence {sentence}")
        truth |= {(sentence, entity) for entity in entities(true_tags)}
        predicted |= {(sentence, entity) for entity in entities(predicted_tags)}

    def score(kind: str | None) -> dict[str, float]:
        of_truth = {item for item in truth if kind in (None, item[1][2])}
        of_predicted = {item for item in predicted if kind in (None, item[1][2])}
        scores = _scores(
            np.int64(len(of_truth & of_predicted)),
            predicted=np.int64(len(of_predicted)),
            support=np.int64(len(of_truth)),
        )
        return scores.of(())

    kinds = sorted({kind for _, (_, _, kind) in truth | predicted})
    return {**{kind: score(kind) for kind in kinds}, "micro": score(None)}


def answer_scores(prediction: str, answers: Sequence[str]) -> tuple[bool, float]:
    """Exact match and F1 of an answer, each the best over the right answers.

    Rajpurkar et al. 2016, section 6.1 (SQuAD): both sides in lower case, without punctuation and
    the articles a, an, the; F1 is over the words in common. For a question without an answer both
    are 1 if the prediction is empty, otherwise 0 (Rajpurkar et al. 2018); an answer that consists
    of punctuation and articles does not count. Words are separated by white space, so F1 in Chinese
    is hardly more than exact match.

    Args:
        answers: the right ones; empty for a question without an answer.
    """
    guess = _plain_words(prediction)
    scores = []
    for right in [words for words in map(_plain_words, answers) if words] or [[]]:
        shared = sum((Counter(guess) & Counter(right)).values())
        nothing = not guess or not right
        f1 = float(guess == right) if nothing else 2 * shared / (len(guess) + len(right))
        scores.append((guess == right, f1))
    return max(exact for exact, _ in scores), max(f1 for _, f1 in scores)


def _plain_words(text: str) -> list[str]:
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def wilson_interval(right: int, total: int, *, confidence: float = 0.95) -> Interval:
    """The confidence interval of an accuracy of `right` out of `total` (Wilson 1927).

    Unlike the normal approximation it stays within 0..1 and holds for small `total` and for
    accuracies near 1.
    """
    if total < 1 or not 0 <= right <= total:
        raise InputError(f"{right} right out of {total} is not an accuracy.")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = right / total
    centre = share + z**2 / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    scale = 1 + z**2 / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def bootstrap_interval(
    metric: Callable[[NDArray[Any], NDArray[Any]], float],
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """The confidence interval of any metric: percentiles over resampled data sets (Efron 1979).

    The examples are drawn with replacement, as a function of `seed` alone.

    Args:
        metric: (labels, predictions) -> score.
        labels, predictions: n rows each.
    """
    truth, predicted = _pair(labels, predictions)
    generator = np.random.default_rng(seed)
    scores = []
    for _ in range(resamples):
        drawn = generator.integers(0, len(truth), size=len(truth))
        scores.append(metric(truth[drawn], predicted[drawn]))
    low, high = np.quantile(scores, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


def _pair(labels: ArrayLike, predictions: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    truth, predicted = np.asarray(labels), np.asarray(predictions)
    if truth.shape != predicted.shape:
        raise InputError(f"Labels and predictions must have one shape, not {truth.shape} and {predicted.shape}.")
    if len(truth) == 0:
        raise InputError("There are no examples to score.")
    return truth, predicted


def _check_lengths(labels: Sequence[object], predictions: Sequence[object], where: str = "") -> None:
    if len(labels) != len(predictions):
        raise InputError(
            f"There are {len(labels)} labels and {len(predictions)} predictions{f' in {where}' if where else ''}."
        )


def _scores(right: ArrayLike, *, predicted: ArrayLike, support: ArrayLike) -> ClassScores:
    total = np.asarray(predicted) + np.asarray(support)
    return ClassScores(
        precision=_divide(right, predicted),
        recall=_divide(right, support),
        f1=_divide(2 * np.asarray(right), total),
        support=np.asarray(support),
        predicted=np.asarray(predicted),
    )


def _divide(above: ArrayLike, below: ArrayLike) -> Floats:
    """Elementwise division where x / 0 is 0."""
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)


def _correlation(left: Floats, right: Floats) -> float:
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return 0.0
    left, right = left - left.mean(), right - right.mean()
    return float(_divide(left @ right, np.sqrt((left @ left) * (right @ right))))


def _ranks(values: Floats) -> Floats:
    """Ranks from 0; equal values share their mean rank."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    return (first + (counts - 1) / 2)[which]
