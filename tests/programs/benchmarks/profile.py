"""Where the time of a case goes: torch's profiler, by kind of operation."""

from __future__ import annotations

import re
from collections import Counter

import torch
from torch.profiler import ProfilerActivity

from tests.programs.benchmarks.clock import Stopwatch
from tests.programs.benchmarks.measure import Case, Variant
from tests.programs.benchmarks.report import table

# Kind -> the operations that it is made of. The first that fits counts. Backward operations run
# under the names of the forward ones, but for those with a kernel of their own.
KINDS = {
    "optimizer": r"adam|clip_grad|_foreach|Optimizer|lerp|addcdiv|addcmul|linalg_vector_norm",
    "matrix products": r"addmm|::mm$|bmm|linear|matmul|einsum",
    "attention": r"scaled_dot_product|flash|softmax|AttentionInChunks",
    "random numbers": r"bernoulli|random|uniform|dropout",
    "layer norm": r"layer_norm",
    "GELU": r"gelu",
    "embedding": r"embedding|index_select|index_copy|index_add|scatter|gather|nonzero",
    "copies, dtypes, memory": r"copy|clone|contiguous|::to$|cat$|split|empty|resize|zero|fill_",
    "element by element": r"::(add|sub|mul|div|neg|tanh|where|masked_fill|[gl][et]|eq|ne|sqrt)_?$",
    "sums": r"::(sum|mean|max|min|amax|norm|cumsum)",
}
OTHER = "other operations"
OUTSIDE = "Python, and what the profiler costs"


def profile(case: Case, peaks: dict[str, float]) -> str:
    """One table for each variant of a case but the second copy of the reference."""
    job = case.build()
    parts = [f"## {case.name}: {job.sizes}"]
    for variant in [job.variants[0], *job.variants[2:]]:
        seconds, by_kind, rest = _shares(variant)
        rows = [(kind, f"{1000 * spent:.1f}", f"{spent / seconds:.1%}") for kind, spent in by_kind.most_common()]
        lines = [f"### {variant.name}: {1000 * seconds:.0f} ms ({variant.what})"]
        lines.append(table(("kind", "ms", "share"), rows))
        products = by_kind["matrix products"]
        if products and job.flops:
            rate = job.flops / products
            lines.append(
                f"The matrix products do {rate / 1e9:.0f} GFLOP/s of work on real tokens, "
                f"{rate / peaks[job.dtype]:.2f} of the peak."
            )
        lines.append(f"Largest of the other operations: {', '.join(rest)}.")
        parts.append("\n\n".join(lines))
    return "\n\n".join(parts)


def _shares(variant: Variant) -> tuple[float, Counter[str], list[str]]:
    """Seconds of a round, seconds by kind, and the largest operations of no kind."""
    variant.run(Stopwatch("wall"))
    timed = Stopwatch("wall")
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as profiler:
        variant.run(timed)
    by_kind: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for event in profiler.key_averages():
        kind = _kind(event.key)
        by_kind[kind] += event.self_cpu_time_total / 1e6
        if kind == OTHER:
            others[event.key] += event.self_cpu_time_total
    by_kind[OUTSIDE] = max(0.0, timed.seconds - by_kind.total())
    return timed.seconds, by_kind, [name for name, _ in others.most_common(5)]


def _kind(operation: str) -> str:
    for kind, pattern in KINDS.items():
        if re.search(pattern, operation):
            return kind
    return OTHER
