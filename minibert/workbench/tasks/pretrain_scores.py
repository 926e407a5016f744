"""Masked batches for pre-training, and scores of a model on them beside those of plain guesses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minibert.data import IGNORED_LABEL
from minibert.fast.precision import Precision
from minibert.io.seeds import mixed_seed
from minibert.tokenizer import BertTokenizer
from minibert.training import Batch, Inputs
from minibert.workbench.data.masking import Masking
from minibert.workbench.data.passages import FOLLOWS, STRANGER, Passages
from minibert.workbench.runs import together
from minibert.workbench.tasks.common import planned
from minibert.workbench.tasks.pretrain_model import PreTrained


def masked_batches(
    rows: Passages, tokenizer: BertTokenizer, masking: Masking, *, seed: Sequence[object], **plan: Any
) -> list[Batch]:
    """Batches of rows whose tokens are masked when they are loaded, always the same for one seed.

    A loaded batch holds `labels`, `next_sentence_label` if rows have one, and `labelled_only`, so
    that the model's head runs only at masked tokens.

    Args:
        seed: decides the order of the batches and, with the number of a batch, its masks.
        plan: passed to `plan_batches`.
    """
    batches = planned(rows, tokenizer, seed=mixed_seed(*seed), **plan)
    return [
        replace(batch, load=partial(_mask, batch.load, masking, mixed_seed(*seed, number)))
        for number, batch in enumerate(batches)
    ]


class Scored(nn.Module):
    """A model for pre-training whose loss terms include accuracies.

    Beside each term NAME of the model there is NAME_right: how many labels have the highest logit.
    """

    def __init__(self, model: PreTrained):
        super().__init__()
        self.model = model

    def count_labels(self, inputs: Inputs) -> Mapping[str, float]:
        return self.model.count_labels(inputs)

    def forward(self, **inputs: Any) -> Any:
        output = self.model(**inputs)
        terms = dict(output.loss_terms)
        labels = inputs["layout"].unpad(inputs["labels"])  # (T,)
        labels = labels[labels != IGNORED_LABEL]  # (M,), as the logits
        follows = inputs.get("next_sentence_label")
        if follows is None:
            terms["masked_lm_right"] = _right(output.logits, labels)
        else:
            terms["masked_lm_right"] = _right(output.prediction_logits, labels)
            counts = follows != IGNORED_LABEL  # (B,)
            logits = output.seq_relationship_logits[counts]  # (rows with a label, 2)
            terms["next_sentence_right"] = _right(logits, follows[counts])
        # An evaluation keeps logits per example; here they are not needed.
        nothing = labels.new_zeros(len(inputs["labels"]), 0)  # (B, 0)
        return _Counted(terms, nothing)


@dataclass(frozen=True)
class _Counted:
    loss_terms: dict[str, tuple[Tensor, float]]
    logits: Tensor


def measure(model: PreTrained, batches: Sequence[Batch], precision: Precision, **options: Any) -> dict[str, float]:
    """Scores of a model on batches whose masks are fixed.

    Args:
        options: passed to `together.evaluate`.

    Returns:
        loss, the sum of masked_lm_loss and next_sentence_loss (in nats, means over all masked
        tokens and over all rows with a label); perplexity, e to the power of masked_lm_loss;
        masked_lm_accuracy and next_sentence_accuracy. Without labels for the next sentence, its
        scores are missing.
    """
    result = together.evaluate(Scored(model), batches, precision, **options)
    means = result.sums.means()
    names = [name for name in ("masked_lm", "next_sentence") if name in means]
    scores = {"loss": sum(means[name] for name in names)}
    for name in names:
        scores[f"{name}_loss"] = means[name]
        scores[f"{name}_accuracy"] = means[f"{name}_right"]
    return {**scores, "perplexity": math.exp(min(means["masked_lm"], 700))}


def baselines(train_ids: NDArray[np.int32], batches: Sequence[Batch], masking: Masking) -> dict[str, dict[str, float]]:
    """The scores of guesses that ignore the context, on the labels of these batches.

    Args:
        train_ids: the pieces of the training text, whose counts are all that the guesses know.

    Returns:
        "unigram": the probability of a piece is proportional to its count plus one; its accuracy is
        that of always guessing the most frequent piece. "majority": always the more frequent label
        of the next sentence.
    """
    counts = np.bincount(train_ids, minlength=len(masking.ordinary)).astype(np.float64)  # (V,)
    counts = np.where(masking.ordinary, counts + 1, 0)
    with np.errstate(divide="ignore"):
        surprise = np.log(counts.sum()) - np.log(counts)  # (V,)
    loaded = [batch.load() for batch in batches]
    labels = np.concatenate([batch["labels"].numpy().ravel() for batch in loaded])
    labels = labels[labels != IGNORED_LABEL]
    loss = float(surprise[labels].mean())
    found = {
        "unigram": {
            "masked_lm_loss": loss,
            "masked_lm_accuracy": float(np.mean(labels == counts.argmax())),
            "perplexity": math.exp(min(loss, 700)),
        }
    }
    if "next_sentence_label" in loaded[0]:
        follows = np.concatenate([batch["next_sentence_label"].numpy() for batch in loaded])
        shares = [float(np.mean(follows[follows >= 0] == one)) for one in (FOLLOWS, STRANGER)]
        found["majority"] = {"next_sentence_accuracy": max(shares)}
    return found


def _mask(load: Callable[[], Inputs], masking: Masking, seed: int) -> dict[str, Any]:
    """A batch with masked tokens and their labels."""
    inputs = dict(load())
    ids, labels = masking(inputs["input_ids"].numpy(), np.random.default_rng(seed))  # (B, S)
    if "labels" in inputs:
        inputs["next_sentence_label"] = inputs["labels"]  # (B,)
    return {**inputs, "input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels), "labelled_only": True}


def _right(logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """How many labels (M,) have the highest logit of (M, C), and how many there are."""
    return (logits.argmax(dim=-1) == labels).sum(), len(labels)
