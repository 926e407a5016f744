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
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minibert.errors import ConfigError, DataError, MinibertError
from minibert.files import inside, read_object, write_json
from minibert.model import BertConfig, BertForMaskedLM, BertForPreTraining
from minibert.tables import table
from minibert.tasks.common import commit_of, pick_device, planned, prepare_on
from minibert.tasks.kinds.report import finite
from minibert.tasks.pictures import picture_of_pretraining
from minibert.tasks.runs import RECORD, begun
from minibert.tasks.settings import Rules, TrainingSettings
from minibert.tasks.sittings import Sitting, begin, count_parameters, facts, go_on, outcome
from minibert.text import passages
from minibert.text.batches import IGNORED_LABEL, mixed_seed
from minibert.text.documents import Document, fingerprint, read_documents
from minibert.text.passages import FOLLOWS, STRANGER, Passages, Pieces
from minibert.text.tokenizer import BertTokenizer
from minibert.training import loop
from minibert.training.loop import Batch, History, StepRecord
from minibert.training.masking import Masking
from minibert.training.precision import Precision, choose_precision

OBJECTIVES = ("mlm", "mlm+nsp")

# The sizes of a model that is drawn anew, where nothing else is said; F is 4 * D.
LAYERS, HIDDEN_SIZE, HEADS = 4, 256, 4
VOCABULARY_SIZE = 8000
# The settings of a vocabulary that is made of the text, and of a model that is drawn anew.
MADE = ("vocabulary_size", "cased")
_SIZES = ("layers", "hidden_size", "heads", "intermediate_size")
DRAWN = ("vocabulary", *_SIZES, "dropout", *MADE)

# A rate at which weights that are trained already forget more than they learn.
HIGH_RATE = 2e-4

SAY_EVERY = 100  # steps

