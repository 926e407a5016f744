"""Official weights: the numbers of transformers, and saved numbers that need no transformers.

Rings (b) and (c) of the parity tests: all-MiniLM-L6-v2 (6 layers, D 384), and a small masked LM
with the tensor names of 2018.
"""

from __future__ import annotations

import pytest
import torch

from minibert import BertForMaskedLM, BertModel
from tests.conftest import BOUNDS
from tests.lesson import reference as ref

# [CLS] the cat sat on the mat . [SEP] | [CLS] yes , that is . [SEP] | [CLS] it [SEP] was [SEP]
IDS = torch.tensor(
    [
        [101, 1996, 4937, 2938, 2006, 1996, 13523, 1012, 102],
        [101, 2748, 1010, 2008, 2003, 1012, 102, 0, 0],
        [101, 2009, 102, 2001, 102, 0, 0, 0, 0],
    ]
)
MASK = (IDS > 0).long()
SEGMENTS = torch.zeros_like(IDS)
SEGMENTS[2, 3:5] = 1
INPUTS = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": SEGMENTS}
MASK_ID = 103

# What transformers 5.23 gives for them in float64, with eager attention.
SAVED_MINILM = {
    "hidden_states[0][1, 2, :4]": [-0.0632146, 0.0342691, -0.7766095, -0.1243428],
    "hidden_states[3][2, 3, :4]": [-0.3086927, 0.8647494, 0.675067, 0.0699733],
    "hidden_states[6][0, 4, :4]": [0.2783839, -0.0938761, -0.3504566, 0.3298878],
    "hidden_states[6][1, 6, -4:]": [-0.2288022, -0.5649989, -0.4195803, -0.6804402],
    "pooler_output[:, 7]": [0.0476506, 0.0460033, 0.0397282],
    "attentions[5][0, 11, 2, :4]": [0.0210836, 0.0015601, 0.9261154, 0.0167817],
    "attentions[0][2, 3, 1, :4]": [0.0321276, 0.0760614, 0.1816912, 0.438292],
}
# The first text with [MASK] for "cat": logits of four pieces there, and of three at a [CLS].
SAVED_MASKED_LM = {
    "cat": [-2.2908243, -2.1218035, -0.3354007, -2.2329529],
    "[CLS]": [-14.8002495, -12.919927, -11.7456225],
}


@pytest.fixture(scope="module")
def ours(minilm):
    return BertModel.from_pretrained(minilm)


@pytest.fixture(scope="module")
def theirs(minilm, transformers):
    return transformers.BertModel.from_pretrained(minilm, attn_implementation="eager").eval()


