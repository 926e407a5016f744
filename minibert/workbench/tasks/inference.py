"""Inference: a model made ready for it, and run over rows of ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from minibert import training as loop
from minibert.data import Rows
from minibert.fast.precision import Precision
from minibert.tokenizer import BertTokenizer
from minibert.workbench.runs.ranks import ALONE, Ranks
from minibert.workbench.tasks.common import planned, prepare_on


def ready_for_inference(model: Any, precision: Precision) -> Precision:
    """Puts a model on its device and, on a CPU, prepares its weights; it cannot be trained again.

    Args:
        model: a model, with or without a head, or a `ProbedModel`.

    Returns:
        The precision to run it in: without autocast where the weights now have the dtype.
    """
    model.to(precision.device)
    if precision.device.type != "cpu":
        model.eval()
        return precision
    model.for_inference(precision.dtype)
    return replace(precision, dtype=None)


def run(
    model: Any,
    rows: Rows,
    tokenizer: BertTokenizer,
    precision: Precision,
    *,
    batch_size: int = 32,
    progress: str | None = None,
    ranks: Ranks = ALONE,
) -> loop.Evaluation:
    """Runs a model over rows of ids, texts of similar length together.

    Args:
        progress: the title of a progress bar; without one there is no bar.
        ranks: the processes that share the work; each gets the whole result.
    """
    return loop.evaluate(
        model,
        planned(rows, tokenizer, batch_size=batch_size, shuffle=False),
        precision=precision,
        prepare=prepare_on(precision.device),
        progress=progress,
        ranks=ranks,
    )
