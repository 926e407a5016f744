"""The layout: whatever the mask, packing loses nothing and padding leaks nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minibert import Layout
from minibert.io.errors import InputError
from tests.lesson.reference import B, D, S, V, batch, pair

sizes = st.tuples(st.integers(0, 5), st.integers(1, 6))


@st.composite
def masks(draw: st.DrawFn) -> torch.Tensor:
    rows, columns = draw(sizes)
    cells = st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns)
    return torch.tensor(draw(cells), dtype=torch.bool).view(rows, columns)


each_mask = given(mask=masks())
unhurried = settings(deadline=None, max_examples=150)


@each_mask
@unhurried
def test_pad_and_unpad_are_inverse(mask):
    layout = Layout.from_mask(mask)
    table = torch.randn(*mask.shape, 3)
    packed = layout.unpad(table)
    assert packed.shape == (int(mask.sum()), 3) and layout.tokens == len(packed)
    back = layout.pad(packed)
    assert torch.equal(back, table * mask[..., None])
    assert torch.equal(layout.unpad(back), packed)
    assert torch.equal(layout.pad(packed, value=7.0)[~mask], torch.full_like(table[~mask], 7.0))


@each_mask
@unhurried
def test_groups_are_the_rows_of_each_length_shortest_first(mask):
    layout = Layout.from_mask(mask)
    lengths = mask.sum(dim=1)
    filled = lengths[lengths > 0]
    assert [length for _, length in layout.groups] == sorted(set(filled.tolist()))
    assert all(rows == int((filled == length).sum()) for rows, length in layout.groups)
    row_of_token = layout.cells // mask.shape[1]
    start = 0
    for rows, length in layout.groups:
        block = row_of_token[start : start + rows * length].view(rows, length)
        assert (block == block[:, :1]).all()  # each row lies in one piece
        assert (lengths[block[:, 0]] == length).all()
        start += rows * length
    assert start == layout.tokens


@each_mask
@unhurried
def test_tokens_of_a_row_keep_their_order(mask):
    layout = Layout.from_mask(mask)
    rows, columns = layout.cells // mask.shape[1], layout.cells % mask.shape[1]
    for row in range(len(mask)):
        assert torch.equal(columns[rows == row], mask[row].nonzero().flatten())


@each_mask
@unhurried
def test_first_tokens_are_the_first_real_column_of_each_row(mask):
    layout = Layout.from_mask(mask)
    table = torch.randn(*mask.shape, 2)
    first = layout.first_tokens(layout.unpad(table))
    for row in range(len(mask)):
        real = mask[row].nonzero().flatten()
        expected = table[row, real[0]] if len(real) else torch.zeros(2)
        assert torch.equal(first[row], expected)
    ones = torch.ones(len(mask), 4)
    assert torch.equal(layout.zero_empty_rows(ones), ones * mask.any(dim=1)[:, None])


@each_mask
@unhurried
def test_zero_and_one_in_any_dtype_are_a_mask(mask):
    expected = Layout.from_mask(mask).cells
    for dtype in (torch.int64, torch.uint8, torch.float32):
        assert torch.equal(Layout.from_mask(mask.to(dtype)).cells, expected)


@pytest.mark.parametrize("shape", [(3,), (3, 1, 4), (3, 1, 4, 4)])
def test_masks_of_another_shape_are_refused(shape):
    with pytest.raises(InputError) as caught:
        Layout.from_mask(torch.ones(shape))
    assert caught.value.key == "attention_mask"
    assert str(tuple(shape)) in str(caught.value)


@pytest.mark.parametrize("bad", [-10000.0, 0.5, 2, -1])
def test_masks_with_other_values_are_refused(bad):
    mask = torch.tensor([[1, 1, bad]])
    with pytest.raises(InputError) as caught:
        Layout.from_mask(mask)
    assert caught.value.key == "attention_mask"


def _hidden(model, ids, mask):
    with torch.no_grad():
        return model(ids, attention_mask=mask, token_type_ids=ids % 2).last_hidden_state


@pytest.fixture
def model():
    return pair("bert", "BertModel", torch.float32)[1]


@pytest.mark.parametrize("side", ["right", "left", "holes"])
@pytest.mark.parametrize("more", [1, 5, 12])
def test_widening_the_padding_changes_no_bit(model, side, more):
    inputs = batch("bert", "BertModel", side)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    before = _hidden(model, ids, mask)
    wide_ids = torch.cat([ids, torch.randint(0, V, (B, more))], dim=1)
    wide_mask = torch.cat([mask, torch.zeros(B, more, dtype=mask.dtype)], dim=1)
    after = _hidden(model, wide_ids, wide_mask)
    assert torch.equal(after[:, :S], before)
    assert not after[:, S:].any()


@pytest.mark.parametrize("side", ["right", "left", "holes"])
def test_what_stands_at_padding_changes_no_bit(model, side):
    inputs = batch("bert", "BertModel", side)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    other = torch.where(mask.bool(), ids, torch.randint(0, V, ids.shape))
    with torch.no_grad():
        one = model(ids, attention_mask=mask).last_hidden_state
        two = model(other, attention_mask=mask).last_hidden_state
    assert torch.equal(one, two)


def test_left_and_right_padding_agree_when_positions_do(model):
    """Positions are columns, so the positions of the text have to be given to compare."""
    ids = torch.randint(1, V, (B, 4))
    padding = torch.zeros(B, 3, dtype=torch.long)
    real = torch.ones(B, 4, dtype=torch.long)
    positions = torch.arange(4).expand(B, 4)
    right = model(
        torch.cat([ids, padding], 1),
        attention_mask=torch.cat([real, padding], 1),
        position_ids=torch.cat([positions, padding], 1),
    )
    left = model(
        torch.cat([padding, ids], 1),
        attention_mask=torch.cat([padding, real], 1),
        position_ids=torch.cat([padding, positions], 1),
    )
    assert torch.equal(right.last_hidden_state[:, :4], left.last_hidden_state[:, 3:])
    assert torch.equal(right.pooler_output, left.pooler_output)


def test_rows_in_another_order_give_the_same_rows(model):
    """Rows of one length lie in one block; where in it a row lies does not matter."""
    inputs = batch("bert", "BertModel", "right")
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    for order in ([2, 0, 1], [1, 2, 0], [2, 1, 0]):
        assert torch.equal(_hidden(model, ids[order], mask[order]), _hidden(model, ids, mask)[order])


@pytest.mark.parametrize("attentions", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_empty_rows_give_zeros(model, dtype, attentions):
    ids = torch.randint(1, V, (B, S))
    mask = torch.zeros(B, S, dtype=torch.long)
    mask[1, :3] = 1
    model = model.to(dtype)
    result = model(ids, attention_mask=mask, output_attentions=attentions)
    for value in (result.last_hidden_state, result.pooler_output, *(result.attentions or ())):
        assert value.isfinite().all() and not value[[0, 2]].any()
    alone = model(ids[1:2], attention_mask=mask[1:2], output_attentions=attentions)
    assert torch.equal(result.last_hidden_state[1], alone.last_hidden_state[0])


@pytest.mark.parametrize("attentions", [True, False])
def test_no_token_at_all(model, attentions):
    model.train()
    ids = torch.randint(1, V, (B, S))
    result = model(ids, attention_mask=torch.zeros(B, S), output_attentions=attentions)
    assert result.last_hidden_state.shape == (B, S, D) and not result.last_hidden_state.any()
    assert result.pooler_output.shape == (B, D) and not result.pooler_output.any()
    (result.last_hidden_state.sum() + result.pooler_output.sum()).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and not any(gradient.any() for gradient in gradients)


def test_a_layout_made_beforehand_gives_the_same_bits(model):
    inputs = batch("bert", "BertModel", "holes")
    layout = Layout.from_mask(inputs["attention_mask"])
    given = model(inputs["input_ids"], token_type_ids=inputs["token_type_ids"], layout=layout)
    assert torch.equal(given.last_hidden_state, model(**inputs).last_hidden_state)
    assert layout.to("cpu").groups == layout.groups
