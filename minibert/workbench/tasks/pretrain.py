"""Pre-training: plain text in, a run folder with a BERT that has learned from it out.

Devlin et al. 2019, section 3.1 and appendix A.2: tokens are hidden and predicted (masked LM), and
of two texts it is told whether the second follows the first (next sentence). The model is drawn
anew, with a vocabulary made of the corpus, or goes on from a checkpoint, to adapt it to a domain
(Gururangan et al. 2020, section 3).

A run folder holds run.json (every setting and version), log.csv (every step, with both losses),
metrics.json (scores on held-out documents, beside those of guesses that look at no context),
curves.png (if matplotlib is installed) and model/, which every other command and transformers open.
It is stopped and gone on with as in fine-tuning.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minibert.data import mixed_seed
from minibert.fast.precision import Precision, choose_precision
from minibert.io.errors import ConfigError, DataError, MinibertError
from minibert.io.files import finite, inside, read_object, write_json
from minibert.io.tables import table
from minibert.tokenizer import BertTokenizer
from minibert.training import Batch
from minibert.workbench.data import passages
from minibert.workbench.data.checks import UNKNOWN, UNKNOWN_IS_A_FAULT
from minibert.workbench.data.documents import Document, fingerprint, read_documents
from minibert.workbench.data.masking import Masking
from minibert.workbench.data.passages import Passages, Pieces
from minibert.workbench.reports.pictures import picture_of_pretraining
from minibert.workbench.runs import session as sessions
from minibert.workbench.runs.folders import RECORD, begun
from minibert.workbench.runs.history import History, StepRecord, Watched
from minibert.workbench.runs.pretrain_settings import VOCABULARY_SIZE, PretrainSettings
from minibert.workbench.runs.record import count_parameters, facts, outcome
from minibert.workbench.runs.session import Session
from minibert.workbench.tasks.common import pick_device, sums_of_files
from minibert.workbench.tasks.pretrain_model import (
    PreTrained,
    build_model,
    given_vocabulary,
    positions,
)
from minibert.workbench.tasks.pretrain_scores import baselines, masked_batches, measure
from minibert.workbench.tasks.vocabulary import train_tokenizer

SAY_EVERY = 100  # steps


@dataclass(frozen=True)
class Pretraining:
    """A finished run of pre-training.

    Attributes:
        folder: where everything of it was written.
        model: the best epoch's weights, in eval mode.
        history: steps and epochs.
        scores: on the held-out documents, as `measure` gives them.
        baselines: guess -> the scores that it has on the same labels.
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
        guesses = list(self.baselines)
        rows = [
            (
                name,
                *(
                    f"{scores[name]:.4f}" if name in scores else ""
                    for scores in (self.scores, *self.baselines.values())
                ),
            )
            for name in self.scores
        ]
        best = self.history.best_epoch
        return "\n".join(
            [
                "On the held-out documents, beside guesses that look at no context:",
                table(rows, ("", "model", *guesses)),
                "",
                f"epoch {best} was the best; {self.seconds:.0f} s; the run is in {self.folder}",
                f'use it:    minibert fill-mask {self.folder} "The [MASK] is"',
                f"fine-tune: minibert train --model {self.folder} --train FILE",
            ]
        )


@dataclass(frozen=True)
class _Part:
    """Documents of one part of the data, read and tokenised."""

    documents: dict[str, Any]  # their fingerprint
    pieces: Pieces

    def rows(self, settings: PretrainSettings, tokenizer: BertTokenizer, *seed: object) -> Passages:
        """The rows of an epoch, which is part of the seed: pairs are drawn anew for each."""
        if settings.next_sentence:
            places = passages.pairs(self.pieces, settings.max_length - 3, seed=mixed_seed(*seed))
        else:
            places = passages.runs(self.pieces, settings.max_length - 2)
        return Passages(self.pieces, places, tokenizer, next_sentence=settings.next_sentence)


@dataclass(frozen=True)
class _Prepared:
    """All that a run needs, read and checked."""

    model: PreTrained
    tokenizer: BertTokenizer
    masking: Masking
    train: _Part
    batches_of_epoch: Callable[[int], list[Batch]]
    validation: list[Batch]
    precision: Precision
    record: dict[str, Any]


def pretrain(settings: PretrainSettings, *, progress: bool = True) -> Pretraining:
    """Trains, measures on held-out documents, and writes the run folder.

    Everything is read and checked before anything is written; for signals and several processes see
    `sessions.begin`.

    Raises:
        MinibertError: a setting, a text or a model that cannot be used, or a loss that is no longer
            finite.
    """
    return sessions.begin(settings, _prepare, _run, progress=progress)


