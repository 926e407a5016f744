"""Attribution: how much each piece of a text contributes to an answer, by five methods that can be checked.

    gradient x input       the derivative times the embedding (Shrikumar et al. 2016, section 2): a first-order guess
    integrated gradients   its mean on the way from a text of padding (Sundararajan et al. 2017, equation 1)
    rollout                attention patterns multiplied through the layers (Abnar and Zuidema 2020, section 3)
    leave one out          by how much the answer falls when the piece is [MASK]
    account                what the piece itself and the heads that read it wrote (`account.py`)

They disagree. `audit.py` lets them compete: a good ranking names the pieces without which the answer falls.

    >>> print(attribute(model, tokenizer, "A great movie, but too long.", target="POSITIVE"))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minibert.base import Model
from minibert.io.errors import ConfigError
from minibert.io.tables import table
from minibert.study.account import account
from minibert.study.pictures import Picture, grid
from minibert.study.readout import Logit, choose_logit
from minibert.study.sentence import Sentence, in_eval, run, sentence
from minibert.tokenizer import BertTokenizer
from minibert.trace import Trace

INTEGRATED = "integrated gradients"
MOST_STEPS = 1024
CLOSE_ENOUGH = 0.01  # of the completeness error of integrated gradients


@dataclass(frozen=True)
class Question:
    """A logit of a sentence in front of a model: what an attribution explains."""

    model: Model
    tokenizer: BertTokenizer
    given: Sentence
    logit: Logit
    value: float

    @classmethod
    def ask(
        cls, model: Model, tokenizer: BertTokenizer, text: str, pair: str | None = None,
        target: int | str | None = None, position: int | str | None = None,
    ) -> Question:  # fmt: skip
        """Chooses the logit; arguments as for `account`."""
        given = sentence(tokenizer, text, pair, model)
        output, _ = run(model, given.inputs)
        logit = choose_logit(model, tokenizer, given, output, target, position)
        return cls(model, tokenizer, given, logit, logit.of(output).item())

    def logits(self, ids: Tensor) -> Tensor:
        """(B, C) the logits among which that of the question is, for other ids (B, S) in place of the sentence's."""
        found = []
        for rows in ids.split(self.given.rows):
            output, _ = run(self.model, {**self.given.repeated(len(rows)), "input_ids": rows})
            found.append(self.logit.row(output))
        return torch.cat(found)  # (B, C)

    @property
    def free(self) -> list[int]:
        """The columns that can be taken away: not [CLS], [SEP], nor the position that is read."""
        columns = range(len(self.given.tokens))
        return [c for c in columns if self.given.word_ids[c] is not None and c != self.logit.column]


@dataclass(frozen=True)
class Attribution:
    """The scores of the pieces of a text.

    Attributes:
        what: the logit that is explained; `value` is its value.
        tokens: the S pieces.
        scores: method -> (S,). Units differ: logits, but shares of attention for rollout.
        completeness: integrated gradients' scores have to add up to the logit less that of the baseline; the error,
            as a fraction of that difference, and the steps it took. None if the method was not asked for.
    """

    what: str
    value: float
    tokens: Sequence[str]
    scores: dict[str, Tensor]
    completeness: tuple[float, int] | None = None

    def top(self, method: str, count: int = 5) -> list[tuple[str, float]]:
        """The pieces with the largest scores, by magnitude."""
        scores = self.scores[method]
        best = scores.abs().argsort(descending=True, stable=True)[:count].tolist()
        return [(f"{self.tokens[column]} ({column})", scores[column].item()) for column in best]

    def __str__(self) -> str:
        columns = [f"{score:+.3f}" for scores in self.scores.values() for score in scores.tolist()]
        width = len(self.tokens)
        rows = [(token, *columns[place::width]) for place, token in enumerate(self.tokens)]
        return f"{self.what} = {self.value:.3f}\n{table(rows, ('piece', *self.scores))}"

    def picture(self) -> Picture:
        """Methods by pieces; each row is scaled by its largest score."""
        scaled = [scores / (scores.abs().max() or 1) for scores in self.scores.values()]
        title = f"{self.what} = {self.value:.3f}, each method scaled"
        return grid(torch.stack(scaled), [*self.scores], list(self.tokens), title, most=1.0)


def attribute(
    model: Model, tokenizer: BertTokenizer, text: str, pair: str | None = None, *,
    methods: Sequence[str] | None = None, target: int | str | None = None, position: int | str | None = None,
) -> Attribution:  # fmt: skip
    """Scores the pieces of a text by several methods, by default by all.

    Args:
        target, position: the class or piece whose logit is explained, and where, as for `account`.

    Raises:
        ConfigError: there is no such method.
    """
    question = Question.ask(model, tokenizer, text, pair, target, position)
    chosen = [*METHODS] if methods is None else list(methods)
    scores = {name: score(question, name) for name in chosen if name != INTEGRATED}
    completeness = None
    if INTEGRATED in chosen:
        scores[INTEGRATED], error, steps = integrated_gradients(question)
        scores, completeness = {name: scores[name] for name in chosen}, (error, steps)
    return Attribution(question.logit.what, question.value, question.given.tokens, scores, completeness)


