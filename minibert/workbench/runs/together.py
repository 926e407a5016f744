"""One model on one or several processes: each trains and evaluates on its share of the data.

The loop of the lesson knows nothing of this. It is given batches that load one process's rows, and
a model whose loss is that of all processes; DistributedDataParallel averages the gradients (Li et
al. 2020, section 3).
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from minibert import training
from minibert.fast.precision import Precision
from minibert.layout import Layout
from minibert.training import Batch, Evaluation, Inputs, LossSums, Trainable
from minibert.workbench.runs.ranks import ALONE, Ranks

BatchesOfEpoch = Callable[[int], Sequence[Batch]]


def lay_out(inputs: Inputs, device: torch.device) -> dict[str, Any]:
    """Adds the layout of a batch and moves everything to the device.

    The layout is made while the mask is still on the CPU, where its lengths can be read at once.
    """
    if "attention_mask" not in inputs:  # features have no layout
        return training.move(inputs, device)
    mask = inputs["attention_mask"].flatten(0, -2)  # (B, S); with choices (B * choices, S)
    return training.move({**inputs, "layout": Layout.from_mask(mask)}, device)


def evaluate(
    model: Any, batches: Sequence[Batch], precision: Precision, *, progress: str | None = None, ranks: Ranks = ALONE
) -> Evaluation:
    """The lesson's `evaluate`, with layouts, a progress bar, and batches shared among processes.

    Args:
        progress: the title of a progress bar on standard error, if that is a terminal.
        ranks: the processes that share the batches; each returns the whole result.
    """
    own = batches[ranks.rank :: ranks.size]
    shown = tqdm(own, progress, disable=None if progress else True, leave=False, unit="batch")
    result = training.evaluate(model, shown, precision.device, precision.dtype, lay_out)
    if ranks.size == 1:
        return result
    indices = sorted(index for batch in own for index in batch.indices)
    rows = ranks.gather_rows(dict(zip(indices, result.logits, strict=True)))
    sums = LossSums()
    for part in ranks.gather_json(asdict(result.sums)):
        sums.add(LossSums(**part))
    return Evaluation(sums, [rows[index] for index in sorted(rows)])


def share(
    model: Any, batches_of_epoch: BatchesOfEpoch, accumulate: int, ranks: Ranks
) -> tuple[Trainable, BatchesOfEpoch]:
    """The model and the batches with which this process trains; unchanged if it is alone."""
    if ranks.size == 1:
        return model, batches_of_epoch

    def shared_batches(epoch: int) -> list[Batch]:
        batches = batches_of_epoch(epoch)
        return [
            replace(batch, load=partial(_load_share, batch, model, ranks, ends_window))
            for number, batch in enumerate(batches, start=1)
            for ends_window in [number % accumulate == 0 or number == len(batches)]
        ]

    return _SharedModel.of(model, ranks), shared_batches


@dataclass(frozen=True)
class _Share:
    """What a process has to know of a batch besides its own rows.

    Attributes:
        counts: the number of labels of all processes, by loss term.
        weight: 1, or 0 for a process without rows of its own.
        ends_window: whether this is the last batch before the optimizer steps.
    """

    counts: Mapping[str, float]
    weight: int
    ends_window: bool


def _load_share(batch: Batch, model: Trainable, ranks: Ranks, ends_window: bool) -> Inputs:
    """This process's rows of a batch: every `size`-th one.

    Batches are sorted by length, so the shares have about the same number of tokens. If a batch has
    fewer rows than there are processes, those without rows run the first row with weight 0, since
    a backward pass waits for all processes.
    """
    inputs = batch.load()
    tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    rows = len(next(iter(tensors.values())))
    has_rows = ranks.rank < rows
    own = slice(ranks.rank, None, ranks.size) if has_rows else slice(0, 1)
    share = _Share(model.count_labels(inputs), int(has_rows), ends_window)
    return {**inputs, **{name: value[own] for name, value in tensors.items()}, "share": share}


class _SharedModel(DistributedDataParallel):
    """A model whose loss terms, and after a window's last backward pass gradients, are of all."""

    @classmethod
    def of(cls, model: nn.Module, ranks: Ranks) -> _SharedModel:
        # After its first backward pass DistributedDataParallel changes the order of the gradients,
        # unless it looks for unused parameters. A sum of three or more numbers has other last bits
        # in another order, so a resumed run would differ from an uninterrupted one.
        keeps_order = ranks.size > 2
        if keeps_order:
            warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
        return cls(model, find_unused_parameters=keeps_order)

    def count_labels(self, inputs: Inputs) -> Mapping[str, float]:
        return inputs["share"].counts

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        return self.module.named_parameters(*args, **kwargs)

    def forward(self, share: _Share, **inputs: Any) -> Any:
        with contextlib.nullcontext() if share.ends_window else self.no_sync():
            output = super().forward(**inputs)
        terms = {
            name: (_SumOverProcesses.apply(share.weight * total), share.counts[name])
            for name, (total, _) in output.loss_terms.items()
        }
        return SimpleNamespace(loss_terms=terms, logits=output.logits)


class _SumOverProcesses(torch.autograd.Function):
    """The sum over all processes as value; its gradient is `size` times that of the own share.

    DistributedDataParallel takes the mean of the gradients, and the loss needs their sum.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.detach().clone()  # ()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return dist.get_world_size() * gradient
