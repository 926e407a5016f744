"""What a model is called with: checked before a lookup somewhere inside fails with an index error.

The names and shapes are transformers' own: ids (B, S) or vectors (B, S, D), a mask, segments and
positions (B, S). What is wrong is said by the name of the argument.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from minibert.config import BertConfig
from minibert.io.errors import InputError
from minibert.layout import Layout

# From the warning in _layout_of to the caller of the model: pack, encode, forward, two of torch.
_LEVELS_TO_CALLER = 7


@dataclass(frozen=True)
class Packed:
    """The real tokens of a batch, in one line, and their layout."""

    layout: Layout
    words: Tensor  # (T,) ids, or (T, D) vectors
    positions: Tensor  # (T,)
    segments: Tensor | None  # (T,)


def pack(
    config: BertConfig,
    input_ids: Tensor | None,
    attention_mask: Tensor | None,
    token_type_ids: Tensor | None,
    position_ids: Tensor | None,
    inputs_embeds: Tensor | None,
    layout: Layout | None,
) -> Packed:
    """Checks what `BertModel.forward` is given, and drops the padding.

    Raises:
        InputError: shapes that disagree, ids beyond a table, a text longer than the positions.
    """
    words = _words(input_ids, inputs_embeds)
    shape = tuple(words.shape[:2])  # (B, S)
    if attention_mask is not None and attention_mask.dim() == 2:
        _require_shape("attention_mask", attention_mask, shape)
    if words.is_floating_point():
        _require_shape("inputs_embeds", words, (*shape, config.hidden_size))
    else:
        _require_below("input_ids", words, config.vocab_size, "vocab_size")
    if layout is None:
        layout = _layout_of(words, attention_mask, config.pad_token_id)
    _require_shape("layout", layout.mask, shape)
    positions = _positions(config, position_ids, layout)  # (T,)
    segments = _segments(config, token_type_ids, layout)  # (T,)
    return Packed(layout, layout.unpad(words), positions, segments)


def _positions(config: BertConfig, position_ids: Tensor | None, layout: Layout) -> Tensor:
    """(T,): those given, or each token's column, whatever side the padding is on."""
    batch_size, columns, positions = (
        layout.batch_size,
        layout.columns,
        config.max_position_embeddings,
    )
    if position_ids is None:
        if columns > positions:
            raise InputError(
                f"input_ids has {columns} columns, but the model has {positions} positions.",
                key="input_ids",
                hint="Cut the texts: the tokenizer does it with truncation on.",
            )
        return layout.cells % columns  # (T,)
    rows = 1 if position_ids.shape[:1] == (1,) else batch_size
    _require_shape("position_ids", position_ids, (rows, columns))
    _require_below("position_ids", position_ids, positions, "max_position_embeddings")
    return layout.unpad(position_ids.expand(batch_size, columns))  # (T,)


def _segments(config: BertConfig, token_type_ids: Tensor | None, layout: Layout) -> Tensor | None:
    """(T,), if segments were given."""
    if token_type_ids is None:
        return None
    if not config.type_vocab_size:
        raise InputError(
            "token_type_ids were given, but this model (DistilBERT) has no segment table.",
            key="token_type_ids",
            hint="Leave them out, as this model's own tokenizer does.",
        )
    _require_shape("token_type_ids", token_type_ids, (layout.batch_size, layout.columns))
    _require_below("token_type_ids", token_type_ids, config.type_vocab_size, "type_vocab_size")
    return layout.unpad(token_type_ids)  # (T,)


def _layout_of(words: Tensor, attention_mask: Tensor | None, pad_token_id: int | None) -> Layout:
    """The layout of a batch. Without a mask all columns are real, as in transformers.

    Warns where ids hold padding and there is no mask.
    """
    if attention_mask is None:
        ids = pad_token_id is not None and not words.is_floating_point()
        if ids and bool((words == pad_token_id).any()):
            warnings.warn(
                "input_ids holds padding but there is no attention_mask, so padding is read as "
                "text; give the tokenizer's attention_mask to the model.",
                stacklevel=_LEVELS_TO_CALLER,
            )
        attention_mask = torch.ones(words.shape[:2], dtype=torch.bool)  # (B, S)
    return Layout.from_mask(attention_mask.cpu()).to(words.device)


def _require_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise InputError(
            f"{name} has shape {tuple(tensor.shape)}, but the batch needs {shape}.", key=name
        )


def _words(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
    if input_ids is not None and inputs_embeds is None:
        if input_ids.dim() == 2 and _is_integer(input_ids):
            return input_ids  # (B, S)
        name, tensor, wanted = "input_ids", input_ids, "(B, S), int64 or int32"
    elif inputs_embeds is not None and input_ids is None:
        if inputs_embeds.dim() == 3 and inputs_embeds.is_floating_point():
            return inputs_embeds  # (B, S, D)
        name, tensor, wanted = "inputs_embeds", inputs_embeds, "(B, S, D) of floating point"
    else:
        raise InputError("Give either input_ids or inputs_embeds, one of the two.", key="input_ids")
    raise InputError(
        f"{name} has shape {tuple(tensor.shape)} and {tensor.dtype}, but it must be {wanted}.",
        key=name,
    )


def _is_integer(ids: Tensor) -> bool:
    return ids.dtype in (torch.int64, torch.int32)


def _require_below(name: str, ids: Tensor, size: int, size_name: str) -> None:
    """Refuses ids that the table of this size has no row for.

    This waits for a GPU. The lookup itself would end the process there, without a message.
    """
    if not _is_integer(ids):
        raise InputError(f"{name} is {ids.dtype}, but ids are int64 or int32.", key=name)
    if ids.numel() == 0:
        return
    smallest, largest = (int(number) for number in ids.aminmax())
    if smallest < 0 or largest >= size:
        wrong = largest if largest >= size else smallest
        raise InputError(
            f"{name} holds {wrong}, but the model's {size_name} is {size}.",
            key=name,
            hint="Is the tokenizer the one that belongs to this model?",
        )
