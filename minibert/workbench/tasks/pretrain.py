"""Pre-training: plain text in, a run folder with a BERT trained on it out.

Devlin et al. 2019, section 3.1 and appendix A.2: tokens are masked and predicted (masked LM), and
the model is asked whether the second of two segments follows the first (next sentence). The model
is freshly initialised, with a vocabulary made of the corpus; or it comes from a checkpoint, to be
adapted to a domain (Gururangan et al. 2020, section 3).

A run folder holds run.json (every setting and version), log.csv (every step, with both losses),
metrics.json (scores on held-out documents, beside those of guesses that ignore the context),
curves.png (if matplotlib is installed) and model/, which every other command and transformers open.
It is stopped and resumed like a run of fine-tuning.
"""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minibert.fast.precision import Precision, choose_precision
from minibert.io.files import finite, write_json
from minibert.io.tables import table
from minibert.tokenizer import BertTokenizer
from minibert.training import Batch
from minibert.workbench.data.masking import Masking
from minibert.workbench.reports.pictures import picture_of_pretraining
from minibert.workbench.runs import session as sessions
from minibert.workbench.runs.history import History, StepRecord, Watched
from minibert.workbench.runs.pretrain_settings import VOCABULARY_SIZE, PretrainSettings
from minibert.workbench.runs.record import count_parameters, facts, outcome
from minibert.workbench.runs.session import Session
from minibert.workbench.scores.baselines import pretraining_verdicts
from minibert.workbench.tasks.common import pick_device, sums_of_files
from minibert.workbench.tasks.pretrain_data import Part, read_parts, rows_to_measure_on, tokenise_parts, warn_of_leakage
from minibert.workbench.tasks.pretrain_model import PreTrained, build_model, given_vocabulary, positions
from minibert.workbench.tasks.pretrain_scores import baselines, masked_batches, measure
from minibert.workbench.tasks.vocabulary import train_tokenizer

SAY_EVERY = 100  # steps


@dataclass(frozen=True)
class Pretraining:
    """A finished run of pre-training.

    Attributes:
        folder: where everything was written.
        model: the best epoch's weights, in eval mode.
        scores: on the held-out documents, from `measure`.
        baselines: guess -> its scores on the same labels.
        seconds: from the first step to the last evaluation.
    """

    folder: Path
    model: PreTrained
    tokenizer: BertTokenizer
    history: History
    scores: dict[str, float]
    baselines: dict[str, dict[str, float]]
    seconds: float

    def summary(self) -> str:
        """The result as text for people, with what to do next."""
        columns = (self.scores, *self.baselines.values())
        rows = [
            (name, *(f"{scores[name]:.4f}" if name in scores else "" for scores in columns)) for name in self.scores
        ]
        best = self.history.best_epoch
        return "\n".join(
            [
                "On the held-out documents, beside guesses that ignore the context:",
                table(rows, ("", "model", *self.baselines)),
                *pretraining_verdicts(
                    self.baselines, self.scores, [epoch.metrics["loss"] for epoch in self.history.epochs]
                ),
                "",
                f"epoch {best} was the best; {self.seconds:.0f} s; the run is in {self.folder}",
                f'use it:    minibert fill-mask {self.folder} "The [MASK] is"',
                f"fine-tune: minibert train --model {self.folder} --train FILE",
            ]
        )


@dataclass(frozen=True)
class _Prepared:
    """Everything that a run needs, read and checked."""

    model: PreTrained
    tokenizer: BertTokenizer
    masking: Masking
    train: Part
    batches_of_epoch: Callable[[int], list[Batch]]
    validation: list[Batch]
    precision: Precision
    record: dict[str, Any]


def pretrain(settings: PretrainSettings, *, progress: bool = True) -> Pretraining:
    """Trains, measures on held-out documents, and writes the run folder.

    Everything is read and checked before anything is written; for signals and several processes see
    `runs.session.begin`.

    Raises:
        MinibertError: a setting, a text or a model that cannot be used, or a loss that is not
            finite.
    """
    return sessions.begin(settings, _prepare, _run, progress=progress)


def resume_pretraining(folder: str | Path, *, progress: bool = True, **given: Any) -> Pretraining:
    """Resumes a run that was stopped or killed, as if it had never been interrupted.

    Args:
        folder: the run folder, or one checkpoint in it, RUN/state/step-N, to resume from that one.
        given: settings that the caller expects the run to have.

    Raises:
        MinibertError: as for `runs.session.resume`.
    """
    return sessions.resume(folder, given, PretrainSettings, _prepare, _run, progress=progress)


