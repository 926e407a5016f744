"""The training loop, written out.

Nothing in this file is about BERT. It trains any `Trainable`: a module whose forward pass returns the terms of its
loss as sums and counts, and which can count its labels beforehand.

Read `optimizer_step` first: one update, in the order that mixed precision requires, with the reason for each line
(Micikevicius et al. 2018, section 3). `train` repeats it and yields a record after each step and each epoch; whoever
iterates logs, saves, evaluates and stops. `evaluate` measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from minibert.io.checks import first_not_finite
from minibert.io.device import move
from minibert.io.errors import TrainingError
from minibert.optim import Schedule

# This many skips in a row halve the fp16 loss scale from 65536 to below 0.002: no scale will help.
MAX_SKIPS_IN_A_ROW = 25

Inputs = Mapping[str, Any]  # the keyword arguments of the model's forward pass
Place = Callable[[Inputs, torch.device], Inputs]


class Trainable(Protocol):
    """What the loop requires of a model, besides being an `nn.Module`.

    `model(**inputs)` returns an object with `loss_terms`, name -> (sum over labels, number of labels), and `logits`,
    a tensor with one row per example. `count_labels` gives those numbers from the labels alone; where labels are
    weighted, they are sums of weights.
    """

    def __call__(self, **inputs: Any) -> Any: ...
    def count_labels(self, inputs: Inputs, /) -> Mapping[str, float]: ...
    def train(self, mode: bool = True) -> Any: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> Any: ...


@dataclass(frozen=True)
class Batch:
    """A planned batch, which is loaded when its turn comes."""

    indices: Sequence[int]  # of its examples in the data set, in the order of its rows
    load: Callable[[], Inputs]  # makes the model's inputs, on the CPU
    tokens: int = 0  # the amount of work, for the log and the progress bar


@dataclass
class LossSums:
    """Sums and counts of the loss terms over many batches. Sums add up; means do not."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)

    def add(self, other: LossSums) -> None:
        for name, total in other.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + total
            self.counts[name] = self.counts.get(name, 0) + other.counts[name]

    def means(self) -> dict[str, float]:
        """The mean of each term over its labels; 0 for a term without labels."""
        return {name: total / (self.counts[name] or 1) for name, total in self.sums.items()}

    def mean(self) -> float:
        """The loss: the sum of the means of its terms."""
        return sum(self.means().values(), 0.0)


@dataclass(frozen=True)
class Step:
    """One optimizer step. `terms` are the loss over the labels of the whole accumulated batch."""

    step: int  # from 1, skipped ones included
    epoch: int  # from 1
    terms: LossSums
    learning_rate: float
    gradient_norm: float  # before clipping
    tokens: int
    skipped: bool  # no update: the fp16 gradients overflowed, or the loss was not finite


@dataclass(frozen=True)
class Epoch:
    """One epoch. `terms` were measured while the weights moved, without skipped steps."""

    epoch: int  # from 1
    terms: LossSums
    tokens: int


@dataclass
class Position:
    """Where a training stands between two steps, in plain numbers that a checkpoint can hold."""

    epoch: int = 0  # finished epochs
    batches: int = 0  # finished batches of the current epoch
    left: int = 0  # its remaining batches; 0 after the step that ends it
    step: int = 0  # optimizer steps tried, skipped ones included
    skipped_in_a_row: int = 0
    terms: LossSums = field(default_factory=LossSums)  # of the current epoch
    tokens: int = 0  # of the current epoch


