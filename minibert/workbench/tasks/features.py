"""Features: pooled hidden states of a frozen model, computed once and cached on disk.

A frozen model gives the same vector for a text every time, so one pass over the data serves every
probe that is trained on it. The cache has a safetensors file for each set of features, named by the
sha256 sum of everything that determines them: change any of it and another file is made.
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
from minibert.data import Example
from minibert.fast.precision import choose_precision
from minibert.io.errors import CheckpointError, DataError, DiskError
from minibert.io.files import read_header, read_tensors, write_tensors
from minibert.io.source import Source, open_source
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.tasks.common import pick_device, sums_of_files
from minibert.workbench.tasks.embed import Embedder
from minibert.workbench.tasks.inference import ready_for_inference
from minibert.workbench.tasks.pooling import SentenceEncoder

# Part of every key: raise it where a change of the code changes the numbers.
VERSION = 1


def extract_features(
    source: str | Path | Source,
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
        texts: strings or examples; labels are ignored.
        layer: which hidden state: 0 the embeddings, L or -1 the last layer.
        pooling: how the hidden states of a text become one vector: a name in POOLINGS.
        cache: a folder; True for `cache_folder()`; False to read and write nothing.
        max_length: texts are cut to this many tokens; by default as many as the model takes.
        batch_size: texts in a batch; it changes the numbers by rounding alone.

    Raises:
        ConfigError: the model does not have the layer, or the pooling does not exist.
        CheckpointError: the model cannot be used.
        DataError: there are no texts, or one of them is not a text.
    """
    source = open_source(source, revision)
    tokenizer = BertTokenizer.from_pretrained(source)
    examples = [_unlabelled(row, text) for row, text in enumerate(texts)]
    if not examples:
        raise DataError("There are no texts to extract features of.", key="texts")
    chosen = choose_precision(precision, pick_device(device))
    if max_length is not None:
        tokenizer.max_length = min(max_length, tokenizer.max_length)

    def compute() -> np.ndarray:
        model = BertModel.from_pretrained(source)
        ready, precision = ready_for_inference(model, chosen)
        encoder = SentenceEncoder(ready, pooling, layer=layer)
        embedder = Embedder(encoder, tokenizer, precision)
        return embedder(examples, batch_size=batch_size, progress=progress)

    if cache is False:
        return compute()
    made_of = {
        "version": VERSION,
        **sums_of_files(source),
        "texts": _sum_of_texts(examples),
        "max_length": tokenizer.max_length,
        "layer": layer,
        "pooling": pooling,
        "precision": chosen.name,
    }
    folder = cache_folder() if cache is True else Path(cache)
    path = folder / f"{_sum(json.dumps(made_of))}.safetensors"
    features = _read(path, made_of, len(examples))
    if features is None:
        features = compute()
        _write(path, features, made_of)
    return features


def cache_folder() -> Path:
    """Where features are cached: `features` in MINIBERT_CACHE, else in the user's cache folder."""
    home = os.environ.get("MINIBERT_CACHE")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "minibert")
    return Path(os.path.expanduser(home)) / "features"


def _unlabelled(row: int, given: Any) -> Example:
    if isinstance(given, str):
        return Example(given)
    if not isinstance(given, Example):
        raise DataError(f"Row {row} is not a text or a pair of texts, so it has no features.", key=str(row))
    return replace(given, label=None)


def _sum_of_texts(examples: Iterable[Example]) -> str:
    """One sum of all texts in their order; JSON keeps where one ends and the next begins."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example.text, example.text_pair]).encode())
    return digest.hexdigest()


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _metadata(made_of: dict[str, Any], features: np.ndarray) -> dict[str, str]:
    """One entry: safetensors writes several in any order, and equal files are to be equal bytes."""
    numbers = hashlib.sha256(features.tobytes()).hexdigest()
    return {"made_of": json.dumps({**made_of, "sha256": numbers})}


def _read(path: Path, made_of: dict[str, Any], rows: int) -> np.ndarray | None:
    """The cached features (texts, D); None without a file, or with a warning if it is damaged."""
    if not os.path.lexists(path):
        return None
    try:
        features = read_tensors(path)["features"].numpy()  # (texts, D)
        if len(features) == rows and read_header(path).metadata == _metadata(made_of, features):
            return features
        problem = "its content is not what was written"
    except (CheckpointError, KeyError) as error:
        problem = str(error)
    warnings.warn(f"The cached features {path} are damaged and computed again: {problem}.", stacklevel=3)
    return None


def _write(path: Path, features: np.ndarray, made_of: dict[str, Any]) -> None:
    """Caches features; failing to is a warning, since the features themselves are there."""
    try:
        tensors = {"features": torch.from_numpy(features)}
        write_tensors(path, tensors, _metadata(made_of, features))
    except DiskError as error:
        warnings.warn(f"The features are not cached: {error}", stacklevel=3)
