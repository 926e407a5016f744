"""The checks of pre-training: right in three styles with any seed, known mistakes named, others never misnamed."""

from __future__ import annotations

import itertools
import random
import runpy
from pathlib import Path

import pytest
import torch

from minibert.study import exercises as check
from minibert.study.exercises import pretraining

FOLDER = Path(__file__).parents[2] / "notebooks" / "solutions"
SOLUTIONS = runpy.run_path(str(FOLDER / "11_pretraining.py"))
MASKERS = [name for name in SOLUTIONS if name.startswith("my_mask_tokens")]
PAIRERS = [name for name in SOLUTIONS if name.startswith("my_pairs")]


def wrong_masks(*names):
    """A function that makes the mistakes named."""

    def mask(ids, special, mask_id, size, share, generator):
        generator = torch.Generator().manual_seed(3) if "generator unused" in names else generator
        given = ids
        ordinary = torch.ones_like(ids).bool() if "special tokens chosen" in names else ~torch.isin(ids, special)
        share = 0.15 if "share ignored" in names else share
        draws = torch.rand(ids.shape, generator=generator)
        if "same columns" in names:
            draws = draws[:1].expand(ids.shape)
        chosen = ordinary & ((draws < share) != ("inverted" in names))
        first, second = next(
            ((a, b) for name, (a, b, _) in pretraining.FATES.items() if name in names and name != "two draws"),
            (0.8, 0.1),
        )
        low = 0 if "random special tokens" in names else 5
        drawn = torch.randint(low, size, ids.shape, generator=generator)
        if "one random piece" in names:
            drawn = torch.full_like(ids, 17)
        fate = torch.rand(ids.shape, generator=generator)
        masked = torch.where(chosen & (fate < first), mask_id, ids)
        replaced = chosen & (fate >= first) & (fate < first + second)
        if "two draws" in names:
            replaced = chosen & (torch.rand(ids.shape, generator=generator) < second)
        masked = torch.where(replaced, drawn, masked)
        if "kept ones unlabelled" in names:
            chosen = chosen & (masked != ids)
        source = masked if "labels after masking" in names else ids
        labels = torch.where(chosen, source, 0 if "other ignored label" in names else -100)
        if "no -100" in names:
            labels = source.clone()
        if "ids changed" in names:
            given.copy_(masked)
        return masked, labels

    return mask


def wrong_pairs(*names):
    def pairs(documents, draw):
        draw = random.Random(3) if "generator unused" in names else draw
        found = []
        for d, texts in enumerate(documents):
            last = len(texts) - ("across documents" not in names)
            for s in range(0, last, 2 if "every second pair" in names else 1):
                first, label = texts[s], draw.randint(0, 1)
                label = 0 if "all follow" in names else 1 if "none follows" in names else label
                second = texts[s + 1] if s + 1 < len(texts) else documents[(d + 1) % len(documents)][0]
                others = [e for e in range(len(documents)) if e != d or "own document" in names]
                other = documents[
                    (d + 1) % len(documents) if "always the next document" in names else draw.choice(others)
                ]
                stranger = other[0] if "always a document's first" in names else draw.choice(other)
                if label and "first replaced" in names:
                    first = stranger
                elif label:
                    second = stranger
                found.append((first, second, 1 - label if "labels reversed" in names else label))
        return found

    return pairs


@pytest.mark.parametrize("name", MASKERS)
def test_masking_in_three_styles_is_right(name):
    assert check.mask_tokens(SOLUTIONS[name]).right


@pytest.mark.parametrize("name", PAIRERS)
def test_pairs_in_three_styles_are_right(name):
    assert check.next_sentence_pairs(SOLUTIONS[name]).right


