"""The embeddings: three rows of three tables, summed, normed."""

from __future__ import annotations

import pytest
import torch

from minibert import Layout
from minibert.trace import Scope
from tests.conftest import BOUNDS
from tests.lesson.reference import V, pair

SCOPE = Scope(Layout.from_mask(torch.ones(1, 4)))
WORDS = torch.tensor([5, 1, 98, 5])
POSITIONS = torch.tensor([0, 1, 18, 0])
SEGMENTS = torch.tensor([0, 1, 1, 0])


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_the_sum_of_the_tables_rows_is_normed(family):
    embeddings = pair(family, "BertModel")[1].embeddings
    assert (embeddings.segment is None) == (family == "distilbert")
    total = embeddings.word.weight[WORDS] + embeddings.position.weight[POSITIONS]
    if family == "bert":
        total = total + embeddings.segment.weight[SEGMENTS]
    found = embeddings(WORDS, POSITIONS, SEGMENTS, SCOPE)
    assert (found - embeddings.norm(total)).abs().max() <= BOUNDS["fp64"]
    assert torch.equal(found[0], found[3])


def test_no_segments_are_segment_0():
    embeddings = pair("bert", "BertModel")[1].embeddings
    zeros = torch.zeros_like(SEGMENTS)
    without = embeddings(WORDS, POSITIONS, None, SCOPE)
    assert torch.equal(without, embeddings(WORDS, POSITIONS, zeros, SCOPE))
    assert not torch.equal(without, embeddings(WORDS, POSITIONS, SEGMENTS, SCOPE))


def test_vectors_stand_in_for_the_word_table():
    embeddings = pair("bert", "BertModel")[1].embeddings
    vectors = embeddings.word.weight[WORDS]
    found = embeddings(vectors, POSITIONS, SEGMENTS, SCOPE)
    assert torch.equal(found, embeddings(WORDS, POSITIONS, SEGMENTS, SCOPE))


def test_the_pad_row_does_not_learn():
    embeddings = pair("bert", "BertModel")[1].embeddings
    embeddings(torch.arange(V), torch.zeros(V, dtype=torch.long), None, SCOPE).pow(3).sum().backward()
    gradient = embeddings.word.weight.grad
    assert not gradient[0].any() and gradient[1:].any(dim=1).all()
