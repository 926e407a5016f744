"""What every task starts with: which model, which device, batches made ready for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from minibert import checkpoint
from minibert.base import Model
from minibert.data import plan_batches
from minibert.heads import MODELS
from minibert.io import shards
from minibert.io.errors import CheckpointError, ConfigError
from minibert.io.files import sha256
from minibert.io.rows import Rows
from minibert.io.source import Source
from minibert.io.tokenizer_files import FILES as TOKENIZER_FILES
from minibert.tokenizer import BertTokenizer
from minibert.training import Batch
from minibert.workbench.data.choices import collate


def sums_of_files(source: Source) -> dict[str, list[str]]:
    """The sha256 sums of what determines a model's outputs: weights and tokenizer files."""
    source.fetch(*TOKENIZER_FILES)
    texts = [source.path(name) for name in sorted(TOKENIZER_FILES) if source.has(name)]
    return {
        "weights": [sha256(path) for path in shards.find(source).paths],
        "tokenizer": [sha256(path) for path in texts],
    }


def model_class(source: Source) -> type[Model]:
    """The class that the `architectures` of a checkpoint's config.json name; BertModel if none do.

    Raises:
        CheckpointError: config.json is missing, is not a JSON object, or names other classes.
    """
    return MODELS[checkpoint.class_name(source)]


def require_class(source: Source, *wanted: type[Model], hint: str | None = None) -> type[Any]:
    """The class of a checkpoint, if it is one of those that a task can use.

    Raises:
        CheckpointError: it is another class; the message names both, and `hint` says what to do.
    """
    found = model_class(source)
    if found not in wanted:
        expected = " or ".join(kind.__name__ for kind in wanted)
        raise CheckpointError(
            f"{source} is a {found.__name__}, and this needs a {expected}.",
            path=source.folder,
            key="architectures",
            hint=hint,
        )
    return found


def pick_device(name: str = "auto") -> torch.device:
    """cuda if there is one, else mps, else cpu; or the device that is named.

    Raises:
        ConfigError: the device is not available.
    """
    if name.partition(":")[0] not in ("auto", "cuda", "mps", "cpu"):
        raise ConfigError(f"The device {name!r} cannot be used: it must be auto, cuda, mps or cpu.", key="device")
    if name != "auto":
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"The device {name!r} cannot be used: {str(error).splitlines()[0]}.",
                key="device",
                hint="Leave it at auto, or say cpu.",
            ) from error
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def require_new_folder(folder: Path) -> None:
    """Refuses to write over what is there: a ConfigError, unless the folder is empty or does not exist."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        message = f"{folder} exists, and what a model may use is not overwritten."
        raise ConfigError(message, path=folder, key="output", hint="Name another folder, or remove this one.")


def shorten_to(tokenizer: BertTokenizer, max_length: int | None) -> None:
    """Sets the tokenizer's limit, which is saved with it.

    Raises:
        ConfigError: the model does not take that many tokens.
    """
    if max_length is None:
        return
    if max_length > tokenizer.max_length:
        raise ConfigError(
            f"max_length is {max_length}, but the model takes {tokenizer.max_length} tokens.", key="max_length"
        )
    tokenizer.max_length = max_length


def planned(dataset: Rows, tokenizer: BertTokenizer, rows: Sequence[int] | None = None, **plan: Any) -> list[Batch]:
    """Batches of a data set, collated when they are loaded; see `batches_of`."""

    def load(chosen: Sequence[int]) -> dict[str, torch.Tensor]:
        return collate([dataset[row] for row in chosen], pad_id=tokenizer.pad_id)

    return batches_of(dataset.lengths, load, rows, **plan)


def batches_of(
    lengths: Sequence[int],
    load: Callable[[Sequence[int]], dict[str, torch.Tensor]],
    rows: Sequence[int] | None = None,
    **plan: Any,
) -> list[Batch]:
    """Batches of rows of these lengths; `plan` goes to `plan_batches`.

    Args:
        load: the tensors of some rows.
        rows: which rows, some perhaps several times; by default each of them once.
    """
    rows = range(len(lengths)) if rows is None else rows
    return [
        Batch(chosen, partial(load, chosen), sum(lengths[row] for row in chosen))
        for places in plan_batches([lengths[row] for row in rows], **plan)
        for chosen in [[rows[place] for place in places]]
    ]
