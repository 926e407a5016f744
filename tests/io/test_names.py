"""Names: one to one, there and back, for every class of both families."""

from __future__ import annotations

import pytest

import minibert
from minibert import names
from minibert.checkpoint import official_class
from minibert.io.errors import CheckpointError
from minibert.names import bare_name, official_name
from tests.io.conftest import CASES, config_of, reference_of


@pytest.mark.parametrize(("family", "name"), CASES)
@pytest.mark.parametrize("tied", [True, False])
def test_official_names_are_those_that_transformers_uses(family, name, tied):
    config = config_of(family, tie_word_embeddings=tied)
    model = getattr(minibert, name)(config)
    official = model.official_names()
    assert len(set(official.values())) == len(official) == len(model.state_dict())
    copies = names.COPIES[family, tied] if name in names.MASKED_LM else {}
    reference = reference_of(model)
    assert set(official.values()) | set(copies) == set(reference.state_dict())
    shapes = {official[key]: tensor.shape for key, tensor in model.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in reference.state_dict().items() if key in shapes}


def test_every_class_of_the_model_package_is_named():
    classes = {name for name in minibert.__all__ if name.startswith("BertFor")}
    assert classes | {"BertModel"} == set(names.HEADS["bert"])


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_body_names_are_one_to_one(family):
    assert len(set(names.BODY[family].values())) == len(names.BODY[family])


@pytest.mark.parametrize(
    ("official", "bare"),
    [
        ("bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"),
        ("encoder.layer.3.output.LayerNorm.beta", "encoder.layer.3.output.LayerNorm.bias"),
        ("distilbert.transformer.layer.0.ffn.lin1.bias", "transformer.layer.0.ffn.lin1.bias"),
        ("cls.predictions.transform.LayerNorm.gamma", "cls.predictions.transform.LayerNorm.weight"),
        # Only layer norms had these names: a `gamma` elsewhere is another thing.
        ("bert.encoder.layer.0.gamma", "encoder.layer.0.gamma"),
    ],
)
def test_old_names_and_prefixes(official, bare):
    assert bare_name(official) == bare


def test_layer_numbers_of_two_digits():
    name = "encoder.layers.11.attention.query.weight"
    official = "encoder.layer.11.attention.self.query.weight"
    assert official_name(name, "BertModel", "bert", True) == official
    assert official_name(f"bert.{name}", "BertForMaskedLM", "bert", True) == f"bert.{official}"


@pytest.mark.parametrize("name", ["head.scale", "bert.adapter.weight", "other.weight"])
def test_a_parameter_without_an_official_name(name):
    assert official_name(name, "BertForMaskedLM", "bert", True) is None


def test_a_class_without_a_distilbert_form_is_named():
    with pytest.raises(CheckpointError) as caught:
        official_class(minibert.BertForPreTraining, "distilbert")
    assert caught.value.key == "model_type" and "BertForPreTraining" in str(caught.value)
