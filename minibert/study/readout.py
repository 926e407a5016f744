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


def from_logit(
    model: Model, tokenizer: BertTokenizer, given: Sentence, output: Any, trace: Trace,
    target: int | str | None, position: int | str | None,
) -> Readout:  # fmt: skip
    """Walks back through the head, from a logit to the last hidden state."""
    layers = model.config.num_hidden_layers
    if isinstance(model, (heads.BertForMaskedLM, heads.BertForPreTraining)):
        lm_head = model.head if isinstance(model, heads.BertForMaskedLM) else model.masked_lm
        prefix, logits = head_names(model)[0].removesuffix("*"), output.logits
        logits = logits if isinstance(model, heads.BertForMaskedLM) else logits[0]  # (1, S, V)
        at = _mask_or(given, position)
        number = _piece_number(tokenizer, logits[0, at], target)
        word_table = model.body.embeddings.word.weight if lm_head.decoder is None else lm_head.decoder.weight  # (V, D)
        [piece] = tokenizer.tokens([number])
        what = f"logit of {piece!r} at {given.tokens[at]} ({at})"
        back = Readout(what, logits[0, at, number].item(), at, layers, word_table[number])
        back.biases[f"{prefix}decoder"] = lm_head.bias[number].item()
        back.through_norm(f"{prefix}norm", lm_head.norm, trace[f"{prefix}activation"][at])
        back.through_activation(lm_head.activation, trace[f"{prefix}dense"][at])
        back.through_linear(f"{prefix}dense", lm_head.dense)
        return back
    over_tokens = isinstance(model, (heads.BertForTokenClassification, heads.BertForQuestionAnswering))
    if not isinstance(model, heads.ModelWithHead) or isinstance(model, heads.BertForMultipleChoice):
        message = f"A {type(model).__name__} has no logits that are read from one sentence."
        raise InputError(message, key="direction", hint="Give a direction (D,) and a position.")
    if over_tokens and position is None:
        raise InputError(f"A {type(model).__name__} needs the position of the logit.", key="position")
    if not over_tokens and position is not None:
        raise InputError(f"A {type(model).__name__} reads [CLS] alone, so it takes no position.", key="position")
    at = 0 if position is None else given.column(position)
    logits = output.logits[0, at] if over_tokens else output.logits[0]  # (C,)
    labels = labels_of(model)
    number = int(logits.argmax()) if target is None else label_number(labels, target)
    what = f"logit of {[*labels][number]}" + (f" at {given.tokens[at]} ({at})" if over_tokens else "")
    head: Any = model.head
    pooler: Any = model.body.pooler
    one = torch.zeros_like(logits)  # (C,)
    one[number] = 1.0
    back = Readout(what, logits[number].item(), at, layers, one)
    back.through_linear("head.classifier", head.classifier)
    if getattr(head, "dense", None) is not None:  # DistilBERT's rows
        back.through_activation(torch.relu, trace["head.dense"][0])
        back.through_linear("head.dense", head.dense)
    elif not over_tokens:
        back.through_activation(torch.tanh, trace["pooler.dense"][0])
        back.through_linear("pooler.dense", pooler.dense)
    return back


def head_names(model: Model) -> tuple[str, ...]:
    """The names that the model's head has in a trace."""
    if isinstance(model, heads.BertForPreTraining):
        return ("masked_lm.*",)
    names: tuple[str, ...] = ("head.*",) if isinstance(model, heads.ModelWithHead) else ()
    return names if model.body.pooler is None else (*names, "pooler.*")


def _mask_or(given: Sentence, position: int | str | None) -> int:
    if position is None and "[MASK]" not in given.tokens:
        message = "The text has no [MASK], so a position is needed."
        raise InputError(message, key="position", hint="Give the number of a column, or write [MASK] for a word.")
    return given.tokens.index("[MASK]") if position is None else given.column(position)


def _piece_number(tokenizer: BertTokenizer, logits: Tensor, target: int | str | None) -> int:
    """The id of a piece, by default of the one with the largest of the logits (V,)."""
    if target is None:
        return int(logits.argmax())
    if isinstance(target, str) and target not in tokenizer.vocabulary:
        raise InputError(f"{target!r} is not a piece of this vocabulary.", key="target")
    number = tokenizer.vocabulary[target] if isinstance(target, str) else target
    if not 0 <= number < len(logits):
        raise InputError(f"There is no id {number}: the vocabulary has {len(logits)}.", key="target")
    return number
