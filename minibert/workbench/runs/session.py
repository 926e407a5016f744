"""A session: the stretch of a run that one process works on, from its start or a checkpoint.

A run has one session, or several if it was interrupted. `begin` and `resume` open one: they check
the inputs, lock the folder and pass a `Session` to the task. `Session.train` is the lesson's loop
with everything that a run needs around it: logging, saving, stopping, and the best epoch. On a CPU
every loss and weight has, bit for bit, the value it has in an uninterrupted run.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from tqdm import tqdm

from minibert.base import Model
from minibert.fast.accelerate import accelerate
from minibert.fast.precision import Precision
from minibert.io.files import finite, write_json
from minibert.optim import Schedule, build_optimizer, parameter_groups
from minibert.training import Epoch, Step, Trainable, Training, count_steps, train
from minibert.workbench.runs import together
from minibert.workbench.runs.folders import RECORD, STATE, make_folder, require_empty, require_free, write_log
from minibert.workbench.runs.history import EpochRecord, History, StepRecord, Watched
from minibert.workbench.runs.lock import locked
from minibert.workbench.runs.ranks import Ranks, joined
from minibert.workbench.runs.resume import hint_at_resuming, read_unfinished
from minibert.workbench.runs.settings import TrainingSettings, check, with_absolute_paths
from minibert.workbench.runs.signals import HeldSignals, Stopped
from minibert.workbench.runs.state import (
    RunState,
    random_states_of,
    remove_damaged,
    remove_states,
    restore_state,
    save_state,
)

# Devlin et al. 2019, section 4.1, for BERT-base. With Adam the rate that suits a matrix is inversely proportional to
# its width (Yang et al. 2022, "Tensor Programs V", table 3).
RATE_OF_BASE, WIDTH_OF_BASE = 5e-5, 768


class Prepared(Protocol):
    """The inputs of a run, read and checked. `record` is run.json without the outcome."""

    @property
    def record(self) -> dict[str, Any]: ...


S = TypeVar("S", bound=TrainingSettings)
P = TypeVar("P", bound=Prepared)
R = TypeVar("R")

Prepare = Callable[[S, bool], P]  # the settings, and whether to show progress


@dataclass(frozen=True)
class Session:
    """The stretch of a run that one process works on.

    Attributes:
        settings: of the run.
        folder: of the run; nobody else writes to it meanwhile.
        checkpoint: where to resume from; None to start from the beginning.
        progress: whether to show bars and messages.
        ranks: the processes that work on it together.
    """

    settings: TrainingSettings
    folder: Path
    checkpoint: Path | None
    progress: bool
    ranks: Ranks

    def say(self, line: str) -> None:
        """A message for people, on standard error."""
        if self.progress:
            tqdm.write(line, file=sys.stderr)

    def train(
        self,
        model: Any,
        batches_of_epoch: together.BatchesOfEpoch,
        measure: Callable[[], dict[str, float]],
        *,
        watched: Watched,
        precision: Precision,
        patience: int | None = None,
        rate_of: Callable[[str], float] = lambda name: 1.0,
        restore_best: bool = True,
        on_step: Callable[[StepRecord, int], None] | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
    ) -> History:
        """Trains a model; at the end it has the weights of the best epoch.

        The state is saved after the last step of each epoch, before its evaluation, so that a run
        that ends during an evaluation loses no step; and every `save_every` steps.

        Args:
            batches_of_epoch: see `minibert.training.train`.
            measure: the validation metrics, taken after each epoch.
            watched: the metric that chooses the epoch.
            patience: stop after this many epochs without a gain; None to train all epochs.
            rate_of: name of a parameter -> its learning rate as a fraction of the run's.
            restore_best: False leaves the weights of the last epoch.
            on_step: called with each step and the number of steps of the whole run.
            on_epoch: called with each epoch.

        Raises:
            TrainingError: see `minibert.training.train`.
        """
        settings = self.settings
        if isinstance(model, Model):
            accelerate(model)
        total = count_steps(batches_of_epoch, settings.epochs, settings.accumulate)
        shared, batches_of_epoch = together.share(model, batches_of_epoch, settings.accumulate, self.ranks)
        state = RunState(model, self._training(model, shared, total, precision, rate_of), _names_on_disk(model))
        # Dropout draws from this generator; data order, masks and new weights have their own.
        torch.manual_seed(self.ranks.seed(settings.seed))
        if self.checkpoint is not None:
            self._restore(self.checkpoint, state)
        training, history = state.training, state.history
        started = time.perf_counter() - history.seconds
        last = time.perf_counter()
        with HeldSignals() as held, self._bar(total, done=len(history.steps)) as bar:
            for event in train(training, batches_of_epoch, settings.epochs, settings.accumulate):
                now = time.perf_counter()
                history.seconds = now - started
                if isinstance(event, Step):
                    step = _step_record(event, seconds=now - last)
                    history.steps.append(step)
                    if on_step is not None:
                        on_step(step, total)
                    _show(bar, step, training, history)
                    self._save_and_stop(state, held)
                else:
                    seconds = history.seconds - history.epoch_started
                    with held.at_once():  # all is saved: a signal need not wait for the evaluation
                        metrics = measure()
                    epoch = _end_epoch(state, event, seconds, metrics, watched)
                    self.say(_epoch_line(epoch))
                    if on_epoch is not None:
                        on_epoch(epoch)
                    history.seconds = history.epoch_started = time.perf_counter() - started
                    if patience is not None and history.epochs_without_gain >= patience:
                        history.stopped_early = event.epoch < settings.epochs
                        break
                last = time.perf_counter()
        if state.best_weights is not None and restore_best:
            model.load_state_dict(state.best_weights)
        return history

    def finish(self, record: Mapping[str, Any]) -> None:
        """Writes the record of a finished run, after all other results, and drops its state."""
        write_json(self.folder / RECORD, finite({"status": "finished", **record}))
        remove_states(self.folder / STATE)

    def _training(
        self, model: Any, shared: Trainable, total: int, precision: Precision, rate_of: Callable[[str], float]
    ) -> Training:
        settings = self.settings
        groups = parameter_groups(model.named_parameters(), weight_decay=settings.weight_decay, rate_of=rate_of)
        for group in groups:
            numbers = sum(parameter.numel() for _, parameter in group["params"])
            decay, tensors = f"weight decay {group['weight_decay']:g}", f"{len(group['params'])} tensors"
            self.say(f"{group['name']}: {decay}, {tensors}, {numbers:,} numbers")
        optimizer = build_optimizer(groups, learning_rate=self._learning_rate(model))
        schedule = Schedule(
            optimizer, settings.schedule, warmup=round(settings.warmup * total), total=total, epochs=settings.epochs
        )
        return Training(
            shared,
            optimizer,
            schedule,
            precision.dtype,
            settings.clip_norm,
            skip_nonfinite=settings.on_nonfinite == "skip",
            place=together.lay_out,
        )

    def _learning_rate(self, model: Any) -> float:
        """The given peak, or one that suits the model's width."""
        given, config = self.settings.learning_rate, getattr(model, "config", None)
        if given is not None or config is None:  # a probe has no width of its own
            return given or RATE_OF_BASE
        rate = RATE_OF_BASE * WIDTH_OF_BASE / config.hidden_size
        self.say(
            f"peak learning rate {rate:.3g}: {RATE_OF_BASE:g} * {WIDTH_OF_BASE} / {config.hidden_size}, since "
            "narrower models take higher ones (--learning-rate changes it)"
        )
        return rate

    def _restore(self, checkpoint: Path, state: RunState) -> None:
        restore_state(checkpoint, state, rank=self.ranks.rank)
        if self.ranks.is_first:  # a kill may have come between the checkpoint and its log
            write_log(self.folder, state.history.steps)
            remove_damaged(self.folder / STATE, checkpoint)
        self.say(f"resumes from {checkpoint}")

    def _save_and_stop(self, state: RunState, held: HeldSignals) -> None:
        """Saves if a checkpoint is due or a signal waits, in which case it raises Stopped."""
        stopping = self.ranks.any(bool(held.number))
        if stopping:  # a signal to one process counts as received by all
            held.receive(max(self.ranks.gather_json(held.number)))
        position, every = state.training.position, self.settings.save_every
        ends_epoch, is_due = position.left == 0, every is not None and position.step % every == 0
        if stopping or ends_epoch or is_due:
            random = random_states_of(self.ranks)
            if self.ranks.is_first:
                save_state(self.folder / STATE, state, keep=self.settings.keep, random=random)
                write_log(self.folder, state.history.steps)
        if stopping:
            raise Stopped

    def _bar(self, total: int, done: int) -> tqdm:
        return tqdm(total=total, initial=done, unit="step", disable=None if self.progress else True, dynamic_ncols=True)


