"""The model and vocabulary at the start of pre-training: new ones, or those of a checkpoint."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch

from minibert.config import BertConfig
from minibert.heads import BertForMaskedLM, BertForPreTraining
from minibert.io.errors import ConfigError
from minibert.io.source import Source, open_source
from minibert.tokenizer import BertTokenizer
from minibert.workbench.runs.pretrain_settings import HEADS, HIDDEN_SIZE, LAYERS, PretrainSettings

# Above this learning rate, trained weights forget more than they learn.
HIGH_RATE = 2e-4

PreTrained = BertForPreTraining | BertForMaskedLM


def given_vocabulary(settings: PretrainSettings) -> tuple[BertTokenizer | None, Source | None]:
    """The tokenizer and the model that the settings name, as far as they do."""
    if settings.model is not None:
        source = open_source(settings.model, settings.revision)
        tokenizer = BertTokenizer.from_pretrained(source)
        if settings.max_positions is not None:
            tokenizer.max_length = settings.max_positions
        if settings.max_length > tokenizer.max_length:
            raise ConfigError(
                f"max_length is {settings.max_length}, but {settings.model} takes {tokenizer.max_length} tokens.",
                key="max_length",
                hint=f"Give it more positions: --max-positions {settings.max_length}.",
            )
        return tokenizer, source
    if settings.vocabulary is None:
        return None, None
    tokenizer = BertTokenizer.from_pretrained(settings.vocabulary, revision=settings.revision)
    tokenizer.max_length = positions(settings)
    # Even if the vocabulary is that of a DistilBERT: a freshly initialised model has segments.
    tokenizer.model_inputs = ("input_ids", "attention_mask", "token_type_ids")
    return tokenizer, None


def positions(settings: PretrainSettings) -> int:
    return settings.max_positions or settings.max_length


def build_model(settings: PretrainSettings, tokenizer: BertTokenizer, source: Source | None) -> PreTrained:
    """The model of a checkpoint, with a fresh head if it has none, or a freshly initialised one."""
    kind: type[Any] = BertForPreTraining if settings.next_sentence else BertForMaskedLM
    generator = torch.Generator().manual_seed(settings.seed)
    if source is not None:
        if settings.learning_rate > HIGH_RATE and settings.recipe is None:
            warnings.warn(
                f"learning_rate is {settings.learning_rate:g}, which is high for weights that are "
                "already trained; 5e-5 is common.",
                stacklevel=2,
            )
        model = kind.from_pretrained(source, fresh_head=True, generator=generator)
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
                max_position_embeddings=positions(settings),
                hidden_dropout_prob=rate,
                attention_probs_dropout_prob=rate,
                pad_token_id=tokenizer.pad_id,
            ),
            generator=generator,
        )
    model.use_gradient_checkpointing(settings.gradient_checkpointing)
    return model


def with_positions(model: PreTrained, count: int) -> PreTrained:
    """A model with more positions: the embeddings of the first ones are repeated.

    A token finds its neighbours by the position embeddings, each of which is learned separately.
    Repeated ones know most of that already (Beltagy et al. 2020, section 5) and learn the rest in
    a third of the time that freshly initialised ones take.

    Args:
        count: the new number of positions.

    Raises:
        ConfigError: the model has more already.
    """
    known = model.config.max_position_embeddings
    if count < known:
        raise ConfigError(
            f"max_positions is {count}, but the model has {known}.",
            key="max_positions",
            hint="Leave it out: short rows do not need fewer positions.",
        )
    longer = type(model)(replace(model.config, max_position_embeddings=count))
    numbers = dict(model.state_dict())
    [name] = (name for name in numbers if name.endswith("embeddings.position.weight"))
    numbers[name] = numbers[name].repeat(-(-count // known), 1)[:count]  # (count, D)
    longer.load_state_dict(numbers)
    longer._fresh, longer.load_report = model._fresh, model.load_report
    return longer
