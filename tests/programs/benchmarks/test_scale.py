"""The simulation of DistributedDataParallel: what has to hold whatever the cards are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minibert import BertConfig
from tests.programs.benchmarks import scale

pytestmark = pytest.mark.programs
CONFIG = BertConfig()


def test_the_parts_are_the_whole_network():
    parts = scale.parts_of(CONFIG, 8, 128)
    assert sum(size for part in parts for size in part.sizes) == 4 * 110_106_428
    # 6 operations a parameter and token in the layers, forward and backward, and the attention's products.
    layers = sum(3 * part.flops for part in parts if part.name.startswith("layer"))
    weights = 12 * (4 * 768**2 + 2 * 768 * 3072)
    assert layers == pytest.approx(8 * 128 * (6 * weights + 12 * 12 * 128 * 768))


def test_every_gradient_is_in_one_bucket_and_the_word_table_comes_last():
    parts = scale.parts_of(CONFIG, 8, 128)
    sent = scale.buckets(parts)
    assert sum(size for size, _ in sent) == 4 * 110_106_428
    assert [number for _, number in sent] == sorted((number for _, number in sent), reverse=True)
    assert sent[-1][1] == 0 and sent[-1][0] >= 4 * 30522 * 768


def test_one_card_sends_nothing_and_a_fast_ring_hides_all_but_its_end():
    parts = scale.parts_of(CONFIG, 256, 128)
    assert scale.simulate(parts, scale.A100, 1).communication == 0
    fast = replace(scale.A100, inside=1e18, latency=0.0)
    assert scale.simulate(parts, fast, 8).exposed < 1e-9
    steps = [scale.simulate(parts, replace(scale.A100, inside=speed), 8) for speed in (1e9, 1e10, 1e11)]
    assert [step.seconds for step in steps] == sorted((step.seconds for step in steps), reverse=True)
    for step in steps:
        assert max(step.computation, step.communication) <= step.seconds <= step.computation + step.communication


def test_the_original_saw_43_billion_tokens():
    assert sum(stage.tokens for stage in scale.ORIGINAL) == 42_598_400_000
    assert sum(stage.tokens for stage in scale.LARGE_BATCHES) == 42_598_400_000


def test_two_processes_sum_their_gradients_and_the_report_has_both_predictions():
    from tests.programs.benchmarks.scale_check import check

    text = check()
    assert "measured step" in text and "nothing hidden" in text
    assert float(text.split("differ from those of one process by ")[1].split()[0]) < 1e-5
