"""Inference: a model made ready for it, and run over rows of ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from minibert.base import Model
from minibert.fast.accelerate import accelerate
from minibert.fast.precision import Precision
from minibert.fast.prepare import prepare
from minibert.io.rows import Rows
from minibert.tokenizer import BertTokenizer
from minibert.training import Evaluation
from minibert.workbench.runs import together
from minibert.workbench.runs.ranks import ALONE, Ranks
from minibert.workbench.tasks.common import planned
from minibert.workbench.tasks.pooling import SentenceEncoder
from minibert.workbench.tasks.probes import ProbedModel


def ready_for_inference(model: Model | ProbedModel, precision: Precision) -> tuple[Any, Precision]:
    """A model on its device and, on a CPU, prepared for it (see fast/prepare.py).

    Returns:
        What to call in the model's place, and the precision to call it in: without autocast where
        the weights have the dtype.
    """
    if precision.device.type != "cpu":
        return accelerate(model.to(precision.device).eval()), precision
    in_its_dtype = replace(precision, dtype=None)
    if isinstance(model, ProbedModel):
        encoder = model.encoder
        body = prepare(encoder.model, precision.dtype)
        model.encoder = SentenceEncoder(body, encoder.pooling, layer=encoder.layer)
        return model.eval(), in_its_dtype
    return prepare(model, precision.dtype), in_its_dtype


def run(
    model: Any,
    rows: Rows,
    tokenizer: BertTokenizer,
    precision: Precision,
    *,
    batch_size: int = 32,
    progress: str | None = None,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Runs a model over rows of ids, texts of similar length together.

    Args:
        progress: the title of a progress bar; without one there is no bar.
        ranks: the processes that share the work; each gets the whole result.
    """
    return together.evaluate(
        model, planned(rows, tokenizer, batch_size=batch_size, shuffle=False), precision, progress=progress, ranks=ranks
    )