def score(question: Question, method: str) -> Tensor:
    """(S,) the scores of one method, on the CPU."""
    if method not in METHODS:
        raise ConfigError(f"There is no method {method!r}. Choose one of {', '.join(METHODS)}.", key="methods")
    with in_eval(question.model):
        return METHODS[method](question).detach().float().cpu()  # (S,)


def gradient_times_input(question: Question) -> Tensor:
    """(S,) the product of each embedding sum with the gradient of the logit there, less the baseline's."""
    actual, baseline = _ends(question)
    gradient = _gradients(question, actual[None])[0]  # (S, D)
    return (gradient * (actual - baseline)).sum(dim=1)  # (S,)


def integrated_gradients(question: Question, steps: int = 16) -> tuple[Tensor, float, int]:
    """The mean gradient on the straight way from the baseline's embedding sum to the text's, times their difference.

    In the baseline every piece but [CLS] and [SEP] is [PAD] and is read as text. The integral is a Gauss-Legendre sum,
    whose number of points is doubled until the scores add up to within 1% or there are 1024.

    Returns:
        (S,) scores; the completeness error; the number of points.
    """
    actual, baseline = _ends(question)
    difference = actual - baseline  # (S, D)
    with in_eval(question.model):
        change = question.value - _values_at(question, baseline[None]).item()
    while True:
        points, weights = np.polynomial.legendre.leggauss(steps)
        alphas, shares = (torch.from_numpy(x / 2).to(actual)[:, None, None] for x in (points + 1, weights))
        way = baseline + alphas * difference  # (points, S, D)
        gradients = torch.cat([_gradients(question, part) for part in way.split(question.given.rows)])
        scores = ((shares * gradients).sum(dim=0) * difference).sum(dim=1)  # (S,)
        error = abs(scores.sum().item() - change) / max(abs(change), 1e-12)
        if error < CLOSE_ENOUGH or steps >= MOST_STEPS:
            return scores.detach().float().cpu(), error, steps
        steps *= 2


def rollout(question: Question) -> Tensor:
    """(S,) how much of the state that is read comes from each piece, if attention were all that moves it.

    Each layer is half the mean pattern of its heads and half the residual connection; layers are multiplied.
    """
    _, trace = run(question.model, question.given.inputs, "layers.*.attention.pattern")
    size = len(question.given.tokens)
    flow = torch.eye(size, device=next(iter(trace.values.values())).device)  # (S, S)
    for pattern in trace.values.values():
        mixed = (pattern[0].float().mean(dim=0) + torch.eye(size, device=flow.device)) / 2  # (S, S)
        flow = mixed @ flow  # (S, S)
    return flow[question.logit.column or 0]  # (S,)


def leave_one_out(question: Question) -> Tensor:
    """(S,) by how much the logit falls when a piece is [MASK]; 0 for [CLS], [SEP] and the position that is read."""
    ids = question.given.inputs["input_ids"]  # (1, S)
    result = torch.zeros(ids.shape[1])  # (S,)
    if question.free:
        without = ids.repeat(len(question.free), 1)  # (free, S)
        without[range(len(question.free)), question.free] = question.tokenizer.mask_id
        result[question.free] = question.value - question.logits(without)[:, question.logit.number].float().cpu()
    return result


def direct_account(question: Question) -> Tensor:
    """(S,) the share of each piece in the exact account: what heads brought from it, and its own embeddings."""
    given = question.given
    result = account(
        question.model, question.tokenizer, given.text, given.pair,
        target=question.logit.number, position=question.logit.column,
    )  # fmt: skip
    shares = result.by_source()  # (S,)
    shares[result.position] += sum(result.embeddings.values())
    return shares


METHODS: dict[str, Callable[[Question], Tensor]] = {
    "gradient x input": gradient_times_input,
    INTEGRATED: lambda question: integrated_gradients(question)[0],
    "rollout": rollout,
    "leave one out": leave_one_out,
    "account": direct_account,
}


def _ends(question: Question) -> tuple[Tensor, Tensor]:
    """The embedding sums (S, D) of the text, and of [PAD] in place of its pieces."""
    inputs = question.given.inputs
    ids = inputs["input_ids"].clone()  # (1, S)
    words = [column for column, word in enumerate(question.given.word_ids) if word is not None]
    ids[0, words] = question.tokenizer.pad_id
    real = torch.ones_like(ids)  # (1, S): padding that is read, so that positions and lengths stay
    _, actual = run(question.model, inputs, "embeddings.sum")
    _, baseline = run(question.model, {**inputs, "input_ids": ids, "attention_mask": real}, "embeddings.sum")
    return actual["embeddings.sum"], baseline["embeddings.sum"]  # (S, D), (S, D)


def _values_at(question: Question, sums: Tensor, **trace: Any) -> Tensor:
    """(B,) the logit with embedding sums (B, S, D) in place of the text's."""
    replace = {"embeddings.sum": lambda value: sums.flatten(0, 1).to(value.dtype)}  # (B * S, D)
    return question.logit.of(question.model(**question.given.repeated(len(sums)), trace=Trace(replace=replace)))  # (B,)


def _gradients(question: Question, sums: Tensor) -> Tensor:
    """(B, S, D) the gradient of the logit with respect to embedding sums (B, S, D)."""
    with torch.enable_grad(), in_eval(question.model):
        sums = sums.detach().requires_grad_()
        [gradient] = torch.autograd.grad(_values_at(question, sums).sum(), sums)
    return gradient
