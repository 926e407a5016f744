"""Each layer's learning rate by hand, and frozen layers that stay where they are."""

from __future__ import annotations

import pytest
import torch

from minibert import BertConfig, BertForSequenceClassification, BertModel
from minibert.io.errors import ConfigError
from minibert.optim import Schedule, build_optimizer, parameter_groups
from minibert.workbench.runs.settings import Settings, check
from minibert.workbench.tasks.finetune import finetune
from minibert.workbench.tasks.layerwise import freeze_lower_layers, rate_by_layer
from tests.conftest import refused
from tests.workbench.tasks.test_finetune import settings_for


def small(**changes) -> BertForSequenceClassification:
    config = {
        "vocab_size": 30,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "max_position_embeddings": 9,
    }
    return BertForSequenceClassification(BertConfig(**{**config, **changes}))


RATES = {
    "bert.embeddings.": 0.125,
    "bert.encoder.layers.0.": 0.25,
    "bert.encoder.layers.1.": 0.5,
    "bert.pooler.": 1.0,
    "head.": 1.0,
}


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_every_parameter_has_the_rate_of_its_layer(model_type):
    model = small(model_type=model_type, **({"type_vocab_size": 0} if model_type != "bert" else {}))
    groups = parameter_groups(model.named_parameters(), weight_decay=0.1, rate_of=rate_by_layer(2, 0.5))
    optimizer = build_optimizer(groups, learning_rate=0.01)
    schedule = Schedule(optimizer, "linear", warmup=0, total=4)
    assert schedule.learning_rate == 0.01  # the head's is the one that is logged
    for factor in (1.0, 0.75):
        found = {
            name: (group["lr"], group["weight_decay"])
            for group in optimizer.param_groups
            for name in group["param_names"]
        }
        assert found.keys() == {name for name, _ in model.named_parameters()}
        for name, parameter in model.named_parameters():
            [rate] = [rate for start, rate in RATES.items() if name.startswith(start)]
            decay = 0.1 if parameter.ndim >= 2 else 0.0
            assert found[name] == (pytest.approx(0.01 * factor * rate), decay), name
        schedule.step()


def test_without_decay_the_groups_are_the_usual_two():
    groups = parameter_groups(small().named_parameters(), weight_decay=0.1, rate_of=rate_by_layer(2, 1.0))
    assert [group["name"] for group in groups] == ["decay", "no decay"]


def test_frozen_layers_keep_their_weights_and_have_no_dropout(tiny, moods, tmp_path):
    run = finetune(
        settings_for(tiny, moods, tmp_path / "run", epochs=1, freeze_layers=1, layer_decay=0.9), progress=False
    )
    before, after = BertModel.from_pretrained(tiny), run.model.body
    moved = {name for name, tensor in before.state_dict().items() if not torch.equal(tensor, after.state_dict()[name])}
    assert moved == {name for name in before.state_dict() if name.startswith("encoder.layers.1.")}
    run.model.train()
    assert not any(part.training for part in after.embeddings.modules())
    assert not any(part.training for part in after.encoder.layers[0].modules())
    assert all(part.training for part in after.encoder.layers[1].modules())


def test_freezing_the_body_leaves_the_head(tiny, moods, tmp_path):
    run = finetune(settings_for(tiny, moods, tmp_path / "run", epochs=1, freeze=True), progress=False)
    trained = {name for name, part in run.model.named_parameters() if part.requires_grad}
    assert {name.split(".")[0] for name in trained if not name.startswith("bert.pooler")} == {"head"}


def test_freezing_no_layers_and_too_many_layers():
    model = small()
    freeze_lower_layers(model, 0)
    assert all(part.requires_grad for part in model.parameters())
    with refused(ConfigError, "freeze_layers"):
        freeze_lower_layers(model, 3)


@pytest.mark.parametrize("key, value", [("freeze", True), ("freeze_layers", 1), ("layer_decay", 0.9)])
def test_settings_without_effect_on_a_probe_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key} is {value}, but a probe keeps the whole model"):
        check(Settings("model", "train.csv", probe="linear", **{key: value}))
