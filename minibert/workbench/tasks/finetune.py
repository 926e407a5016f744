"""Fine-tuning: a pre-trained model and labelled text in, a run folder out.

Devlin et al. 2018, section 4, gives the recipe: a fresh head on top, everything trained for a few
epochs at a small learning rate. What the head is, how examples become rows of ids and what is
measured are told by the kind of task (kinds/); the loop and the run are the same for all.

A run folder holds run.json (every setting and version), log.csv (every step), metrics.json,
confusion.csv, errors.csv (every example, the highest loss first), pictures if matplotlib is
there, and model/, which `minibert predict` and transformers open. While a run goes on, its
checkpoints are in state/ (see training/state.py) and the process is named in run.lock; both are
removed when it is finished. `resume` goes on with a run that was not.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from minibert.base import Model
from minibert.data import Rows, plan_batches
from minibert.fast.precision import Precision, choose_precision
from minibert.io.errors import ConfigError
from minibert.io.files import finite, write_json
from minibert.tokenizer import BertTokenizer
from minibert.training import Batch, Trainable
from minibert.workbench.data import checks
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.kinds import kind_of
from minibert.workbench.kinds.evaluation import Report
from minibert.workbench.kinds.kind import Kind
from minibert.workbench.reports.pictures import pictures
from minibert.workbench.runs import session as sessions
from minibert.workbench.runs.history import History, Watched
from minibert.workbench.runs.ranks import launched
from minibert.workbench.runs.record import count_parameters, facts, outcome
from minibert.workbench.runs.session import Session
from minibert.workbench.runs.settings import Settings
from minibert.workbench.scores.baselines import baselines, describe
from minibert.workbench.scores.metrics import HIGHER_IS_BETTER
from minibert.workbench.tasks import faults
from minibert.workbench.tasks.common import (
    commit_of,
    pick_device,
    planned,
    shorten_to,
    sums_of_files,
)
from minibert.workbench.tasks.data import check_before_training, lengths_for_the_record
from minibert.workbench.tasks.evaluate import Classifier, evaluate
from minibert.workbench.tasks.layerwise import freeze_lower_layers, rate_by_layer
from minibert.workbench.tasks.probe_runs import Probing
from minibert.workbench.tasks.probes import ProbedModel, require_classes
from minibert.workbench.tasks.splits import read_splits
from minibert.workbench.tasks.unequal_classes import class_loss, rows_of_epoch


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where everything of it was written.
        model: the best epoch's weights (the last one's, with the fault "last-epoch"), in eval mode.
        epoch: which that is.
        history: steps and epochs.
        reports: split -> Report, "validation" and, if there was one, "test".
        seconds: from the first step to the last evaluation.
        baselines: of the last split, where its labels are classes of texts; see baselines.py.
    """

    folder: Path
    model: Classifier
    epoch: int
    tokenizer: BertTokenizer
    history: History
    reports: dict[str, Report]
    seconds: float
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)

    def summary(self) -> str:
        """The result as text for people, with what to do next."""
        final = list(self.reports.values())[-1]
        best = self.history.best_epoch
        return "\n".join(
            [
                *(report.summary() + "\n" for report in self.reports.values()),
                *(
                    [describe(self.baselines, final.split, final.values()["accuracy"]) + "\n"]
                    if self.baselines
                    else []
                ),
                f"The hardest examples of {final.split} (all in {self.folder / 'errors.csv'}):",
                final.worst(),
                "",
                f"epoch {best} was the best; {self.seconds:.0f} s; the run is in {self.folder}",
                *([] if self.epoch == best else [f"epoch {self.epoch} is the one that was tested"]),
                f"use it:  minibert predict {self.folder} {kind_of(self.model).asks}",
                f"look:    minibert report {self.folder}",
            ]
        )


@dataclass(frozen=True)
class _Split:
    """One part of the data, read and tokenised."""

    corpus: Corpus
    rows: Rows


@dataclass(frozen=True)
class _Prepared:
    """All that a run needs, read and checked."""

    settings: Settings
    kind: Kind
    revision: str | None  # the commit of the model
    model: Classifier | ProbedModel
    tokenizer: BertTokenizer
    splits: dict[str, _Split]
    precision: Precision
    watched: Watched
    record: dict[str, Any]


def finetune(settings: Settings, *, progress: bool = True) -> Run:
    """Trains, evaluates, and writes the run folder.

    All inputs are read and checked before anything is written. Ctrl-C and SIGTERM wait for the
    step that runs and for its checkpoint; a second one does not wait. Under torchrun all processes
    train together (see `training/ranks.py`), and the first one writes and speaks.

    Raises:
        MinibertError: a setting, a data file or a model that cannot be used (see the classes in
            errors.py), or a loss that is no longer finite.
    """
    return sessions.begin(settings, _prepare, _run, progress=progress)


