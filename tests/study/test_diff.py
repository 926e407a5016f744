"""What changed between two models: planted changes are found, measures are those of their definitions."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from minibert import BertForSequenceClassification, BertModel
from minibert.io.errors import CheckpointError, DataError
from minibert.study.diff import diff, effective_rank, linear_cka
from tests.lesson.reference import pair
from tests.study import planted
from tests.study.test_account import TOKENIZERS

TEXTS = ["3 1 4 1 5", "9 2 6", "5 3 5 8 9 7 9", "3 2 3 8 4 6"]


@pytest.fixture
def model():
    return pair("bert", "BertModel")[1]


def test_a_model_is_like_itself(model):
    result = diff(model, copy.deepcopy(model), TOKENIZERS["bert"], TEXTS, progress=False)
    assert {moved.change for moved in result.tensors} == {0.0} and result.only == []
    assert all(abs(moved.cosine - 1) < 1e-12 and moved.rank is None for moved in result.tensors)
    torch.testing.assert_close(result.likeness, torch.ones(3, dtype=torch.float64))


def test_a_planted_change_of_rank_two_is_found_with_its_rank_and_head(model):
    after = copy.deepcopy(model)
    weight = after.encoder.layers[1].attention.value.weight
    rows = slice(8, 16)  # head 1
    with torch.no_grad():
        left, right = torch.linalg.qr(torch.randn(8, 2).double()).Q, torch.linalg.qr(torch.randn(32, 2).double()).Q
        weight[rows] += 0.5 * left @ right.t()
    result = diff(model, after, TOKENIZERS["bert"], TEXTS, progress=False)
    [top, second] = result.top(2)
    assert top.name == "encoder.layers.1.attention.value.weight" and second.change == 0
    assert abs(top.rank - 2) < 1e-6 and top.full_rank == 32
    assert abs(top.change - 0.5 * 2**0.5 / model.encoder.layers[1].attention.value.weight.norm().item()) < 1e-9
    moved = [(layer, head) for layer, row in enumerate(result.heads) for head, each in enumerate(row) if each.change]
    assert moved == [(1, 1)]
    assert abs(result.likeness[1] - 1) < 1e-12 and result.likeness[2] < 1 - 1e-6
    assert "layers.1.attention.value" in str(result) and "layer 1, head 1" in repr(result.picture())
    assert result.as_dict()["cka"] == result.likeness.tolist()


def test_zeros_that_stay_point_the_same_way_and_json_has_no_infinity(model):
    with torch.no_grad():
        for layer in model.encoder.layers:
            layer.attention.key.bias.zero_()
    after = copy.deepcopy(model)
    with torch.no_grad():
        after.encoder.layers[0].attention.key.bias += 1
    found = {moved.name: moved for moved in diff(model, after, progress=False).tensors}
    assert found["encoder.layers.1.attention.key.bias"].cosine == 1
    assert found["encoder.layers.0.attention.key.bias"].change == torch.inf
    rows = diff(model, after, progress=False).as_dict()
    assert [row["change"] for row in rows["tensors"] if "0.attention.key.bias" in row["name"]] == [None]
    json.dumps(rows, allow_nan=False)


def test_heads_and_poolers_may_differ():
    classifier = planted.finds_word()
    bare = BertModel(classifier.config, pooler=False)
    result = diff(bare, classifier, progress=False)
    assert result.only == ["pooler.dense.bias", "pooler.dense.weight"] and result.likeness is None
    assert "pooler" in str(result)


def test_cka_does_not_see_rotations_and_sees_noise():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 12, dtype=torch.float64, generator=generator)
    rotation = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64, generator=generator)).Q
    assert abs(linear_cka(x, 3 * x @ rotation + 5) - 1) < 1e-12
    assert linear_cka(x, torch.randn(500, 9, dtype=torch.float64, generator=generator)) < 0.1
    # HSIC of the centred Gram matrices, the definition that the formula abbreviates.
    y = x[:, :3] ** 2
    k, m = ((each - each.mean(dim=0)) @ (each - each.mean(dim=0)).t() for each in (x, y))
    expected = (k * m).sum() / ((k * k).sum() * (m * m).sum()).sqrt()
    torch.testing.assert_close(linear_cka(x, y), expected)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_the_effective_rank_of_equal_singular_values_is_their_number(rank):
    assert abs(effective_rank(torch.eye(9)[:rank] * 0.01) - rank) < 1e-9


def test_other_architectures_are_refused(model):
    with pytest.raises(CheckpointError) as caught:
        diff(model, BertForSequenceClassification(model.config.replace(intermediate_size=9)), progress=False)
    assert "feed_forward" in caught.value.key
    with pytest.raises(CheckpointError) as caught:
        diff(model, BertModel(model.config.replace(num_hidden_layers=1)), progress=False)
    assert caught.value.key == "num_hidden_layers"
    with pytest.raises(DataError) as caught:
        diff(model, model, texts=["3"], progress=False)
    assert caught.value.key == "tokenizer"
