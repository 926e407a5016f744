"""Edits: what a part of the network does for an answer is what changes without it, or with another sentence's value.

Ablation takes a head, a neuron, a layer or a position away: its value becomes zero, its mean over a data set, or its
value in another text (Chan et al. 2022, "Causal scrubbing", compare the three). Patching runs one sentence with values
from another that differs in a detail (Vig et al. 2020, section 3; Meng et al. 2022, section 2.1): where the answer
follows, that value carries the detail. Both work through traces, so the model itself is never changed.

    >>> patch(model, tokenizer, "do not waste your [MASK].", "do not judge your [MASK].", target="time").picture()
    >>> ablate(model, tokenizer, "A great movie.", parts="heads").top(3)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from minibert.base import Model
from minibert.io.errors import ConfigError, DataError, InputError
from minibert.io.seeds import mixed_seed
from minibert.io.tables import table
from minibert.study.pictures import Picture, grid
from minibert.study.readout import Logit, choose_logit, names_of
from minibert.study.sentence import Sentence, run, sentence, several
from minibert.tokenizer import BertTokenizer
from minibert.trace import Replacement

# The parts of a layer -> the name of the value in a trace, and whether there is one for each token (axis 0) or one for
# each head or neuron (axis 1).
PARTS = {
    "heads": ("layers.{}.attention.context", False),  # (T, N, H)
    "neurons": ("layers.{}.feed_forward.activation", False),  # (T, F)
    "hidden": ("layers.{}.feed_forward.norm", True),  # (T, D)
    "attention": ("layers.{}.attention.output", True),  # (T, D)
    "feed_forward": ("layers.{}.feed_forward.output", True),  # (T, D)
}


@dataclass(frozen=True)
class Edit:
    """Sets a part of one value of the forward pass.

    Attributes:
        name: of the value, as in a trace.
        index: which part of it: (tokens,) or (tokens, head or neuron).
        new: a number, or a tensor that fits the part.
    """

    name: str
    index: tuple[Any, ...]
    new: Tensor | float = 0.0

    def __call__(self, value: Tensor) -> Tensor:
        value = value.clone()
        value[self.index] = self.new if isinstance(self.new, float | int) else self.new.to(value)
        return value


def head(layer: int, number: int, new: Tensor | float = 0.0) -> Edit:
    """Sets what a head hands on, (T, H), at all tokens."""
    return Edit(PARTS["heads"][0].format(layer), (slice(None), number), new)


def neuron(layer: int, number: int, new: Tensor | float = 0.0) -> Edit:
    """Sets a neuron of a feed-forward block after its activation, (T,), at all tokens."""
    return Edit(PARTS["neurons"][0].format(layer), (slice(None), number), new)


def position(layer: int, column: int, new: Tensor | float = 0.0) -> Edit:
    """Sets the hidden state (D,) of one token after a layer; for a batch of one text."""
    return Edit(PARTS["hidden"][0].format(layer), (column,), new)


def whole_layer(layer: int) -> list[Edit]:
    """Lets both blocks of a layer write nothing, so that only its norms act."""
    return [Edit(PARTS[part][0].format(layer), (slice(None),)) for part in ("attention", "feed_forward")]


def replacements(edits: Iterable[Edit]) -> dict[str, Replacement]:
    """Edits for `Trace(replace=...)`; several edits of one value follow each other."""
    by_name: dict[str, list[Edit]] = {}
    for edit in edits:
        by_name.setdefault(edit.name, []).append(edit)
    return {name: _in_turn(each) for name, each in by_name.items()}


def _in_turn(edits: Sequence[Edit]) -> Replacement:
    def apply(value: Tensor) -> Tensor:
        for edit in edits:
            value = edit(value)
        return value

    return apply


@dataclass(frozen=True)
class Effects:
    """A number with each of many edits.

    Attributes:
        what: the number, in words.
        values: (rows, columns) of the number with the edit of a layer (row) at a head, neuron or position (column).
        rows, columns: their names.
        before: the number without any edit.
        goal: for patching, the number in the sentence that the values come from.
        answers: (rows, columns) of the best answer with each edit; "" where a pruned layer has no such head. `answer`
            is the one without any edit.
    """

    what: str
    values: Tensor
    rows: Sequence[str]
    columns: Sequence[str]
    before: float
    goal: float | None = None
    answers: Sequence[Sequence[str]] = ()
    answer: str | None = None

    @property
    def changes(self) -> Tensor:
        """(rows, columns): values less the number without any edit."""
        return self.values - self.before  # (rows, columns)

    @property
    def restored(self) -> Tensor:
        """(rows, columns) for patching: 0 where an edit changes nothing, 1 where it brings back the goal."""
        if self.goal is None or self.goal == self.before:
            message = "Both sentences have the same number, so there is nothing to restore."
            raise InputError(message, key="goal", hint="Read `changes`.")
        return self.changes / (self.goal - self.before)  # (rows, columns)

    def top(self, count: int = 10) -> list[tuple[str, float]]:
        """The edits that change the number most, and by how much."""
        return [
            (f"{self.rows[row]}, {self.columns[column]}", self.changes[row, column].item())
            for row, column in self._largest(count)
        ]

    def _largest(self, count: int) -> list[tuple[int, int]]:
        sizes = self.changes.flatten().abs().nan_to_num(-1)  # (rows * columns,); NaN where a layer has fewer heads
        best = sizes.argsort(descending=True, stable=True)[:count].tolist()
        return [divmod(place, len(self.columns)) for place in best]

    def __str__(self) -> str:
        known = f"{self.before:.4f}" + ("" if self.goal is None else f", in the other sentence {self.goal:.4f}")
        if not self.answers:
            return f"{self.what}: {known}\n{table([(n, f'{c:+.4f}') for n, c in self.top()], ('edit', 'change'))}"
        found = [self.answers[row][column] for row, column in self._largest(10)]
        rows = [(name, f"{change:+.4f}", best) for (name, change), best in zip(self.top(), found, strict=True)]
        return f"{self.what}: {known}; the answer is {self.answer}\n{table(rows, ('edit', 'change', 'answer'))}"

    def picture(self) -> Picture:
        """Rows by columns, the colour the change of the number."""
        return grid(self.changes, self.rows, self.columns, f"Change of the {self.what}")


def ablate(
    model: Model, tokenizer: BertTokenizer, text: str, pair: str | None = None, *,
    parts: str = "heads", instead: Mapping[str, Tensor] | None = None,
    target: int | str | None = None, minus: int | str | None = None, position: int | str | None = None,
    progress: bool = True,
) -> Effects:  # fmt: skip
    """Takes away each part of each layer in turn, and measures a logit.

    Args:
        parts: "heads" or "neurons", at all pieces; or at each piece, the "hidden" state or what the "attention" or the
            "feed_forward" block writes.
        instead: name of a value -> what its parts become, from `means` or `resampled`; by default zero.
        target, position: the class or piece whose logit is measured, and where, as for `account`.
        minus: measure the logit of the target less that of this one.
        progress: show a bar on standard error, if that is a terminal.
    """
    given = sentence(tokenizer, text, pair, model)
    output, _ = run(model, given.inputs)
    measured = _Measured.of(model, tokenizer, given, output, target, minus, position)
    return _sweep(model, given, parts, instead, measured, output, None, progress)


def patch(
    model: Model, tokenizer: BertTokenizer, clean: str, corrupted: str, *,
    pairs: tuple[str, str] | None = None, parts: str = "hidden",
    target: int | str | None = None, minus: int | str | None = None, position: int | str | None = None,
    progress: bool = True,
) -> Effects:  # fmt: skip
    """Runs the corrupted text with each part of each layer in turn taken from the clean one, and measures a logit.

    Args:
        clean, corrupted: two texts of equally many pieces; `pairs` are their second texts.
        parts, target, minus, position: as for `ablate`; the target is by default the best answer to the clean text.

    Raises:
        DataError: the texts have unequal numbers of pieces.
    """
    first, second = (
        sentence(tokenizer, text, pair, model)
        for text, pair in zip((clean, corrupted), pairs or (None, None), strict=True)
    )
    if len(first.tokens) != len(second.tokens):
        message = f"The texts have {len(first.tokens)} and {len(second.tokens)} pieces, and patching needs equally many"
        raise DataError(f"{message}: {' '.join(first.tokens)}, and {' '.join(second.tokens)}.", key="corrupted")
    output, trace = run(model, first.inputs, _part(parts)[0].format("*"))
    measured = _Measured.of(model, tokenizer, first, output, target, minus, position)
    before, _ = run(model, second.inputs)
    return _sweep(model, second, parts, trace.values, measured, before, measured(output).item(), progress)


def means(model: Model, tokenizer: BertTokenizer, texts: Sequence[str], parts: str = "heads") -> dict[str, Tensor]:
    """Name -> (1, ...) the mean of a part's value over all pieces of texts, [CLS] and [SEP] included."""
    sums: dict[str, Tensor] = {}
    count = 0
    for value, names in _values(model, tokenizer, texts, parts):
        count += len(value[names[0]])
        for name in names:
            sums[name] = sums.get(name, 0) + value[name].sum(dim=0, keepdim=True)  # (1, ...)
    return {name: total / count for name, total in sums.items()}


