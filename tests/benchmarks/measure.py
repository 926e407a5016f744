"""Rounds: every variant of a case once in each, in random order, the reference twice."""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.clock import IDLE, Neighbours, Stopwatch

# The first two variants of every case: the same work by the same code, built twice.
REFERENCE = "transformers"
CONTROL = "transformers again"


@dataclass(frozen=True)
class Variant:
    """One way to do the work of a case.

    Attributes:
        name: unique in the case.
        what: what it does, for the reader of the table.
        run: does the work of one round, and runs the stopwatch around the part that counts.
            Returns what is compared with the other variants.
    """

    name: str
    what: str
    run: Callable[[Stopwatch], Any]


@dataclass(frozen=True)
class Job:
    """A case that is ready to run.

    Attributes:
        sizes: the work of one round, for the reader.
        variants: REFERENCE and CONTROL first.
        compare: name -> output, of the warm-up round -> a line that says how near they are to each
            other. Raises `Disagreement` if they are not near enough.
        tokens: the real tokens of one round; 0 where the result is not a rate.
        flops: the arithmetic of one round on real tokens.
        dtype: "fp32" or "bf16": whose matrix peak the arithmetic is held against.
        unit: of what the stopwatch gives; "MB" where it is not a time.
        rounds: if it is not the run's own number.
    """

    sizes: str
    variants: list[Variant]
    compare: Callable[[dict[str, Any]], str]
    tokens: int = 0
    flops: float = 0.0
    dtype: str = "fp32"
    unit: str = "s"
    rounds: int | None = None


@dataclass(frozen=True)
class Case:
    """A case that is not built yet: its name, "inference/short/MiniLM/same work/fp32"."""

    name: str
    build: Callable[[], Job]


@dataclass(frozen=True)
class Result:
    """What one case came to. `values` has a number for each round of each variant."""

    case: str
    sizes: str
    tokens: int
    flops: float
    dtype: str
    unit: str
    agreement: str
    values: dict[str, list[float]]
    what: dict[str, str]
    peak: float  # operations a second of a large matrix product in this dtype
    others_busy: float | None  # processors

    def median(self, name: str) -> float:
        """The median round of a variant."""
        return statistics.median(self.values[name])

    @property
    def reference(self) -> float:
        """The median over both copies of the reference."""
        return statistics.median(self.values[REFERENCE] + self.values[CONTROL])

    def ratio(self, name: str, over: str | None = None) -> float:
        """How many times less a variant needs than `over` (both copies of the reference)."""
        base = self.reference if over is None else self.median(over)
        return base / self.median(name)

    def share_of_peak(self, name: str) -> float:
        """How much of the machine's matrix peak the arithmetic on real tokens makes use of."""
        return self.flops / self.median(name) / self.peak

    @property
    def disturbed(self) -> bool:
        """Whether other processes were at work while this was measured."""
        return self.others_busy is not None and self.others_busy > IDLE

    @property
    def noise(self) -> float:
        """The ratio of the reference to itself, which would be 1 on a machine without noise."""
        return self.median(REFERENCE) / self.median(CONTROL)


def measure(
    case: Case,
    *,
    rounds: int,
    clock: str,
    peaks: Mapping[str, float],
    say: Callable[[str], None],
) -> Result:
    """Builds a case, runs it once to warm up and compare, then in rounds.

    Raises:
        Disagreement: the outputs of the variants are not the same.
    """
    job = case.build()
    order = random.Random(0)
    outputs, seconds = {}, 0.0
    for variant in job.variants:
        watch = Stopwatch(clock)
        outputs[variant.name] = variant.run(watch)
        seconds += watch.seconds
    agreement = job.compare(outputs)
    rounds = job.rounds or rounds
    if job.unit == "s":
        say(f"{agreement}; {rounds} rounds, about {rounds * seconds:.0f} s")
    values: dict[str, list[float]] = {variant.name: [] for variant in job.variants}
    neighbours = Neighbours()
    for _ in range(rounds):
        for variant in order.sample(job.variants, len(job.variants)):
            gc.collect()
            watch = Stopwatch(clock)
            variant.run(watch)
            values[variant.name].append(watch.seconds)
    return Result(
        case=case.name,
        sizes=job.sizes,
        tokens=job.tokens,
        flops=job.flops,
        dtype=job.dtype,
        unit=job.unit,
        agreement=agreement,
        values=values,
        what={variant.name: variant.what for variant in job.variants},
        peak=peaks[job.dtype],
        others_busy=neighbours.busy(),
    )
