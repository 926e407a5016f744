"""The exact account: one number of a forward pass as a sum over everything that caused it.

What a layer writes is added to what it read ("the residual stream"), so a hidden state is a sum of vectors: the three
embeddings, what each head brought from each token, what each neuron of each feed-forward block wrote, and the biases
(Elhage et al. 2021, "Residual Stream"; for BERT, Mickus et al. 2022, equation 2). BERT normalises after each sum. A
layer norm divides by a standard deviation; with that held at its recorded value it is a linear map, which passes on
each summand by itself. So every logit is a sum of numbers, one for each cause, and the sum is exact.

The account is direct: a head is credited with what it wrote at the position in question, given what it read. What
earlier layers contributed to that is not traced further; ablation (`edit.py`) measures it.

    >>> result = account(model, tokenizer, "This is a great movie.", target="POSITIVE")
    >>> result.top(10)

Two functions on the way are neither linear nor norms: the pooler's tanh, and the activation in the heads of masked LM
and DistilBERT. They are replaced by the line through zero and their recorded value, f(z) = (f(z) / z) z, so that each
cause gets a share in proportion to its part of z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from minibert.base import Model
from minibert.io.errors import ConfigError, InputError
from minibert.io.tables import table
from minibert.study.pictures import Picture, heat_map, new_figure
from minibert.study.readout import Readout, choose_logit, from_direction, from_logit, head_names
from minibert.study.sentence import Sentence, in_float64, run, sentence
from minibert.tokenizer import BertTokenizer
from minibert.trace import Trace

READ = (
    "embeddings.*",
    "layers.*.attention.value", "layers.*.attention.pattern", "layers.*.attention.residual",
    "layers.*.feed_forward.activation", "layers.*.feed_forward.residual", "layers.*.feed_forward.norm",
)  # fmt: skip
OTHER_WAYS = "Use `ablate`, or `attribute` with methods that do not include the account; they work with every model."


@dataclass(frozen=True)
class Account:
    """A number as the sum of its causes. All are in the unit of the number itself, such as logits.

    Attributes:
        what: the number that is explained, in words.
        value: the number, as the model computed it in float64.
        tokens: the S pieces of the sentence.
        position: the column whose hidden state is read.
        embeddings: the share of the "word", "segment" and "position" vector at that column.
        sources: for each layer (N, S), what each head brought from each column.
        neurons: for each layer (F,), what each neuron of the feed-forward block wrote.
        biases: the share of each bias, by its name.
    """

    what: str
    value: float
    tokens: Sequence[str]
    position: int
    embeddings: dict[str, float]
    sources: list[Tensor] = field(repr=False)
    neurons: list[Tensor] = field(repr=False)
    biases: dict[str, float] = field(repr=False)

    @property
    def total(self) -> float:
        """The sum over all causes: `value`, to the last few bits."""
        everything = [torch.tensor([*self.embeddings.values(), *self.biases.values()], dtype=torch.float64)]
        return math.fsum(torch.cat([*everything, *map(torch.flatten, self.sources), *self.neurons]).tolist())

    @property
    def heads(self) -> list[Tensor]:
        """For each layer (N,), the share of each head: the sum over what it brought from each column."""
        return [sources.sum(dim=1) for sources in self.sources]  # (N,) each

    @property
    def blocks(self) -> list[float]:
        """For each layer, the share of the feed-forward block: the sum over its neurons."""
        return [neurons.sum().item() for neurons in self.neurons]

    def causes(self, detail: bool = False) -> list[tuple[str, float]]:
        """Every cause with its share, in the order of the forward pass.

        Args:
            detail: list each source token of each head, and each neuron, by themselves.
        """
        found = [(f"embeddings.{name}", share) for name, share in self.embeddings.items()]
        for layer, (sources, neurons) in enumerate(zip(self.sources, self.neurons, strict=True)):
            for head, shares in enumerate(sources.tolist()):
                name = f"layers.{layer}.head {head}"
                pieces = [(f"{name} from {self._piece(column)}", share) for column, share in enumerate(shares)]
                found += pieces if detail else [(name, math.fsum(shares))]
            name = f"layers.{layer}.feed_forward"
            each = [(f"{name} neuron {number}", share) for number, share in enumerate(neurons.tolist())]
            found += each if detail else [(name, neurons.sum().item())]
        return found + [(f"{name} bias", share) for name, share in self.biases.items()]

    def top(self, count: int = 10, detail: bool = False) -> list[tuple[str, float]]:
        """The causes with the largest shares, by magnitude; arguments as for `causes`."""
        return sorted(self.causes(detail), key=lambda cause: -abs(cause[1]))[:count]

    def by_source(self) -> Tensor:
        """(S,) what all heads of all layers together brought from each column."""
        return torch.stack([sources.sum(dim=0) for sources in self.sources]).sum(dim=0)  # (S,)

    def __sub__(self, other: Account) -> Account:
        """Cause by cause: what speaks for this number and against the other."""
        shapes = [[part.shape for part in (*each.sources, *each.neurons)] for each in (self, other)]
        if shapes[0] != shapes[1] or self.biases.keys() != other.biases.keys():
            message = f"{self.what} and {other.what} do not have the same causes."
            raise InputError(message, key="account", hint="Compare sentences of equal length and one model.")
        return Account(
            f"{self.what}, minus {other.what}",
            self.value - other.value,
            self.tokens,
            self.position,
            {name: share - other.embeddings[name] for name, share in self.embeddings.items()},
            [mine - theirs for mine, theirs in zip(self.sources, other.sources, strict=True)],
            [mine - theirs for mine, theirs in zip(self.neurons, other.neurons, strict=True)],
            {name: share - other.biases[name] for name, share in self.biases.items()},
        )

    def table(self, count: int = 10, detail: bool = False) -> str:
        """The largest causes, the rest, and the sum, as text."""
        every, largest = self.causes(detail), self.top(count, detail)
        shown = math.fsum(share for _, share in largest)
        rows = [(name, f"{share:+.4f}") for name, share in largest]
        rows += [(f"{len(every) - len(largest)} others", f"{self.total - shown:+.4f}"), ("sum", f"{self.total:+.4f}")]
        return f"{self.what}\n{table(rows, ('cause', 'share'))}"

    def __str__(self) -> str:
        return self.table()

    def picture(self) -> Picture:
        """Shares by layer, of each head and the feed-forward block; below, what came from each token."""
        return _picture(self)

    def _piece(self, column: int) -> str:
        return f"{self.tokens[column]} ({column})"


def account(
    model: Model,
    tokenizer: BertTokenizer,
    text: str,
    pair: str | None = None,
    *,
    target: int | str | None = None,
    position: int | str | None = None,
    layer: int | None = None,
    direction: Tensor | None = None,
) -> Account:
    """Takes a logit, or a hidden state along a direction, apart.

    The pass is computed in float64, in a copy of a model of another dtype.

    Args:
        target: the class (name or number), or for masked LM the piece or id, whose logit is explained; by default the
            one with the largest logit.
        position: the column, or a piece that occurs once: for masked LM by default the first [MASK]; needed for token
            and span heads and for `direction`. Heads over rows read [CLS].
        layer: with `direction`, the hidden state to read: 0 for the embeddings, k for the output of the k-th layer; by
            default the last.
        direction: (D,), explain the product of a hidden state with this vector instead of a logit.

    Raises:
        InputError: no such class, piece or position; or the model does not compute what its class stands for, so
            that the causes do not add up (a module was replaced).
    """
    with torch.no_grad():
        return _checked(in_float64(model), tokenizer, text, pair, target, position, layer, direction)


def _checked(
    model: Model, tokenizer: BertTokenizer, text: str, pair: str | None,
    target: int | str | None, position: int | str | None, layer: int | None, direction: Tensor | None,
) -> Account:  # fmt: skip
    """The account, whose causes add up."""
    given = sentence(tokenizer, text, pair, model)
    if direction is not None:
        _, trace = run(model, given.inputs, *READ)
        back = from_direction(model, given, trace, direction, position, layer)
    else:
        if layer is not None:
            message = "A layer is given without a direction: a logit is a number of the last layer."
            raise InputError(message, key="layer", hint="Give the direction, (D,), along which to read the layer.")
        try:
            output, trace = run(model, given.inputs, *READ, *head_names(model))
        except InputError as error:
            raise (_unknown_head(model) if error.key in head_names(model) else error) from error
        logit = choose_logit(model, tokenizer, given, output, target, position)
        try:
            back = from_logit(model, logit, output, trace)
        except (AttributeError, InputError) as error:  # other modules, or values that the pass does not have
            raise _unknown_head(model) from error
    result = _account(model, given, trace, back)
    size = 1 + sum(abs(share) for _, share in result.causes(detail=True))
    if not abs(result.total - result.value) <= 1e-9 * size:
        message = f"The causes add up to {result.total:.6g} and not to {result.value:.6g}: this {type(model).__name__}"
        raise InputError(f"{message} computes something that the account does not know.", key="model", hint=OTHER_WAYS)
    return result


def _unknown_head(model: Model) -> InputError:
    message = f"This {type(model).__name__} computes its answer with a head that the account does not know."
    return InputError(message, key="model", hint=OTHER_WAYS)


def _account(model: Model, given: Sentence, trace: Trace, back: Readout) -> Account:
    """Walks from the hidden state of `back` down to the embeddings, collecting shares."""
    at = back.position
    sources: list[Tensor] = []
    neurons: list[Tensor] = []
    for number in reversed(range(back.layer)):
        name, layer = f"layers.{number}", model.body.encoder.layers[number]
        back.through_norm(
            f"{name}.feed_forward_norm", layer.feed_forward_norm, trace[f"{name}.feed_forward.residual"][at]
        )
        stream = back.direction  # (D,): the sum passes it on unchanged to both of its summands
        back.through_linear(f"{name}.feed_forward.outer", layer.feed_forward.outer)  # (F,)
        neurons.append(trace[f"{name}.feed_forward.activation"][at] * back.direction)  # (F,)
        back.direction = stream
        back.through_norm(f"{name}.attention_norm", layer.attention_norm, trace[f"{name}.attention.residual"][at])
        stream, attention = back.direction, layer.attention
        back.through_linear(f"{name}.attention.output", attention.output)  # (N * H,)
        by_head = back.direction.unflatten(0, attention.heads)  # (N, H)
        pattern = trace[f"{name}.attention.pattern"][0, :, at]  # (N, S)
        bias = attention.value.bias.unflatten(0, attention.heads)  # (N, H)
        brought = torch.einsum("snh,nh->ns", trace[f"{name}.attention.value"] - bias, by_head)  # (N, S)
        sources.append(pattern * brought)  # (N, S)
        # A row of the pattern sums to 1, so the bias of the values arrives whole, whatever the head looks at.
        back.biases[f"{name}.attention.value"] = (pattern.sum(dim=1) * (bias * by_head).sum(dim=1)).sum().item()
        back.direction = stream
    embeddings = model.body.embeddings
    back.through_norm("embeddings.norm", embeddings.norm, trace["embeddings.sum"][at])
    tables = ("word", "segment", "position") if embeddings.segment is not None else ("word", "position")
    shares = {table: (trace[f"embeddings.{table}"][at] @ back.direction).item() for table in tables}
    biases = dict(reversed(back.biases.items()))  # in the order of the forward pass
    return Account(back.what, back.value, given.tokens, at, shares, sources[::-1], neurons[::-1], biases)


def _picture(account: Account) -> Picture:
    """Shares by layer: each head and the feed-forward block; below, what came from each token."""
    layers, most_heads = len(account.sources), max((len(shares) for shares in account.heads), default=0)
    if not layers:
        raise ConfigError("The embeddings have no layers to draw.", key="layer", hint="Print the account instead.")
    shares = np.full((layers, most_heads + 1), np.nan)
    for layer, (of_heads, block) in enumerate(zip(account.heads, account.blocks, strict=True)):
        shares[layer, : len(of_heads)], shares[layer, -1] = of_heads.numpy(), block
    figure = new_figure(max(6.0, 0.45 * (most_heads + 4), 0.3 * len(account.tokens)), 2.6 + 0.3 * layers)
    above, below = figure.subplots(2, height_ratios=(layers + 1, 4))
    columns = [*map(str, range(most_heads)), "FF"]
    figure.colorbar(heat_map(above, shares, [f"layer {n}" for n in range(layers)], columns))
    above.set_title(f"{account.what} = {account.value:.3f}", fontsize="medium", parse_math=False)
    above.set_xlabel("head, and the feed-forward block (FF)")
    sources = account.by_source()  # (S,)
    below.bar(range(len(account.tokens)), sources.tolist(), color=["#b2182b" if x > 0 else "#2166ac" for x in sources])
    below.set_xticks(range(len(account.tokens)), account.tokens, rotation=60, ha="right", rotation_mode="anchor")
    below.axhline(0, color="grey", linewidth=0.5)
    below.set_ylabel("brought by heads")
    top = ", ".join(f"{name} {share:+.2f}" for name, share in account.top(3))
    return Picture(figure, f"{account.what}, {account.value:.3f}, by cause. The largest shares: {top}.")
