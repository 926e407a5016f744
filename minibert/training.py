"""The training loop, written out.

Nothing in this file is about BERT. It trains any `Trainable`: a module whose forward pass returns
the terms of its loss as sums and counts, and which can count its labels beforehand.

Read `optimizer_step` first: one update, in the order that mixed precision asks for, with the reason
for each line (Micikevicius et al. 2018, section 3). `train` repeats it; `evaluate` only measures.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from minibert.fast.precision import Precision
from minibert.io.errors import TrainingError
from minibert.optim import Schedule, trained_parameters
from minibert.workbench.runs.ranks import ALONE, Ranks

# So many skipped updates in a row halve the fp16 loss scale from 65536 to below 0.002: no scale
# will help then.
MAX_SKIPS_IN_A_ROW = 25

Inputs = Mapping[str, Any]  # what the model's forward pass takes, by name
Prepare = Callable[[Inputs], Inputs]


class Trainable(Protocol):
    """What the loop asks of a model, over being an `nn.Module`.

    `model(**inputs)` returns an object with `loss_terms`, name -> (sum over labels, count of
    labels), and `logits`, a tensor of one row for each example.
    """

    def __call__(self, **inputs: Any) -> Any: ...

    def count_labels(self, inputs: Inputs, /) -> Mapping[str, float]:
        """The counts that `loss_terms` will have, told from the labels alone.

        Whole numbers, or sums of weights where labels weigh more and less.
        """

    def train(self, mode: bool = True) -> Any: ...

    def eval(self) -> Any: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> Any: ...


@dataclass(frozen=True)
class Batch:
    """A batch that is planned: it is loaded when its turn comes.

    Args:
        indices: which examples it holds, by their number in the data set, in the order of its rows.
        load: makes the model's inputs, on the CPU.
        tokens: how much work it is, for the log and the progress bar.
    """

    indices: Sequence[int]
    load: Callable[[], Inputs]
    tokens: int = 0


def seed_everything(seed: int) -> None:
    """Seeds torch's default generators, of every device, from which dropout draws.

    Nothing else in a run is random in secret: data order, masking and new weights take generators
    of their own.
    """
    torch.manual_seed(seed)


@dataclass
class LossSums:
    """Sums and counts of a loss's terms over many batches. Sums add up; means do not."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)

    def add(self, other: LossSums) -> None:
        """Adds the terms of another stretch of data."""
        for name in other.sums:
            self.sums[name] = self.sums.get(name, 0.0) + other.sums[name]
            self.counts[name] = self.counts.get(name, 0) + other.counts[name]

    def means(self) -> dict[str, float]:
        """Each term's mean over its labels. A term without labels is 0."""
        return {name: total / (self.counts[name] or 1) for name, total in self.sums.items()}

    def mean(self) -> float:
        """The loss: the means of its terms, added up."""
        return sum(self.means().values())


@dataclass
class State:
    """Where a run stands, in plain numbers."""

    epoch: int = 0  # epochs finished, their evaluation among it
    batches: int = 0  # batches done of the epoch that runs
    terms: LossSums = field(default_factory=LossSums)  # of the epoch that runs
    tokens: int = 0  # of the epoch that runs
    epoch_started: float = 0.0  # what `seconds` was when the epoch began
    seconds: float = 0.0  # of the run, all its sittings added up
    step: int = 0  # optimizer steps tried, the skipped ones among them
    skipped: int = 0
    skipped_in_a_row: int = 0
    best_epoch: int | None = None
    best_value: float | None = None
    best_loss: float = math.inf
    epochs_without_gain: int = 0