PreTrained = BertForPreTraining | BertForMaskedLM


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(TrainingSettings):
    """Everything that decides a run of pre-training; the command line has an option for each.

    Attributes:
        corpus: text files, folders of them, or "installed-docs"; see `text.documents`.
        validation: the same, to measure on; None: `validation_fraction` of the documents, held out.
        column: the key of the text in .jsonl files.
        model: a model folder, run folder or Hub id to go on from; None: a model drawn anew.
        vocabulary: a model to take the vocabulary from; None: one is made of the training text.
        vocabulary_size, cased: of a vocabulary that is made; None: 8000, and in lower case.
        objective: "mlm", or "mlm+nsp" with next-sentence prediction.
        layers, hidden_size, heads, intermediate_size: L, D, N, F of a model that is drawn anew.
        max_positions: the longest row that it will ever take. A model to go on from gets more
            positions, see `with_positions`. None: `max_length`, and those that a model has.
        dropout: everywhere in a model that is drawn anew; None: 0.1.
        max_length: tokens of a row.
        mask_share: of the tokens, how many are hidden.
        whole_words: words are hidden with all of their pieces.
        batch_size: a batch has as many tokens as so many full rows; of short rows it has more.
        epoch_share: of the batches of each epoch, trained on; they are others in each.
    """

    command: ClassVar[str] = "pretrain"

    corpus: Sequence[str | Path]
    validation: Sequence[str | Path] | None = None
    column: str = "text"
    model: str | Path | None = None
    vocabulary: str | Path | None = None
    vocabulary_size: int | None = None
    cased: bool | None = None
    objective: str = "mlm+nsp"
    layers: int | None = None
    hidden_size: int | None = None
    heads: int | None = None
    intermediate_size: int | None = None
    max_positions: int | None = None
    dropout: float | None = None
    max_length: int = 128
    mask_share: float = 0.15
    whole_words: bool = False
    validation_fraction: float = 0.02
    epoch_share: float = 1.0
    learning_rate: float = 5e-4

    @property
    def next_sentence(self) -> bool:
        return self.objective == "mlm+nsp"

    def rules(self) -> Rules:
        values = {key: getattr(self, key) for key in _SIZES}
        return {
            **super().rules(),
            "corpus": (len(self.corpus) > 0, "one file, folder or name, or more"),
            "objective": (self.objective in OBJECTIVES, f"one of {', '.join(OBJECTIVES)}"),
            "vocabulary_size": (
                self.vocabulary_size is None or self.vocabulary_size >= 6,
                "6 or more",
            ),
            "max_length": (self.max_length >= 8, "8 or more"),
            "max_positions": (
                self.max_positions is None or self.max_positions >= self.max_length,
                f"max_length, which is {self.max_length}, or more",
            ),
            "mask_share": (0 < self.mask_share < 1, "above 0 and below 1"),
            "epoch_share": (0 < self.epoch_share <= 1, "above 0 and at most 1"),
            "dropout": (self.dropout is None or 0 <= self.dropout < 1, "at least 0 and below 1"),
            **{key: (value is None or value >= 1, "1 or more") for key, value in values.items()},
        }

    def refuse_contradictions(self) -> None:
        for source, keys in (("model", DRAWN), ("vocabulary", MADE)):
            given = getattr(self, source)
            for key in keys:
                if given is not None and getattr(self, key) is not None:
                    raise ConfigError(
                        f"{key} is {getattr(self, key)}, but {source} is {given}, which has its "
                        "own.",
                        key=key,
                        found=getattr(self, key),
                        hint="Leave one of the two out.",
                    )


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
        best = self.history.state.best_epoch
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

    settings: PretrainSettings
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
    `sittings.begin`.

    Raises:
        MinibertError: a setting, a text or a model that cannot be used, or a loss that is no longer
            finite.
    """
    return begin(settings, _prepare, _run, progress=progress)


def resume_pretraining(folder: str | Path, *, progress: bool = True, **given: Any) -> Pretraining:
    """Goes on with a run that was stopped or killed, as if it had never been (see `go_on`).

    Args:
        folder: the run folder; or one checkpoint in it, RUN/state/step-N, to go on from that one.
        given: settings that the caller takes the run to have.

    Raises:
        MinibertError: as for `go_on`.
    """
    return go_on(folder, given, PretrainSettings, _prepare, _run, progress=progress)


def masked_batches(
    rows: Passages,
    tokenizer: BertTokenizer,
    masking: Masking,
    *,
    seed: Sequence[object],
    **plan: Any,
) -> list[Batch]:
    """Batches of rows, with tokens hidden when each is loaded, always the same for one seed.

    What is loaded holds `labels`, `next_sentence_label` where rows have one, and `labelled_only`,
    so that the model's head runs at the hidden places alone.

    Args:
        seed: decides the order of the batches; each masks with this and its number.
        plan: goes to `plan_batches`.
    """
    batches = planned(rows, tokenizer, seed=mixed_seed(*seed), **plan)
    return [
        replace(batch, load=partial(_hide, batch.load, masking, mixed_seed(*seed, number)))
        for number, batch in enumerate(batches)
    ]


class Scored(nn.Module):
    """A model that is being pre-trained, as one that counts what it has right.

    Its loss terms are those of the model and, for each, NAME_right: how many labels have the
    highest logit.
    """

    def __init__(self, model: PreTrained):
        super().__init__()
        self.model = model

    def count_labels(self, inputs: loop.Inputs) -> Mapping[str, float]:
        return self.model.count_labels(inputs)

    def forward(self, **inputs: Any) -> Any:
        output = self.model(**inputs)
        terms = dict(output.loss_terms)
        labels = inputs["layout"].unpad(inputs["labels"])  # (T,)
        labels = labels[labels != IGNORED_LABEL]  # (M,), as the logits
        follows = inputs.get("next_sentence_label")
        if follows is None:
            terms["masked_lm_right"] = _right(output.logits, labels)
        else:
            terms["masked_lm_right"] = _right(output.prediction_logits, labels)
            counts = follows != IGNORED_LABEL
            logits = output.seq_relationship_logits[counts]
            terms["next_sentence_right"] = _right(logits, follows[counts])
        nothing = labels.new_zeros(len(inputs["labels"]), 0)  # no example has logits of its own
        return _Counted(terms, nothing)


@dataclass(frozen=True)
class _Counted:
    loss_terms: dict[str, tuple[Tensor, float]]
    logits: Tensor


def measure(
    model: PreTrained, batches: Sequence[Batch], precision: Precision, **options: Any
) -> dict[str, float]:
    """Scores of a model on batches whose masks are fixed.

    Args:
        options: go to `loop.evaluate`.

    Returns:
        loss, the sum of masked_lm_loss and next_sentence_loss (in nats, a mean over all hidden
        tokens, and over all rows with a label); perplexity, e to the masked_lm_loss;
        masked_lm_accuracy and next_sentence_accuracy. Those of the next sentence are missing where
        rows have no such label.
    """
    result = loop.evaluate(
        Scored(model),
        batches,
        precision=precision,
        prepare=prepare_on(precision.device),
        **options,
    )
    means = result.sums.means()
    names = [name for name in ("masked_lm", "next_sentence") if name in means]
    scores = {"loss": sum(means[name] for name in names)}
    for name in names:
        scores[f"{name}_loss"] = means[name]
        scores[f"{name}_accuracy"] = means[f"{name}_right"]
    return {**scores, "perplexity": math.exp(min(means["masked_lm"], 700))}


def baselines(
    train_ids: NDArray[np.int32], batches: Sequence[Batch], masking: Masking
) -> dict[str, dict[str, float]]:
    """The scores of guesses that look at no context, on the labels of these batches.

    Args:
        train_ids: the pieces of the training text, whose counts are all that the guesses know.

    Returns:
        "unigram": each piece has the probability that its count, and one more, gives it; its
        accuracy is that of always saying the commonest piece. "majority": always the label of the
        next sentence that more rows have.
    """
    counts = np.bincount(train_ids, minlength=len(masking.ordinary)).astype(np.float64)  # (V,)
    counts = np.where(masking.ordinary, counts + 1, 0)
    with np.errstate(divide="ignore"):
        surprise = np.log(counts.sum()) - np.log(counts)  # (V,)
    loaded = [batch.load() for batch in batches]
    labels = np.concatenate([batch["labels"].numpy().ravel() for batch in loaded])
    labels = labels[labels != IGNORED_LABEL]
    loss = float(surprise[labels].mean())
    found = {
        "unigram": {
            "masked_lm_loss": loss,
            "masked_lm_accuracy": float(np.mean(labels == counts.argmax())),
            "perplexity": math.exp(min(loss, 700)),
        }
    }
    if "next_sentence_label" in loaded[0]:
        follows = np.concatenate([batch["next_sentence_label"].numpy() for batch in loaded])
        shares = [float(np.mean(follows[follows >= 0] == one)) for one in (FOLLOWS, STRANGER)]
        found["majority"] = {"next_sentence_accuracy": max(shares)}
    return found


# --- preparing ------------------------------------------------------------------------------------


def _prepare(settings: PretrainSettings, progress: bool) -> _Prepared:
    precision = choose_precision(settings.precision, pick_device(settings.device))
    tokenizer, revision = _given_vocabulary(settings)
    documents = _read(settings, progress)
    if tokenizer is None:
        tokenizer = BertTokenizer.train(
            (document.text for document in documents["train"]),
            size=settings.vocabulary_size or VOCABULARY_SIZE,
            lowercase=not settings.cased,
            max_length=_positions(settings),
            progress=progress,
        )
    model = _build_model(settings, tokenizer, revision).to(precision.device)
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

    try:
        held_out = parts["validation"].rows(settings, tokenizer, seed, "pairs", "validation")
    except DataError as problem:
        raise DataError(
            f"The documents to measure on are too few. {problem}",
            key="validation",
            hint="Hold out more (--validation-fraction, --validation).",
        ) from problem
    validation = masked_batches(
        held_out,
        tokenizer,
        masking,
        seed=(seed, "masks", "validation"),
        token_budget=tokens,
        shuffle=False,
    )
    first = batches_of_epoch(0)
    record = {
        "command": settings.command,
        "summary": f"{settings.model or 'a model drawn anew'} ({count_parameters(model):,} "
        f"parameters), {sum(batch.tokens for batch in first):,} tokens in {len(first):,} batches "
        f"an epoch, {sum(held_out.lengths):,} held out, {precision.name} on {precision.device} "
        f"({precision.reason})",
        **facts(settings, model, tokenizer, precision),
        "chosen_by": "loss on validation",
        "data": {name: _data_record(part) for name, part in parts.items()},
    }
    _warn_of_other_documents_held_out(settings, record["data"])
    record["data"]["vocabulary"] = hashlib.sha256(
        "\n".join(sorted(tokenizer.vocabulary, key=tokenizer.vocabulary.__getitem__)).encode()
    ).hexdigest()
    return _Prepared(
        settings,
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
    known: set[str] = set()  # texts, so that none is trained on and measured
    held = [] if settings.validation is None else _distinct(read(settings.validation), known)
    corpus = _distinct(read(settings.corpus), known)
    if settings.validation is not None:
        if not corpus:
            raise ConfigError(
                "All of the corpus is in the validation text too: none is left to train on.",
                key="validation",
                found=[str(source) for source in settings.validation],
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
        if document.text not in known:
            known.add(document.text)
            found.append(document)
    if len(found) < len(documents):
        warnings.warn(
            f"{len(documents) - len(found):,} of {len(documents):,} documents repeat others, and "
            "are left out.",
            stacklevel=3,
        )
    return found


def _given_vocabulary(settings: PretrainSettings) -> tuple[BertTokenizer | None, str | None]:
    """The tokenizer of a checkpoint, and the commit of the model; both None for one of our own."""
    if settings.model is not None:
        revision = commit_of(settings.model, settings.revision)
        tokenizer = BertTokenizer.from_pretrained(settings.model, revision=revision)
        if settings.max_positions is not None:
            tokenizer.max_length = settings.max_positions
        if settings.max_length > tokenizer.max_length:
            raise ConfigError(
                f"max_length is {settings.max_length}, but {settings.model} takes "
                f"{tokenizer.max_length} tokens.",
                key="max_length",
                expected=tokenizer.max_length,
                found=settings.max_length,
                hint=f"Give it more positions: --max-positions {settings.max_length}.",
            )
        return tokenizer, revision
    if settings.vocabulary is None:
        return None, None
    revision = commit_of(settings.vocabulary, settings.revision)
    tokenizer = BertTokenizer.from_pretrained(settings.vocabulary, revision=revision)
    tokenizer.max_length = _positions(settings)
    # Also where the vocabulary is that of a DistilBERT: the model that is drawn has segments.
    tokenizer.model_inputs = ("input_ids", "attention_mask", "token_type_ids")
    return tokenizer, None


def _positions(settings: PretrainSettings) -> int:
    return settings.max_positions or settings.max_length


def _build_model(
    settings: PretrainSettings, tokenizer: BertTokenizer, revision: str | None
) -> PreTrained:
    """The model of a checkpoint, with a fresh head where it has none, or one that is drawn."""
    kind: type[Any] = BertForPreTraining if settings.next_sentence else BertForMaskedLM
    generator = torch.Generator().manual_seed(settings.seed)
    if settings.model is not None:
        if settings.learning_rate > HIGH_RATE and settings.recipe is None:
            warnings.warn(
                f"learning_rate is {settings.learning_rate:g}, which is high for weights that are "
                "trained already; 5e-5 is common.",
                stacklevel=2,
            )
        model = kind.from_pretrained(
            settings.model, revision=revision, fresh_head=True, generator=generator
        )
        if settings.max_positions is not None:
            model = with_positions(model, settings.max_positions)
    else:
        hidden = settings.hidden_size or HIDDEN_SIZE
        rate = 0.1 if settings.dropout is None else settings.dropout
        model = kind(
            BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=hidden,
                num_hidden_layers=settings.layers or LAYERS,
                num_attention_heads=settings.heads or HEADS,
                intermediate_size=settings.intermediate_size or 4 * hidden,
                max_position_embeddings=_positions(settings),
                hidden_dropout_prob=rate,
                attention_probs_dropout_prob=rate,
                pad_token_id=tokenizer.pad_id,
            ),
            generator=generator,
        )
    model.use_gradient_checkpointing(settings.gradient_checkpointing)
    return model


def with_positions(model: PreTrained, count: int) -> PreTrained:
    """A model with more positions, whose vectors are those of the first ones again.

    A token attends to its neighbours by the vectors of their positions, which are learned one by
    one. Drawn anew, the new ones would have to learn that from nothing; repeated, they have most of
    it (Beltagy et al. 2020, section 5), and learn the rest in a third of the time.

    Args:
        count: P, how many positions the model has then.

    Raises:
        ConfigError: the model has more already.
    """
    known = model.config.max_position_embeddings
    if count < known:
        raise ConfigError(
            f"max_positions is {count}, but the model has {known}.",
            key="max_positions",
            expected=known,
            found=count,
            hint="Leave it out: short rows need no fewer positions.",
        )
    longer = type(model)(replace(model.config, max_position_embeddings=count))
    numbers = dict(model.state_dict())
    [name] = (name for name in numbers if name.endswith("embeddings.position.weight"))
    numbers[name] = numbers[name].repeat(-(-count // known), 1)[:count]  # (P, D)
    longer.load_state_dict(numbers)
    longer._drawn, longer.load_report = model._drawn, model.load_report
    return longer


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

    Two corpora with as many characters are taken to be the same. What cannot be read is no reason
    to stop: other programs write a run.json, too.
    """
    if settings.model is None or not begun(settings.model):
        return
    try:
        before = read_object(inside(Path(settings.model), RECORD))["data"]
        then, now = (
            parts["train"]["characters"] + parts["validation"]["characters"]
            for parts in (before, data)
        )
        other = then == now and before["validation"]["sha256"] != data["validation"]["sha256"]
    except (MinibertError, KeyError, TypeError):
        return
    if other:
        warnings.warn(
            f"{settings.model} held out other documents of the same corpus, and may have been "
            "trained on some of those that are held out now: the scores would be too good. Hold "
            "out what that run did (--seed, --validation-fraction, --validation).",
            stacklevel=2,
        )


