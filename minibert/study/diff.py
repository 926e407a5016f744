"""What fine-tuning changed: two checkpoints of one architecture, tensor by tensor, head by head and state by state.

For each matrix, how far it moved (norm of the difference over norm), in which direction (cosine), and in how many
directions (effective rank of the difference, Roy and Vetterli 2007: the exponential of the entropy of its singular
values). For each layer, how alike the hidden states of the two models are on the same texts (linear CKA, Kornblith et
al. 2019, equation 4): 1 for states that differ by a rotation and a scale, near 0 for unrelated ones.

    >>> print(diff(before, after, tokenizer, texts))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from minibert.attention import SelfAttention
from minibert.base import Model
from minibert.io.errors import CheckpointError, DataError
from minibert.io.tables import table
from minibert.study.lens import STATES
from minibert.study.pictures import Picture, grid
from minibert.study.sentence import run, sentence, several
from minibert.tokenizer import BertTokenizer


@dataclass(frozen=True)
class Moved:
    """How one tensor, or the part of a head, differs between two models.

    Attributes:
        name: the tensor's name here, or "layers.3.head 5".
        change: the norm of the difference over the norm in the first model; infinite where that is zero.
        cosine: between the two, as vectors.
        rank: the effective rank of the difference; None for vectors, and where nothing moved.
        full_rank: the largest rank possible.
    """

    name: str
    change: float
    cosine: float
    rank: float | None = None
    full_rank: int | None = None


@dataclass(frozen=True)
class Diff:
    """The differences between two models.

    Attributes:
        tensors: one for each parameter of the body, in the order of the network.
        heads: for each layer, one for each head: its rows of query, key and value, and its columns of the output.
        only: parameters of the body that one of the models alone has, such as the pooler's, by name.
        likeness: (L + 1,) the CKA of the hidden states, embeddings first; None without texts.
    """

    tensors: list[Moved]
    heads: list[list[Moved]]
    only: list[str]
    likeness: Tensor | None

    def top(self, count: int = 10) -> list[Moved]:
        """The tensors that moved farthest."""
        return sorted(self.tensors, key=lambda moved: -moved.change)[:count]

    def as_dict(self) -> dict[str, Any]:
        """The same for programs, ready for JSON, which has no infinity: a change from zero is None."""
        rows = [_finite(moved) for moved in self.tensors]
        heads = [_finite(moved) for layer in self.heads for moved in layer]
        likeness = None if self.likeness is None else self.likeness.tolist()
        return {"tensors": rows, "heads": heads, "only_in_one": self.only, "cka": likeness}

    def __str__(self) -> str:
        rows = [(moved.name, f"{moved.change:.4f}", f"{moved.cosine:.5f}", _rank(moved)) for moved in self.tensors]
        parts = [table(rows, ("tensor", "change", "cosine", "effective rank"))]
        most = max(map(len, self.heads), default=0)
        cells = [
            (f"layer {number}", *(f"{moved.change:.4f}" for moved in layer), *[""] * (most - len(layer)))
            for number, layer in enumerate(self.heads)
        ]
        parts.append(table(cells, ("change of head", *map(str, range(most)))))
        if self.likeness is not None:
            names = ["embeddings", *(f"layer {number}" for number in range(len(self.likeness) - 1))]
            parts.append(
                table([*zip(names, map("{:.4f}".format, self.likeness.tolist()), strict=True)], ("states after", "CKA"))
            )
        if self.only:
            parts.append(f"In one of the two only: {', '.join(self.only)}.")
        return "\n\n".join(parts)

    def picture(self) -> Picture:
        """The change of each head, layers by heads."""
        most = max(map(len, self.heads))
        values = torch.full((len(self.heads), most), torch.nan)  # (L, N)
        for number, layer in enumerate(self.heads):
            values[number, : len(layer)] = torch.tensor([moved.change for moved in layer])
        layers, heads = ([f"layer {n}" for n in range(len(self.heads))], [f"head {n}" for n in range(most)])
        return grid(values, layers, heads, "Change of each head", signed=False)


def diff(
    first: Model,
    second: Model,
    tokenizer: BertTokenizer | None = None,
    texts: Sequence[str] = (),
    progress: bool = True,
) -> Diff:
    """Compares two models of one architecture; their heads may differ, and are left out.

    Args:
        tokenizer, texts: on what to compare hidden states; a few hundred pieces or more, since CKA of fewer pieces
            than dimensions is high whatever the states.

    Raises:
        CheckpointError: the bodies differ in shapes or in the number of layers.
        DataError: there are texts and no tokenizer.
    """
    layers = [len(model.body.encoder.layers) for model in (first, second)]
    if layers[0] != layers[1]:
        message = f"The models have {layers[0]} and {layers[1]} layers."
        raise CheckpointError(message, key="num_hidden_layers", hint="Compare checkpoints of one architecture.")
    mine, theirs = (dict(model.body.named_parameters()) for model in (first, second))
    both = [name for name in mine if name in theirs]
    for name in both:
        if mine[name].shape != theirs[name].shape:
            shapes = f"{tuple(mine[name].shape)} and {tuple(theirs[name].shape)}"
            hint = "Compare checkpoints of one architecture and vocabulary."
            raise CheckpointError(f"{name} has the shapes {shapes} in the two models.", key=name, hint=hint)
    tensors = [
        _moved(name, mine[name], theirs[name]) for name in tqdm(both, "tensors", disable=None if progress else True)
    ]
    if texts and tokenizer is None:
        raise DataError("Texts are given without a tokenizer to read them with.", key="tokenizer")
    likeness = None if tokenizer is None or not texts else cka_of_layers(first, second, tokenizer, texts, progress)
    return Diff(tensors, _heads(first, second), sorted(mine.keys() ^ theirs.keys()), likeness)


def cka_of_layers(
    first: Model, second: Model, tokenizer: BertTokenizer, texts: Sequence[str], progress: bool = True
) -> Tensor:
    """(L + 1,) the linear CKA of two models' hidden states over all pieces of texts, embeddings first."""
    states: list[list[list[Tensor]]] = [[], []]
    for text in tqdm(several(texts), desc="hidden states", disable=None if progress else True):
        for found, model in zip(states, (first, second), strict=True):
            _, trace = run(model, sentence(tokenizer, text, None, model).inputs, *STATES)
            found.append([value.double().cpu() for value in trace.values.values()])
    layers = range(len(states[0][0]))
    stacked = [[torch.cat([of_text[layer] for of_text in found]) for layer in layers] for found in states]
    return torch.stack([linear_cka(x, y) for x, y in zip(*stacked, strict=True)])  # (L + 1,)


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """() how alike states (pieces, D) and (pieces, E) are: ||Y^T X||^2 / (||X^T X|| ||Y^T Y||), centred."""
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    norm = torch.linalg.matrix_norm
    return norm(y.t() @ x) ** 2 / (norm(x.t() @ x) * norm(y.t() @ y))  # ()