def resume_pretraining(folder: str | Path, *, progress: bool = True, **given: Any) -> Pretraining:
    """Resumes a run that was stopped or killed, as if it had never been interrupted.

    Args:
        folder: the run folder; or one checkpoint in it, RUN/state/step-N, to resume from that one.
        given: settings that the caller expects the run to have.

    Raises:
        MinibertError: as for `sessions.resume`.
    """
    return sessions.resume(folder, given, PretrainSettings, _prepare, _run, progress=progress)


# --- preparing ------------------------------------------------------------------------------------


def _prepare(settings: PretrainSettings, progress: bool) -> _Prepared:
    precision = choose_precision(settings.precision, pick_device(settings.device))
    tokenizer, revision = given_vocabulary(settings)
    documents = _read(settings, progress)
    if tokenizer is None:
        tokenizer = train_tokenizer(
            (document.text for document in documents["train"]),
            size=settings.vocabulary_size or VOCABULARY_SIZE,
            lowercase=not settings.cased,
            max_length=positions(settings),
            progress=progress,
        )
    model = build_model(settings, tokenizer, revision).to(precision.device)
    room = settings.max_length - 3
    most = room // 2 if settings.next_sentence else room + 1
    parts = {
        name: _Part(
            fingerprint(part),
            passages.tokenise(part, tokenizer, most=most, progress=progress),
        )
        for name, part in documents.items()
    }
    del documents  # the ids are all that is needed from here on
    for name, part in parts.items():
        _require_known_pieces(name, part.pieces, tokenizer)
    masking = Masking(
        tokenizer.vocabulary,
        tokenizer.special_tokens,
        size=len(tokenizer),
        share=settings.mask_share,
        whole_words=settings.whole_words,
    )
    tokens = settings.batch_size * settings.max_length
    seed = settings.seed

    @functools.lru_cache(maxsize=1)  # an epoch's pairs are large, and all are asked for in turn
    def batches_of_epoch(epoch: int) -> list[Batch]:
        batches = masked_batches(
            parts["train"].rows(settings, tokenizer, seed, "pairs", epoch),
            tokenizer,
            masking,
            seed=(seed, "masks", epoch),
            token_budget=tokens,
            epoch=epoch,
        )
        return batches[: max(1, round(settings.epoch_share * len(batches)))]  # in random order

    held_out = _rows_to_measure_on(parts["validation"], settings, tokenizer)
    validation = masked_batches(
        held_out,
        tokenizer,
        masking,
        seed=(seed, "masks", "validation"),
        token_budget=tokens,
        shuffle=False,
    )
    first = batches_of_epoch(0)
    files = None if settings.model is None else sums_of_files(settings.model, revision)
    summary = (
        f"{settings.model or 'a model drawn anew'} ({count_parameters(model):,} parameters), "
        f"{sum(batch.tokens for batch in first):,} tokens in {len(first):,} batches an epoch, "
        f"{sum(held_out.lengths):,} held out, {precision.name} on {precision.device} "
        f"({precision.reason})"
    )
    data = {name: _data_record(part) for name, part in parts.items()}
    _warn_of_other_documents_held_out(settings, data)
    record = {
        "command": settings.command,
        "summary": summary,
        **facts(settings, model, tokenizer, precision, files),
        "chosen_by": "loss on validation",
        "data": data | {"vocabulary": _fingerprint_of_vocabulary(tokenizer)},
    }
    return _Prepared(
        model,
        tokenizer,
        masking,
        parts["train"],
        batches_of_epoch,
        validation,
        precision,
        record,
    )


def _read(settings: PretrainSettings, progress: bool) -> dict[str, list[Document]]:
    read = partial(read_documents, column=settings.column, progress=progress)
    known: set[str] = set()  # texts without their spacing, so that none is trained on and measured
    held = [] if settings.validation is None else _distinct(read(settings.validation), known)
    corpus = _distinct(read(settings.corpus), known)
    if settings.validation is not None:
        if not corpus:
            raise ConfigError(
                "All of the corpus is in the validation text too: none is left to train on.",
                key="validation",
            )
        return {"train": corpus, "validation": held}
    train, held_out = passages.hold_out(
        corpus,
        settings.validation_fraction,
        seed=mixed_seed(settings.seed, "held out"),
        least=2 if settings.next_sentence else 1,  # a pair of strangers needs two
    )
    return {"train": train, "validation": held_out}


def _distinct(documents: Sequence[Document], known: set[str]) -> list[Document]:
    """The documents whose texts are not known yet, which they then are; a warning of the others."""
    found = []
    for document in documents:
        text = " ".join(document.text.split())
        if text not in known:
            known.add(text)
            found.append(document)
    if len(found) < len(documents):
        warnings.warn(
            f"{len(documents) - len(found):,} of {len(documents):,} documents repeat others, and "
            "are left out.",
            stacklevel=3,
        )
    return found