def resampled(
    model: Model, tokenizer: BertTokenizer, texts: Sequence[str], length: int, parts: str = "heads", seed: int = 0
) -> dict[str, Tensor]:
    """Name -> (length, ...) a part's value at pieces drawn at random from texts, for a text of `length` pieces."""
    every: dict[str, list[Tensor]] = {}
    for value, names in _values(model, tokenizer, texts, parts):
        for name in names:
            every.setdefault(name, []).append(value[name])
    pools = {name: torch.cat(found) for name, found in every.items()}  # (pieces, ...) each
    generator = torch.Generator().manual_seed(mixed_seed("resampled", seed))
    pieces = len(next(iter(pools.values())))
    places = torch.randint(pieces, (length,), generator=generator)  # (length,), the same for all names
    return {name: pool[places.to(pool.device)] for name, pool in pools.items()}


@dataclass(frozen=True)
class _Measured:
    """A logit, or the difference of two."""

    logit: Logit
    minus: Logit | None
    names: Sequence[str]

    @classmethod
    def of(
        cls, model: Model, tokenizer: BertTokenizer, given: Sentence, output: Any,
        target: int | str | None, minus: int | str | None, position: int | str | None,
    ) -> _Measured:  # fmt: skip
        logit = choose_logit(model, tokenizer, given, output, target, position)
        other = None if minus is None else choose_logit(model, tokenizer, given, output, minus, position)
        return cls(logit, other, names_of(model, tokenizer))

    @property
    def what(self) -> str:
        return self.logit.what + ("" if self.minus is None else f" less {self.minus.what}")

    def __call__(self, output: Any) -> Tensor:
        """(B,)"""
        logit = self.logit.of(output)  # (B,)
        return logit if self.minus is None else logit - self.minus.of(output)  # (B,)

    def answers(self, output: Any) -> list[str]:
        """The best answer of each row of a batch."""
        return [self.names[number] for number in self.logit.row(output).argmax(dim=-1).tolist()]


