"""Readouts: a logit, or a hidden state along a direction, as a linear function of one hidden state.

A head is a chain of linear maps, a norm and an activation. Walking back from the logit to the last hidden state, each
step turns the direction that the number is read along, and leaves the share of its bias behind (see `account.py`, which
also says how norms and activations become linear).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from minibert import heads
from minibert.base import Model
from minibert.io.errors import InputError
from minibert.study.sentence import Sentence, label_number, labels_of
from minibert.tokenizer import BertTokenizer
from minibert.trace import Trace


@dataclass
class Readout:
    """A number as a linear function of one hidden state, and what later biases have added to it."""

    what: str
    value: float
    position: int
    layer: int  # of the hidden state
    direction: Tensor  # the gradient with respect to it, scales and secants held fixed
    biases: dict[str, float] = field(default_factory=dict)

    def through_linear(self, name: str, module: nn.Linear) -> None:
        """From the output of a linear map to its input."""
        self._take_bias(name, module.bias)
        self.direction = self.direction @ module.weight

    def through_norm(self, name: str, module: nn.LayerNorm, summed: Tensor) -> None:
        """From the output of a layer norm to its input, whose recorded value (D,) gives the scale."""
        self._take_bias(name, module.bias)
        scale = (summed.var(unbiased=False) + module.eps).rsqrt()  # ()
        direction = self.direction * module.weight  # (D,)
        self.direction = (direction - direction.mean()) * scale  # (D,)

    def through_activation(self, function: Callable[[Tensor], Tensor], before: Tensor) -> None:
        """From f(z) to z, along the line through zero and f(z)."""
        tiny = torch.full_like(before, 1e-30)
        safe = torch.where(before == 0, tiny, before)
        self.direction = self.direction * function(safe) / safe

    def _take_bias(self, name: str, bias: Tensor | None) -> None:
        if bias is not None:
            self.biases[name] = (self.direction @ bias).item()


def from_direction(
    model: Model, given: Sentence, trace: Trace, direction: Tensor, position: int | str | None, layer: int | None
) -> Readout:
    layers, size = model.config.num_hidden_layers, model.config.hidden_size
    layer = layers if layer is None else layer
    if direction.shape != (size,):
        raise InputError(f"direction has shape {tuple(direction.shape)}, not ({size},).", key="direction")
    if position is None:
        raise InputError("A direction needs the position of the hidden state.", key="position")
    if not 0 <= layer <= layers:
        raise InputError(f"layer is {layer}, but must be 0 (the embeddings) to {layers}.", key="layer")
    at = given.column(position)
    name = f"layers.{layer - 1}.feed_forward.norm" if layer else "embeddings.output"
    direction = direction.to(trace[name])  # (D,)
    what = f"hidden state {layer} of {given.tokens[at]} ({at}) along a direction"
    return Readout(what, (trace[name][at] @ direction).item(), at, layer, direction)


@dataclass(frozen=True)
class Logit:
    """Which of a model's logits is meant.

    Attributes:
        what: the same in words.
        number: of the class, or the id of the piece.
        column: the position, for heads over tokens; else None.
    """

    what: str
    number: int
    column: int | None

    def row(self, output: Any) -> Tensor:
        """(B, C) or (B, V): the logits among which it is, for each row of a model's output."""
        logits = answers(output)  # (B, S, V), or (B, C)
        return logits if self.column is None else logits[:, self.column]  # (B, C)

    def of(self, output: Any) -> Tensor:
        """(B,) the logit of each row of a model's output."""
        return self.row(output)[:, self.number]  # (B,)


def answers(output: Any) -> Tensor:
    """The logits of a model's output, (B, S, V) or (B, C); of both pre-training heads, the masked-LM one's."""
    return output.logits[0] if isinstance(output.logits, tuple) else output.logits


def is_masked_lm(model: Model) -> bool:
    return isinstance(model, (heads.BertForMaskedLM, heads.BertForPreTraining))


def has_several_labels(model: Model) -> bool:
    """Whether each class is a question of its own, so that any number of them can be right."""
    return model.config.problem_type == "multi_label_classification"


def probabilities(model: Model, logits: Tensor) -> Tensor:
    """What logits (S, C), or (1, C), stand for, in the same shape.

    The probability of each class or piece of the vocabulary; for spans, of each column to be the start or the end; for
    several labels, of each label by itself. The one output of a regression is a number and stays as it is.
    """
    if logits.shape[-1] == 1:
        return logits
    if has_several_labels(model):
        return logits.sigmoid()
    return logits.softmax(dim=0 if isinstance(model, heads.BertForQuestionAnswering) else -1)


def names_of(model: Model, tokenizer: BertTokenizer) -> list[str]:
    """The names of a model's logits, in their order: classes, or pieces of the vocabulary."""
    if not is_masked_lm(model):
        return [*labels_of(model)]
    pieces = {number: piece for piece, number in tokenizer.vocabulary.items()}
    return [pieces.get(number, f"[{number}]") for number in range(model.config.vocab_size)]