def effective_rank(matrix: Tensor) -> float:
    """exp(entropy) of the singular values as shares of their sum: k for k equal ones, whatever their size."""
    shares = torch.linalg.svdvals(matrix.double())
    shares = shares[shares > 0] / shares.sum()
    return float(torch.exp(-(shares * shares.log()).sum()))


def _moved(name: str, before: Tensor, after: Tensor) -> Moved:
    before, after = before.detach().double().cpu(), after.detach().double().cpu()
    difference = after - before
    size, moved = before.norm().item(), difference.norm().item()
    change = moved / size if size else (torch.inf if moved else 0.0)
    cosine = F.cosine_similarity(before.flatten(), after.flatten(), dim=0).item() if moved else 1.0
    if before.dim() < 2 or not moved:
        return Moved(name, change, cosine)
    return Moved(name, change, cosine, effective_rank(difference), min(before.shape))


def _heads(first: Model, second: Model) -> list[list[Moved]]:
    layers = zip(first.body.encoder.layers, second.body.encoder.layers, strict=True)
    return [
        [
            _moved(f"layers.{number}.head {head}", _head(before.attention, head), _head(after.attention, head))
            for head in range(before.attention.heads[0])
        ]
        for number, (before, after) in enumerate(layers)
    ]


def _head(attention: SelfAttention, head: int) -> Tensor:
    """The weights of a head as one vector: its rows of query, key and value, and its columns of the output."""
    size = attention.heads[1]
    rows = slice(head * size, (head + 1) * size)
    into = [getattr(attention, name).weight[rows].flatten() for name in ("query", "key", "value")]
    return torch.cat([*into, attention.output.weight[:, rows].flatten()])  # (4 * H * D,)


def _finite(moved: Moved) -> dict[str, Any]:
    return {**vars(moved), "change": moved.change if math.isfinite(moved.change) else None}


def _rank(moved: Moved) -> str:
    return "" if moved.rank is None else f"{moved.rank:.1f} of {moved.full_rank}"
