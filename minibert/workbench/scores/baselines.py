"""Baselines: what is reached without BERT, so that a score is read with its floor beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from minibert.data import Rows
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.scores import metrics


def baselines(
    train: tuple[Corpus, Rows], final: tuple[Corpus, Rows], tokenizer: BertTokenizer
) -> dict[str, dict[str, float]]:
    """Accuracy and macro F1 on the final split of what learns from the training split in a second.

    "majority" says the commonest class of the training labels whatever the text; "naive_bayes" is
    `NaiveBayes` on the tokens as BERT sees them, [CLS], [SEP] and padding left out.
    """
    classes = len(train[0].label_names or ())
    labels, truth = class_labels(train[0]).numpy(), class_labels(final[0]).numpy()
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
    """Multinomial naive Bayes on bags of pieces (McCallum & Nigam 1998, section 2.2).

    Each piece of a text is drawn by itself from the pieces of the text's class; a piece never seen
    in a class counts as seen `smoothing` times (Laplace).

    Args:
        bags: the piece ids of each training text.
        labels: (texts,) class numbers.
        classes, vocab_size: C and V.
    """

    def __init__(
        self,
        bags: Sequence[np.ndarray],
        labels: np.ndarray,
        classes: int,
        vocab_size: int,
        smoothing: float = 1.0,
    ):
        lengths = [len(bag) for bag in bags]
        cells = np.repeat(labels, lengths) * vocab_size + np.concatenate(bags)
        counts = np.bincount(cells, minlength=classes * vocab_size).astype(np.float64)
        counts = counts.reshape(classes, vocab_size) + smoothing  # (C, V)
        with np.errstate(divide="ignore"):  # a class without a text: never predicted
            self.prior = np.log(np.bincount(labels, minlength=classes) / len(labels))  # (C,)
        self.log_chances = np.log(counts / counts.sum(axis=1, keepdims=True))  # (C, V)

    def scores(self, bags: Sequence[np.ndarray]) -> np.ndarray:
        """(texts, C): log P(class) + the sum over pieces of log P(piece | class)."""
        return np.stack([self.prior + self.log_chances[:, bag].sum(axis=1) for bag in bags])

    def predict(self, bags: Sequence[np.ndarray]) -> np.ndarray:
        """(texts,) the likeliest class of each."""
        return self.scores(bags).argmax(axis=1)


def describe(scores: dict[str, dict[str, float]], split: str) -> str:
    """The baselines on one line, for people."""
    parts = [
        f"{name.replace('_', ' ')} {score['accuracy']:.4f} (macro F1 {score['macro_f1']:.4f})"
        for name, score in scores.items()
    ]
    return f"without BERT, accuracy on {split}: {', '.join(parts)}"


def class_labels(corpus: Corpus) -> torch.Tensor:
    """(examples,) the class numbers of a corpus that has one for each text."""
    return torch.tensor([example.target for example in corpus])


def _bags(dataset: Rows, special: set[int]) -> list[np.ndarray]:
    left_out = np.array(sorted(special))
    rows = (dataset[row]["input_ids"] for row in range(len(dataset)))
    return [ids[~np.isin(ids, left_out)] for ids in rows]