def _require_known_pieces(name: str, pieces: Pieces, tokenizer: BertTokenizer) -> None:
    """[UNK] is never hidden: a text of nothing else teaches nothing and measures nothing."""
    unknown = float(np.mean(pieces.ids == tokenizer.unk_id))
    if unknown <= UNKNOWN:
        return
    said = f"{unknown:.1%} of the pieces of the {name} text are [UNK], not in the vocabulary"
    hint = "The vocabulary has to be of the language of all text (--vocabulary, --validation)."
    if unknown > UNKNOWN_IS_A_FAULT:
        raise DataError(
            f"{said}.",
            key="vocabulary",
            hint=hint,
        )
    warnings.warn(f"{said}. {hint}", stacklevel=3)


def _rows_to_measure_on(
    part: _Part, settings: PretrainSettings, tokenizer: BertTokenizer
) -> Passages:
    try:
        return part.rows(settings, tokenizer, settings.seed, "pairs", "validation")
    except DataError as problem:
        raise DataError(
            f"The documents to measure on are too few. {problem}",
            key="validation",
            hint="Hold out more (--validation-fraction, --validation).",
        ) from problem


def _fingerprint_of_vocabulary(tokenizer: BertTokenizer) -> str:
    pieces = sorted(tokenizer.vocabulary, key=tokenizer.vocabulary.__getitem__)
    return hashlib.sha256("\n".join(pieces).encode()).hexdigest()


def _data_record(part: _Part) -> dict[str, Any]:
    return {
        **part.documents,
        "sentences": len(part.pieces.sentences) - 1,
        "pieces": len(part.pieces.ids),
        "split_sentences": part.pieces.split,
        "empty_documents": part.pieces.empty,
    }


def _warn_of_other_documents_held_out(settings: PretrainSettings, data: Mapping[str, Any]) -> None:
    """A run of the same corpus to go on from may have trained on what is measured on now.

    Two corpora with a file in common, or with as many characters, are taken to be the same. What
    cannot be read is no reason to stop: other programs write a run.json, too.
    """
    if settings.model is None:
        return
    folder = Path(settings.model)
    if folder.name == "model" and not begun(folder):
        folder = folder.parent  # RUN/model
    if not begun(folder):
        return
    try:
        record = read_object(inside(folder, RECORD))
        before = record["data"]
        files, size = _sources(record["settings"]["corpus"]), _characters(before)
        same = bool(files & _sources(settings.corpus)) or size == _characters(data)
        other = same and before["validation"]["sha256"] != data["validation"]["sha256"]
    except (MinibertError, KeyError, TypeError):
        return
    if other:
        warnings.warn(
            f"{settings.model} held out other documents of the same corpus, and may have been "
            "trained on some of those that are held out now: the scores would be too good. Hold "
            "out what that run did (--seed, --validation-fraction, --validation).",
            stacklevel=2,
        )


def _sources(corpus: Sequence[str | Path]) -> set[str]:
    return {os.path.realpath(source) for source in corpus}


def _characters(data: Mapping[str, Any]) -> int:
    return int(data["train"]["characters"] + data["validation"]["characters"])


# --- the run --------------------------------------------------------------------------------------


def _run(prepared: _Prepared, session: Session) -> Pretraining:
    """Trains from the beginning or from a checkpoint, then measures and writes the results."""
    model, precision, batches = prepared.model, prepared.precision, prepared.validation
    session.say(f"{session.folder}: {prepared.record['summary']}")
    floor = baselines(prepared.train.pieces.ids, batches, prepared.masking)
    guess = floor["unigram"]
    session.say(
        f"to beat: masked-LM loss {guess['masked_lm_loss']:.4f} (how often each piece occurs), "
        f"accuracy {guess['masked_lm_accuracy']:.4f} (always the commonest)"
    )

    def held_out() -> dict[str, float]:
        title = "held-out documents" if session.progress else None
        return measure(model, batches, precision, progress=title, ranks=session.ranks)

    history = session.train(
        model,
        prepared.batches_of_epoch,
        held_out,
        watched=Watched("loss", higher_is_better=False),
        precision=precision,
        on_step=_Pace(session.say),
    )
    trained = time.perf_counter()
    scores = held_out()
    seconds = history.seconds + time.perf_counter() - trained
    run = Pretraining(
        session.folder, model.eval(), prepared.tokenizer, history, scores, floor, seconds
    )
    if session.ranks.is_first:
        _write(run, prepared.record, session)
        picture_of_pretraining(run.folder)
    return run


class _Pace:
    """Says now and then how fast a run is and how long it will take, where a bar is not seen."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._steps = self._tokens = 0  # since this last spoke
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
    """Writes the results: the model first, last the record that says the run is finished."""
    run.tokenizer.save_pretrained(run.folder / "model")
    run.model.save_pretrained(run.folder / "model")
    metrics = {"validation": run.scores, "baselines": run.baselines}
    write_json(run.folder / "metrics.json", finite(metrics))
    session.finish({**record, **outcome(run.history, run.seconds, run.history.best_epoch)})
