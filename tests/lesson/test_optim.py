"""Parameter groups, AdamW and schedules, against transformers and against plain AdamW."""

from __future__ import annotations

import math

import pytest
import torch
import transformers
from torch import nn

from minibert.io.errors import TrainingError
from minibert.optim import SCHEDULES, Schedule, build_optimizer, parameter_groups
from tests.conftest import BOUNDS


@pytest.fixture
def reference_model():
    config = transformers.BertConfig(
        vocab_size=99,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=37,
        max_position_embeddings=24,
    )
    return transformers.BertForSequenceClassification(config)


def names_of(groups):
    return {group["name"]: [name for name, _ in group["params"]] for group in groups}


def test_decay_falls_where_transformers_lets_it_fall(reference_model):
    """On transformers' own model, with its Trainer's rule: no bias, no layer norm."""
    groups = parameter_groups(reference_model.named_parameters(), weight_decay=0.01)
    expected: dict[str, list[str]] = {"decay": [], "no decay": []}
    for name, _ in reference_model.named_parameters():
        spared = name.endswith("bias") or "LayerNorm" in name
        expected["no decay" if spared else "decay"].append(name)
    assert names_of(groups) == expected
    assert {group["name"]: group["weight_decay"] for group in groups} == {"decay": 0.01, "no decay": 0.0}


def test_frozen_parameters_and_empty_groups_are_left_out(reference_model):
    for name, parameter in reference_model.named_parameters():
        parameter.requires_grad_(name == "classifier.weight")
    groups = parameter_groups(reference_model.named_parameters(), weight_decay=0.01)
    assert names_of(groups) == {"decay": ["classifier.weight"]}
    reference_model.requires_grad_(False)
    with pytest.raises(TrainingError):
        parameter_groups(reference_model.named_parameters(), weight_decay=0.01)


def test_a_tied_parameter_is_trained_once():
    model = nn.ModuleDict({"table": nn.Embedding(7, 3), "decoder": nn.Linear(3, 7, bias=False)})
    model["decoder"].weight = model["table"].weight
    groups = parameter_groups(model.named_parameters(), weight_decay=0.01)
    assert names_of(groups) == {"decay": ["table.weight"]}


def test_the_optimizer_keeps_names():
    groups = parameter_groups(nn.Linear(30, 50).named_parameters(), weight_decay=0.01)
    optimizer = build_optimizer(groups, learning_rate=1e-3)
    kept = [group["param_names"] for group in optimizer.state_dict()["param_groups"]]
    assert kept == [["weight"], ["bias"]]
    assert [parameter.shape for group in optimizer.param_groups for parameter in group["params"]] == [(50, 30), (50,)]


@pytest.mark.parametrize("betas, eps", [((0.9, 0.999), 1e-8), ((0.8, 0.99), 1e-6)])
def test_the_fused_update_equals_the_plain_one(betas, eps):
    torch.manual_seed(2)
    fused, plain = (nn.Linear(5, 3).double() for _ in range(2))
    plain.load_state_dict(fused.state_dict())
    groups = parameter_groups(fused.named_parameters(), weight_decay=0.1)
    quick = build_optimizer(groups, learning_rate=0.05, betas=betas, eps=eps)
    assert quick.param_groups[0]["fused"] is True
    slow = torch.optim.AdamW(
        [{"params": [plain.weight], "weight_decay": 0.1}, {"params": [plain.bias], "weight_decay": 0.0}],
        lr=0.05,
        betas=betas,
        eps=eps,
        foreach=False,
        fused=False,
    )
    for _ in range(20):
        for left, right in zip(fused.parameters(), plain.parameters(), strict=True):
            left.grad = torch.randn_like(left)
            right.grad = left.grad.clone()
        quick.step()
        slow.step()
    for left, right in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=BOUNDS["fp64"])