@dataclass(frozen=True)
class StepRecord:
    """One line of the log. `loss` is the mean over the labels of the whole accumulated batch."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    gradient_norm: float  # before clipping
    tokens: int
    tokens_per_second: float
    skipped: bool  # the fp16 gradients overflowed, or a loss was not finite: no update
    terms: dict[str, float] = field(default_factory=dict)  # of the loss, by name


@dataclass(frozen=True)
class EpochRecord:
    """One epoch. `loss` is the mean over all its labels, taken while the weights moved."""

    epoch: int
    loss: float
    seconds: float
    tokens: int
    metrics: dict[str, float]  # what `evaluate` gave
    best: bool  # better than all epochs before


@dataclass
class History:
    """What a run went through."""

    state: State = field(default_factory=State)
    steps: list[StepRecord] = field(default_factory=list)
    epochs: list[EpochRecord] = field(default_factory=list)
    stopped_early: bool = False


@dataclass
class Training:
    """Everything that decides the steps to come, but for torch's random state.

    This is what a checkpoint holds (see state.py). Gradients are no part of it: between two steps
    there are none.
    """

    model: Trainable
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    history: History = field(default_factory=History)
    best_weights: dict[str, Tensor] | None = None  # of the best epoch so far, on the CPU


class Stopped(Exception):
    """The run was asked to stop, and did so between two steps, after its state was saved."""


def count_steps(
    batches_of_epoch: Callable[[int], Sequence[Batch]], epochs: int, accumulate: int = 1
) -> int:
    """The optimizer steps of a whole run, which a `Schedule` wants to know."""
    return sum(math.ceil(len(batches_of_epoch(epoch)) / accumulate) for epoch in range(epochs))


def train(
    model: Trainable,
    batches_of_epoch: Callable[[int], Sequence[Batch]],
    *,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    precision: Precision,
    epochs: int,
    accumulate: int = 1,
    clip_norm: float | None = 1.0,
    prepare: Prepare | None = None,
    evaluate: Callable[[], dict[str, float]] | None = None,
    watch: str = "loss",
    patience: int | None = None,
    restore_best: bool = True,
    on_step: Callable[[StepRecord], None] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    skip_nonfinite: bool = False,
    restore: Callable[[Training], None] | None = None,
    save: Callable[[Training], None] | None = None,
    save_every: int | None = None,
    stop: Callable[[], bool] | None = None,
    progress: bool = True,
    ranks: Ranks = ALONE,
) -> History:
    """Trains a model in place.

    With `evaluate`, the weights of the best epoch are kept in a copy on the CPU and put back at the
    end, so that the model returned from is the best one, not the last. Of two epochs with the same
    score the lower "loss" wins, then the earlier.

    A run can be saved between any two steps, and one that starts from what was saved takes the same
    steps, bit for bit on a CPU, as if it had never been away.

    Args:
        model: already on the device of `precision`.
        batches_of_epoch: epoch, from 0 -> its batches. The order of the data is a function of the
            epoch alone, so that an epoch can be planned again.
        optimizer, schedule: over the model's parameters.
        epochs: how often to go through the data, at most.
        accumulate: batches to an update. Exact: 4 batches of 8 give the gradient of 1 of 32, with
            padding and unequal numbers of labels, since the loss is divided by the labels of all 4.
        clip_norm: the greatest norm of the gradient of all parameters together; None for no limit.
        prepare: makes loaded inputs ready for the model; by default moves them to the device.
        evaluate: measures the model, at the end of every epoch.
        watch: which of its measurements decides; lower is better for names that end in "loss" or
            "mse", else higher.
        patience: stop after so many epochs without a gain; None to go through all.
        restore_best: False leaves the model as the last epoch left it.
        on_step, on_epoch: are handed each record, for a log.
        skip_nonfinite: leave a step out whose loss or gradient is not finite, as the scaler of fp16
            does anyway, instead of ending the run.
        restore: puts the training where a run that was saved stood.
        save: keeps the training: at the end of every epoch, before its evaluation (so that a run
            that ends during an evaluation loses no step), and every `save_every` steps.
        stop: asked after every step; once it says True, the training is saved and the run ends.
        progress: a progress bar on standard error, if that is a terminal.
        ranks: the processes that train together; each calls this with the same arguments.

    Raises:
        TrainingError: settings that no run can have, no batches, or a loss or gradient that is no
            longer finite; the weights are then those before the step that failed.
        Stopped: `stop` said so.
    """
    _check_settings(epochs, accumulate, patience, evaluate)
    prepare = prepare or (lambda inputs: move(inputs, precision.device))
    training = Training(model, optimizer, schedule, precision.make_scaler())
    if restore is not None:
        restore(training)
    scaler, history = training.scaler, training.history
    replica = ranks.replicate(model)
    state = history.state
    optimizer.zero_grad(set_to_none=True)
    total = count_steps(batches_of_epoch, epochs, accumulate)
    run_started = time.perf_counter() - state.seconds
    with tqdm(
        total=total,
        initial=state.step,
        unit="step",
        disable=None if progress else True,
        dynamic_ncols=True,
    ) as bar:
        for epoch in range(state.epoch, epochs):
            model.train()  # dropout on, but for the parts that a model keeps frozen
            batches = batches_of_epoch(epoch)
            if not batches:
                raise TrainingError(f"Epoch {epoch + 1} has no batches.", key="batches")
            step_started = time.perf_counter()
            for first in range(state.batches, len(batches), accumulate):
                window = batches[first : first + accumulate]
                learning_rate = schedule.learning_rate
                step = optimizer_step(
                    replica,
                    window,
                    optimizer=optimizer,
                    scaler=scaler,
                    schedule=schedule,
                    precision=precision,
                    prepare=prepare,
                    clip_norm=clip_norm,
                    skip_nonfinite=skip_nonfinite,
                    name=f"Step {state.step + 1}",
                    ranks=ranks,
                )
                step_ended = time.perf_counter()
                state.seconds = step_ended - run_started
                state.step += 1
                state.batches += len(window)
                _count_skips(state, step.skipped)
                if not step.skipped:
                    state.terms.add(step.terms)
                state.tokens += step.tokens
                record = StepRecord(
                    step=state.step,
                    epoch=epoch + 1,
                    loss=step.terms.mean(),
                    learning_rate=learning_rate,
                    gradient_norm=step.gradient_norm,
                    tokens=step.tokens,
                    tokens_per_second=step.tokens / (step_ended - step_started),
                    skipped=step.skipped,
                    terms=step.terms.means(),
                )
                step_started = step_ended
                history.steps.append(record)
                if on_step is not None:
                    on_step(record)
                bar.set_postfix(
                    epoch=epoch + 1,
                    loss=f"{state.terms.mean():.4f}",
                    lr=f"{learning_rate:.1e}",
                    tokens_s=f"{state.tokens / (state.seconds - state.epoch_started):.0f}",
                    refresh=False,  # the bar redraws itself, ten times a second at most
                )
                bar.update()
                stopping = stop is not None and stop()
                last = state.batches == len(batches)
                if save is not None and (stopping or last or _is_due(state.step, save_every)):
                    save(training)
                if stopping:
                    raise Stopped
            seconds = state.seconds - state.epoch_started
            metrics = evaluate() if evaluate is not None else {}
            state.epoch += 1
            best = evaluate is not None and _is_best(state, metrics, watch)
            if best:
                training.best_weights = _copy_of_weights(model)
            summary = EpochRecord(
                epoch + 1, state.terms.mean(), seconds, state.tokens, metrics, best
            )
            state.seconds = state.epoch_started = time.perf_counter() - run_started
            state.batches, state.tokens, state.terms = 0, 0, LossSums()
            history.epochs.append(summary)
            if on_epoch is not None:
                on_epoch(summary)
            if patience is not None and state.epochs_without_gain >= patience:
                history.stopped_early = epoch + 1 < epochs
                break
    if training.best_weights is not None and restore_best:
        model.load_state_dict(training.best_weights)
    return history


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


@dataclass(frozen=True)
class Step:
    """What one optimizer step came to."""

    terms: LossSums
    gradient_norm: float
    tokens: int
    skipped: bool


def optimizer_step(
    model: Trainable,
    window: Sequence[Batch],
    *,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    schedule: Schedule,
    precision: Precision,
    prepare: Prepare,
    clip_norm: float | None,
    name: str,
    skip_nonfinite: bool = False,
    ranks: Ranks = ALONE,
) -> Step:
    """One update of the weights from one accumulated batch.

    Args:
        window: the batches whose gradients are added up.
        name: what to call this step in an error.
        skip_nonfinite: leave the step out where it would raise.
        ranks: the processes that take this step together; `model` is then what their `replicate`
            gave. What is returned is of them all.

    Raises:
        TrainingError: the loss or the gradient is not finite, and no scaler stands by.
    """
    loaded = [batch.load() for batch in window]
    # The loss is a mean over the labels of the whole window, so their number has to be known before
    # the first backward pass. It is counted on the CPU, where it keeps no device waiting. If there
    # are several processes, each loads the whole window and so knows the number without asking.
    counts = _add_counts([model.count_labels(inputs) for inputs in loaded])
    sums: dict[str, Tensor] = {}
    for number, batch in enumerate(loaded, start=1):
        # Of several processes each takes its rows, and the last backward pass adds gradients up.
        inputs, counted = ranks.share(batch)
        with ranks.keep_gradients(model, until_last=number == len(loaded)):
            # Autocast around the forward pass alone: matrix products in 16 bits, sums in 32. The
            # backward pass takes over the dtype of each operation by itself.
            with precision.autocast():
                output = model(**prepare(inputs))
            totals = {term: counted * total for term, (total, _) in output.loss_terms.items()}
            loss = sum(total / (counts[term] or 1) for term, total in totals.items())
            # Scaled up, so that small fp16 gradients do not vanish on their way back. Gradients add
            # up in `parameter.grad` from one batch of the window to the next. Times the number of
            # processes, since DDP takes the mean of their gradients and the loss needs the sum.
            scaler.scale(ranks.size * loss).backward()
        for term, total in totals.items():
            sums[term] = sums[term] + total.detach() if term in sums else total.detach()
    # Unscaled before clipping, which would otherwise clip the scale and not the gradient.
    scaler.unscale_(optimizer)
    parameters = trained_parameters(optimizer)
    norm = nn.utils.get_total_norm([part.grad for part in parameters if part.grad is not None])
    gradient_norm = norm.item()
    if clip_norm is not None and gradient_norm > clip_norm:  # else there is nothing to scale
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    terms = LossSums(ranks.add({term: total.item() for term, total in sums.items()}), counts)
    # With a scaler, infinite gradients are an everyday event that it answers itself. Without one
    # they are the end, and now is the last moment at which the weights are still good.
    tokens = sum(batch.tokens for batch in window)
    if not scaler.is_enabled() and not math.isfinite(terms.mean() + gradient_norm):
        if not skip_nonfinite:
            raise _not_finite(name, window, terms.mean(), model)
        optimizer.zero_grad(set_to_none=True)
        return Step(terms, gradient_norm, tokens, skipped=True)
    # The scaler leaves the update out where it found infinite gradients, then lowers the scale;
    # after many good steps it raises it. A lower scale is how it tells that it skipped.
    scale = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    skipped = scaler.get_scale() < scale
    # The schedule counts updates that were made, or the warm-up would pass without any.
    if not skipped:
        schedule.step()
    # Only now: the next window starts from nothing. Setting to None frees the memory, too.
    optimizer.zero_grad(set_to_none=True)
    return Step(terms, gradient_norm, tokens, skipped)


@dataclass(frozen=True)
class Evaluation:
    """What a model said about some data.

    `logits` holds one tensor an example, fp32 on the CPU, ordered by the example's index; rows of
    token-level heads keep the columns that their batch had.
    """

    sums: LossSums
    logits: list[Tensor]

    @property
    def loss(self) -> float:
        """The mean loss over all labels of the data, however they fell into batches."""
        return self.sums.mean()


def evaluate(
    model: Trainable,
    batches: Sequence[Batch],
    *,
    precision: Precision,
    prepare: Prepare | None = None,
    progress: str | None = None,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Runs a model over data without training it: dropout off, nothing kept for gradients.

    Afterwards every module is back in the mode that it was in.

    Args:
        batches: in any order; the rows of the result are sorted by the examples' indices.
        progress: the title of a progress bar on standard error (a terminal); None for none.
        ranks: the processes that share the batches; each is told the whole result.
    """
    prepare = prepare or (lambda inputs: move(inputs, precision.device))
    modules = model.modules() if isinstance(model, nn.Module) else ()  # none of a prepared model
    modes = [(module, module.training) for module in modules]
    model.eval()
    terms = LossSums()
    rows: dict[int, Tensor] = {}
    try:
        mine = batches[ranks.rank :: ranks.size]
        for batch in tqdm(
            mine, progress, disable=None if progress else True, leave=False, unit="batch"
        ):
            with torch.inference_mode(), precision.autocast():
                output = model(**prepare(batch.load()))
            logits = output.logits.float().cpu()
            rows.update(zip(batch.indices, logits, strict=True))
            for term, (total, count) in (output.loss_terms or {}).items():
                terms.add(LossSums({term: total.item()}, {term: count}))
    finally:
        for module, mode in modes:
            module.training = mode
    everything = LossSums()
    for part in ranks.gather_json(asdict(terms)):
        everything.add(LossSums(**part))
    rows = ranks.gather_rows(rows)
    return Evaluation(everything, [rows[index] for index in sorted(rows)])