def asked(model: Model, given: Sentence) -> list[int]:
    """The columns whose answers are of interest: the masks of a masked LM, the pieces of a tagger."""
    if is_masked_lm(model):
        return [column for column, token in enumerate(given.tokens) if token == "[MASK]"]
    return [column for column, word in enumerate(given.word_ids) if word is not None]


def decisions(model: Model, given: Sentence, output: Any) -> Tensor:
    """(decisions, options) the logits of which the largest in each row is the answer.

    One row for the sentence, or for each column that is `asked` about (all, if there is none); for spans, the columns
    for start and end; for several labels a row for each, its logit and 0.
    """
    logits = answers(output)[0]  # (S, C) or (C,)
    if isinstance(model, heads.BertForQuestionAnswering):
        return logits.t()  # (2, S)
    if logits.dim() == 2:
        return logits[asked(model, given) or slice(None)]  # (asked, C)
    return torch.stack([logits, torch.zeros_like(logits)], 1) if has_several_labels(model) else logits[None]


def choose_logit(
    model: Model, tokenizer: BertTokenizer, given: Sentence, output: Any,
    target: int | str | None = None, position: int | str | None = None,
) -> Logit:  # fmt: skip
    """The logit of a target at a position: by default the largest, and for masked LM at the first [MASK].

    Raises:
        InputError: the model has no such class, piece or position, or needs one and has not been given it.
    """
    kind = type(model).__name__
    if not isinstance(model, heads.ModelWithHead):
        message = f"A {kind} has no logits."
        raise InputError(message, key="model", hint="Open the checkpoint as BertForMaskedLM or as a classifier.")
    logits = answers(output)[0]  # (S, V), or (C,)
    if logits.dim() == 1 and position is not None:
        raise InputError(f"A {kind} reads [CLS] alone, so it takes no position.", key="position")
    masked_lm = is_masked_lm(model)
    if masked_lm and position is None and "[MASK]" in given.tokens:
        position = given.tokens.index("[MASK]")
    if logits.dim() == 2 and position is None:
        hint = "Give the number of a column" + (", or write [MASK] for a word." if masked_lm else ".")
        raise InputError(f"A {kind} has an answer at each piece, so a position is needed.", key="position", hint=hint)
    column = None if position is None else given.column(position)
    row = logits if column is None else logits[column]  # (V,) or (C,)
    if target is None:
        number = int(row.argmax())
    else:
        number = _piece_number(tokenizer, target) if masked_lm else label_number(labels_of(model), target)
    name = repr(tokenizer.tokens([number])[0]) if masked_lm else [*labels_of(model)][number]
    where = "" if column is None else f" at {given.tokens[column]} ({column})"
    return Logit(f"logit of {name}{where}", number, column)


def from_logit(model: Model, logit: Logit, output: Any, trace: Trace) -> Readout:
    """Walks back through the head, from a logit to the last hidden state."""
    at = logit.column or 0
    head: Any = model.masked_lm if isinstance(model, heads.BertForPreTraining) else model.head
    pooler: Any = model.body.pooler
    value = logit.of(output).item()
    back = Readout(logit.what, value, at, model.config.num_hidden_layers, torch.empty(0))
    if isinstance(head, heads.MaskedLMHead):
        prefix = head_names(model)[0].removesuffix("*")
        table = model.body.embeddings.word if head.decoder is None else head.decoder
        back.direction = table.weight[logit.number]  # (D,)
        back.biases[f"{prefix}decoder"] = head.bias[logit.number].item()
        back.through_norm(f"{prefix}norm", head.norm, trace[f"{prefix}activation"][at])
        back.through_activation(head.activation, trace[f"{prefix}dense"][at])
        back.through_linear(f"{prefix}dense", head.dense)
        return back
    back.direction = head.classifier.weight[logit.number]  # (D,)
    back.biases["head.classifier"] = head.classifier.bias[logit.number].item()
    if getattr(head, "dense", None) is not None:  # DistilBERT's rows
        back.through_activation(torch.relu, trace["head.dense"][0])
        back.through_linear("head.dense", head.dense)
    elif logit.column is None:
        back.through_activation(torch.tanh, trace["pooler.dense"][0])
        back.through_linear("pooler.dense", pooler.dense)
    return back


def head_names(model: Model) -> tuple[str, ...]:
    """The names that the model's head has in a trace."""
    if isinstance(model, heads.BertForPreTraining):
        return ("masked_lm.*",)
    names: tuple[str, ...] = ("head.*",) if isinstance(model, heads.ModelWithHead) else ()
    return names if model.body.pooler is None else (*names, "pooler.*")


def _piece_number(tokenizer: BertTokenizer, target: int | str) -> int:
    """The id of a piece."""
    if isinstance(target, str) and target not in tokenizer.vocabulary:
        raise InputError(f"{target!r} is not a piece of this vocabulary.", key="target")
    number = tokenizer.vocabulary[target] if isinstance(target, str) else target
    if not 0 <= number < tokenizer.vocab_size:
        raise InputError(f"There is no id {number}: the vocabulary has {tokenizer.vocab_size}.", key="target")
    return number