def begin(settings: S, prepare: Prepare[S, P], work: Callable[[P, Session], R], *, progress: bool) -> R:
    """Starts a run. All inputs are read and checked before anything is written.

    Ctrl-C and SIGTERM wait for the current step and its checkpoint; a second signal does not wait.
    Under torchrun all processes train together, and the first one writes and prints.

    Args:
        prepare: reads and checks the inputs.
        work: trains, evaluates, and writes the results.

    Raises:
        MinibertError: a setting, a file or a model that cannot be used, an output folder that is
            not empty, or a loss that is not finite.
    """
    with joined(settings.device) as ranks:
        progress = progress and ranks.is_first
        check(settings)
        require_free(settings.output)
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        settings = with_absolute_paths(settings)
        prepared = prepare(settings, progress)
        ranks.wait()  # every process has checked its inputs: only now is anything written
        folder = _make_folder(settings, ranks)
        prepared.record["folder"] = os.path.abspath(folder)
        with hint_at_resuming(folder, settings.command), _alone_in(folder, ranks):
            if ranks.is_first:
                require_empty(folder)  # once more, now that nobody else can fill it
                write_json(folder / RECORD, {"status": "unfinished", **prepared.record})
            return work(prepared, Session(settings, folder, None, progress, ranks))


def resume(
    folder: str | Path,
    given: Mapping[str, Any],
    kind: type[S],
    prepare: Prepare[S, P],
    work: Callable[[P, Session], R],
    *,
    progress: bool,
    objects: Sequence[str] = (),
) -> R:
    """Resumes a run that was stopped or killed, as if it had never been interrupted.

    It resumes from the newest undamaged checkpoint, with a warning for each damaged one; without
    any it starts from the beginning, with the same settings.

    Args:
        folder: the run folder, or one checkpoint in it, RUN/state/step-N, to resume from that one.
        given: settings that the caller expects the run to have, and where its inputs are now.
        kind: of its settings.
        prepare, work: as for `begin`.
        objects: what was given as objects.

    Raises:
        MinibertError: the run is finished, another process is working on it, something differs from
            when the run was started (a setting given here, the data, the model), the checkpoint
            asked for is damaged; or as for `begin`.
    """
    run = read_unfinished(folder, given, kind, objects)
    with joined(run.settings.device) as ranks:
        progress = progress and ranks.is_first
        with hint_at_resuming(run.folder, kind.command), _alone_in(run.folder, ranks):
            # Once more, now that nobody else can finish it.
            run = read_unfinished(folder, given, kind, objects)
            torch.set_num_threads(run.record["threads"])
            prepared = prepare(run.settings, progress)
            run.require_same(prepared.record)
            prepared.record["folder"] = os.path.abspath(run.folder)
            checkpoint = run.checkpoint()
            ranks.wait()  # every process has found the same checkpoint: only now is any written
            if ranks.is_first:  # where its inputs are now
                now = {key: prepared.record[key] for key in ("folder", "settings", "data")}
                write_json(run.folder / RECORD, {**run.record, **now})
            return work(prepared, Session(run.settings, run.folder, checkpoint, progress, ranks))