def move(inputs: Inputs, device: torch.device) -> dict[str, Any]:
    """The inputs with everything that can be moved to a device on that device.

    A GPU is handed them through pinned memory, and is not waited for.
    """
    return {
        name: _moved(value, device) if hasattr(value, "to") else value
        for name, value in inputs.items()
    }


def _moved(value: Any, device: torch.device) -> Any:
    on_a_gpu = isinstance(value, Tensor) and value.device.type != "cpu"
    if device.type != "cuda" or on_a_gpu or not hasattr(value, "pin_memory"):
        return value.to(device)
    return value.pin_memory().to(device, non_blocking=True)


def _check_settings(
    epochs: int, accumulate: int, patience: int | None, evaluate: object | None
) -> None:
    for key, value in (("epochs", epochs), ("accumulate", accumulate), ("patience", patience)):
        if value is not None and value < 1:
            raise TrainingError(
                f"{key} is {value}, but must be at least 1.",
                key=key,
            )
    if patience is not None and evaluate is None:
        raise TrainingError(
            "Early stopping needs something to watch, but nothing is evaluated.",
            key="patience",
            hint="Give a validation split, or leave patience out.",
        )


def _add_counts(counts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for terms in counts:
        for name, count in terms.items():
            total[name] = total.get(name, 0) + count
    return total


def _count_skips(state: State, skipped: bool) -> None:
    state.skipped += skipped
    state.skipped_in_a_row = state.skipped_in_a_row + 1 if skipped else 0
    if state.skipped_in_a_row >= MAX_SKIPS_IN_A_ROW:
        raise TrainingError(
            f"Step {state.step}: loss or gradients were not finite {state.skipped_in_a_row} times "
            "in a row, at ever lower loss scales where there is one.",
            key="loss",
            hint="Look for NaN in the data and weights, or train in bf16 or fp32.",
        )


def _is_best(state: State, metrics: Mapping[str, float], watch: str) -> bool:
    """Compares with the best so far and takes note. A NaN is never better."""
    if watch not in metrics:
        raise TrainingError(
            f"There is no measurement {watch!r} to watch; there are {', '.join(metrics)}.",
            key="watch",
        )
    value, loss = metrics[watch], metrics.get("loss", math.inf)
    sign = -1 if watch.endswith(("loss", "mse")) else 1
    # An easy validation split gives many epochs the same accuracy; its loss still tells them apart.
    better = state.best_value is None or (sign * value, -loss) > (
        sign * state.best_value,
        -state.best_loss,
    )
    if math.isnan(value) or not better:
        state.epochs_without_gain += 1
        return False
    state.best_epoch, state.best_value, state.best_loss = state.epoch, value, loss
    state.epochs_without_gain = 0
    return True


def _copy_of_weights(model: Trainable) -> dict[str, Tensor]:
    return {name: tensor.to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def _not_finite(name: str, window: Sequence[Batch], loss: float, model: Trainable) -> TrainingError:
    """The error for a step that must not be taken, naming the first thing that went wrong."""
    indices = [index for batch in window for index in batch.indices]
    shown = ", ".join(map(str, indices[:8])) + (", ..." if len(indices) > 8 else "")
    key = "loss"
    what = f"the loss is {loss}"
    for parameter_name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            key, what = parameter_name, f"{what} and the weights of {parameter_name} are not finite"
            break
        if (
            math.isfinite(loss)
            and parameter.grad is not None
            and not parameter.grad.isfinite().all()
        ):
            key, what = parameter_name, f"the gradient of {parameter_name} is not finite"
            break
    return TrainingError(
        f"{name}: {what} (examples {shown}); the weights were left as they were.",
        key=key,
        hint="Lower the learning rate, or look at these examples.",
    )
