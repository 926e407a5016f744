"""Evaluating a model on labelled text: scores with intervals, and every example by its loss."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minibert import training as loop
from minibert.fast.precision import Precision, choose_precision
from minibert.heads import ModelWithHead
from minibert.io.errors import DataError
from minibert.io.rows import Rows
from minibert.io.source import Source, open_source
from minibert.names import SUBCLASS
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus, read, require_parts
from minibert.workbench.kinds import KINDS, kind_of, require_kind
from minibert.workbench.kinds.evaluation import Measured, Report
from minibert.workbench.runs.folders import record_of
from minibert.workbench.runs.ranks import ALONE, Ranks
from minibert.workbench.tasks.common import model_class, pick_device, require_class
from minibert.workbench.tasks.inference import ready_for_inference, run
from minibert.workbench.tasks.probes import ProbedModel, is_probe

_COLUMNS = ("text", "text_pair", "label", "label_sep", "choices", "part")

Classifier = ModelWithHead | ProbedModel


def evaluate_file(
    source: str | Path | Source,
    data: str | Path,
    *,
    revision: str | None = None,
    reading: Mapping[str, Any] | None = None,
    batch_size: int = 32,
    max_length: int | None = None,
    overlap: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    progress: bool = True,
) -> Report:
    """Evaluates a fine-tuned model (a run folder, a model folder, a Hub id) on a file.

    Args:
        reading: how to read the file: the keyword arguments of `corpora.read`. Columns are by
            default those that a run was trained on.

    Raises:
        CheckpointError: the model does not do a task that has labels, or was never fine-tuned.
        DataError: the file cannot be read, has labels that the model does not know, or pairs where
            the model was trained on single texts, or the reverse.
    """
    source = open_source(source, revision)
    run = record_of(source)
    model = open_classifier(source)
    tokenizer = BertTokenizer.from_pretrained(source)
    kind = kind_of(model)
    columns = {key: value for key, value in run.get("settings", {}).items() if key in _COLUMNS}
    asked = (reading or {}).get("part", "part")  # a run's own column may be missing in other data
    reading = {**columns, **(reading or {})}
    corpus = read(data, label_names=kind.names_of(model) or None, problem_type=kind.labels, **reading)
    require_kind(corpus, kind, "the model")
    require_parts(corpus, asked)
    require_pairs(run, len(corpus[0].texts) == 2)
    if progress:
        print(f"labels: {corpus.read_as}", file=sys.stderr)
    rows = kind.rows(corpus, tokenizer, max_length=max_length, overlap=overlap, progress=progress)
    chosen = choose_precision(precision, pick_device(device))
    return evaluate(
        model,
        tokenizer,
        corpus,
        rows,
        split=Path(data).name,
        precision=chosen,
        batch_size=batch_size,
        progress=progress,
        prepared=True,
    )


def require_pairs(run: Mapping[str, Any], pairs: bool) -> None:
    """Refuses pairs of texts for a model that was trained on single texts, and the reverse.

    Args:
        run: its run.json; a model without one may take either.
    """
    if run.get("pairs") in (None, pairs):
        return
    if pairs:
        message, hint = "The model was trained on single texts, not on pairs.", "Leave the second texts out."
    else:
        message = "The model was trained on pairs of texts, and these have no second text."
        hint = "Name it: --pair, or in evaluate --text-pair COLUMN."
    raise DataError(message, key="pairs", hint=hint)


def open_classifier(source: Source, *, allow_untrained: bool = False) -> Classifier:
    """A fine-tuned model, or a frozen one with its probe.

    Args:
        allow_untrained: give any other model an untrained head.

    Raises:
        CheckpointError: it is neither.
    """
    if is_probe(source):
        return ProbedModel.from_pretrained(source)
    heads = tuple(dict.fromkeys(kind.head for kind in KINDS.values()))
    saved_by = source.config.get(SUBCLASS)  # a subclass of an official class, "module:name"
    subclasses = [one for one in heads if f"{one.__module__}:{one.__qualname__}" == saved_by]
    if subclasses:
        head: type[Any] = subclasses[0]
    elif allow_untrained and model_class(source) not in heads:
        head = heads[0]
    else:
        hint = f"Fine-tune it first: minibert train --model {source} --train FILE."
        head = require_class(source, *heads, hint=hint)
    return head.from_pretrained(source, fresh_head=allow_untrained)


def evaluate(
    model: Classifier,
    tokenizer: BertTokenizer,
    corpus: Corpus,
    rows: Rows,
    *,
    split: str,
    precision: Precision,
    batch_size: int = 32,
    progress: bool = True,
    intervals: bool = True,
    ranks: Ranks = ALONE,
    prepared: bool = False,
) -> Report:
    """Evaluates a model on a corpus and its tokenised form.

    Args:
        split: what to call the data.
        intervals: whether to compute the intervals that need a thousand resamples.
        ranks: the processes that share the work; each gets the whole report.
        prepared: prepare a copy of the model for inference, for speed.
    """
    ready, precision = ready_for_inference(model, precision) if prepared else (model, precision)
    title = f"evaluating {split}" if progress else None
    result = run(ready, rows, tokenizer, precision, batch_size=batch_size, progress=title, ranks=ranks)
    return score(model, corpus, result, split, rows.tokens_read(), rows, intervals=intervals)


def score(
    model: Classifier,
    corpus: Corpus,
    result: loop.Evaluation,
    split: str,
    lengths: Sequence[int],
    rows: Rows | None = None,
    *,
    intervals: bool = True,
) -> Report:
    """The report of a model's outputs for a corpus.

    Args:
        lengths: tokens of each example.
        rows: the examples as rows of ids; None for a probe, which reads features.
    """
    kind = kind_of(model)
    names = kind.names_of(model)
    report = kind.report(Measured(split, corpus, names, result.loss, result.logits, lengths, rows, intervals))
    if corpus.parts and intervals:
        report.metrics["parts"] = kind.by_part(report)
    return report
