"""A sentence in front of a model: what every tool of this folder starts from."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minibert.base import Model
from minibert.heads import BertForMultipleChoice, BertForNextSentencePrediction, BertForQuestionAnswering
from minibert.io.errors import DataError, InputError
from minibert.tokenizer import BertTokenizer
from minibert.trace import Trace

PIECES = 4096  # of one forward pass over many rows: their masked-LM logits take 500 MB


@dataclass(frozen=True)
class Sentence:
    """A text, or a pair of texts, as a model reads it.

    Attributes:
        text, pair: what was given.
        tokens: the S pieces, [CLS] and [SEP] included.
        word_ids: the word of each piece, counted from 0 in its own text; None for [CLS] and [SEP].
        inputs: the model's inputs, (1, S) each. There is no padding, so packed and padded values line up: T = S.
    """

    text: str
    pair: str | None
    tokens: list[str]
    word_ids: list[int | None]
    inputs: dict[str, Tensor]

    def column(self, place: int | str) -> int:
        """The column of a piece, given by its number (negative ones count from the end) or as text."""
        if isinstance(place, str):
            if self.tokens.count(place) != 1:
                times = self.tokens.count(place)
                message = f"The piece {place!r} occurs {times} times among {' '.join(self.tokens)}."
                raise InputError(message, key="position", hint="Give the number of its column.")
            return self.tokens.index(place)
        if not -len(self.tokens) <= place < len(self.tokens):
            message = f"Position {place} is beyond the {len(self.tokens)} pieces {' '.join(self.tokens)}."
            raise InputError(message, key="position")
        return place % len(self.tokens)

    def repeated(self, rows: int) -> dict[str, Tensor]:
        """The inputs of a batch, (rows, S) each, in which every row is this sentence."""
        return {name: tensor.expand(rows, -1) for name, tensor in self.inputs.items()}  # (rows, S)

    @property
    def rows(self) -> int:
        """How many rows of this length go into one forward pass."""
        return max(1, PIECES // len(self.tokens))


def sentence(tokenizer: BertTokenizer, text: str, pair: str | None = None, model: Model | None = None) -> Sentence:
    """Tokenises a text or a pair; with a model, its inputs lie on the model's device.

    Raises:
        InputError: the model reads several texts at once.
    """
    if isinstance(model, BertForMultipleChoice):
        message = f"A {type(model).__name__} reads several texts at once, and the tools of this folder read one."
        raise InputError(message, key="model", hint="Open the checkpoint as BertModel.")
    inputs = tokenizer(text, pair)  # (1, S) each
    [encoded] = tokenizer.encode(text, pair)
    if model is not None:
        device = next(model.parameters()).device
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    return Sentence(text, pair, encoded.tokens, encoded.word_ids, inputs)


def several(texts: Sequence[str]) -> Sequence[str]:
    """The texts; DataError if there are none, or if they are one string, which would be read letter by letter."""
    if isinstance(texts, str) or not texts:
        message = "The texts are one string." if texts else "There are no texts."
        raise DataError(message, key="texts", hint="Give a list of them.")
    return texts


def run(model: Model, inputs: dict[str, Tensor], *read: str, **trace: Any) -> tuple[Any, Trace]:
    """Runs a model without dropout and gradients; returns its output and the trace of the names to `read`."""
    tracing = Trace(*read, **trace)
    with in_eval(model), torch.no_grad():
        return model(**inputs, trace=tracing), tracing


@contextmanager
def in_eval(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no dropout, for a while; afterwards each module is back in the mode that it was in."""
    modes = [(part, part.training) for part in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def in_float64(model: Model) -> Model:
    """The model itself if it computes in float64, or else a copy that does."""
    double = all(parameter.dtype == torch.float64 for parameter in model.parameters())
    return model if double else copy.deepcopy(model).double()


def labels_of(model: Model) -> dict[str, int]:
    """The names of the logits of a head that is not masked LM -> their numbers."""
    if isinstance(model, BertForNextSentencePrediction):
        return {"follows": 0, "from another text": 1}
    return {"start": 0, "end": 1} if isinstance(model, BertForQuestionAnswering) else model.config.label2id


def label_number(labels: dict[str, int], target: int | str) -> int:
    """The number of a class given by its name or number."""
    number = labels.get(target, -1) if isinstance(target, str) else target
    if not 0 <= number < len(labels):
        raise InputError(f"There is no class {target!r}. The classes are {', '.join(labels)}.", key="target")
    return number