def _part(parts: str) -> tuple[str, bool]:
    if parts not in PARTS:
        raise ConfigError(f"There are no parts {parts!r}. Choose one of {', '.join(PARTS)}.", key="parts")
    return PARTS[parts]


def _values(
    model: Model, tokenizer: BertTokenizer, texts: Sequence[str], parts: str
) -> Iterator[tuple[dict[str, Tensor], list[str]]]:
    """The values of a part in each text, by name, and their names."""
    for text in several(texts):
        _, trace = run(model, sentence(tokenizer, text, None, model).inputs, _part(parts)[0].format("*"))
        yield trace.values, [*trace.values]


def _sweep(
    model: Model, given: Sentence, parts: str, source: Mapping[str, Tensor] | None, measured: _Measured,
    before: Any, goal: float | None, progress: bool,
) -> Effects:  # fmt: skip
    """One edit after the other, many at a time: each row of a batch is the sentence with an edit of its own."""
    template, over_tokens = _part(parts)
    _, trace = run(model, given.inputs, template.format("*"))
    widths = [value.shape[0 if over_tokens else 1] for value in trace.values.values()]
    kept = torch.promote_types(measured(before).dtype, torch.float32)
    # Pruned layers have fewer heads.
    values = torch.full((len(widths), max(widths)), torch.nan, dtype=kept)  # (layers, columns)
    best = [[""] * max(widths) for _ in widths]
    total = sum(-(-width // given.rows) for width in widths)
    with tqdm(total=total, desc=parts, disable=None if progress else True) as bar:
        for layer, (name, width) in enumerate(zip(trace.values, widths, strict=True)):
            new = _fitting(name, trace[name], source)  # (T, ...)
            for start in range(0, width, given.rows):
                columns = range(start, min(start + given.rows, width))
                replace = {name: _one_edit_a_row(new, columns, over_tokens)}
                output, _ = run(model, given.repeated(len(columns)), replace=replace)
                values[layer, start : columns.stop] = measured(output).to(kept).cpu()
                best[layer][start : columns.stop] = measured.answers(output)
                bar.update()
    names = [f"{token} ({column})" for column, token in enumerate(given.tokens)]
    names = names if over_tokens else [f"{parts[:-1]} {number}" for number in range(max(widths))]
    layers = [f"layer {number}" for number in range(len(widths))]
    [answer] = measured.answers(before)
    return Effects(measured.what, values, layers, names, measured(before).item(), goal, best, answer)


def _fitting(name: str, value: Tensor, source: Mapping[str, Tensor] | None) -> Tensor:
    """What a value (T, ...) is replaced with: zeros, or the source's (1, ...) or (T, ...)."""
    new = torch.zeros_like(value[:1]) if source is None else source.get(name)  # (1, ...) or (T, ...)
    if new is None:
        message = f"`instead` has no {name}. Make it with the same `parts`, by `means` or `resampled`."
        raise InputError(message, key="instead")
    if new.shape[1:] != value.shape[1:] or len(new) not in (1, len(value)):
        shape, wanted = tuple(new.shape), tuple(value.shape)
        message = f"`instead` has {name} of shape {shape}, but this text needs {wanted}, or 1 in place of {wanted[0]}."
        raise InputError(message, key="instead", hint="Give `resampled` the number of pieces of this text.")
    return new.expand_as(value)  # (T, ...)


def _one_edit_a_row(new: Tensor, columns: range, over_tokens: bool) -> Replacement:
    """Row b of a batch gets its part columns[b] from the new value (T, ...)."""

    def edited(value: Tensor) -> Tensor:
        rows = value.clone().unflatten(0, (len(columns), len(new)))  # (B, T, ...): all rows are equally long
        for row, column in enumerate(columns):
            index = column if over_tokens else (slice(None), column)
            rows[row][index] = new[index]
        return rows.flatten(0, 1)  # (B * T, ...)

    return edited
