"""The encoder as CUDA graphs, with a recorder for a CPU: what it is given, and when it may be used.

The graphs themselves run on a GPU only; `python -m tests.programs.gpu` holds them to the same numbers.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from minibert.attention import attention_by_hand
from minibert.fast import graphs
from minibert.fast.accelerate import accelerate
from minibert.io.errors import InputError
from tests.conftest import BOUNDS, refused
from tests.lesson.reference import V, pair

NAME = "BertForSequenceClassification"


def attend_in_boundaries(query, key, value, layout, dropout_p):
    """What the varlen kernel computes, from the boundaries alone."""
    contexts = []
    for row in zip(*(part.split(layout.boundaries.diff().tolist()) for part in (query, key, value)), strict=True):
        assert len(row[0]) <= layout.groups[-1][1]
        contexts.append(attention_by_hand(*(part.transpose(0, 1)[None] for part in row))[0].transpose(0, 1))
    return torch.cat(contexts)


@pytest.fixture
def recorded(monkeypatch):
    """Records by keeping the work, and repeats it by doing it again; how often each happened."""
    seen = {"recorded": 0, "repeated": 0}

    def record(work, pool):
        results = [part.detach().clone() for part in work()]
        seen["recorded"] += 1

        def repeat():
            seen["repeated"] += 1
            with torch.enable_grad():
                for old, new in zip(results, work(), strict=True):
                    old.copy_(new.detach())

        return results, repeat

    monkeypatch.setattr(graphs, "record", record)
    monkeypatch.setattr(graphs, "new_pool", lambda: "a pool")
    monkeypatch.setattr(graphs, "attend_fast", attend_in_boundaries)
    monkeypatch.setattr(
        graphs.GraphedEncoder, "_can_record", lambda self, *given: all(map(graphs._is_plain, self.modules()))
    )
    return seen


def models():
    """The lesson's model, and one whose encoder is recorded."""
    _, plain = pair("bert", NAME, torch.float32)
    graphed = accelerate(copy.deepcopy(plain), graphs=True)
    assert type(graphed.bert.encoder) is graphs.GraphedEncoder
    for layer in graphed.bert.encoder.layers:
        layer.attention.attend = attend_in_boundaries
    return plain, graphed


def batches(count=5):
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        mask = torch.ones(3, 7)
        mask[1, 2 + number % 3 :] = 0
        ids = torch.randint(1, V, (3, 7), generator=generator)
        yield {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 1, number % 5])}


def assert_same(plain, graphed):
    """Norm of the difference over the norm; a key's bias has none to be compared with."""
    for (name, one), other in zip(plain.named_parameters(), graphed.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            size = 1.0 if name.endswith("key.bias") else one.grad.norm()
            assert (one.grad - other.grad).norm() <= BOUNDS["gradient fp32"] * size, name


@pytest.mark.parametrize("accumulate", [1, 2])
def test_outputs_and_gradients_are_those_of_the_lesson(recorded, accumulate):
    plain, graphed = models()
    for number, batch in enumerate(batches(6)):
        for model in (plain, graphed):
            if number % accumulate == 0:
                model.zero_grad()
            output = model(**batch)
            output.loss.backward()
        assert_same(plain, graphed)
    assert recorded == {"recorded": 2, "repeated": 8}


def test_inference_is_recorded_by_itself(recorded):
    plain, graphed = models()
    with torch.inference_mode():
        for batch in batches():
            difference = plain(**batch).logits - graphed(**batch).logits
            assert difference.abs().max() <= BOUNDS["by hand against sdpa fp32"]
    assert recorded == {"recorded": 1, "repeated": 3}
    for batch in batches():
        graphed(**batch).loss.backward()
    assert recorded == {"recorded": 3, "repeated": 9}


def test_a_pass_in_use_is_not_overwritten(recorded):
    plain, graphed = models()
    *_, one, other = batches()
    for batch in batches():
        graphed(**batch).loss.backward()
    for model in (plain, graphed):
        model.zero_grad()
        losses = [model(**one).loss, model(**other).loss]
        with torch.no_grad():
            model(**other)
        for loss in losses:
            loss.backward()
    assert_same(plain, graphed)


def test_a_second_backward_pass_is_refused(recorded):
    _, graphed = models()
    for batch in batches(3):
        loss = graphed(**batch).loss
        loss.backward(retain_graph=True)
    with refused(InputError, "graphs"):
        loss.backward()


@pytest.mark.parametrize("change", ["hook", "part", "address", "frozen", "dropout"])
def test_another_state_is_not_what_was_recorded(recorded, change):
    plain, graphed = models()
    for batch in batches(4):
        graphed(**batch).loss.backward()
    before = dict(recorded)
    for model in (plain, graphed):
        layer = model.bert.encoder.layers[1]
        if change == "hook":
            layer.attention.register_forward_hook(lambda module, given, output: output * 2)
        elif change == "part":
            layer.feed_forward.inner = nn.Sequential(layer.feed_forward.inner, nn.Tanh())
        elif change == "address":
            layer.feed_forward.inner.weight.data = layer.feed_forward.inner.weight * 2
        elif change == "frozen":
            layer.requires_grad_(False)
        else:
            layer.feed_forward_dropout.p, layer.training = 1.0, True
            layer.feed_forward_dropout.train()
        model.zero_grad()
        model(**batch).loss.backward()
    assert recorded == before
    assert_same(plain, graphed)


def test_a_copy_starts_without_recordings(recorded):
    _, graphed = models()
    for batch in batches(4):
        graphed(**batch).loss.backward()
    twin = copy.deepcopy(graphed)
    with torch.no_grad():
        twin.bert.encoder.layers[0].feed_forward.inner.weight.mul_(2)
    one, other = (model(**batch).logits for model in (graphed, twin))
    assert not torch.equal(one, other)
    assert not twin.bert.encoder._recordings.made
