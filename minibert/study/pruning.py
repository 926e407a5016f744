"""How many heads are needed: importance by gradient and by measurement, and removing heads for real.

Michel et al. 2019, section 4: a head's importance is the mean over examples of |d loss / d gate|, where a gate of 1
multiplies what the head hands on (equation 2). One backward pass estimates it for all heads at once; switching off one
head at a time measures it. Pruned heads are gone: their rows and columns are cut out of the matrices, and `config.json`
lists them under `pruned_heads`, as in transformers.

    >>> scores = importance(model, batches)
    >>> smaller = prune(model, scores.least(8))
    >>> smaller.save_pretrained("smaller")
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from minibert.base import Model
from minibert.io.errors import ConfigError, DataError
from minibert.study.edit import head, replacements
from minibert.study.pictures import Picture, grid
from minibert.study.sentence import in_eval
from minibert.trace import Trace

M = TypeVar("M", bound=Model)
CONTEXTS = "layers.*.attention.context"


@dataclass(frozen=True)
class Importance:
    """How much the loss depends on each head; NaN where a layer has fewer heads.

    Attributes:
        gradient: (L, N) the mean over examples of |d loss / d gate|, estimated.
        rise: (L, N) by how much the mean loss rises without the head, measured.
        loss: the mean loss of the whole model.
    """

    gradient: Tensor
    rise: Tensor
    loss: float

    def least(self, count: int, measured: bool = False) -> dict[int, list[int]]:
        """The least important heads, layer -> heads, at least one being left in each layer."""
        scores = self.rise if measured else self.gradient  # (L, N)
        left = [int(row.isfinite().sum()) for row in scores]
        chosen: dict[int, list[int]] = {}
        order = scores.flatten().argsort(stable=True)  # (L * N,), NaN last
        for place in order[: int(scores.isfinite().sum())].tolist():
            layer, number = divmod(place, scores.shape[1])
            if sum(map(len, chosen.values())) < count and left[layer] > 1:
                chosen.setdefault(layer, []).append(number)
                left[layer] -= 1
        return {layer: sorted(chosen[layer]) for layer in sorted(chosen)}

    def picture(self, measured: bool = False) -> Picture:
        """Layers by heads."""
        scores, title = (self.rise, "Rise of the loss without a head") if measured else (self.gradient, "Importance")
        rows, columns = (list(map(str, range(size))) for size in scores.shape)
        return grid(scores, [f"layer {row}" for row in rows], columns, title, signed=measured)


def importance(model: Model, batches: Sequence[Mapping[str, Any]], *, progress: bool = True) -> Importance:
    """Scores every head on labelled examples.

    Args:
        batches: the model's inputs with labels, such as `collate` makes. Those with one example each give the mean of
            Michel et al.; in larger ones the gradients of the examples of a batch are added before the magnitude.

    Raises:
        DataError: there are no batches, or no labels in them.
    """
    if not batches:
        raise DataError("There are no batches to measure the heads on.", key="batches")
    with in_eval(model), tqdm(total=1 + _heads(model), desc="heads", disable=None if progress else True) as bar:
        gradients = torch.stack([_gradients(model, batch) for batch in batches]).mean(dim=0)  # (L, N)
        before = _loss(model, batches)
        bar.update()
        rises = torch.full_like(gradients, torch.nan)  # (L, N)
        for layer, part in enumerate(model.body.encoder.layers):
            for number in range(part.attention.heads[0]):
                rises[layer, number] = (
                    _loss(model, batches, Trace(replace=replacements([head(layer, number)]))) - before
                )
                bar.update()
    return Importance(gradients, rises, before)


def prune(model: M, heads: Mapping[int, Sequence[int]]) -> M:
    """A copy of a model without some heads, with smaller matrices; it saves, loads and trains as any other.

    Args:
        heads: layer -> the heads to remove, by their numbers in this model.

    Raises:
        ConfigError: there is no such head, or a layer would be left without any.
    """
    pruned = {layer: list(numbers) for layer, numbers in model.config.pruned_heads.items()}
    smaller = copy.deepcopy(model)
    for layer, numbers in heads.items():
        gone = set(numbers)
        if not 0 <= layer < model.config.num_hidden_layers:
            raise ConfigError(f"There is no layer {layer}.", key="heads")
        attention = smaller.body.encoder.layers[layer].attention
        count, size = attention.heads
        if not gone <= set(range(count)) or len(gone) == count:
            message = f"Heads {sorted(gone)} of layer {layer} cannot be pruned: it has heads 0 to {count - 1}"
            raise ConfigError(f"{message}, and one has to be left.", key="heads")
        # Official files number the heads of the model before any was pruned.
        original = [n for n in range(model.config.num_attention_heads) if n not in pruned.get(layer, ())]
        pruned[layer] = sorted([*pruned.get(layer, ()), *(original[number] for number in gone)])
        kept = torch.tensor([number for number in range(count) if number not in gone])
        rows = torch.arange(count * size).unflatten(0, (count, size))[kept].flatten()  # (kept * H,)
        for name in ("query", "key", "value"):
            _keep_rows(getattr(attention, name), rows)
        _keep_columns(attention.output, rows)
        attention.heads = (len(kept), size)
    smaller.config = smaller.body.config = model.config.replace(pruned_heads=pruned)
    return smaller


def _keep_rows(linear: nn.Linear, rows: Tensor) -> None:
    linear.weight, linear.bias = _parameter(linear.weight, rows), _parameter(linear.bias, rows)  # (rows, D), (rows,)
    linear.out_features = len(rows)


def _keep_columns(linear: nn.Linear, columns: Tensor) -> None:
    linear.weight = _parameter(linear.weight.t(), columns)  # (columns, D)
    linear.weight.data = linear.weight.data.t().contiguous()  # (D, columns)
    linear.in_features = len(columns)


def _parameter(old: Tensor, rows: Tensor) -> nn.Parameter:
    return nn.Parameter(old.detach()[rows.to(old.device)].clone(), requires_grad=old.requires_grad)


def _gradients(model: Model, batch: Mapping[str, Any]) -> Tensor:
    """(L, N) |d loss / d gate| of one batch: the sum over tokens and dimensions of context times gradient."""
    # With a frozen encoder the graph begins here.
    trace = Trace(CONTEXTS, replace={CONTEXTS: lambda x: x if x.requires_grad else x.detach().requires_grad_()})
    with torch.enable_grad():
        loss = _with_loss(model(**batch, trace=trace))
        contexts = list(trace.values.values())  # (T, N, H) each
        gradients = torch.autograd.grad(loss, contexts)
    result = torch.full((len(contexts), max(context.shape[1] for context in contexts)), torch.nan)  # (L, N)
    for layer, (context, gradient) in enumerate(zip(contexts, gradients, strict=True)):
        by_head = (context * gradient).detach().sum(dim=(0, 2)).abs()  # (N,)
        result[layer, : len(by_head)] = by_head.float().cpu()
    return result


def _loss(model: Model, batches: Sequence[Mapping[str, Any]], trace: Trace | None = None) -> float:
    """The mean loss over all labels of the batches: sums and counts are added before they are divided."""
    sums: dict[str, list[float]] = {}
    with torch.no_grad():
        for batch in batches:
            output = model(**batch, trace=trace)
            _with_loss(output)
            for name, (total, count) in output.loss_terms.items():
                old = sums.get(name, [0.0, 0.0])
                sums[name] = [old[0] + total.item(), old[1] + count]
    return sum(total / (count or 1) for total, count in sums.values())


def _with_loss(output: Any) -> Tensor:
    if output.loss is None:
        raise DataError("The batches hold no labels, so there is no loss.", key="labels")
    return output.loss


def _heads(model: Model) -> int:
    return sum(part.attention.heads[0] for part in model.body.encoder.layers)
