"""Baselines: the scores of the majority class and of naive Bayes, which a model has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minibert.data import Rows
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.scores import metrics

_IN_WORDS = {"majority": "the majority class", "naive_bayes": "naive Bayes"}


def baselines(
    train: tuple[Corpus, Rows], final: tuple[Corpus, Rows], tokenizer: BertTokenizer
) -> dict[str, dict[str, float]]:
    """Accuracy and macro F1 on the final split of two classifiers without BERT.

    "majority" always predicts the majority class of the training labels; "naive_bayes" is
    `NaiveBayes` on BERT's tokens without [CLS], [SEP] and padding.

    Args:
        train, final: a split, and the same as rows of ids.
    """
    classes = len(train[0].label_names or ())
    labels, truth = class_labels(train[0]), class_labels(final[0])
    special = set(tokenizer.special_tokens.values()) - {tokenizer.unk_id}
    model = NaiveBayes(_bags(train[1], special), labels, classes, tokenizer.vocab_size)
    guesses = {
        "majority": np.full(len(truth), np.bincount(labels, minlength=classes).argmax()),
        "naive_bayes": model.predict(_bags(final[1], special)),
    }
    return {
        name: {
            "accuracy": metrics.accuracy(truth, guess),
            "macro_f1": metrics.class_scores(truth, guess, classes).macro_f1,
        }
        for name, guess in guesses.items()
    }


class NaiveBayes:
    """Multinomial naive Bayes on bags of tokens (McCallum & Nigam 1998, section 2.2).

    The tokens of a text are independent given its class.

    Args:
        bags: the token ids of each training text.
        labels: (texts,) class numbers.
        classes, vocab_size: C and V.
        smoothing: added to the count of each token in each class (Laplace).
    """

    def __init__(
        self, bags: Sequence[np.ndarray], labels: np.ndarray, classes: int, vocab_size: int, smoothing: float = 1.0
    ):
        lengths = [len(bag) for bag in bags]
        cells = np.repeat(labels, lengths) * vocab_size + np.concatenate(bags)
        counts = np.bincount(cells, minlength=classes * vocab_size).astype(np.float64)
        counts = counts.reshape(classes, vocab_size) + smoothing  # (C, V)
        with np.errstate(divide="ignore"):  # a class without texts is never predicted
            self.prior = np.log(np.bincount(labels, minlength=classes) / len(labels))  # (C,)
        self.log_likelihood = np.log(counts / counts.sum(axis=1, keepdims=True))  # (C, V)

    def scores(self, bags: Sequence[np.ndarray]) -> np.ndarray:
        """(texts, C): log P(class) plus the sum of log P(token | class) over the tokens."""
        return np.stack([self.prior + self.log_likelihood[:, bag].sum(axis=1) for bag in bags])

    def predict(self, bags: Sequence[np.ndarray]) -> np.ndarray:
        """(texts,) the most likely class of each."""
        return self.scores(bags).argmax(axis=1)


def describe(scores: dict[str, dict[str, float]], split: str, accuracy: float | None = None) -> str:
    """The baselines on one line; and, on another, that the model's accuracy does not beat them."""
    parts = [
        f"{name.replace('_', ' ')} {score['accuracy']:.4f} (macro F1 {score['macro_f1']:.4f})"
        for name, score in scores.items()
    ]
    line = f"without BERT, accuracy on {split}: {', '.join(parts)}"
    warning = "" if accuracy is None else not_above(scores, accuracy)
    return f"{line}\n{warning}" if warning else line


def not_above(scores: dict[str, dict[str, float]], accuracy: float) -> str:
    """A sentence if a model's accuracy is not above that of a baseline; otherwise empty."""
    beaten_by = [name for name, score in scores.items() if accuracy <= score["accuracy"]]
    if not beaten_by or accuracy == 1:
        return ""
    names = " or ".join(_IN_WORDS[name] for name in beaten_by)
    return (
        f"The model's accuracy, {accuracy:.4f}, is not above that of {names}: try more epochs, "
        "another learning rate or more training examples, and check the data (minibert data)."
    )


def class_labels(corpus: Corpus) -> np.ndarray:
    """(examples,) class numbers of a corpus with one class for each text."""
    return np.array([example.target for example in corpus])


def _bags(dataset: Rows, special: set[int]) -> list[np.ndarray]:
    left_out = np.array(sorted(special))
    rows = (dataset[row]["input_ids"] for row in range(len(dataset)))
    return [ids[~np.isin(ids, left_out)] for ids in rows]