@dataclass
class Training:
    """Everything that decides the steps to come, except torch's random state. A checkpoint holds what changes of it."""

    model: Trainable  # already on its device
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    # Of matrix products in the forward pass; None for the model's own, which weights and gradients keep.
    dtype: torch.dtype | None = None
    clip_norm: float | None = 1.0  # the largest norm of the gradient of all parameters together
    skip_nonfinite: bool = False  # skip a step whose loss or gradient is not finite, instead of raising
    place: Place = move  # prepares loaded inputs for the model, on its device
    position: Position = field(default_factory=Position)

    def __post_init__(self) -> None:
        self.device = next(self.model.parameters()).device
        # fp16 has no gradients below 6e-8 and nothing above 65504; only fp16 needs a scaler.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def autocast(self) -> torch.autocast:
        """The context for a forward pass."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)


def optimizer_step(training: Training, window: Sequence[Batch]) -> Step:
    """One update of the weights from one accumulated batch: the gradients of all batches of the window, added up.

    TrainingError if the loss or the gradient is not finite, and neither a scaler nor `skip_nonfinite` handles it. The
    weights are then those before the step.
    """
    model, optimizer, scaler = training.model, training.optimizer, training.scaler
    learning_rate = training.schedule.learning_rate
    loaded = [batch.load() for batch in window]
    # The loss is a mean over the labels of the whole window, so their number has to be known before the first
    # backward pass. It is counted on the CPU, so that a GPU does not wait for it.
    counts: dict[str, float] = {}
    for inputs in loaded:
        for name, count in model.count_labels(inputs).items():
            counts[name] = counts.get(name, 0) + count
    sums: dict[str, Tensor] = {}
    for inputs in loaded:
        # Autocast wraps the forward pass alone: matrix products in 16 bits, sums in 32. The backward pass runs each
        # operation in the dtype that its forward pass had.
        with training.autocast():
            output = model(**training.place(inputs, training.device))
        terms = {name: total for name, (total, _) in output.loss_terms.items()}
        loss = sum(total / (counts[name] or 1) for name, total in terms.items())
        # Scaled up, so that small fp16 gradients do not vanish on their way back. Gradients add up in
        # `parameter.grad` from one batch of the window to the next.
        scaler.scale(loss).backward()
        for name, total in terms.items():
            sums[name] = sums.get(name, 0) + total.detach()
    # Unscaled before clipping, which would otherwise compare the scaled gradient with the limit.
    scaler.unscale_(optimizer)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = nn.utils.get_total_norm([part.grad for part in parameters if part.grad is not None])
    # Read together, and only now: a GPU has to be waited for, once.
    numbers = torch.stack([norm, *sums.values()])  # (1 + terms,)
    gradient_norm, *totals = numbers.tolist()
    if training.clip_norm is not None and gradient_norm > training.clip_norm:
        nn.utils.clip_grads_with_norm_(parameters, training.clip_norm, norm)
    losses = LossSums(dict(zip(sums, totals, strict=True)), counts)
    # With a scaler, infinite gradients are routine, and it handles them itself below. Without one this is the last
    # moment at which the weights are still good.
    finite = math.isfinite(losses.mean() + gradient_norm)
    if finite or scaler.is_enabled():
        # The scaler skips the update if it found infinite gradients, then lowers the scale; after many good steps it
        # raises it. Only a lower scale tells that it skipped.
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        skipped = scaler.get_scale() < scale
    elif training.skip_nonfinite:
        skipped = True
    else:
        raise _not_finite(training, window, losses.mean())
    # The schedule counts updates that were made, or the warm-up could pass without any.
    if not skipped:
        training.schedule.step()
    # Only now: the next window starts from nothing. None instead of zeros frees the memory, too.
    optimizer.zero_grad(set_to_none=True)
    step, epoch = training.position.step + 1, training.position.epoch + 1
    tokens = sum(batch.tokens for batch in window)
    return Step(step, epoch, losses, learning_rate, gradient_norm, tokens, skipped)


def train(
    training: Training, batches_of_epoch: Callable[[int], Sequence[Batch]], epochs: int, accumulate: int = 1
) -> Iterator[Step | Epoch]:
    """Trains a model in place, from where `training.position` says it stands; yields each step and each epoch.

    Between two records the caller may do anything: save, evaluate, or stop by leaving the loop. A training that was
    saved after a step and restored takes the same steps as one that was never interrupted; on a CPU, bit for bit.

    Args:
        batches_of_epoch: epoch, from 0 -> its batches. The order of the data must be a function of the epoch alone, so
            that an interrupted epoch can be planned again.
        accumulate: batches per update. Exact: 4 batches of 8 give the gradient of 1 of 32, despite padding and unequal
            numbers of labels, since the loss is divided by the labels of all 4.

    TrainingError if an argument is below 1, an epoch has no batches, or a step fails (see `optimizer_step`).
    """
    for key, value in (("epochs", epochs), ("accumulate", accumulate)):
        if value < 1:
            raise TrainingError(f"{key} is {value}, but it must be at least 1.", key=key)
    return _train(training, batches_of_epoch, epochs, accumulate)  # a generator checks too late


def _train(
    training: Training, batches_of_epoch: Callable[[int], Sequence[Batch]], epochs: int, accumulate: int
) -> Iterator[Step | Epoch]:
    training.optimizer.zero_grad(set_to_none=True)  # a step that failed may have left some behind
    while training.position.epoch < epochs:
        position = training.position
        batches = batches_of_epoch(position.epoch)
        if not batches:
            raise TrainingError(f"Epoch {position.epoch + 1} has no batches.", key="batches")
        while position.batches < len(batches):
            window = batches[position.batches : position.batches + accumulate]
            training.model.train()  # dropout on: the caller may have evaluated since the last step
            step = optimizer_step(training, window)
            position.step += 1
            position.batches += len(window)
            position.left = len(batches) - position.batches
            position.tokens += step.tokens
            position.skipped_in_a_row = position.skipped_in_a_row + 1 if step.skipped else 0
            if not step.skipped:
                position.terms.add(step.terms)
            if position.skipped_in_a_row >= MAX_SKIPS_IN_A_ROW:
                message = f"Step {position.step}: the loss or the gradient was not finite {MAX_SKIPS_IN_A_ROW} times"
                hint = "Look for NaN in the data and the weights, or train in bf16 or fp32."
                raise TrainingError(f"{message} in a row.", key="loss", hint=hint)
            yield step
        training.position = Position(position.epoch + 1, step=position.step, skipped_in_a_row=position.skipped_in_a_row)
        yield Epoch(position.epoch + 1, position.terms, position.tokens)


def count_steps(batches_of_epoch: Callable[[int], Sequence[Batch]], epochs: int, accumulate: int = 1) -> int:
    """The optimizer steps of a whole run, which a `Schedule` needs to know."""
    return sum(math.ceil(len(batches_of_epoch(epoch)) / accumulate) for epoch in range(epochs))


@dataclass(frozen=True)
class Evaluation:
    """The loss and the logits of a model on some data."""

    sums: LossSums
    # One fp32 tensor per example, on the CPU, in order of their indices; heads over tokens keep the columns of a batch.
    logits: list[Tensor]

    @property
    def loss(self) -> float:
        """The mean loss over all labels of the data, however they fell into batches."""
        return self.sums.mean()


def evaluate(
    model: Any, batches: Iterable[Batch], device: torch.device, dtype: torch.dtype | None = None, place: Place = move
) -> Evaluation:
    """Runs a model over batches in any order: dropout off, nothing kept for gradients, every module's mode restored.

    Args:
        model: a `Trainable`, or another callable with `eval()`. Without labels its `loss_terms` may be None.
        dtype, place: as for `Training`.
    """
    modes = [(module, module.training) for module in model.modules()] if isinstance(model, nn.Module) else []
    losses = LossSums()
    rows: dict[int, Tensor] = {}
    try:
        model.eval()
        for batch in batches:
            with torch.inference_mode(), torch.autocast(device.type, dtype, dtype is not None):
                output = model(**place(batch.load(), device))
            rows.update(zip(batch.indices, output.logits.float().cpu(), strict=True))
            for name, (total, count) in (output.loss_terms or {}).items():
                losses.add(LossSums({name: total.item()}, {name: count}))
    finally:
        for module, mode in modes:
            module.training = mode
    return Evaluation(losses, [rows[index] for index in sorted(rows)])


def _not_finite(training: Training, window: Sequence[Batch], loss: float) -> TrainingError:
    """The error for a step that must not be taken, naming the first tensor that went wrong."""
    indices = [index for batch in window for index in batch.indices]
    shown = ", ".join(map(str, indices[:8])) + (", ..." if len(indices) > 8 else "")
    key, what = first_not_finite(training.model.named_parameters(), loss)
    message = f"Step {training.position.step + 1}: {what} (examples {shown}). The weights are unchanged."
    return TrainingError(message, key=key, hint="Lower the learning rate, or look at these examples.")
