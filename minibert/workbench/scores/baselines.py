"""Baselines: guesses without BERT, which a model has to beat, and what to say of one that does not.

Each kind of task says what its guesses are (`Kind.guesses`); they are scored as a model is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from minibert.io.rows import Rows
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.scores.metrics import HIGHER_IS_BETTER

Scores = Mapping[str, Mapping[str, float]]  # baseline -> metric -> value

_IN_WORDS = {
    "majority": "the majority class",
    "naive_bayes": "naive Bayes",
    "frequent_labels": "the most frequent labels for every text",
    "mean": "the mean of the labels for every text",
    "tag_of_word": "the most frequent tag of each word",
    "similar_sentence": "the sentence that shares most words with the question",
    "no_answer": '"no answer" to every question',
    "frequent_place": "the most frequent place",
    "similar_choice": "the choice that shares most words with the text",
    "unigram": "the frequency of each piece",
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


def describe(scores: Scores, name: str, split: str) -> str:
    """The baselines on one line, by one metric; empty if they do not have it."""
    values = [f"{baseline.replace('_', ' ')} {found[name]:.4f}" for baseline, found in scores.items() if name in found]
    return f"without BERT, {name.replace('_', ' ')} on {split}: {', '.join(values)}" if values else ""


_TRY = "more epochs, another learning rate or more training examples, and check the data (minibert data)"
_TRY_IN_PRETRAINING = "more epochs, a higher learning rate or more text, and short rows at first (--max-length 64)"


def verdicts(scores: Scores, name: str, value: float, losses: Sequence[float] = (), *, remedy: str = _TRY) -> list[str]:
    """What has to be said of a model that has failed, a sentence each, with what to try.

    Args:
        scores: of the baselines.
        name, value: a metric and what the model reached; NaN is not above anything.
        losses: on validation, of each epoch.
        remedy: what to try, if the model is not better than a baseline.
    """
    found, shown = [], name.replace("_", " ")
    higher = HIGHER_IS_BETTER[name]
    floors = {each: of_each[name] for each, of_each in scores.items() if name in of_each}
    beaten_by = [_IN_WORDS[each] for each, floor in floors.items() if not (value > floor if higher else value < floor)]
    if value == 0 and higher:
        found.append(
            f"The model's {shown} is 0.0000: nothing that it predicts is right. It may not have begun to learn: try "
            "more epochs or a higher learning rate, and check the data (minibert data)."
        )
    elif beaten_by and value != (1 if higher else 0):
        found.append(
            f"The model's {shown}, {value:.4f}, is not {'above' if higher else 'below'} that of "
            f"{' or '.join(beaten_by)}: try {remedy}."
        )
    if len(losses) > 2 and all(before < after for before, after in zip(losses, losses[1:], strict=False)):
        found.append(
            f"The validation loss rose after every epoch, from {losses[0]:.4f} to {losses[-1]:.4f}: the model learns "
            "the training examples by heart. Try fewer epochs, a lower learning rate or more training examples."
        )
    return found


def pretraining_verdicts(baselines: Scores, scores: Mapping[str, float], losses: Sequence[float]) -> list[str]:
    """The same of pre-training: masked LM is judged by its loss, next sentences by their accuracy."""
    found = []
    for name, more in (("masked_lm_loss", losses), ("next_sentence_accuracy", ())):
        if name in scores:
            found += verdicts(baselines, name, scores[name], more, remedy=_TRY_IN_PRETRAINING)
    return found


def bags_of(dataset: Rows, tokenizer: BertTokenizer) -> list[np.ndarray]:
    """The token ids of each row, without [CLS], [SEP] and padding."""
    left_out = np.array(sorted(set(tokenizer.special_tokens.values()) - {tokenizer.unk_id}))
    rows = (dataset[row]["input_ids"] for row in range(len(dataset)))
    return [ids[~np.isin(ids, left_out)] for ids in rows]


def class_labels(corpus: Corpus) -> np.ndarray:
    """(examples,) class numbers of a corpus with one class for each text."""
    return np.array([example.target for example in corpus])


def most_similar(text: str, others: Sequence[str]) -> int:
    """Which of several texts shares most words with a text; the first of those that share as many."""
    words = Counter(text.lower().split())
    shared = [sum((words & Counter(other.lower().split())).values()) for other in others]
    return shared.index(max(shared))
