"""Fine-tuning: a pre-trained model and labelled text in, a run folder out.

Devlin et al. 2019, section 4, gives the recipe: a fresh head on top, everything trained for a few
epochs at a small learning rate. The kind of task (kinds/) decides the head, how examples become
rows of ids, and the metrics; the loop and the run are the same for all.

A run folder holds run.json (every setting and version), log.csv (every step), metrics.json,
confusion.csv, errors.csv (every example, the highest loss first), pictures if matplotlib is
installed, and model/, which `minibert predict` and transformers open. Until the run is finished,
state/ holds its checkpoints (see runs/state.py) and run.lock shows that a process works on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from minibert.base import Model
from minibert.data import Example, plan_batches
from minibert.fast.precision import Precision, choose_precision
from minibert.heads import ModelWithHead
from minibert.io.errors import ConfigError
from minibert.io.files import finite, write_json
from minibert.io.rows import Rows
from minibert.io.source import Source, open_source
from minibert.losses import ClassLoss
from minibert.tokenizer import BertTokenizer
from minibert.training import Batch
from minibert.workbench.data import checks
from minibert.workbench.data.corpora import Corpus, require_parts
from minibert.workbench.kinds import kind_of
from minibert.workbench.kinds.evaluation import Report
from minibert.workbench.kinds.kind import Kind
from minibert.workbench.reports.pictures import pictures
from minibert.workbench.runs import session as sessions
from minibert.workbench.runs.history import EpochRecord, History, StepRecord, Watched
from minibert.workbench.runs.ranks import launched
from minibert.workbench.runs.record import count_parameters, facts, outcome
from minibert.workbench.runs.session import Session
from minibert.workbench.runs.settings import Settings
from minibert.workbench.scores.baselines import bags_of, describe, verdicts
from minibert.workbench.scores.metrics import HIGHER_IS_BETTER
from minibert.workbench.tasks import faults, objects
from minibert.workbench.tasks.common import pick_device, planned, shorten_to, sums_of_files
from minibert.workbench.tasks.data import check_before_training, lengths_for_the_record
from minibert.workbench.tasks.evaluate import Classifier, evaluate
from minibert.workbench.tasks.layerwise import freeze_lower_layers, rate_by_layer
from minibert.workbench.tasks.objects import Objects
from minibert.workbench.tasks.probe_runs import Probing
from minibert.workbench.tasks.probes import ProbedModel, require_classes
from minibert.workbench.tasks.splits import read_splits
from minibert.workbench.tasks.unequal_classes import class_loss, rows_of_epoch

OnStep = Callable[[StepRecord, Any], None]
OnEpoch = Callable[[EpochRecord, Any], None]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where everything was written.
        model: in eval mode, with the weights of `epoch`.
        epoch: the best one; with the fault "last-epoch", the last one.
        reports: split -> Report, "validation" and, if there was one, "test".
        seconds: from the first step to the last evaluation.
        baselines: name -> its scores on the last split.
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
        parts = [report.summary() + "\n" for report in self.reports.values()]
        if compared := kind_of(self.model).compared(self.baselines, final.values()):
            floor = describe(self.baselines, compared, final.split)
            losses = [epoch.metrics["loss"] for epoch in self.history.epochs]
            failures = verdicts(self.baselines, compared, final.values()[compared], losses)
            parts += [*filter(None, [floor]), *failures, ""]
        parts += [
            f"The hardest examples of {final.split} (all in {self.folder / 'errors.csv'}):",
            final.worst(),
            "",
            f"epoch {best} was the best; {self.seconds:.0f} s; the run is in {self.folder}",
        ]
        if self.epoch != best:
            parts.append(f"epoch {self.epoch} is the one that was tested")
        return "\n".join(
            [
                *parts,
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
    """Everything that a run needs, read and checked."""

    settings: Settings
    kind: Kind
    source: Any  # the `Source` of the model; None if it was given as an object
    model: Classifier
    tokenizer: BertTokenizer
    splits: dict[str, _Split]
    precision: Precision
    watched: Watched
    record: dict[str, Any]


def finetune(
    settings: Settings | None = None,
    *,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
    **given: Any,
) -> Run:
    """Trains, evaluates, and writes the run folder.

    All inputs are read and checked before anything is written. Ctrl-C and SIGTERM wait for the
    current step and its checkpoint; a second signal does not wait. Under torchrun all processes
    train together (see runs/together.py), and the first one writes and prints.

    Args:
        settings: everything that decides the run.
        on_step, on_epoch: called with each record and the model, in which a `Trace` can be read.
            Put the model in eval mode first: in training mode dropout draws numbers, and the
            steps to come would have others. The next step puts it back.
        given: settings by name, instead of `settings` or in addition. These may be objects:
            `model`, of any subclass of a model with a head, which is trained in place, with its
            `tokenizer`; and `train`, `validation` and `test`, lists of examples whose labels are
            indices into the model's `id2label`.

    Raises:
        MinibertError: a setting, a data file or a model that cannot be used (see io/errors.py), or
            a loss that is not finite.
    """
    found, values = objects.split_off(given)
    settings = objects.settings_of(settings, found, values)
    prepare, run = partial(_prepare, found), partial(_run, on_step, on_epoch)
    return sessions.begin(settings, prepare, run, progress=progress)


def resume(
    folder: str | Path,
    *,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
    **given: Any,
) -> Run:
    """Resumes a run that was stopped or killed, as if it had never been interrupted.

    Args:
        folder: the run folder, or one checkpoint in it, RUN/state/step-N, to resume from that one.
        on_step, on_epoch: as for `finetune`.
        given: settings that the caller expects the run to have; and, if it was started with
            objects, the same ones, made again in the same way.

    Raises:
        MinibertError: as for `runs.session.resume`.
    """
    found, values = objects.split_off(given)
    prepare, run = partial(_prepare, found), partial(_run, on_step, on_epoch)
    return sessions.resume(folder, values, Settings, prepare, run, progress=progress, objects=found.names)


def _prepare(given: Objects, settings: Settings, progress: bool) -> _Prepared:
    if settings.probe is not None and launched().size > 1:
        raise ConfigError(
            "A probe is trained by one process, since its features are extracted once.",
            key="probe",
            hint="Leave torchrun out.",
        )
    precision = choose_precision(settings.precision, pick_device(settings.device))
    # With a model and a tokenizer as objects there is nothing to open.
    named = given.model is None or given.tokenizer is None
    source: Any = open_source(settings.model, settings.revision) if named else None
    tokenizer = given.tokenizer or BertTokenizer.from_pretrained(source)
    shorten_to(tokenizer, settings.max_length)
    kind, corpora = read_splits(settings, given.corpora(), given.model)
    require_parts(list(corpora.values())[-1], settings.part)
    faults.warn(settings.faults)
    model = _build_model(settings, kind, corpora["train"], given.model or source)
    model.to(precision.device)
    splits = {
        name: _Split(corpus, kind.rows(corpus, tokenizer, overlap=settings.overlap, progress=progress))
        for name, corpus in corpora.items()
    }
    watched = _watched(settings, kind, corpora["train"])
    measured = [checks.in_pieces(name, part.corpus, part.rows, tokenizer) for name, part in splits.items()]
    findings = check_before_training(
        measured,
        settings.allow_data_faults,
        on_purpose=("one_class",) if "sorted-validation" in settings.faults else (),
    )
    if given.model is None:
        files: Any = sums_of_files(source)
    else:
        files = {"weights": [objects.sum_of_weights(given.model)]}
    counts = ", ".join(f"{name} {len(part.corpus)}" for name, part in splits.items())
    record = {
        "summary": f"{settings.model} ({count_parameters(model):,} parameters), {counts} examples, "
        f"{precision.name} on {precision.device} ({precision.reason})",
        **facts(settings, model, tokenizer, precision, files),
        "objects": given.names,
        "problem_type": kind.problem_type,
        "problem_type_reason": corpora["train"].reason,
        "labels": corpora["train"].label_names,
        "pairs": len(corpora["train"][0].texts) == 2 if kind.form is Example else None,
        "chosen_by": f"{watched.name} on validation",
        "data": {name: _data_record(part) for name, part in splits.items()},
        "data_findings": [asdict(finding) for finding in findings],
    }
    for part in measured:
        record["data"][part.name]["lengths"] = lengths_for_the_record(part)
    return _Prepared(settings, kind, source, model, tokenizer, splits, precision, watched, record)


def _data_record(part: _Split) -> dict[str, Any]:
    record = part.corpus.fingerprint()
    if not part.corpus.files:
        record["files"] = {"examples": objects.sum_of_examples(part.corpus)}
    return {**record, "tokens": sum(part.rows.lengths), "cut_texts": part.rows.cut, "cut_labels": part.rows.cut_labels}


def _run(on_step: OnStep | None, on_epoch: OnEpoch | None, prepared: _Prepared, session: Session) -> Run:
    """Trains from the beginning or from a checkpoint, then evaluates and writes the results."""
    settings, model, tokenizer = prepared.settings, prepared.model, prepared.tokenizer
    splits, precision = prepared.splits, prepared.precision
    session.say(f"{session.folder}: {prepared.record['summary']}")
    session.say(f"labels: {splits['train'].corpus.read_as}")
    last = list(splits)[-1]
    floor = _baselines(prepared.kind, splits["train"], splits[last], tokenizer)
    if compared := prepared.kind.compared(floor):
        session.say(describe(floor, compared, last))
    probing = None
    if isinstance(model, ProbedModel):
        corpora = {name: part.corpus for name, part in splits.items()}
        source = prepared.source
        probing = Probing.of(settings, source, model, corpora, precision, session.progress)

    def measure(name: str, intervals: bool = True) -> Report:
        part = splits[name]
        if probing is not None:
            report = probing.measure(name, part.rows.lengths, intervals)
        else:
            report = evaluate(
                model,
                tokenizer,
                part.corpus,
                part.rows,
                split=name,
                precision=precision,
                batch_size=settings.batch_size,
                progress=session.progress,
                intervals=intervals,
                ranks=session.ranks,
            )
        if "batch-means" not in settings.faults:
            return report
        plan = plan_batches(part.rows.lengths, batch_size=settings.batch_size, shuffle=False)
        return faults.batch_means(report, part.corpus, plan)

    def on_validation() -> dict[str, float]:
        return measure("validation", intervals=False).values()

    if probing is not None and settings.probe == "logistic":
        history = probing.fit(on_validation, session.folder)
    else:
        trained: Any = model if probing is None else probing.probe
        depth = trained.config.num_hidden_layers if isinstance(trained, Model) else 0
        history = session.train(
            trained,
            partial(_batches_of_epoch, splits["train"], tokenizer, settings)
            if probing is None
            else probing.batches_of_epoch,
            on_validation,
            watched=prepared.watched,
            precision=precision if probing is None else probing.precision,
            patience=settings.patience,
            rate_of=rate_by_layer(depth, settings.layer_decay),
            restore_best="last-epoch" not in settings.faults,
            on_step=on_step and (lambda step, total: on_step(step, trained)),
            on_epoch=on_epoch and (lambda epoch: on_epoch(epoch, trained)),
        )
    started = time.perf_counter()
    reports = {name: measure(name) for name in splits if name != "train"}
    seconds = history.seconds + time.perf_counter() - started
    epoch = history.best_epoch
    if epoch is None or "last-epoch" in settings.faults:
        epoch = history.epochs[-1].epoch
    run = Run(session.folder, model.eval(), epoch, tokenizer, history, reports, seconds, floor)
    if session.ranks.is_first:
        _write(run, prepared.record, session)
        pictures(run.folder)
    return run


def _build_model(settings: Settings, kind: Kind, corpus: Corpus, source: Source | ModelWithHead) -> Classifier:
    """The given model, or the pre-trained body with a fresh head or probe for these labels."""
    loss = class_loss(settings, kind, corpus)
    if "double-softmax" in settings.faults:
        loss = faults.DoubleSoftmax(loss.weights)
    if settings.probe is not None:
        if not isinstance(source, Source):
            raise ConfigError(
                "A probe is trained on the features of a model that is named, not of an object.", key="probe"
            )
        require_classes(kind)
        probed = ProbedModel.fresh(
            source, labels=corpus.label_names, layer=settings.layer, pooling=settings.pooling, seed=settings.seed
        )
        probed.probe.class_loss = loss
        return probed
    model: Any = source
    if isinstance(source, Source):
        model = kind.fresh(source, corpus, seed=settings.seed)
    given = not isinstance(source, Source)  # a model of the user's keeps its own loss, unless told otherwise
    if kind.one_class and not (given and type(loss) is ClassLoss and loss.weights is None):
        model.class_loss = loss
    freeze_lower_layers(model, settings.freeze_layers)
    if settings.freeze:
        _freeze_body(model)
    if settings.gradient_checkpointing:
        model.use_gradient_checkpointing()
    return model


def _freeze_body(model: Model) -> None:
    """Freezes what was pre-trained; a freshly initialised pooler is trained with the head."""
    pooler = model.body.pooler
    fresh = any(name.startswith("bert.pooler.") for name in model.untrained())
    parts = [model.body.embeddings, model.body.encoder]
    model.freeze(*parts, *([] if pooler is None or fresh else [pooler]))


def _watched(settings: Settings, kind: Kind, corpus: Corpus) -> Watched:
    """The validation metric that chooses the epoch."""
    name = settings.watch or kind.watched(corpus)
    if name not in kind.metrics:
        raise ConfigError(f"watch is {name!r}, but the metrics here are {', '.join(kind.metrics)}.", key="watch")
    return Watched(name, HIGHER_IS_BETTER[name])


def _batches_of_epoch(part: _Split, tokenizer: BertTokenizer, settings: Settings, epoch: int) -> list[Batch]:
    return planned(
        part.rows,
        tokenizer,
        rows_of_epoch(part.corpus, settings, epoch),
        batch_size=settings.batch_size,
        seed=settings.seed,
        epoch=epoch,
    )


def _baselines(kind: Kind, train: _Split, final: _Split, tokenizer: BertTokenizer) -> dict[str, dict[str, float]]:
    def bags() -> tuple[list[Any], list[Any], int]:
        return bags_of(train.rows, tokenizer), bags_of(final.rows, tokenizer), tokenizer.vocab_size

    return kind.baselines(train.corpus, final.corpus, bags)


def _write(run: Run, record: dict[str, Any], session: Session) -> None:
    """Writes the results: first the model, last the record that says the run is finished."""
    final = list(run.reports.values())[-1]
    metrics = {name: report.metrics for name, report in run.reports.items()}
    if run.baselines:
        metrics["baselines"] = {"split": final.split, **run.baselines}
    run.tokenizer.save_pretrained(run.folder / "model")
    run.model.save_pretrained(run.folder / "model")
    write_json(run.folder / "metrics.json", finite(metrics))
    final.write_tables(run.folder)
    session.finish(
        {**record, **outcome(run.history, run.seconds, run.epoch), "errors_and_confusion_are_of": final.split}
    )