def _prepare(settings: PretrainSettings, progress: bool) -> _Prepared:
    precision = choose_precision(settings.precision, pick_device(settings.device))
    tokenizer, source = given_vocabulary(settings)
    documents = read_parts(settings, progress)
    if tokenizer is None:
        tokenizer = train_tokenizer(
            (document.text for document in documents["train"]),
            size=settings.vocabulary_size or VOCABULARY_SIZE,
            lowercase=not settings.cased,
            max_length=positions(settings),
            progress=progress,
        )
    model = build_model(settings, tokenizer, source).to(precision.device)
    parts = tokenise_parts(documents, settings, tokenizer, progress)
    del documents  # from here on only the ids are needed
    masking = Masking(
        tokenizer.vocabulary,
        tokenizer.special_tokens,
        size=len(tokenizer),
        share=settings.mask_share,
        whole_words=settings.whole_words,
    )
    tokens = settings.batch_size * settings.max_length

    @functools.lru_cache(maxsize=1)  # the pairs of an epoch are large
    def batches_of_epoch(epoch: int) -> list[Batch]:
        rows = parts["train"].rows(settings, tokenizer, epoch)
        seed = (settings.seed, "masks", epoch)
        batches = masked_batches(rows, tokenizer, masking, seed=seed, token_budget=tokens, epoch=epoch)
        return batches[: max(1, round(settings.epoch_share * len(batches)))]  # in random order

    held_out = rows_to_measure_on(parts["validation"], settings, tokenizer)
    seed = (settings.seed, "masks", "validation")
    validation = masked_batches(held_out, tokenizer, masking, seed=seed, token_budget=tokens, shuffle=False)
    data = {name: part.record for name, part in parts.items()}
    warn_of_leakage(settings, data)
    first = batches_of_epoch(0)
    files = None if source is None else sums_of_files(source)
    record = {
        "command": settings.command,
        "summary": f"{settings.model or 'a freshly initialised model'} "
        f"({count_parameters(model):,} parameters), {sum(batch.tokens for batch in first):,} "
        f"tokens in {len(first):,} batches per epoch, {sum(held_out.lengths):,} held out, "
        f"{precision.name} on {precision.device} ({precision.reason})",
        **facts(settings, model, tokenizer, precision, files),
        "chosen_by": "loss on validation",
        "data": data | {"vocabulary": _sum_of_vocabulary(tokenizer)},
    }
    return _Prepared(model, tokenizer, masking, parts["train"], batches_of_epoch, validation, precision, record)


def _sum_of_vocabulary(tokenizer: BertTokenizer) -> str:
    pieces = sorted(tokenizer.vocabulary, key=tokenizer.vocabulary.__getitem__)
    return hashlib.sha256("\n".join(pieces).encode()).hexdigest()


def _run(prepared: _Prepared, session: Session) -> Pretraining:
    """Trains from the beginning or from a checkpoint, then measures and writes the results."""
    model, precision, batches = prepared.model, prepared.precision, prepared.validation
    session.say(f"{session.folder}: {prepared.record['summary']}")
    floor = baselines(prepared.train.pieces.ids, batches, prepared.masking)
    guess = floor["unigram"]
    session.say(
        f"to beat: masked-LM loss {guess['masked_lm_loss']:.4f} (the frequency of each piece), "
        f"accuracy {guess['masked_lm_accuracy']:.4f} (always the most frequent piece)"
    )

    def on_held_out() -> dict[str, float]:
        title = "held-out documents" if session.progress else None
        return measure(model, batches, precision, progress=title, ranks=session.ranks)

    history = session.train(
        model,
        prepared.batches_of_epoch,
        on_held_out,
        watched=Watched("loss", higher_is_better=False),
        precision=precision,
        on_step=_Pace(session.say),
    )
    started = time.perf_counter()
    scores = on_held_out()
    seconds = history.seconds + time.perf_counter() - started
    run = Pretraining(session.folder, model.eval(), prepared.tokenizer, history, scores, floor, seconds)
    if session.ranks.is_first:
        _write(run, prepared.record, session)
        picture_of_pretraining(run.folder)
    return run


class _Pace:
    """Prints now and then how fast a run is and how long it will take, for logs without a bar."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._steps = self._tokens = 0  # since the last message
        self._since = time.perf_counter()

    def __call__(self, record: StepRecord, total: int) -> None:
        self._steps += 1
        self._tokens += record.tokens
        if record.step % SAY_EVERY:
            return
        seconds = time.perf_counter() - self._since
        left = seconds / self._steps * (total - record.step)
        losses = ", ".join(f"{name} {value:.3f}" for name, value in record.terms.items())
        self._say(
            f"step {record.step:,} of {total:,}: {losses}; {self._tokens / seconds:,.0f} tokens/s, "
            f"{math.ceil(left / 60):,} min left"
        )
        self._steps = self._tokens = 0
        self._since = time.perf_counter()


def _write(run: Pretraining, record: Mapping[str, Any], session: Session) -> None:
    """Writes the results: first the model, last the record that says the run is finished."""
    run.tokenizer.save_pretrained(run.folder / "model")
    run.model.save_pretrained(run.folder / "model")
    metrics = {"validation": run.scores, "baselines": run.baselines}
    write_json(run.folder / "metrics.json", finite(metrics))
    session.finish({**record, **outcome(run.history, run.seconds, run.history.best_epoch)})
