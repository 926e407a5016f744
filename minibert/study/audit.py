"""The audit of attributions: do the pieces that a method names matter more than pieces drawn at random?

Deletion: the pieces of a text become [MASK], the highest score first; a good ranking makes the probability of the
answer fall early. Insertion: all pieces start as [MASK] and come back in the same order; it should rise early. The
score is the mean probability along the way (Petsiuk et al. 2018, section 4.2; for text DeYoung et al. 2020, section
4).

    >>> print(audit(model, tokenizer, texts))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from minibert.base import Model
from minibert.io.errors import ConfigError, InputError
from minibert.io.seeds import mixed_seed
from minibert.io.tables import table
from minibert.study.attribution import METHODS, Question, score
from minibert.study.pictures import Picture, new_figure
from minibert.study.readout import probabilities
from minibert.study.sentence import several
from minibert.tokenizer import BertTokenizer

RANDOM = "random order"
RESAMPLES = 1000  # of the bootstrap


@dataclass(frozen=True)
class Audit:
    """Deletion and insertion curves of several methods over a data set.

    Attributes:
        deletion, insertion: method -> (texts, steps + 1) the probability of the model's own answer after each step;
            "random order" is one of the methods.
    """

    deletion: dict[str, Tensor]
    insertion: dict[str, Tensor]

    def areas(self, which: str = "deletion") -> dict[str, tuple[float, float, float]]:
        """Method -> the mean probability along the curve, and the ends of its 95% bootstrap interval over texts."""
        curves = self._curves(which)
        return {name: _interval(curve.mean(dim=1)) for name, curve in curves.items()}

    def against_random(self, which: str = "deletion") -> dict[str, tuple[float, float, float]]:
        """Method -> how much better than a random order it is on the same texts, with the ends of its interval.

        Better is lower for deletion and higher for insertion. An interval that holds 0 shows no difference.
        """
        curves, sign = self._curves(which), -1 if which == "deletion" else 1
        chance = curves[RANDOM].mean(dim=1)  # (texts,)
        return {name: _interval(sign * (c.mean(dim=1) - chance)) for name, c in curves.items() if name != RANDOM}

    def _curves(self, which: str) -> dict[str, Tensor]:
        if which not in ("deletion", "insertion"):
            raise ConfigError(f"There are no curves {which!r}. Choose deletion or insertion.", key="which")
        return self.deletion if which == "deletion" else self.insertion

    def __str__(self) -> str:
        parts = []
        for which in ("deletion", "insertion"):
            gains = self.against_random(which)
            rows = [(name, *_shown(area), *_shown(gains.get(name))) for name, area in self.areas(which).items()]
            headers = (which, "probability", "95% interval", "better than random by", "95% interval")
            parts.append(table(rows, headers))
        return "\n\n".join(parts)

    def picture(self) -> Picture:
        """Mean curves: probability of the answer by the fraction of pieces deleted, and inserted."""
        figure = new_figure(9, 3.4)
        for axes, (name, curves) in zip(
            figure.subplots(1, 2, sharey=True), (("deleted", self.deletion), ("inserted", self.insertion)), strict=True
        ):
            for method, curve in curves.items():
                fractions = torch.linspace(0, 1, curve.shape[1]).tolist()
                style = {"color": "grey", "linestyle": "--"} if method == RANDOM else {}
                axes.plot(fractions, curve.mean(dim=0).tolist(), label=method, **style)
            axes.set_xlabel(f"fraction of the pieces {name}")
        figure.axes[0].set_ylabel("probability of the answer")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
        found = ", ".join(f"{name} {area[0]:.2f}" for name, area in self.areas().items())
        return Picture(figure, f"Deletion and insertion curves. Mean probability under deletion: {found}.")


def audit(
    model: Model,
    tokenizer: BertTokenizer,
    texts: Sequence[str],
    *,
    methods: Sequence[str] | None = None,
    steps: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> Audit:
    """Measures the curves of methods, by default of all, for the model's own answer to each text.

    Args:
        texts: 50 or more, for intervals that tell methods apart; with a masked-LM head, each with a [MASK].
        steps: into how many parts the pieces of a text are taken away.
        seed: of the random order.

    Raises:
        DataError: there are no texts.
        ConfigError: there is no such method, or not one step.
        InputError: the model predicts a number, which has no probability.
    """
    if steps < 1:
        raise ConfigError(f"steps is {steps}, but must be 1 or more.", key="steps")
    chosen = [*METHODS] if methods is None else list(methods)
    generator = torch.Generator().manual_seed(mixed_seed("audit", seed))
    deletion: dict[str, list[Tensor]] = {}
    insertion: dict[str, list[Tensor]] = {}
    for text in tqdm(several(texts), desc="audit", disable=None if progress else True):
        question = Question.ask(model, tokenizer, text)
        if model.config.num_labels == 1 and question.logit.column is None:
            message = f"A {type(model).__name__} with one output predicts a number, and the curves are probabilities."
            raise InputError(message, key="model", hint="Use `attribute`, which explains the number itself.")
        scores = {name: score(question, name) for name in chosen}
        scores[RANDOM] = torch.rand(len(question.given.tokens), generator=generator)  # (S,)
        for name, of_pieces in scores.items():
            order = sorted(question.free, key=lambda column: -of_pieces[column].item())
            down, up = _curves(question, order, steps)
            deletion.setdefault(name, []).append(down)
            insertion.setdefault(name, []).append(up)
    stacked = [{name: torch.stack(curves) for name, curves in each.items()} for each in (deletion, insertion)]
    return Audit(*stacked)


def _curves(question: Question, order: Sequence[int], steps: int) -> tuple[Tensor, Tensor]:
    """(steps + 1,) probabilities while pieces are masked in an order, and while they come back in it."""
    ids = question.given.inputs["input_ids"]  # (1, S)
    gone = [order[: round(step * len(order) / steps)] for step in range(steps + 1)]
    deleted = ids.repeat(steps + 1, 1)  # (steps + 1, S)
    inserted = deleted.clone()
    for step, columns in enumerate(gone):
        deleted[step, columns] = question.tokenizer.mask_id
        inserted[step, [column for column in order if column not in columns]] = question.tokenizer.mask_id
    chances = _probabilities(question, torch.cat([deleted, inserted]))  # (2 * (steps + 1),)
    return chances[: steps + 1], chances[steps + 1 :]


def _probabilities(question: Question, ids: Tensor) -> Tensor:
    """(B,) the probability of the answer for ids (B, S)."""
    return probabilities(question.model, question.logits(ids).float())[:, question.logit.number].cpu()  # (B,)


def _interval(values: Tensor) -> tuple[float, float, float]:
    """The mean of (texts,) values and its 95% percentile bootstrap interval."""
    generator = torch.Generator().manual_seed(mixed_seed("bootstrap"))
    drawn = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator)  # (resamples, texts)
    low, high = values[drawn].mean(dim=1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return values.mean().item(), low, high


def _shown(interval: tuple[float, float, float] | None) -> tuple[str, str]:
    if interval is None:
        return "", ""
    mean, low, high = interval
    return f"{mean:.3f}", f"{low:.3f} to {high:.3f}"
