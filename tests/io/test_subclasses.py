"""Changing BERT: subclasses load, train, save and reload; what would be lost is refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from minibert import BertForMaskedLM, BertForQuestionAnswering, BertForSequenceClassification, BertModel, checkpoint
from minibert.attention import attend_by_length, attention_by_hand
from minibert.fast.accelerate import accelerate
from minibert.io.errors import CheckpointError, ConfigError
from minibert.io.files import read_json, write_json
from minibert.io.shards import SINGLE
from tests.conftest import BOUNDS, refused
from tests.io.conftest import batch_of, config_of, outputs_of, random_model, reference_of


class Renamed(BertForSequenceClassification):
    """Nothing new."""


class Doubled(nn.Linear):
    """A linear map with a parameter of its own."""

    def __init__(self, size: int, outputs: int):
        super().__init__(size, outputs)
        self.gain = nn.Parameter(torch.full((outputs,), 2.0))

    def forward(self, hidden):
        return super().forward(hidden) * self.gain


class WithGain(BertForSequenceClassification):
    """A parameter more, and a table that is computed when the model is built."""

    def __init__(self, config):
        super().__init__(config)
        self.head.classifier = Doubled(config.hidden_size, config.num_labels)
        self.register_buffer("table", torch.arange(3.0), persistent=False)


class NoPositions(nn.Module):
    def forward(self, positions):
        return 0.0


class WithoutPositions(BertModel):
    def __init__(self, config, pooler=True):
        super().__init__(config, pooler)
        self.embeddings.position = NoPositions()


class Adapted(BertForSequenceClassification):
    """A new module, under a name of its own."""

    def __init__(self, config):
        super().__init__(config)
        self.adapter = nn.Linear(config.hidden_size, 2)


class Clashing(BertForSequenceClassification):
    def __init__(self, config):
        super().__init__(config)
        self.classifier = nn.Linear(config.hidden_size, 3)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("kind", [Renamed, WithGain, Adapted])
def test_a_subclass_loads_official_files_saves_and_loads_again(kind, saved, tmp_path, recwarn):
    model = kind.from_pretrained(saved)
    assert not model.training
    plain = BertForSequenceClassification.from_pretrained(saved)
    assert_same({name: model.state_dict()[name] for name in plain.state_dict()}, plain.state_dict())
    model.save_pretrained(tmp_path / "again", allow_untrained=True)
    again = kind.from_pretrained(tmp_path / "again")
    assert_same(again.state_dict(), model.state_dict())
    assert not again.load_report.of("fresh") and not again.untrained()
    assert not recwarn.list
    recorded = read_json(tmp_path / "again" / "config.json")
    assert recorded["minibert_class"] == f"{__name__}:{kind.__name__}"
    assert recorded["architectures"] == ["BertForSequenceClassification"]


def test_what_a_subclass_adds_is_fresh_until_it_is_trained(saved, tmp_path):
    model = WithGain.from_pretrained(saved)
    assert [entry.name for entry in model.load_report.of("fresh")] == ["head.classifier.gain"]
    assert model.untrained() == ("head.classifier.gain",)
    assert model.head.classifier.gain.tolist() == [2.0, 2.0, 2.0]  # as its __init__ made it
    assert model.table.tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(CheckpointError) as caught:
        model.save_pretrained(tmp_path)
    assert caught.value.key == "head.classifier.gain"
    step = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()(**batch_of(model), labels=torch.tensor([0, 1, 2])).loss.backward()
    step.step()
    model.save_pretrained(tmp_path)


def test_a_subclass_takes_labels_and_a_fresh_head(saved):
    model = Renamed.from_pretrained(saved, labels=["a", "b"])
    assert model.head.classifier.weight.shape == (2, 32)
    assert model.untrained() == ("head.classifier.weight", "head.classifier.bias")
    other = torch.Generator().manual_seed(1)
    again = Renamed.from_pretrained(saved, labels=["a", "b"], generator=other)
    assert not torch.equal(model.head.classifier.weight, again.head.classifier.weight)


def test_the_plain_class_warns_of_a_subclass(saved, tmp_path):
    Renamed.from_pretrained(saved).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=f"{__name__}:Renamed"):
        model = BertForSequenceClassification.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    assert "minibert_class" not in read_json(tmp_path / "config.json")


def test_the_plain_class_refuses_parameters_of_a_subclass(saved, tmp_path):
    WithGain.from_pretrained(saved).save_pretrained(tmp_path, allow_untrained=True)
    with pytest.warns(UserWarning, match="WithGain"), pytest.raises(CheckpointError) as caught:
        BertForSequenceClassification.from_pretrained(tmp_path)
    assert caught.value.key == "head.classifier.gain"


def test_a_subclass_demands_its_own_parameters_of_its_own_files(saved, tmp_path):
    Adapted.from_pretrained(saved).save_pretrained(tmp_path, allow_untrained=True)

    class Adapted2(Adapted):
        def __init__(self, config):
            super().__init__(config)
            self.more = nn.Parameter(torch.zeros(2))

    Adapted2.__qualname__ = "Adapted"  # the class has changed since the file was saved
    with pytest.raises(CheckpointError) as caught:
        Adapted2.from_pretrained(tmp_path)
    assert caught.value.key == "more"


def test_parameters_that_a_subclass_lacks_are_left_out(tmp_path):
    random_model("bert", "BertModel").save_pretrained(tmp_path / "plain")
    model = WithoutPositions.from_pretrained(tmp_path / "plain")
    left_out = [entry.official for entry in model.load_report.of("left out")]
    assert left_out == ["embeddings.position_embeddings.weight"]
    model.save_pretrained(tmp_path / "again")
    again = WithoutPositions.from_pretrained(tmp_path / "again")
    assert_same(outputs_of(again, batch_of(again)), outputs_of(model, batch_of(model)))
    # Missing for the plain class, and said by name.
    with pytest.warns(UserWarning), pytest.raises(CheckpointError) as caught:
        BertModel.from_pretrained(tmp_path / "again")
    assert caught.value.key == "embeddings.position_embeddings.weight"


def test_a_replaced_module_is_refused(tmp_path):
    model = random_model("bert", "BertModel")
    model.embeddings.position = NoPositions()
    with pytest.raises(CheckpointError) as caught:
        model.save_pretrained(tmp_path)
    assert caught.value.key == "embeddings.position" and "subclass" in caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda model: model.register_parameter("scale", nn.Parameter(torch.ones(1))), "scale"),
        (lambda model: setattr(model.head, "classifier", nn.Linear(32, 5)), "head.classifier"),
        (lambda model: setattr(model.head, "dropout", nn.AlphaDropout(0.1)), "head.dropout"),
        (lambda model: delattr(model.head, "dropout"), "head.dropout"),
        (lambda model: setattr(model.bert.encoder, "layers", model.bert.encoder.layers[:1]), "bert.encoder.layers.1"),
        (lambda model: setattr(model.bert, "pooler", None), "bert.pooler"),
        (
            lambda model: setattr(model.bert.encoder.layers[1].attention, "attend", print),
            "bert.encoder.layers.1.attention.attend",
        ),
        (lambda model: setattr(model.bert.embeddings.norm, "eps", 1e-5), "bert.embeddings.norm"),
        (lambda model: setattr(model.head.dropout, "p", 0.5), "head.dropout"),
        (
            lambda model: setattr(model.bert.encoder.layers[0].attention, "dropout_p", 0.5),
            "bert.encoder.layers.0.attention",
        ),
        (
            lambda model: setattr(model.bert.encoder.layers[0].feed_forward, "activation", torch.relu),
            "bert.encoder.layers.0.feed_forward",
        ),
    ],
)
def test_what_a_file_would_lose_is_refused(change, key, tmp_path):
    model = random_model("bert", "BertForSequenceClassification")
    change(model)
    with pytest.raises(CheckpointError) as caught:
        model.save_pretrained(tmp_path)
    assert key in str(caught.value) and not list(tmp_path.iterdir())


def test_other_forms_of_the_same_attention_are_saved(tmp_path):
    model = random_model("bert", "BertModel")
    model.encoder.layers[0].attention.attend = partial(attend_by_length, form=attention_by_hand)
    model.save_pretrained(tmp_path / "by_hand")
    accelerate(model).save_pretrained(tmp_path / "fast")


def test_two_parameters_with_one_official_name_are_refused(saved):
    with pytest.raises(CheckpointError) as caught:
        Clashing.from_pretrained(saved)
    assert caught.value.key == "classifier.weight"


def test_a_subclass_with_the_name_of_its_official_class(saved, tmp_path):
    kind = type("BertForSequenceClassification", (BertForSequenceClassification,), {})
    model = kind.from_pretrained(saved)
    model.save_pretrained(tmp_path)
    assert checkpoint.official_class(kind) is BertForSequenceClassification


def test_a_class_that_is_not_derived_from_an_official_one(saved):
    from minibert.base import Model

    with pytest.raises(CheckpointError) as caught:
        Model.from_pretrained(saved)
    assert caught.value.key == "Model"


def test_saving_leaves_the_random_numbers_to_come_as_they_are(saved, tmp_path):
    model = Adapted.from_pretrained(saved)
    torch.manual_seed(3)
    model.save_pretrained(tmp_path, allow_untrained=True)
    found = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(found, torch.rand(1))


# Fewer layers


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_fewer_layers(family, tmp_path):
    whole = random_model(family, "BertForMaskedLM")
    whole.save_pretrained(tmp_path)
    model = BertForMaskedLM.from_pretrained(tmp_path, num_hidden_layers=1)
    assert model.config.num_hidden_layers == 1 and len(model.bert.encoder.layers) == 1
    reasons = {entry.reason for entry in model.load_report.of("left out")}
    assert reasons == {"num_hidden_layers is 1"}
    assert len(model.load_report.of("left out")) == 16
    batch = {**batch_of(model), "output_hidden_states": True}
    with torch.no_grad():
        found, expected = model(**batch).hidden_states[1], whole(**batch).hidden_states[1]
    assert torch.equal(found, expected)
    model.save_pretrained(tmp_path / "short")
    assert BertForMaskedLM.from_pretrained(tmp_path / "short").config.num_hidden_layers == 1


@pytest.mark.parametrize("layers", [0, 3, -1])
def test_a_number_of_layers_that_cannot_be(layers, tmp_path):
    random_model("bert", "BertModel").save_pretrained(tmp_path)
    with pytest.raises(ConfigError) as caught:
        BertModel.from_pretrained(tmp_path, num_hidden_layers=layers)
    assert caught.value.key == "num_hidden_layers"


def test_too_many_labels_are_refused_before_any_names_are_made(saved):
    with pytest.raises(ConfigError) as caught:
        BertForSequenceClassification.from_pretrained(saved, num_labels=10**9)
    assert caught.value.key == "num_labels"


def test_a_model_of_a_config_saves(tmp_path):
    Renamed(config_of("bert")).save_pretrained(tmp_path)
    assert not Renamed.from_pretrained(tmp_path).load_report.of("fresh")


# Pruned heads


def keep(tensor, heads, axis):
    """The rows (axis 0) or columns (axis 1) of four heads of size 8 that are kept."""
    return torch.cat([part for n, part in enumerate(tensor.split(8, axis)) if n in heads], axis)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_pruned_heads_load_save_and_compute_as_if_their_contexts_were_zero(family, tmp_path):
    """In the form in which transformers 4 wrote them; transformers 5 does not open it."""
    reference = reference_of(random_model(family, "BertForSequenceClassification"))
    reference.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / SINGLE)
    pruned, kept = {"1": [0, 3]}, (1, 2)
    for name in [name for name in tensors if "layer.1.attention" in name]:
        if "output" in name or "out_lin" in name:
            if name.endswith("weight") and "LayerNorm" not in name:
                tensors[name] = keep(tensors[name], kept, 1).contiguous()  # (D, 16)
                reference.get_parameter(name).data[:, [*range(8), *range(24, 32)]] = 0.0
        else:
            tensors[name] = keep(tensors[name], kept, 0)  # (16, D) or (16,)
    save_file(tensors, tmp_path / SINGLE, {"format": "pt"})
    values = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", {**values, "pruned_heads": pruned})
    model = BertForSequenceClassification.from_pretrained(tmp_path)
    found, expected = outputs_of(model, batch_of(model)), outputs_of(reference, batch_of(model))
    bound = BOUNDS["module fp32"]
    torch.testing.assert_close(found["logits"], expected["logits"], rtol=bound, atol=bound)
    model.save_pretrained(tmp_path / "again")
    assert read_json(tmp_path / "again" / "config.json")["pruned_heads"] == pruned
    assert_same(load_file(tmp_path / "again" / SINGLE), tensors)
    again = BertForSequenceClassification.from_pretrained(tmp_path / "again")
    assert_same(again.state_dict(), model.state_dict())
    short = BertForSequenceClassification.from_pretrained(tmp_path, num_hidden_layers=1)
    assert short.config.pruned_heads == {}


def values_only(query, key, value, mask=None, dropout_p=0.0):
    return value


class Windowed(BertForMaskedLM):
    """An attention of its own, made anew whenever the model is built."""

    def __init__(self, config, generator=None):
        super().__init__(config, generator)
        for layer in self.bert.encoder.layers:
            layer.attention.attend = partial(attend_by_length, form=values_only)


def test_an_attention_inside_a_partial_is_saved_by_its_subclass_alone(tmp_path):
    model = Windowed(config_of("bert"))
    model.save_pretrained(tmp_path / "own")
    again = Windowed.from_pretrained(tmp_path / "own")
    batch = batch_of(model)
    assert torch.equal(outputs_of(model.eval(), batch)["logits"], outputs_of(again, batch)["logits"])
    plain = random_model("bert", "BertForMaskedLM")
    plain.bert.encoder.layers[0].attention.attend = partial(attend_by_length, form=values_only)
    with pytest.raises(CheckpointError) as caught:
        plain.save_pretrained(tmp_path / "plain")
    assert caught.value.key == "bert.encoder.layers.0.attention.attend"


def test_heads_with_fixed_classes_take_no_number_of_labels(tmp_path):
    random_model("bert", "BertForQuestionAnswering").save_pretrained(tmp_path)
    for count in (2, 3):
        with pytest.raises(ConfigError) as caught:
            BertForQuestionAnswering.from_pretrained(tmp_path, num_labels=count)
        assert caught.value.key == "labels"


class Scaled(BertForSequenceClassification):
    def build(self, config):
        super().build(config)
        self.register_buffer("scale", torch.full((1,), 3.0))


def test_a_subclass_may_have_a_buffer_and_replace_a_fresh_module(tmp_path):
    random_model("bert", "BertModel").save_pretrained(tmp_path / "base")
    model = Scaled.from_pretrained(tmp_path / "base", num_labels=2)
    assert model.scale.item() == 3.0 and model.untrained()
    model.head.classifier = nn.Sequential(nn.Linear(32, 2))
    with pytest.raises(CheckpointError):  # of its parts, not a KeyError
        model.save_pretrained(tmp_path / "replaced", allow_untrained=True)


class TwiceAsMuch:
    """An activation that is an object, not a function."""

    def __call__(self, values):
        return 2 * values


class OtherActivations(BertModel):
    def __init__(self, config, **options):
        super().__init__(config, **options)
        self.encoder.layers[0].feed_forward.activation = nn.ReLU()
        self.encoder.layers[1].feed_forward.activation = TwiceAsMuch()
        self.encoder.layers[1].attention.dropout_p = 0.25


def test_a_subclass_makes_such_changes_in_its_init(tmp_path):
    OtherActivations(random_model("bert", "BertModel").config).save_pretrained(tmp_path)
    assert OtherActivations.from_pretrained(tmp_path).encoder.layers[1].attention.dropout_p == 0.25


class TiedHead(BertForSequenceClassification):
    """Has a matrix of its own that two modules use."""

    def build(self, config):
        super().build(config)
        self.first = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.second = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.second.weight = self.first.weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_parameter_that_a_subclass_uses_twice_stays_one(dtype, saved, tmp_path):
    model = TiedHead.from_pretrained(saved, dtype=dtype)
    assert model.second.weight is model.first.weight and model.first.weight.dtype == dtype
    with torch.no_grad():
        model.first.weight.normal_()
    model.save_pretrained(tmp_path)
    again = TiedHead.from_pretrained(tmp_path, dtype=dtype)
    assert again.second.weight is again.first.weight and torch.equal(again.first.weight, model.first.weight)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "second.weight": tensors["first.weight"] + 1}, tmp_path / "model.safetensors")
    with refused(CheckpointError, "first.weight"):  # the value that the other one took the place of
        TiedHead.from_pretrained(tmp_path, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_fresh_head_is_known_after_a_round_trip_through_16_bits(dtype, tmp_path):
    random_model("bert", "BertModel").save_pretrained(tmp_path)
    model = BertForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    fresh = model.untrained()
    assert fresh and model.to(dtype).untrained() == fresh == model.float().untrained()
    with torch.no_grad():
        model.head.classifier.weight[0, 0] += 1e-3
    assert model.untrained() == ()