def _long_batch(side: str) -> dict[str, torch.Tensor]:
    """One row of 96 pieces and short ones, two segments."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([96, 9, 31, 2])
    column = torch.arange(96)
    real = column < lengths[:, None]
    if side == "left":
        real = real.flip(1)
    if side == "holes":
        real &= (column % 5 != 3) | (column == 0)
    ids = torch.randint(1000, 30522, real.shape, generator=generator)
    return {
        "input_ids": torch.where(real, ids, 0),
        "attention_mask": real.long(),
        "token_type_ids": ((column > lengths[:, None] // 2) & real).long(),
    }


def _compared(expected, found, real, names=("hidden_states", "attentions")):
    """(reference, ours) for each layer at real positions, and for the pooler."""
    both = (real[:, None, :, None] & real[:, None, None, :]).expand(-1, 12, -1, -1)
    if "hidden_states" in names:
        for one, two in zip(expected.hidden_states, found.hidden_states, strict=True):
            yield one[real], two[real]
    if "attentions" in names:
        for one, two in zip(expected.attentions, found.attentions, strict=True):
            yield one[both], two[both]
    yield expected.pooler_output[real[:, 0]], found.pooler_output[real[:, 0]]


def test_saved_numbers_of_every_kind(ours):
    with torch.no_grad():
        result = ours(**INPUTS, output_hidden_states=True, output_attentions=True)
    values = {
        "hidden_states[0][1, 2, :4]": result.hidden_states[0][1, 2, :4],
        "hidden_states[3][2, 3, :4]": result.hidden_states[3][2, 3, :4],
        "hidden_states[6][0, 4, :4]": result.last_hidden_state[0, 4, :4],
        "hidden_states[6][1, 6, -4:]": result.last_hidden_state[1, 6, -4:],
        "pooler_output[:, 7]": result.pooler_output[:, 7],
        "attentions[5][0, 11, 2, :4]": result.attentions[5][0, 11, 2, :4],
        "attentions[0][2, 3, 1, :4]": result.attentions[0][2, 3, 1, :4],
    }
    for name, saved in SAVED_MINILM.items():
        difference = (values[name] - torch.tensor(saved)).abs().max()
        assert difference <= BOUNDS["official model fp32"], name


def test_saved_numbers_of_a_masked_lm_with_old_names(old_names):
    model = BertForMaskedLM.from_pretrained(old_names)
    ids = IDS.clone()
    ids[0, 2] = MASK_ID
    with torch.no_grad():
        logits = model(**{**INPUTS, "input_ids": ids}).logits
    found = {"cat": logits[0, 2, 1996:2000], "[CLS]": logits[1, 0, -3:]}
    for name, saved in SAVED_MASKED_LM.items():
        difference = (found[name] - torch.tensor(saved)).abs().max()
        assert difference <= BOUNDS["official model fp32"], name
    assert logits[0, 2].argmax() == 1998


@pytest.mark.parametrize("implementation", ["sdpa", "by_hand", "fast"])
@pytest.mark.parametrize("side", ["right", "left", "holes"])
def test_all_layers_in_fp32(ours, theirs, side, implementation):
    inputs = _long_batch(side)
    real = inputs["attention_mask"].bool()
    ref.attend_by(ours, implementation)
    with torch.no_grad():
        expected = theirs(**inputs, output_hidden_states=True, output_attentions=True)
        in_groups = ours(**inputs, output_hidden_states=True)
        with_patterns = ours(**inputs, output_hidden_states=True, output_attentions=True)
    pairs = list(_compared(expected, with_patterns, real))
    pairs += _compared(expected, in_groups, real, names=("hidden_states",))
    largest = max((one - two).abs().max().item() for one, two in pairs)
    print(f"MiniLM {side} {implementation}: {largest:.2e}")
    assert largest <= BOUNDS["official model fp32"]
    ref.attend_by(ours, "sdpa")


def test_bf16_is_as_near_to_the_truth_as_the_reference(minilm, transformers):
    half = {"dtype": torch.bfloat16}
    theirs = transformers.BertModel.from_pretrained(minilm, attn_implementation="sdpa", **half)
    ours = BertModel.from_pretrained(minilm, **half)
    inputs = _long_batch("right")
    real = inputs["attention_mask"].bool()
    asked = {**inputs, "output_hidden_states": True}
    with torch.no_grad():
        reduced = theirs.eval()(**asked), ours(**asked)
        truth = theirs.double()(**asked)
    errors = [
        sum((one - two.double()).abs().mean().item() for one, two in pairs)
        for pairs in (_compared(truth, found, real, ("hidden_states",)) for found in reduced)
    ]
    print(f"MiniLM bf16: theirs {errors[0]:.4f}, ours {errors[1]:.4f}")
    assert errors[1] <= BOUNDS["model bf16 ratio"] * errors[0]


def test_every_gradient_in_fp64(minilm, transformers):
    """The loss weighs every output number differently, so that no error can cancel."""
    theirs = transformers.BertModel.from_pretrained(minilm, attn_implementation="eager")
    theirs, ours = theirs.double().eval(), BertModel.from_pretrained(minilm).double()
    for model in (theirs, ours):
        result = model(**INPUTS)
        last = result.last_hidden_state[MASK.bool()]
        weights = torch.linspace(-1, 1, last.numel(), dtype=torch.float64).view_as(last)
        ((last * weights).sum() + result.pooler_output.pow(3).sum()).backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for parameter in ours.parameters():
        parameter.data = parameter.grad
    found = ours.official_state_dict()
    assert expected.keys() == found.keys() and len(found) == 103
    for name, gradient in expected.items():
        size = 1.0 if name.endswith("key.bias") else gradient.norm()
        assert (found[name] - gradient).norm() / size <= BOUNDS["fp64"], name


def test_logits_of_the_masked_lm_with_old_names(old_names, transformers):
    theirs = transformers.BertForMaskedLM.from_pretrained(old_names).eval()
    ours = BertForMaskedLM.from_pretrained(old_names)
    labels = torch.where(MASK.bool(), IDS, -100)
    with torch.no_grad():
        expected, found = theirs(**INPUTS, labels=labels), ours(**INPUTS, labels=labels)
    real = MASK.bool()
    largest = (expected.logits[real] - found.logits[real]).abs().max()
    print(f"masked LM: {largest:.2e}")
    assert largest <= BOUNDS["official model fp32"]
    assert (expected.loss - found.loss).abs() <= BOUNDS["official model fp32"]


def test_a_short_row_s_numbers_do_not_depend_on_a_long_neighbour(ours):
    inputs = _long_batch("right")
    short = {key: value[1:2, :9] for key, value in inputs.items()}
    with torch.no_grad():
        whole = ours(**inputs).last_hidden_state[1, :9]
        alone = ours(**short).last_hidden_state[0]
    assert (whole - alone).abs().max() <= BOUNDS["official model fp32"]