# --- the run --------------------------------------------------------------------------------------


def _run(prepared: _Prepared, sitting: Sitting) -> Pretraining:
    """Trains from the beginning or from a checkpoint, then measures and writes the results."""
    model, precision, batches = prepared.model, prepared.precision, prepared.validation
    sitting.say(f"{sitting.folder}: {prepared.record['summary']}")
    floor = baselines(prepared.train.pieces.ids, batches, prepared.masking)
    guess = floor["unigram"]
    sitting.say(
        f"to beat: masked-LM loss {guess['masked_lm_loss']:.4f} (how often each piece occurs), "
        f"accuracy {guess['masked_lm_accuracy']:.4f} (always the commonest)"
    )

    def held_out() -> dict[str, float]:
        title = "held-out documents" if sitting.progress else None
        return measure(model, batches, precision, progress=title, ranks=sitting.ranks)

    history = sitting.train(
        model,
        prepared.batches_of_epoch,
        held_out,
        watch="loss",
        precision=precision,
        on_step=_Pace(sitting.say),
    )
    trained = time.perf_counter()
    scores = held_out()
    seconds = history.state.seconds + time.perf_counter() - trained
    run = Pretraining(
        sitting.folder, model.eval(), prepared.tokenizer, history, scores, floor, seconds
    )
    if sitting.ranks.is_first:
        _write(run, prepared.record, sitting)
        sitting.remove_states()
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
            f"{left / 60:,.0f} minutes left"
        )
        self._steps = self._tokens = 0
        self._since = time.perf_counter()


def _write(run: Pretraining, record: Mapping[str, Any], sitting: Sitting) -> None:
    """Writes the results: the model first, last the record that says the run is finished."""
    run.tokenizer.save_pretrained(run.folder / "model")
    run.model.save_pretrained(run.folder / "model")
    metrics = {"validation": run.scores, "baselines": run.baselines}
    write_json(run.folder / "metrics.json", finite(metrics))
    sitting.finish({**record, **outcome(run.history, run.seconds, run.history.state.best_epoch)})


def _hide(load: Callable[[], loop.Inputs], masking: Masking, seed: int) -> dict[str, Any]:
    """A batch with tokens hidden, and what is asked of it."""
    inputs = dict(load())
    ids, labels = masking(inputs["input_ids"].numpy(), np.random.default_rng(seed))  # (B, S)
    if "labels" in inputs:
        inputs["next_sentence_label"] = inputs["labels"]  # (B,)
    return {
        **inputs,
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(labels),
        "labelled_only": True,
    }


def _right(logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """How many labels (M,) have the highest logit of (M, C), and how many there are."""
    return (logits.argmax(dim=-1) == labels).sum(), len(labels)
