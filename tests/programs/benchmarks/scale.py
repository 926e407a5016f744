"""What pre-training BERT takes on one, eight and 64 cards: a simulation of DistributedDataParallel, and its check.

    python -m tests.programs.benchmarks.scale            the table, with its assumptions
    python -m tests.programs.benchmarks.scale --check    the model beside two processes on this machine

Each card computes a step on its own rows. Gradients are summed over the cards by a ring, bucket by bucket, while the
backward pass goes on; a bucket can start when the last of its gradients is there. What is not hidden behind the
backward pass makes the step longer. (Li et al. 2020, PyTorch Distributed, sections 3.2.3 and 4.)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from minibert import BertConfig, BertForPreTraining
from minibert.io.tables import table

MASKED = 0.15  # of the tokens have a label
FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20  # bytes: DistributedDataParallel's defaults
BYTES = 4  # of a gradient: weights and gradients are float32


@dataclass(frozen=True)
class Cards:
    """Cards and what connects them.

    Attributes:
        flops: of matrix products in bf16, a second and card.
        share: of that, over a whole step.
        inside, between: bytes a second that a ring moves through each card, inside a node and between nodes.
        latency: seconds of one hop of the ring.
        price: dollars for an hour of one card.
        node: cards in a node.
    """

    name: str
    flops: float
    share: float
    inside: float
    between: float
    latency: float
    price: float
    node: int = 8

    def bandwidth(self, count: int) -> float:
        return self.inside if count <= self.node else self.between


# Peaks are the makers' for dense bf16. The ring's speed is about 0.7 of the links' (NVLink 300 and 450 GB/s a card and
# direction, a network card of 25 and 50 GB/s for each). The share of the peak is what `python -m tests.programs.gpu`
# measured for the inference of BERT-base on long texts on the H200, 0.35 of 702 TFLOP/s, over the maker's number.
A100 = Cards("A100 80 GB", 312e12, 0.25, 210e9, 18e9, 10e-6, 2.0)
H200 = Cards("H200", 989e12, 0.25, 315e9, 35e9, 10e-6, 3.5)


@dataclass(frozen=True)
class Part:
    """Parameters whose gradients are ready at one moment: their bytes, and the work of the forward pass until them."""

    name: str
    sizes: tuple[int, ...]  # bytes of each tensor, in the order of the module
    flops: float  # of the forward pass for all tokens


@dataclass(frozen=True)
class Stage:
    """Steps of one shape: `steps` of `rows` rows of `columns` tokens."""

    steps: int
    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        return self.steps * self.rows * self.columns


# Devlin et al. 2019, appendix A.2: a million steps of 256 rows; 90% of them of 128 tokens, the others of 512.
ORIGINAL = (Stage(900_000, 256, 128), Stage(100_000, 256, 512))
# The same tokens in batches of 4,096 rows, as MosaicBERT's (Portes et al. 2023). A card that cannot hold its rows at
# once accumulates gradients, and sends them once.
LARGE_BATCHES = (Stage(56_250, 4096, 128), Stage(6_250, 4096, 512))


def parts_of(config: BertConfig, rows: int, columns: int) -> list[Part]:
    """The network in the order of its forward pass; the tied word table is ready last, with the embeddings."""
    with torch.device("meta"):
        model = BertForPreTraining(config)
    tokens, size = rows * columns, config.hidden_size
    products = 4 * size * size + 2 * size * config.intermediate_size  # multiplications of a layer for a token
    layer = 2 * tokens * (products + 2 * columns * size)
    head = 2 * MASKED * tokens * (size * size + size * config.vocab_size)
    bytes_of = {name: BYTES * parameter.numel() for name, parameter in model.named_parameters()}

    def part(name: str, prefix: str, flops: float) -> Part:
        return Part(name, tuple(count for key, count in bytes_of.items() if key.startswith(prefix)), flops)

    layers = [part(f"layer {n}", f"bert.encoder.layers.{n}.", layer) for n in range(config.num_hidden_layers)]
    heads = [part(name, name, head if name == "masked_lm" else 0.0) for name in ("masked_lm", "next_sentence")]
    return [part("embeddings", "bert.embeddings.", 0.0), *layers, part("pooler", "bert.pooler.", 0.0), *heads]


def buckets(parts: Sequence[Part], first: int = FIRST_BUCKET, size: int = BUCKET) -> list[tuple[int, int]]:
    """(bytes, number of the part that completes it) of each bucket, in the order in which they are sent."""
    result, filled, limit = [], 0, first
    for number in reversed(range(len(parts))):
        for count in reversed(parts[number].sizes):
            filled += count
            if filled >= limit:
                result.append((filled, number))
                filled, limit = 0, size
    return [*result, (filled, 0)] if filled else result


@dataclass(frozen=True)
class Step:
    """Seconds of a step: its computation, all its communication, and what of that nothing hides."""

    computation: float
    communication: float
    exposed: float

    @property
    def seconds(self) -> float:
        return self.computation + self.exposed


def simulate(parts: Sequence[Part], cards: Cards, count: int) -> Step:
    """A step on `count` cards, each of which does the work of `parts`; a backward pass takes twice a forward pass."""
    speed = cards.flops * cards.share
    forward = sum(part.flops for part in parts) / speed
    ready, clock = {}, forward
    for number in reversed(range(len(parts))):
        clock += 2 * parts[number].flops / speed
        ready[number] = clock
    sent, total = 0.0, 0.0
    for size, number in buckets(parts) if count > 1 else []:
        hops = 2 * (count - 1)
        seconds = hops / count * size / cards.bandwidth(count) + hops * cards.latency
        sent = max(sent, ready[number]) + seconds
        total += seconds
    return Step(clock, total, max(0.0, sent - clock))


def pretraining(config: BertConfig, stages: Sequence[Stage], cards: Cards, count: int) -> list[str]:
    """A row of the table: what the stages take, with the rows of a step shared out; times of a step are the first's."""
    seconds = computation = 0.0
    for stage in stages:
        step = simulate(parts_of(config, stage.rows // count, stage.columns), cards, count)
        seconds += stage.steps * step.seconds
        computation += stage.steps * step.computation
    first = simulate(parts_of(config, stages[0].rows // count, stages[0].columns), cards, count)
    tokens = sum(stage.tokens for stage in stages)
    hours = seconds / 3600
    return [
        f"{count} x {cards.name}", f"{1e3 * first.computation:.1f}", f"{1e3 * first.communication:.1f}",
        f"{1e3 * first.exposed:.1f}", f"{computation / seconds:.2f}", f"{tokens / seconds:,.0f}",
        f"{hours:.1f}", f"{hours * count * cards.price:,.0f}",
    ]  # fmt: skip


HEADER = (
    "cards", "computation, ms", "all-reduce, ms", "not hidden, ms", "share of computation", "tokens/s", "hours",
    "dollars",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.benchmarks.scale", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the model with two processes on this machine")
    parser.add_argument("--share", type=float, help="of the cards' peak over a whole step, in place of 0.25")
    parser.add_argument("--price", type=float, help="dollars for an hour of one card, in place of 2.0 and 3.5")
    options = parser.parse_args()
    if options.check:
        from tests.programs.benchmarks.scale_check import check

        print(check())
        return
    config = BertConfig()
    parts = parts_of(config, 256, 128)
    sizes = [size for part in parts for size in part.sizes]
    print(f"BERT-base with both heads: {sum(sizes) // BYTES:,} gradients, {sum(sizes) / 2**20:.0f} MiB, "
          f"in {len(buckets(parts))} buckets, the last of {buckets(parts)[-1][0] / 2**20:.0f} MiB.")  # fmt: skip
    changes = {key: value for key in ("share", "price") if (value := getattr(options, key)) is not None}
    for stages in (ORIGINAL, LARGE_BATCHES):
        tokens = sum(stage.tokens for stage in stages)
        print(f"\n{tokens / 1e9:.1f} billion tokens in batches of {stages[0].rows:,} rows")
        cards = [replace(card, **changes) for card in (A100, H200)]
        print(table([pretraining(config, stages, card, count) for card in cards for count in (1, 8, 64)], HEADER))


if __name__ == "__main__":
    main()