def resume(folder: str | Path, *, progress: bool = True, **given: Any) -> Run:
    """Resumes a run that was stopped or killed, as if it had never been interrupted.

    Args:
        folder: the run folder; or one checkpoint in it, RUN/state/step-N, to resume from that one.
        given: settings that the caller expects the run to have.

    Raises:
        MinibertError: as for `sessions.resume`.
    """
    return sessions.resume(folder, given, Settings, _prepare, _run, progress=progress)


def _prepare(settings: Settings, progress: bool) -> _Prepared:
    if settings.probe is not None and launched().size > 1:
        raise ConfigError(
            "A probe is trained by one process: its features are made once.",
            key="probe",
            hint="Leave torchrun out.",
        )
    precision = choose_precision(settings.precision, pick_device(settings.device))
    revision = commit_of(settings.model, settings.revision)
    tokenizer = BertTokenizer.from_pretrained(settings.model, revision=revision)
    shorten_to(tokenizer, settings.max_length)
    kind, corpora = read_splits(settings)
    faults.warn(settings.faults)
    model = _build_model(settings, kind, corpora["train"], revision).to(precision.device)
    splits = {
        name: _Split(
            corpus, kind.rows(corpus, tokenizer, overlap=settings.overlap, progress=progress)
        )
        for name, corpus in corpora.items()
    }
    watched = _watched(settings, kind, corpora["train"])
    measured = [
        checks.in_pieces(name, part.corpus, part.rows, tokenizer) for name, part in splits.items()
    ]
    findings = check_before_training(
        measured,
        settings.allow_data_faults,
        on_purpose=("one_class",) if "sorted-validation" in settings.faults else (),
    )
    record = _record(settings, kind, revision, model, tokenizer, precision, splits, watched)
    record["data_findings"] = [asdict(finding) for finding in findings]
    for part in measured:
        record["data"][part.name]["lengths"] = lengths_for_the_record(part)
    return _Prepared(settings, kind, revision, model, tokenizer, splits, precision, watched, record)


def _run(prepared: _Prepared, session: Session) -> Run:
    """Trains from the beginning or from a checkpoint, then measures and writes the results."""
    folder, progress = session.folder, session.progress
    settings, model, tokenizer = prepared.settings, prepared.model, prepared.tokenizer
    splits, precision = prepared.splits, prepared.precision
    session.say(f"{folder}: {prepared.record['summary']}")

    last = list(splits)[-1]
    floor = _baselines(prepared.kind, splits["train"], splits[last], tokenizer)
    if floor:
        session.say(describe(floor, last))
    probing = None
    if isinstance(model, ProbedModel):
        corpora = {name: part.corpus for name, part in splits.items()}
        probing = Probing.of(settings, model, corpora, prepared.revision, precision, progress)

    def measure(name: str, intervals: bool = True) -> Report:
        if probing is not None:
            return shown(name, probing.measure(name, splits[name].rows.lengths, intervals))
        report = evaluate(
            model,
            tokenizer,
            splits[name].corpus,
            splits[name].rows,
            split=name,
            precision=precision,
            batch_size=settings.batch_size,
            progress=progress,
            intervals=intervals,
            ranks=session.ranks,
        )
        return shown(name, report)

    def shown(name: str, report: Report) -> Report:
        if "batch-means" not in settings.faults:
            return report
        lengths = splits[name].rows.lengths
        batches = plan_batches(lengths, batch_size=settings.batch_size, shuffle=False)
        return faults.batch_means(report, splits[name].corpus, batches)

    def on_validation() -> dict[str, float]:
        return measure("validation", intervals=False).values()

    if settings.probe == "logistic" and probing is not None:
        history = probing.fit(on_validation, folder)
    else:
        trained_model: Trainable = model if probing is None else probing.probe
        history = session.train(
            trained_model,
            partial(_batches_of_epoch, splits["train"], tokenizer, settings)
            if probing is None
            else probing.batches_of_epoch,
            on_validation,
            watched=prepared.watched,
            precision=precision if probing is None else probing.precision,
            patience=settings.patience,
            rate_of=rate_by_layer(_depth(trained_model), settings.layer_decay),
            restore_best="last-epoch" not in settings.faults,
        )
    trained = time.perf_counter()
    reports = {name: measure(name) for name in splits if name != "train"}
    seconds = history.seconds + time.perf_counter() - trained
    last_epoch = "last-epoch" in settings.faults
    best = history.best_epoch  # None: of no epoch is the score a number
    epoch = history.epochs[-1].epoch if last_epoch or best is None else best
    run = Run(folder, model.eval(), epoch, tokenizer, history, reports, seconds, floor)
    if session.ranks.is_first:
        _write(run, prepared.record, session)
        pictures(run.folder)
    return run


