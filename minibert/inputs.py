"""What a model is called with, checked before a lookup inside fails with an index error.

The arguments and their shapes are those of transformers.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from minibert.config import BertConfig
from minibert.io.checks import is_integer, require, require_below, require_shape
from minibert.io.device import on_host
from minibert.layout import Layout


@dataclass(frozen=True)
class Packed:
    """The real tokens of a batch, in one line, and their layout."""

    layout: Layout
    words: Tensor  # (T,) ids, or (T, D) vectors
    positions: Tensor  # (T,)
    segments: Tensor | None  # (T,)


def pack(
    config: BertConfig, input_ids: Tensor | None, attention_mask: Tensor | None, token_type_ids: Tensor | None,
    position_ids: Tensor | None, inputs_embeds: Tensor | None, layout: Layout | None,
) -> Packed:  # fmt: skip
    """Checks the arguments of `BertModel.forward`, which explains them, and drops the padding."""
    words = _words(config, input_ids, inputs_embeds)  # (B, S) or (B, S, D)
    shape = (words.shape[0], words.shape[1])  # B, S
    if layout is None:
        layout = _layout_of(words, attention_mask, config.pad_token_id)
    require_shape("layout", layout.mask, shape)

    most = config.max_position_embeddings
    if position_ids is None:
        message = f"has {shape[1]} columns, but the model has {most} positions."
        hint = "Cut the texts: the tokenizer does it with truncation on."
        require(shape[1] <= most, "input_ids", message, hint)
        positions = layout.cells % layout.columns  # (T,), whatever side the padding is on
    else:
        rows = 1 if position_ids.shape[:1] == (1,) else shape[0]
        require_shape("position_ids", position_ids, (rows, shape[1]))
        require_below("position_ids", position_ids, most, "max_position_embeddings")
        positions = layout.unpad(position_ids.expand(shape))  # (T,)

    segments = None
    if token_type_ids is not None:
        message = "were given, but this model (DistilBERT) has no segment table."
        hint = "Leave them out, as this model's own tokenizer does."
        require(config.type_vocab_size > 0, "token_type_ids", message, hint)
        require_shape("token_type_ids", token_type_ids, shape)
        require_below("token_type_ids", token_type_ids, config.type_vocab_size, "type_vocab_size")
        segments = layout.unpad(token_type_ids)  # (T,)
    return Packed(layout, layout.unpad(words), positions, segments)


def _words(config: BertConfig, ids: Tensor | None, vectors: Tensor | None) -> Tensor:
    """Whichever of ids (B, S) and vectors (B, S, D) was given."""
    require((ids is None) != (vectors is None), "input_ids", "or inputs_embeds: give one of them.")
    if ids is not None:
        message = f"has shape {tuple(ids.shape)} and {ids.dtype}, but must be (B, S) integers."
        require(ids.dim() == 2 and is_integer(ids), "input_ids", message)
        require_below("input_ids", ids, config.vocab_size, "vocab_size")
        return ids  # (B, S)
    assert vectors is not None
    message = f"has shape {tuple(vectors.shape)}, but must be (B, S, {config.hidden_size}) floats."
    fits = vectors.dim() == 3 and vectors.shape[2] == config.hidden_size
    require(fits and vectors.is_floating_point(), "inputs_embeds", message)
    return vectors  # (B, S, D)


def _layout_of(words: Tensor, attention_mask: Tensor | None, pad_token_id: int | None) -> Layout:
    """The layout of a batch. Without a mask all columns are real, as in transformers."""
    if attention_mask is not None:
        if attention_mask.dim() == 2:
            require_shape("attention_mask", attention_mask, (words.shape[0], words.shape[1]))
        return Layout.from_mask(on_host(attention_mask)).to(words.device)
    if words.dim() == 2 and pad_token_id is not None and bool((on_host(words) == pad_token_id).any()):
        warnings.warn(
            "input_ids holds padding but there is no attention_mask, so padding is read as text; "
            "give the tokenizer's attention_mask to the model.",
            stacklevel=6,  # of the caller of the model, past pack, forward and two of torch
        )
    everywhere = torch.ones(words.shape[:2], dtype=torch.bool)  # (B, S)
    return Layout.from_mask(everywhere).to(words.device)