@pytest.mark.parametrize("learning_rate", [0.0, -1e-4, math.nan, math.inf])
def test_a_learning_rate_that_is_none_is_refused(learning_rate):
    groups = parameter_groups(nn.Linear(3, 5).named_parameters(), weight_decay=0.01)
    with pytest.raises(TrainingError) as caught:
        build_optimizer(groups, learning_rate=learning_rate)
    assert caught.value.key == "learning_rate"


REFERENCES = {
    "linear": lambda optimizer, warmup, total: transformers.get_linear_schedule_with_warmup(optimizer, warmup, total),
    "cosine": lambda optimizer, warmup, total: transformers.get_cosine_schedule_with_warmup(optimizer, warmup, total),
    "constant": lambda optimizer, warmup, total: transformers.get_constant_schedule_with_warmup(optimizer, warmup),
}


def two_groups():
    layer = nn.Linear(3, 5)
    return torch.optim.SGD([{"params": [layer.weight], "lr": 0.3}, {"params": [layer.bias], "lr": 0.07}])


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("warmup, total", [(0, 9), (3, 10), (1, 1), (10, 10), (0, 1)])
@pytest.mark.parametrize("name", REFERENCES)
def test_schedules_equal_those_of_transformers(name, warmup, total):
    ours, theirs = two_groups(), two_groups()
    schedule = Schedule(ours, name, warmup=warmup, total=total)
    reference = REFERENCES[name](theirs, warmup, total)
    # One update past the end too: of half a cosine, transformers' would rise again later on.
    for update in range(total + 1):
        expected = [group["lr"] for group in theirs.param_groups]
        assert [group["lr"] for group in ours.param_groups] == pytest.approx(expected, abs=1e-15)
        assert schedule.learning_rate == ours.param_groups[0]["lr"]
        assert schedule.updates == update
        schedule.step()
        reference.step()


def test_the_exponential_schedule_is_torchs_stepped_once_an_epoch():
    ours, theirs = two_groups(), two_groups()
    schedule = Schedule(ours, "exponential", warmup=0, total=12, epochs=4)
    reference = torch.optim.lr_scheduler.ExponentialLR(theirs, gamma=0.95)
    for _ in range(4):
        for _ in range(3):
            expected = [group["lr"] for group in theirs.param_groups]
            assert [group["lr"] for group in ours.param_groups] == pytest.approx(expected)
            theirs.step()
            schedule.step()
        reference.step()


def test_the_exponential_schedule_warms_up_first():
    optimizer = two_groups()
    schedule = Schedule(optimizer, "exponential", warmup=4, total=6, epochs=2)
    rates = []
    for _ in range(6):
        rates.append(schedule.learning_rate)
        schedule.step()
    assert rates == pytest.approx([0, 0.075, 0.15, 0.225, 0.3 * 0.95, 0.3 * 0.95])


def test_every_schedule_has_a_reference():
    assert SCHEDULES.keys() == {*REFERENCES, "exponential"}


def test_groups_can_learn_at_rates_of_their_own():
    layer = nn.Linear(3, 5)
    groups = parameter_groups(
        layer.named_parameters(), weight_decay=0.01, rate_of=lambda name: 1.0 if name == "bias" else 0.25
    )
    found = [(group["name"], group["weight_decay"], [name for name, _ in group["params"]]) for group in groups]
    assert found == [("no decay", 0.0, ["bias"]), ("decay, rate x 0.25", 0.01, ["weight"])]
    optimizer = build_optimizer(groups, learning_rate=0.4)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.4, 0.1])


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_after_the_end_the_learning_rate_stays_zero(name):
    optimizer = two_groups()
    schedule = Schedule(optimizer, name, warmup=2, total=5)
    for _ in range(20):
        schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.0]


@pytest.mark.parametrize(
    "name, warmup, total, key", [("linaer", 0, 5, "schedule"), ("linear", 6, 5, "warmup"), ("linear", -1, 5, "warmup")]
)
def test_schedules_that_cannot_be(name, warmup, total, key):
    with pytest.raises(TrainingError) as caught:
        Schedule(two_groups(), name, warmup=warmup, total=total)
    assert caught.value.key == key