def test_a_right_function_is_right_with_any_seed():
    for seed in range(12):

        def masks(*given, seed=seed):
            mixed = torch.Generator().manual_seed(seed + int(torch.randint(2**40, (), generator=given[-1])))
            return SOLUTIONS["my_mask_tokens"](*given[:-1], mixed)

        def pairs(documents, draw, seed=seed):
            return SOLUTIONS["my_pairs"](documents, random.Random(f"{seed} {draw.random()}"))

        assert check.mask_tokens(masks).right and check.next_sentence_pairs(pairs).right


@pytest.mark.parametrize("name", pretraining.MASKING)
def test_each_mistake_in_masking_is_named(name):
    verdict = check.mask_tokens(wrong_masks(name))
    assert verdict.mistakes == ((name,),), verdict


@pytest.mark.parametrize("name", pretraining.PAIRS)
def test_each_mistake_in_pairs_is_named(name):
    verdict = check.next_sentence_pairs(wrong_pairs(name))
    assert verdict.mistakes == ((name,),), verdict


MASKING_TOGETHER = [
    pair
    for pair in itertools.combinations(
        ("all masked", "none kept", "shares of the rest", "share ignored", "other ignored label", "same columns",
         "special tokens chosen", "generator unused", "ids changed"), 2)
    if not {*pair} <= {*pretraining.FATES}
]  # fmt: skip


@pytest.mark.parametrize("pair", MASKING_TOGETHER, ids=" and ".join)
def test_two_mistakes_in_masking_are_both_named(pair):
    verdict = check.mask_tokens(wrong_masks(*pair))
    assert {*verdict.mistakes[0]} == {*pair}, verdict


@pytest.mark.parametrize(
    "pair",
    [
        ("labels reversed", "across documents"),
        ("labels reversed", "own document"),
        ("across documents", "own document"),
        ("always a document's first", "labels reversed"),
        ("always the next document", "every second pair"),
        ("all follow", "across documents"),
        ("generator unused", "labels reversed"),
    ],
    ids=" and ".join,
)
def test_two_mistakes_in_pairs_are_both_named(pair):
    verdict = check.next_sentence_pairs(wrong_pairs(*pair))
    assert {*verdict.mistakes[0]} == {*pair}, verdict


def right_masks(*given):
    return SOLUTIONS["my_mask_tokens"](*given)


@pytest.mark.parametrize(
    "mine, said",
    [
        (lambda ids, *rest: (ids, torch.full_like(ids, -100)), "no token is chosen"),
        (lambda *given: right_masks(*given[:4], 0.5, given[5]), "instead of 30%"),
        (lambda *given: right_masks(*given)[0], "error"),
        (lambda *given: tuple(x.double() for x in right_masks(*given)), "int64"),
        (lambda *given: (right_masks(*given)[0], right_masks(*given)[1].roll(1, 1)), "labels of chosen tokens"),
        (lambda *given: (right_masks(*given)[0].clamp(max=20), right_masks(*given)[1]), "without a label"),
    ],
)
def test_unknown_mistakes_in_masking_get_no_name(mine, said):
    verdict = check.mask_tokens(mine)
    assert not verdict.right and verdict.mistakes == () and said in str(verdict).lower(), verdict


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda pairs: pairs[1:], "are not those"),
        (lambda pairs: [(a, b, 2) for a, b, _ in pairs], "other than 0 and 1"),
        (lambda pairs: [(a, b, 0) for a, b, _ in pairs], "labels do not say"),
        (lambda pairs: [(a, b.upper(), label) for a, b, label in pairs], "not a sentence"),
    ],
)
def test_unknown_mistakes_in_pairs_get_no_name(change, said):
    verdict = check.next_sentence_pairs(lambda *given: change(SOLUTIONS["my_pairs"](*given)))
    assert not verdict.right and verdict.mistakes == () and said in str(verdict).lower(), verdict


def test_not_written_yet():
    assert "Not written yet" in str(check.mask_tokens(lambda *given: None))
    assert "Not written yet" in str(check.next_sentence_pairs(lambda *given: None))
