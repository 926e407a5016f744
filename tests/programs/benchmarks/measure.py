"""Rounds: every variant of a case once in each, in random order, the reference twice."""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.programs.benchmarks.clock import IDLE, Neighbours, Stopwatch


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
        variants: the first is the reference, the second the same again, built anew.
        compare: outputs of the warm-up round, by variant -> a line that says how near they are.
            Raises `Disagreement` if they are not near enough.
        tokens: the real tokens of one round; 0 where the result is not a rate.
        flops: the arithmetic of one round on real tokens.
        dtype: "fp32" or "bf16": whose matrix peak the arithmetic is held against.
        unit: of what the stopwatch shows; "MB" where it is not a time, and then one round will do.
    """

    sizes: str
    variants: Sequence[Variant]
    compare: Callable[[dict[str, Any]], str]
    tokens: int = 0
    flops: float = 0.0
    dtype: str = "fp32"
    unit: str = "s"


@dataclass(frozen=True)
class Case:
    """A case that is not built yet, with its name, such as "inference/short/MiniLM/same/fp32"."""

    name: str
    build: Callable[[], Job]


@dataclass(frozen=True)
class Result:
    """What one case came to.

    Attributes:
        agreement: how near the outputs are to each other.
        values: variant -> a number for each round, the reference and its copy first.
        what: variant -> what it does.
        peak: operations a second of a large matrix product in this dtype.
        others_busy: processors that other processes kept busy meanwhile.
    """

    case: str
    sizes: str
    tokens: int
    flops: float
    dtype: str
    unit: str
    agreement: str
    values: dict[str, list[float]]
    what: dict[str, str]
    peak: float
    others_busy: float | None

    @property
    def reference(self) -> str:
        return list(self.values)[0]

    @property
    def control(self) -> str:
        return list(self.values)[1]

    def median(self, name: str) -> float:
        """The median round of a variant; of the reference: over the rounds of both its copies."""
        values = self.values[name]
        if name == self.reference:
            values = values + self.values[self.control]
        return statistics.median(values)

    def ratio(self, name: str, over: str | None = None) -> float:
        """How many times more `over` (the reference) needs than a variant."""
        return self.median(over or self.reference) / self.median(name)

    def range_of_ratios(self, name: str) -> tuple[float, float]:
        """The smallest and the largest ratio of a single round."""
        ratios = [one / other for one, other in zip(self.values[self.reference], self.values[name], strict=True)]
        return min(ratios), max(ratios)

    @property
    def noise(self) -> float:
        """The ratio of the reference to itself, which would be 1 on a machine without noise."""
        first, second = self.values[self.reference], self.values[self.control]
        return statistics.median(first) / statistics.median(second)

    def share_of_peak(self, name: str) -> float:
        """How much of the machine's matrix peak the arithmetic on real tokens makes use of."""
        return self.flops / self.median(name) / self.peak

    @property
    def disturbed(self) -> bool:
        """Whether other processes were at work while this was measured."""
        return self.others_busy is not None and self.others_busy > IDLE


def measure(case: Case, *, rounds: int, clock: str, peaks: Mapping[str, float], say: Callable[[str], None]) -> Result:
    """Builds a case, goes through one round to warm up and to compare, then through the others.

    Raises:
        Disagreement: the outputs of the variants are not the same.
    """
    job = case.build()
    order = random.Random(0)
    neighbours = Neighbours()
    warm_up, outputs = _round(job.variants, clock)
    agreement = job.compare(outputs)
    say(f"         {agreement}")
    if job.unit == "s":
        say(f"         {rounds} rounds of about {sum(warm_up.values()):.1f} s")
        neighbours = Neighbours()
        all_rounds = [_round(order.sample(job.variants, len(job.variants)), clock)[0] for _ in range(rounds)]
    else:
        all_rounds = [warm_up]
    return Result(
        case=case.name,
        sizes=job.sizes,
        tokens=job.tokens,
        flops=job.flops,
        dtype=job.dtype,
        unit=job.unit,
        agreement=agreement,
        values={one.name: [values[one.name] for values in all_rounds] for one in job.variants},
        what={variant.name: variant.what for variant in job.variants},
        peak=peaks[job.dtype],
        others_busy=neighbours.busy(),
    )


def _round(variants: Sequence[Variant], clock: str) -> tuple[dict[str, float], dict[str, Any]]:
    """Runs each variant once: name -> what the stopwatch shows, name -> output."""
    shown, outputs = {}, {}
    for variant in variants:
        gc.collect()
        timed = Stopwatch(clock)
        outputs[variant.name] = variant.run(timed)
        shown[variant.name] = timed.seconds
    return shown, outputs
