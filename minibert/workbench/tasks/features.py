"""Features: pooled hidden states of a frozen model, computed once and kept on the disk.

A frozen model says the same of a text every time, so one pass over the data serves every probe
that is trained on it. The cache holds a safetensors file for each set of features, named by the
sha256 sum of all that decides their numbers: change any of it and another file is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minibert.bert import BertModel
from minibert.data import Dataset
from minibert.fast.precision import Precision, choose_precision
from minibert.io.errors import CheckpointError, DataError, DiskError
from minibert.io.files import read_metadata, read_tensors, write_tensors
from minibert.tokenizer import BertTokenizer
from minibert.training import evaluate
from minibert.workbench.data.corpora import Corpus, Example
from minibert.workbench.tasks.common import (
    commit_of,
    pick_device,
    planned,
    prepare_on,
    ready_for_inference,
    sums_of_files,
)
from minibert.workbench.tasks.pooling import SentenceEncoder

# Part of every key: to be raised where a change of the code changes the numbers.
VERSION = 1


def extract_features(
    source: str | Path,
    texts: Corpus | Sequence[Example] | Sequence[str],
    *,
    layer: int = -1,
    pooling: str = "cls",
    cache: str | Path | bool = True,
    revision: str | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    device: str = "auto",
    precision: str = "fp32",
    progress: bool = False,
) -> np.ndarray:
    """One vector of a frozen model for each text, in the order given: float32 (texts, D).

    Args:
        source: a model folder, a run folder or a Hub id.
        texts: strings or examples; labels play no part.
        layer: which hidden state: 0 the embeddings, L or -1 the last layer.
        pooling: how the rows of a text become one vector: "cls" (the first), "mean" or "max", over
            real tokens alone.
        cache: a folder; True: the one of `cache_folder`; False: nothing is read or kept.
        max_length: texts are cut to so many tokens; None: as many as the model takes.
        batch_size: texts that are run together; plays no part in the numbers but for rounding.

    Raises:
        ConfigError: there is no such layer or pooling.
        CheckpointError: the model cannot be used.
        DataError: there are no texts, or one of them is no text.
    """
    revision = commit_of(source, revision)
    tokenizer = BertTokenizer.from_pretrained(source, revision=revision)
    examples = [_unlabelled(row, text) for row, text in enumerate(texts)]
    chosen = choose_precision(precision, pick_device(device))
    if max_length is not None:
        tokenizer.max_length = min(max_length, tokenizer.max_length)

    def compute() -> torch.Tensor:
        model = BertModel.from_pretrained(source, revision=revision)
        encoder = SentenceEncoder(model, pooling, layer=layer)
        return _run(encoder, examples, tokenizer, chosen, batch_size, progress)

    if cache is False:
        return compute().numpy()
    made_of = {
        "version": VERSION,
        **sums_of_files(source, revision),
        "texts": _sum_of_texts(examples),
        "max_length": tokenizer.max_length,
        "layer": layer,
        "pooling": pooling,
        "precision": chosen.name,
    }
    folder = cache_folder() if cache is True else Path(cache)
    path = folder / f"{_sum(json.dumps(made_of))}.safetensors"
    kept = _read(path, made_of, len(examples))
    if kept is not None:
        return kept.numpy()
    features = compute()
    _keep(path, features, made_of)
    return features.numpy()


def cache_folder() -> Path:
    """Where features are kept: `features` in MINIBERT_CACHE, else in the user's cache folder."""
    home = os.environ.get("MINIBERT_CACHE")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "minibert")
    return Path(os.path.expanduser(home)) / "features"


def _run(
    encoder: SentenceEncoder,
    examples: Sequence[Example],
    tokenizer: BertTokenizer,
    precision: Precision,
    batch_size: int,
    progress: bool,
) -> torch.Tensor:
    """(texts, D), in one pass, texts of like length together."""
    precision = ready_for_inference(encoder.model, precision)
    dataset = Dataset(Corpus(tuple(examples)), tokenizer, progress=progress)
    result = evaluate(
        encoder,
        planned(dataset, tokenizer, batch_size=batch_size, shuffle=False),
        precision=precision,
        prepare=prepare_on(precision.device),
        progress="extracting features" if progress else None,
    )
    return torch.stack(result.logits)  # (texts, D)


def _unlabelled(row: int, given: Any) -> Example:
    if isinstance(given, str):
        return Example(given)
    if not isinstance(given, Example):
        raise DataError(
            f"Row {row} is no text: features are for texts and pairs of texts.",
            key=str(row),
        )
    return replace(given, label=None)


def _sum_of_texts(examples: Iterable[Example]) -> str:
    """One sum of all texts in their order; JSON keeps where one ends and the next begins."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example.text, example.text_pair]).encode())
    return digest.hexdigest()


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _metadata(made_of: dict[str, Any], features: torch.Tensor) -> dict[str, str]:
    """One entry: safetensors writes several in any order, and the same file has the same bytes."""
    numbers = hashlib.sha256(features.numpy().tobytes()).hexdigest()
    return {"made_of": json.dumps({**made_of, "sha256": numbers})}


def _read(path: Path, made_of: dict[str, Any], rows: int) -> torch.Tensor | None:
    """The features of a cache file; None where there is none, or with a warning a damaged one."""
    if not os.path.lexists(path):
        return None
    try:
        features = read_tensors(path)["features"]  # (texts, D)
        if len(features) == rows and read_metadata(path) == _metadata(made_of, features):
            return features
        problem = "its content is not what was written"
    except (CheckpointError, KeyError) as error:
        problem = str(error)
    warnings.warn(f"{path} is damaged and made again: {problem}.", stacklevel=3)
    return None


def _keep(path: Path, features: torch.Tensor, made_of: dict[str, Any]) -> None:
    """A cache that cannot be written is a warning: the features themselves are there."""
    try:
        write_tensors(path, {"features": features}, _metadata(made_of, features))
    except DiskError as error:
        warnings.warn(f"The features are not kept: {error}", stacklevel=3)
