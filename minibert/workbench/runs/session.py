"""What fine-tuning and pre-training have in common: a run begun, or gone on with, in its folder.

A run has one sitting, or several if it was stopped in between. `begin` and `go_on` open one: they
check, lock the folder and hand a `Sitting` to the work itself, whose `train` is the training with
checkpoints and signals. On a CPU every loss and weight is, bit for bit, that of a run in one.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from tqdm import tqdm

from minibert.base import Model
from minibert.fast.accelerate import accelerate
from minibert.fast.precision import Precision
from minibert.io.files import finite, write_json
from minibert.optim import Schedule, build_optimizer, describe_groups, parameter_groups
from minibert.tokenizer import BertTokenizer
from minibert.training import (
    Batch,
    EpochRecord,
    History,
    StepRecord,
    Trainable,
    Training,
    count_steps,
    seed_everything,
    train,
)
from minibert.workbench.runs.folders import (
    RECORD,
    make_folder,
    require_empty,
    require_free,
    versions,
    write_log,
)
from minibert.workbench.runs.lock import locked
from minibert.workbench.runs.ranks import Ranks, joined, launched
from minibert.workbench.runs.resume import STATE, read_unfinished, way_to_go_on
from minibert.workbench.runs.settings import TrainingSettings, as_record, check
from minibert.workbench.runs.signals import HeldSignals
from minibert.workbench.runs.state import (
    random_states_of,
    remove_damaged,
    remove_states,
    restore_state,
    save_state,
)
from minibert.workbench.tasks.common import prepare_on, sums_of_files


class Prepared(Protocol):
    """All that a run needs, read and checked.

    Attributes:
        record: run.json, but for the outcome.
    """

    @property
    def record(self) -> dict[str, Any]: ...


S = TypeVar("S", bound=TrainingSettings)
P = TypeVar("P", bound=Prepared)
R = TypeVar("R")

Prepare = Callable[[S, bool], P]  # the settings, and whether to show progress


@dataclass(frozen=True)
class Sitting:
    """The stretch of a run that one process works on.

    Attributes:
        settings: of the run.
        folder: of the run; nobody else writes there meanwhile.
        checkpoint: where to go on from; None: from the beginning.
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
        model: Trainable,
        batches_of_epoch: Callable[[int], Sequence[Batch]],
        measure: Callable[[], dict[str, float]],
        *,
        watch: str,
        precision: Precision,
        patience: int | None = None,
        rate_of: Callable[[str], float] = lambda name: 1.0,
        restore_best: bool = True,
        on_step: Callable[[StepRecord, int], None] | None = None,
    ) -> History:
        """The training itself; at the end the model has the best epoch's weights.

        Args:
            measure: the validation scores, of which `watch` chooses the epoch.
            rate_of: the name of a parameter -> its share of the learning rate.
            on_step: is handed each step and the number of steps of the whole run.
            others: as for `training.loop.train`.
        """
        settings, ranks, folder = self.settings, self.ranks, self.folder
        if isinstance(model, Model):
            accelerate(model)
        groups = parameter_groups(
            model.named_parameters(), weight_decay=settings.weight_decay, rate_of=rate_of
        )
        optimizer = build_optimizer(groups, learning_rate=settings.learning_rate)
        updates = count_steps(batches_of_epoch, settings.epochs, settings.accumulate)
        warmup = round(settings.warmup * updates)
        schedule = Schedule(
            optimizer, settings.schedule, warmup=warmup, total=updates, epochs=settings.epochs
        )
        self.say(describe_groups(groups))
        names = _names_on_disk(model)
        held = HeldSignals()

        def stopping() -> bool:
            if not ranks.any(held.received()):
                return False
            held.receive(max(ranks.gather_json(held.number)))  # what came to one came to all
            return True

        def restore(training: Training) -> None:
            if self.checkpoint is not None:
                restore_state(self.checkpoint, training, names, rank=ranks.rank)
                if ranks.is_first:  # a kill may have come between the checkpoint and its log
                    write_log(folder, training.history.steps)
                    remove_damaged(folder / STATE, self.checkpoint)
                self.say(f"goes on from {self.checkpoint}")

        def save(training: Training) -> None:
            random = random_states_of(ranks)
            if ranks.is_first:
                save_state(folder / STATE, training, names, keep=settings.keep, random=random)
                write_log(folder, training.history.steps)

        def measure_at_once() -> dict[str, float]:
            with held.at_once():  # all is saved: who interrupts need not wait for the evaluation
                return measure()

        # Dropout draws from this one; data order, masks and new weights have generators of their
        # own.
        seed_everything(ranks.seed(settings.seed))
        with held:
            return train(
                model,
                batches_of_epoch,
                optimizer=optimizer,
                schedule=schedule,
                precision=precision,
                epochs=settings.epochs,
                accumulate=settings.accumulate,
                clip_norm=settings.clip_norm,
                prepare=prepare_on(precision.device),
                evaluate=measure_at_once,
                watch=watch,
                patience=patience,
                restore_best=restore_best,
                on_step=None if on_step is None else lambda record: on_step(record, updates),
                on_epoch=lambda record: self.say(_epoch_line(record)),
                skip_nonfinite=settings.on_nonfinite == "skip",
                restore=restore,
                save=save,
                save_every=settings.save_every,
                stop=stopping,
                progress=self.progress,
                ranks=ranks,
            )

    def finish(self, record: Mapping[str, Any]) -> None:
        """Writes the record that says the run is finished, after all other results."""
        write_json(self.folder / RECORD, finite({"status": "finished", **record}))

    def remove_states(self) -> None:
        """Removes the checkpoints, once the results are whole."""
        remove_states(self.folder / STATE)