def _build_model(
    settings: Settings, kind: Kind, corpus: Corpus, revision: str | None
) -> Classifier:
    """The pre-trained body with a fresh head, or probe, for this corpus's labels."""
    loss = class_loss(settings, kind, corpus)
    if "double-softmax" in settings.faults:
        loss = faults.DoubleSoftmax(loss.weights)
    if settings.probe is not None:
        require_classes(kind)
        probed = ProbedModel.fresh(
            settings.model,
            revision=revision,
            labels=corpus.label_names,
            layer=settings.layer,
            pooling=settings.pooling,
            seed=settings.seed,
        )
        probed.probe.class_loss = loss
        return probed
    model: Any = kind.fresh(settings.model, corpus, revision=revision, seed=settings.seed)
    if kind.one_class:
        model.class_loss = loss
    freeze_lower_layers(model, settings.freeze_layers)
    if settings.freeze:
        _freeze_body(model)
    model.use_gradient_checkpointing(settings.gradient_checkpointing)
    return model


def _freeze_body(model: Model) -> None:
    """Freezes what was pre-trained; a pooler that was drawn with the head is trained with it."""
    pooler = model.body.pooler
    fresh = any(name.startswith("bert.pooler.") for name in model.untrained())
    parts = [model.body.embeddings, model.body.encoder]
    model.freeze(*parts, *([] if pooler is None or fresh else [pooler]))


def _watched(settings: Settings, kind: Kind, corpus: Corpus) -> Watched:
    """The validation metric that chooses the epoch."""
    known = kind.metrics
    if settings.watch not in (None, *known):
        raise ConfigError(
            f"watch is {settings.watch!r}, but what is measured here is {', '.join(known)}.",
            key="watch",
        )
    name = settings.watch or kind.watched(corpus)
    return Watched(name, HIGHER_IS_BETTER[name])


def _batches_of_epoch(
    part: _Split, tokenizer: BertTokenizer, settings: Settings, epoch: int
) -> list[Batch]:
    return planned(
        part.rows,
        tokenizer,
        rows_of_epoch(part.corpus, settings, epoch),
        batch_size=settings.batch_size,
        seed=settings.seed,
        epoch=epoch,
    )


def _baselines(
    kind: Kind, train: _Split, final: _Split, tokenizer: BertTokenizer
) -> dict[str, dict[str, float]]:
    if not kind.one_class:
        return {}
    return baselines((train.corpus, train.rows), (final.corpus, final.rows), tokenizer)


def _depth(model: Trainable) -> int:
    return model.config.num_hidden_layers if isinstance(model, Model) else 0


def _write(run: Run, record: dict[str, Any], session: Session) -> None:
    """Writes the results: the model first, last the record that says the run is finished."""
    final = list(run.reports.values())[-1]
    metrics = {name: report.metrics for name, report in run.reports.items()}
    if run.baselines:
        metrics["baselines"] = {"split": final.split, **run.baselines}
    run.tokenizer.save_pretrained(run.folder / "model")
    run.model.save_pretrained(run.folder / "model")
    write_json(run.folder / "metrics.json", finite(metrics))
    final.write_tables(run.folder)
    session.finish(
        {
            **record,
            **outcome(run.history, run.seconds, run.epoch),
            "errors_and_confusion_are_of": final.split,
        }
    )


def _record(
    settings: Settings,
    kind: Kind,
    revision: str | None,
    model: Classifier,
    tokenizer: BertTokenizer,
    precision: Precision,
    splits: dict[str, _Split],
    watched: Watched,
) -> dict[str, Any]:
    """What a reader needs to know, or to repeat the run."""
    counts = ", ".join(f"{name} {len(part.corpus)}" for name, part in splits.items())
    return {
        "summary": f"{settings.model} ({count_parameters(model):,} parameters), {counts} examples, "
        f"{precision.name} on {precision.device} ({precision.reason})",
        **facts(settings, model, tokenizer, precision, sums_of_files(settings.model, revision)),
        "problem_type": kind.problem_type,
        "labels": splits["train"].corpus.label_names,
        "chosen_by": f"{watched.name} on validation",
        "data": {
            name: {
                **part.corpus.fingerprint(),
                "tokens": sum(part.rows.lengths),
                "cut_texts": part.rows.cut,
                "cut_labels": part.rows.cut_labels,
            }
            for name, part in splits.items()
        },
    }
