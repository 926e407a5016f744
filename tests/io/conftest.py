"""Tiny models of every class and family, here and in transformers; all their sizes differ."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

import minibert
from minibert import BertConfig, checkpoint, names

CASES = [(family, name) for family, classes in names.HEADS.items() for name in classes]


def config_of(family: str, **changes) -> BertConfig:
    """D 32, L 2, N 4, F 37, V 99, 21 positions, 3 classes."""
    values = {
        "vocab_size": 99,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 37,
        "max_position_embeddings": 21,
        "type_vocab_size": 2 if family == "bert" else 0,
        "model_type": family,
        "id2label": {0: "cold", 1: "mild", 2: "hot"},
    }
    return BertConfig(**{**values, **changes})


def random_model(family: str, name: str, seed: int = 0, **changes):
    """A model whose every parameter is random: fresh biases are 0 and would hide a mistake."""
    model = getattr(minibert, name)(config_of(family, **changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
    return model.eval()


def reference_config(model):
    """The config that transformers reads from what minibert would write."""
    values = checkpoint.official_config(model)
    kind = {"bert": transformers.BertConfig, "distilbert": transformers.DistilBertConfig}
    return kind[model.config.model_type](**values)


def reference_class(model):
    """transformers' class of the same kind."""
    family, name = model.config.model_type, type(model).__name__
    return getattr(transformers, names.ARCHITECTURES[family][name])


def reference_of(model):
    """transformers' model of the same kind and sizes, with random numbers everywhere."""
    reference = reference_class(model)(reference_config(model)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
    return reference


def batch_of(model) -> dict[str, torch.Tensor]:
    """Three unpadded sequences of seven (for multiple choice: of two choices each)."""
    shape = (3, 2, 7) if type(model).__name__ == "BertForMultipleChoice" else (3, 7)
    generator = torch.Generator().manual_seed(2)
    batch = {
        "input_ids": torch.randint(5, 99, shape, generator=generator),  # (B, S)
        "attention_mask": torch.ones(shape, dtype=torch.long),  # (B, S)
    }
    if model.config.type_vocab_size:
        batch["token_type_ids"] = torch.randint(0, 2, shape, generator=generator)  # (B, S)
    return batch


def outputs_of(model, batch) -> dict[str, torch.Tensor]:
    """Every tensor that a model of either library gives back, by name."""
    with torch.no_grad():
        output = model(**batch)
    fields = "logits prediction_logits seq_relationship_logits start_logits end_logits last_hidden_state"
    values = {key: getattr(output, key, None) for key in fields.split()}
    if values["start_logits"] is not None:
        del values["logits"]  # ours gives both as one, too
    return {key: value for key, value in values.items() if isinstance(value, torch.Tensor)}


@pytest.fixture
def saved(tmp_path) -> Path:
    """A folder with a random three-class BertForSequenceClassification."""
    random_model("bert", "BertForSequenceClassification").save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"