def _make_folder(settings: TrainingSettings, ranks: Ranks) -> Path:
    """The run folder, made by the first process, which tells the others where it is."""
    made = str(make_folder(settings.output)) if ranks.is_first else ""
    return Path(ranks.gather_json(made)[0])


def _alone_in(folder: Path, ranks: Ranks) -> contextlib.AbstractContextManager[object]:
    """No other run works in the folder meanwhile: the first process holds its lock for all."""
    return locked(folder) if ranks.is_first else contextlib.nullcontext()


def _names_on_disk(model: Any) -> dict[str, str]:
    """The name of each tensor in a checkpoint: its official name, if it has one."""
    if isinstance(model, Model):
        return model.official_names()
    return {name: name for name in model.state_dict()}


def _end_epoch(
    state: RunState, event: Epoch, seconds: float, metrics: dict[str, float], watched: Watched
) -> EpochRecord:
    """Adds the epoch to the history, and keeps the weights if it is the best so far."""
    best = state.history.is_best(event.epoch, metrics, watched)
    if best:
        tensors = state.model.state_dict().items()
        state.best_weights = {name: tensor.to("cpu", copy=True) for name, tensor in tensors}
    epoch = EpochRecord(event.epoch, event.terms.mean(), seconds, event.tokens, metrics, best)
    state.history.epochs.append(epoch)
    return epoch


def _step_record(step: Step, seconds: float) -> StepRecord:
    return StepRecord(
        step=step.step,
        epoch=step.epoch,
        loss=step.terms.mean(),
        learning_rate=step.learning_rate,
        gradient_norm=step.gradient_norm,
        tokens=step.tokens,
        tokens_per_second=step.tokens / seconds,
        skipped=step.skipped,
        terms=step.terms.means(),
    )


def _show(bar: tqdm, step: StepRecord, training: Training, history: History) -> None:
    position, seconds = training.position, history.seconds - history.epoch_started
    bar.set_postfix(
        epoch=step.epoch,
        loss=f"{position.terms.mean():.4f}",
        lr=f"{step.learning_rate:.1e}",
        tokens_s=f"{position.tokens / seconds:.0f}",
        refresh=False,  # the bar redraws itself, at most ten times a second
    )
    bar.update()


def _epoch_line(epoch: EpochRecord) -> str:
    scores = "  ".join(f"{name} {value:.4f}" for name, value in epoch.metrics.items())
    star = "  (best so far)" if epoch.best else ""
    rate = epoch.tokens / max(epoch.seconds, 1e-9)
    return (
        f"epoch {epoch.epoch}: training loss {epoch.loss:.4f}, {epoch.seconds:.0f} s, "
        f"{rate:.0f} tokens/s; validation: {scores}{star}"
    )