def begin(
    settings: S,
    prepare: Prepare[S, P],
    work: Callable[[P, Sitting], R],
    *,
    progress: bool,
) -> R:
    """Begins a run. All inputs are read and checked before anything is written.

    Ctrl-C and SIGTERM wait for the step that runs and for its checkpoint; a second one does not
    wait. Under torchrun all processes train together (see `training/ranks.py`), and the first one
    writes and speaks.

    Args:
        prepare: reads and checks the inputs.
        work: trains, measures, and writes the results.

    Raises:
        MinibertError: a setting, a file or a model that cannot be used, a folder that is taken, or
            a loss that is no longer finite.
    """
    with joined(settings.device) as ranks:
        progress = progress and ranks.is_first
        check(settings)
        require_free(settings.output)
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        prepared = prepare(settings, progress)
        ranks.wait()  # every process has read and checked its inputs: only now is anything written
        folder = _make_folder(settings, ranks)
        prepared.record["folder"] = str(folder)
        with way_to_go_on(folder, settings.command), _alone_in(folder, ranks):
            if ranks.is_first:
                require_empty(folder)  # once more, now that nobody else can fill it
                write_json(folder / RECORD, {"status": "unfinished", **prepared.record})
            return work(prepared, Sitting(settings, folder, None, progress, ranks))


def go_on(
    folder: str | Path,
    given: Mapping[str, Any],
    kind: type[S],
    prepare: Prepare[S, P],
    work: Callable[[P, Sitting], R],
    *,
    progress: bool,
) -> R:
    """Goes on with a run that was stopped or killed, as if it had never been.

    It goes on from the newest checkpoint that is whole, with a warning for each that is not; where
    there is none it begins anew, with the same settings.

    Args:
        folder: the run folder; or one checkpoint in it, RUN/state/step-N, to go on from that one.
        given: settings that the caller takes the run to have.
        kind: of its settings.
        prepare, work: as for `begin`.

    Raises:
        MinibertError: the run is finished, another process is at work on it, something is no longer
            as it was when the run began (a setting given here, the data, the model), the
            checkpoint asked for is damaged; or as for `begin`.
    """
    run = read_unfinished(folder, given, kind)
    with joined(run.settings.device) as ranks:
        progress = progress and ranks.is_first
        with way_to_go_on(run.folder, kind.command), _alone_in(run.folder, ranks):
            # Once more, now that nobody else can finish it.
            run = read_unfinished(folder, given, kind)
            torch.set_num_threads(run.record["threads"])
            prepared = prepare(run.settings, progress)
            run.require_same(prepared.record)
            prepared.record["folder"] = str(run.folder)
            checkpoint = run.checkpoint()
            ranks.wait()  # every process has found the same one: only now is any written
            return work(prepared, Sitting(run.settings, run.folder, checkpoint, progress, ranks))


def facts(
    settings: TrainingSettings, model: Any, tokenizer: BertTokenizer, precision: Precision
) -> dict[str, Any]:
    """What run.json says of every run: what a reader needs to know, or to repeat it."""
    source = getattr(settings, "model", None)  # None: drawn anew
    commit = model.load_report.revision if model.load_report else None
    return {
        "settings": as_record(settings),
        "model": {
            "class": type(model).__name__,
            "commit": commit,
            "parameters": count_parameters(model),
            "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "vocabulary": len(tokenizer),
            "files": None if source is None else sums_of_files(source, commit),
            "config": model.config.to_official(),
        },
        "precision": {"name": precision.name, "reason": precision.reason},
        "device": str(precision.device),
        "threads": torch.get_num_threads(),
        "processes": launched().size,
        "versions": versions(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


def outcome(history: History, seconds: float, measured_epoch: int | None) -> dict[str, Any]:
    """What run.json says of every run that is finished.

    Args:
        measured_epoch: whose weights were measured and saved.
    """
    return {
        "seconds": round(seconds, 1),
        "steps": history.state.step,
        "skipped_steps": history.state.skipped,
        "best_epoch": history.state.best_epoch,
        "measured_epoch": measured_epoch,
        "stopped_early": history.stopped_early,
        "epochs": [asdict(epoch) for epoch in history.epochs],
    }


def count_parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _make_folder(settings: TrainingSettings, ranks: Ranks) -> Path:
    """The run folder, made by the first process, which tells the others where it is."""
    made = str(make_folder(settings.output)) if ranks.is_first else ""
    return Path(ranks.gather_json(made)[0])


def _alone_in(folder: Path, ranks: Ranks) -> contextlib.AbstractContextManager[object]:
    """No other run works in the folder meanwhile: the first process holds its lock for all."""
    return locked(folder) if ranks.is_first else contextlib.nullcontext()


def _names_on_disk(model: Trainable) -> dict[str, str]:
    """What each tensor is called in a checkpoint: its official name, if it has one."""
    if isinstance(model, Model):
        return model.official_names()
    return {name: name for name in model.state_dict()}


def _epoch_line(record: EpochRecord) -> str:
    scores = "  ".join(f"{name} {value:.4f}" for name, value in record.metrics.items())
    star = "  (best so far)" if record.best else ""
    rate = record.tokens / max(record.seconds, 1e-9)
    return (
        f"epoch {record.epoch}: training loss {record.loss:.4f}, {record.seconds:.0f} s, "
        f"{rate:.0f} tokens/s; validation: {scores}{star}"
    )
