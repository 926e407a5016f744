"""Numerics: where a forward pass in fewer bits departs from float64, and whether that could change an answer.

Each value of the pass is compared with its value in float64, as the norm of the difference over the norm. `total` is
the error that has accumulated up to there; `own` is what the step itself adds when everything it reads is exact, so a
step with a large `own` error is where precision is lost (Micikevicius et al. 2018, section 3, on what needs 32 bits).

    >>> print(numerics(model, tokenizer, "A great movie."))
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minibert.base import Model
from minibert.heads import ModelWithHead
from minibert.io.errors import ConfigError
from minibert.io.tables import table
from minibert.study.pictures import Picture, new_figure
from minibert.study.readout import decisions
from minibert.study.sentence import Sentence, in_float64, run, sentence
from minibert.tokenizer import BertTokenizer

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Precision:
    """A forward pass in one dtype beside float64.

    Attributes:
        dtype: in which weights and values were kept.
        total: name of a value -> its relative error.
        own: name -> the relative error of the step that makes it, on exact input.
        logit_error: the largest error of a logit that takes part in an answer; None for a model without a head.
        same: whether every answer is the same as in float64; None likewise.
    """

    dtype: torch.dtype
    total: dict[str, float]
    own: dict[str, float]
    logit_error: float | None
    same: bool | None


@dataclass(frozen=True)
class Numerics:
    """One sentence in several dtypes.

    Attributes:
        tokens: its pieces.
        passes: one for each dtype.
        margin: the smallest distance, over the answers, from the best logit to the second best in float64; None for a
            model without a head, or with one logit.
    """

    tokens: Sequence[str]
    passes: list[Precision]
    margin: float | None

    def could_flip(self, dtype: torch.dtype) -> bool:
        """Whether errors of this size could change an answer: two logits may move towards each other by twice as much
        as the largest error. False also for a model without a head."""
        error = self._of(dtype).logit_error
        return self.margin is not None and error is not None and not 2 * error < self.margin  # NaN could, too

    def worst(self, dtype: torch.dtype, count: int = 5) -> list[tuple[str, float]]:
        """The steps that add the largest errors of their own."""
        return sorted(self._of(dtype).own.items(), key=lambda item: -item[1])[:count]

    def _of(self, dtype: torch.dtype) -> Precision:
        for each in self.passes:
            if each.dtype == dtype:
                return each
        known = ", ".join(str(each.dtype) for each in self.passes)
        raise ConfigError(f"The sentence was not run in {dtype}, only in {known}.", key="dtype")

    def __str__(self) -> str:
        rows = [(name, *(_shown(each, name) for each in self.passes)) for name in self.passes[0].total]
        headers = ("relative error: total (own)", *(_name(each.dtype) for each in self.passes))
        lines = [table(rows, headers)]
        for each in self.passes:
            if each.logit_error is not None:
                answer = "the same answer" if each.same else "ANOTHER ANSWER"
                close = "" if self.margin is None else f" at a margin of {self.margin:.3g}"
                risk = ", close enough to flip one" if self.could_flip(each.dtype) else ""
                lines.append(f"{_name(each.dtype)}: {answer}; logits off by up to {each.logit_error:.2g}{close}{risk}")
        return "\n".join(lines)

    def picture(self) -> Picture:
        """Total errors along the pass, one line for each dtype; dots are what each step adds by itself."""
        names = [*self.passes[0].total]
        figure = new_figure(max(6.0, 0.16 * len(names)), 4)
        axes = figure.subplots()
        for each in self.passes:
            [line] = axes.plot(names, [each.total[name] or None for name in names], label=_name(each.dtype))
            axes.plot(names, [each.own[name] or None for name in names], ".", color=line.get_color(), markersize=4)
        axes.set_yscale("log")
        axes.set_ylabel("relative error (dots: of the step alone)")
        axes.tick_params(axis="x", labelrotation=90, labelsize=5)
        figure.legend(loc="outside upper center", ncols=len(self.passes), frameon=False)
        last = ", ".join(f"{_name(each.dtype)} {each.total[names[-1]]:.1g}" for each in self.passes)
        return Picture(figure, f"Relative error of each value of the pass against float64; at the end: {last}.")


def numerics(
    model: Model, tokenizer: BertTokenizer, text: str, pair: str | None = None, dtypes: Sequence[torch.dtype] = DTYPES
) -> Numerics:
    """Runs a sentence in float64 and in other dtypes, weights and values alike, and compares every value of the pass.

    The weights are rounded from those of the model. Attention is computed by hand, since scores and patterns are
    compared too. Answers are those of `readout.decisions`: of a masked LM the pieces at each [MASK].
    """
    given = sentence(tokenizer, text, pair, model)
    exact = in_float64(model)
    output, reference = run(exact, given.inputs, "*")
    logits = decisions(exact, given, output) if isinstance(model, ModelWithHead) else None  # (decisions, options)
    passes = [_compare(exact, given, reference.values, logits, dtype) for dtype in dtypes]
    margin = None
    if logits is not None and logits.shape[-1] > 1:
        best = logits.topk(2).values  # (decisions, 2)
        margin = (best[:, 0] - best[:, 1]).min().item()
    return Numerics(given.tokens, passes, margin)


def _compare(
    exact: Model, given: Sentence, reference: dict[str, Tensor], logits: Tensor | None, dtype: torch.dtype
) -> Precision:
    model = copy.deepcopy(exact).to(dtype)
    output, trace = run(model, given.inputs, "*")
    total = {name: _error(trace[name], value) for name, value in reference.items()}
    own: dict[str, float] = {}

    def made_exact(name: str, value: Tensor) -> Tensor:
        own[name] = _error(value, reference[name])  # what comes out of a step whose inputs were exact
        return reference[name].to(dtype)

    replace = {name: lambda value, name=name: made_exact(name, value) for name in reference}
    run(model, given.inputs, replace=replace)
    if logits is None:
        return Precision(dtype, total, own, None, None)
    found = decisions(model, given, output).double()  # (decisions, options)
    same = bool((found.argmax(dim=-1) == logits.argmax(dim=-1)).all())
    return Precision(dtype, total, own, (found - logits).abs().max().item(), same)


def _error(value: Tensor, exact: Tensor) -> float:
    """The norm of the difference over the norm."""
    norm = torch.linalg.vector_norm(exact).item()
    difference = torch.linalg.vector_norm(value.to(exact.dtype) - exact).item()
    return difference / norm if norm else difference


def _shown(each: Precision, name: str) -> str:
    return f"{each.total[name]:.1e} ({each.own[name]:.1e})"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
