"""BertModel: its door (what goes in, what is refused), freezing, resizing, new weights."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

import minibert
from minibert import BertConfig, BertForMaskedLM, BertModel, Layout
from minibert.io.errors import ConfigError, InputError
from tests.conftest import BOUNDS
from tests.lesson.reference import CASES, B, D, L, S, V, batch, our_config, pair, reference_config


@pytest.fixture
def model():
    return pair("bert", "BertModel")[1]


def _ids(columns: int = S) -> torch.Tensor:
    return torch.randint(1, V, (B, columns))


REFUSED = {
    "neither ids nor vectors": ({}, "input_ids"),
    "both": ({"input_ids": _ids(), "inputs_embeds": torch.zeros(B, S, D)}, "input_ids"),
    "ids of one axis": ({"input_ids": _ids()[0]}, "input_ids"),
    "ids that are numbers": ({"input_ids": _ids().float()}, "input_ids"),
    "vectors of two axes": ({"inputs_embeds": torch.zeros(B, D)}, "inputs_embeds"),
    "vectors of another width": ({"inputs_embeds": torch.zeros(B, S, D + 1)}, "inputs_embeds"),
    "an id beyond the table": ({"input_ids": torch.tensor([[1, V]])}, "input_ids"),
    "a negative id": ({"input_ids": torch.tensor([[1, -1]])}, "input_ids"),
    "a text that is too long": ({"input_ids": _ids(20)}, "input_ids"),
    "a position beyond the table": ({"input_ids": _ids(), "position_ids": torch.full((B, S), 19)}, "position_ids"),
    "positions of another shape": (
        {"input_ids": _ids(), "position_ids": torch.zeros(B, S + 1, dtype=torch.long)},
        "position_ids",
    ),
    "a segment beyond the table": ({"input_ids": _ids(), "token_type_ids": torch.full((B, S), 2)}, "token_type_ids"),
    "segments of another shape": (
        {"input_ids": _ids(), "token_type_ids": torch.zeros(B, 1, dtype=torch.long)},
        "token_type_ids",
    ),
    "a mask of another width": ({"input_ids": _ids(), "attention_mask": torch.ones(B, S + 1)}, "attention_mask"),
    "a mask with more rows": ({"input_ids": _ids(), "attention_mask": torch.ones(B + 1, S)}, "attention_mask"),
    "a 3-D mask": ({"input_ids": _ids(), "attention_mask": torch.ones(B, S, S)}, "attention_mask"),
    "a 4-D mask": ({"input_ids": _ids(), "attention_mask": torch.ones(B, 1, 1, S)}, "attention_mask"),
    "a layout of another batch": ({"input_ids": _ids(), "layout": Layout.from_mask(torch.ones(B + 1, S))}, "layout"),
    "ids of a short type": ({"input_ids": _ids().short()}, "input_ids"),
    "segments that are numbers": ({"input_ids": _ids(), "token_type_ids": torch.zeros(B, S)}, "token_type_ids"),
    "one position without an axis": ({"input_ids": _ids(), "position_ids": torch.tensor(0)}, "position_ids"),
    "an additive mask": (
        {"input_ids": _ids(), "attention_mask": torch.tensor([[0.0] * 6 + [-10000.0]] * B)},
        "attention_mask",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_door_refuses_by_name(model, case):
    inputs, key = REFUSED[case]
    with pytest.raises(InputError) as caught:
        model(**inputs)
    assert caught.value.key == key


def test_distilbert_refuses_segments():
    _, ours = pair("distilbert", "BertModel")
    with pytest.raises(InputError) as caught:
        ours(_ids(), token_type_ids=torch.zeros(B, S, dtype=torch.long))
    assert caught.value.key == "token_type_ids"


def test_padding_without_a_mask_is_warned_about(model):
    ids = _ids()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(ids)
        model(ids, attention_mask=torch.ones_like(ids))
    ids[1, -2:] = 0
    with pytest.warns(UserWarning, match="holds padding but there is no attention_mask") as caught:
        model(ids)
        BertForMaskedLM(model.config)(ids)
    assert [warning.filename for warning in caught] == [__file__] * 2  # where the mask is missing


def test_position_ids_of_one_row_serve_all_rows(model):
    ids, mask = _ids(), torch.ones(B, S)
    positions = torch.arange(S).flip(0)
    one = model(ids, mask, position_ids=positions[None]).last_hidden_state
    assert torch.equal(one, model(ids, mask, position_ids=positions.expand(B, S)).last_hidden_state)
    assert not torch.equal(one, model(ids, mask).last_hidden_state)


def test_long_texts_pass_where_positions_are_given(model):
    ids = _ids(25)
    result = model(ids, position_ids=torch.arange(25).remainder(19).expand(B, 25))
    assert result.last_hidden_state.shape == (B, 25, D)


@pytest.mark.parametrize("missing", ["distilbert", "bert without pooler"])
def test_asking_for_a_pooler_that_is_not_there_says_so(missing):
    if missing == "distilbert":
        _, ours = pair("distilbert", "BertModel")
    else:
        ours = BertModel(_config(), pooler=False)
    result = ours(_ids())
    assert result.pooled is None
    with pytest.raises(InputError) as caught:
        _ = result.pooler_output
    assert caught.value.key == "pooler_output"


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_frozen_body_does_not_learn_and_is_not_shaken(family, name):
    _, ours = pair(family, name, hidden_dropout_prob=0.5)
    ours.freeze()
    ours.train()
    assert not any(part.training for part in ours.body.modules())
    assert not any(parameter.requires_grad for parameter in ours.body.parameters())
    if name == "BertModel":
        return
    assert ours.training and all(head.training for head in _heads(ours))
    inputs = batch(family, name)
    ours(**inputs).loss.backward()
    assert all(parameter.grad is None for parameter in ours.body.parameters())
    assert all(p.grad is not None for head in _heads(ours) for p in head.parameters())


def _heads(model: nn.Module) -> list[nn.Module]:
    return [part for name, part in model.named_children() if name != "bert"]


def test_freezing_some_parts_leaves_the_others(model):
    model.freeze(model.embeddings, model.encoder.layers[0])
    model.train()
    assert not model.embeddings.training and not model.encoder.layers[0].attention.training
    assert model.encoder.layers[1].attention.training and model.pooler.training
    twin = copy.deepcopy(model).train()
    assert not twin.embeddings.training and not twin.encoder.layers[0].training


RESIZED = [
    (family, name, tied)
    for family, name in CASES
    for tied in ((True, False) if name in ("BertForMaskedLM", "BertForPreTraining") else (True,))
]


@pytest.mark.parametrize("rows", [V + 8, V - 20])
@pytest.mark.parametrize(("family", "name", "tied"), RESIZED)
def test_a_resized_vocabulary_keeps_the_old_rows_as_the_reference_does(family, name, tied, rows):
    theirs, ours = pair(family, name, tie_word_embeddings=tied)
    theirs.resize_token_embeddings(rows)
    ours.resize_token_embeddings(rows)
    assert ours.config.vocab_size == ours.body.config.vocab_size == rows
    expected, found = theirs.state_dict(), ours.official_state_dict()
    kept = min(rows, V)
    for key, value in found.items():
        assert value.shape == expected[key].shape, key
        if value.shape[0] == rows:
            assert torch.equal(value[:kept], expected[key][:kept].to(value.dtype)), key
        else:
            assert torch.equal(value, expected[key])
    inputs = {key: value for key, value in batch(family, name).items() if "label" not in key}
    inputs = {key: value for key, value in inputs.items() if not key.endswith("positions")}
    inputs["input_ids"] = inputs["input_ids"].clamp(max=kept - 1)
    with torch.no_grad():
        result = ours(**inputs)
    if name == "BertForMaskedLM":
        assert tied or ours.head.decoder.out_features == rows
        assert result.logits.shape == (B, S, rows)
        reference = theirs(**inputs).logits[..., :kept]
        real = inputs["attention_mask"].bool()
        difference = (result.logits[..., :kept] - reference)[real].abs().max()
        assert difference <= BOUNDS["fp64"]


def test_new_rows_are_drawn_as_new_weights_are(model):
    model.resize_token_embeddings(5000, torch.Generator().manual_seed(1))
    new = model.embeddings.word.weight[V:].detach()
    assert new.dtype == torch.float64
    assert abs(new.std().item() - 0.02) < 1e-3 and abs(new.mean().item()) < 1e-3
    assert model(torch.full((1, 2), 4999)).last_hidden_state.isfinite().all()


def test_a_vocabulary_without_the_pad_is_refused():
    _, ours = pair("bert", "BertModel", pad_token_id=50)
    with pytest.raises(ConfigError, match="pad_token_id"):
        ours.resize_token_embeddings(50)


def _config(**changes) -> BertConfig:
    official = reference_config("bert", "BertModel", **changes).to_dict()
    return our_config(official)


@pytest.mark.parametrize(("family", "name"), CASES)
def test_new_weights_are_normal_with_zero_biases_and_a_zero_pad_row(family, name):
    config = our_config(reference_config(family, name, initializer_range=0.05).to_dict())
    ours = getattr(minibert, name)(config)
    for key, parameter in ours.named_parameters():
        if key.endswith("norm.weight"):
            assert (parameter == 1).all(), key
        elif key.endswith("bias"):
            assert not parameter.any(), key
        elif parameter.numel() >= 900:
            assert abs(parameter.std().item() - 0.05) < 0.005, key
            assert abs(parameter.mean().item()) < 0.01, key
    word = ours.body.embeddings.word.weight
    assert not word[config.pad_token_id].any() and word[1:].any(dim=1).all()


def test_the_seed_decides_the_new_weights():
    seeded = [BertModel(_config(), generator=torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)]
    key = "encoder.layers.1.attention.key.weight"
    assert torch.equal(seeded[0][key], seeded[1][key])
    assert not torch.equal(seeded[0][key], seeded[2][key])


def test_no_layer_has_the_weights_of_another():
    parameters = BertModel(_config()).state_dict()
    matrices = [value for key, value in parameters.items() if key.endswith("query.weight")]
    assert len(matrices) == L and not torch.equal(*matrices)
