"""The results as Markdown: one table to quote, and every number behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tests.programs.benchmarks.measure import Result

OURS = "minibert"  # by its own defaults, where it has a say
IN_FP32 = "minibert in fp32"
PREPARED = "minibert prepared"
SAME_WORK = "transformers"  # the reference of every case of the same work


def markdown(results: Sequence[Result], machine: dict[str, Any]) -> str:
    """The whole report."""
    parts = [_setting(machine), summary(results), *map(_details, results)]
    return "\n\n".join(parts) + "\n"


def summary(results: Sequence[Result]) -> str:
    """One row for each kind of work, texts and model: ratios, with the noise in brackets."""
    header = ("case", "minibert's defaults over what people commonly write", "same work, fp32", "same work, bf16")
    cells = {result.case: _cell(result) for result in results}
    rows = [
        (row.replace("/", ", "), *(cells.get(f"{row}/{way}", "") for way in WAYS))
        for row in dict.fromkeys(_row_of(result.case) for result in results)
    ]
    explained = (
        "Medians, the other's time over minibert's: above 1 minibert is faster. The other is "
        "transformers unless one is named. In brackets the other over itself, which noise alone "
        "keeps from 1. For memory it is minibert's over the other's: below 1 it takes less."
    )
    return f"{table(header, rows)}\n\n{explained}"


WAYS = ("written", "same/fp32", "same/bf16")


def _row_of(case: str) -> str:
    [row] = (case.removesuffix(f"/{way}") for way in WAYS if case.endswith(way))
    return row


def _cell(result: Result) -> str:
    """The ratios of one case: over its reference, and over everything else that is not ours."""
    first = result.reference
    over_first = "" if first == SAME_WORK else f" over {first}"
    if result.unit == "MB":
        return f"{1 / result.ratio(OURS):.2f} [{result.noise:.2f}]"
    parts = [f"{result.ratio(OURS):.2f} [{result.noise:.2f}]{over_first}"]
    for name in result.values:
        if name in (PREPARED, IN_FP32):
            parts.append(f"{name.removeprefix(OURS).strip()} {result.ratio(name):.2f}{over_first}")
        elif name not in (first, result.control, OURS):
            parts.append(f"{result.ratio(OURS, over=name):.2f} over {name}")
    return "; ".join(parts)


def _setting(machine: dict[str, Any]) -> str:
    found = {name: number for name, number in machine["versions"].items() if number}
    versions = ", ".join(f"{name} {number}" for name, number in found.items())
    peaks = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in machine["matrix peak"].items())
    return "\n".join(
        [
            f"{machine['cpu']} ({machine['family/model/stepping']}), "
            f"{machine['processors']} processors, {', '.join(machine['flags'])}; "
            f"{machine['threads']} threads, {machine['clock']} time, {machine['rounds']} rounds; "
            f"Python {machine['python']}, {versions}, commit {machine['commit']}; "
            f"matrix peak in GFLOP/s: {peaks}.",
            f"Load average at the start: {', '.join(f'{x:.2f}' for x in machine['load average'])}.",
            *machine["notes"],
        ]
    )


def _details(result: Result) -> str:
    """Every variant of a case: median and range, rate, ratio with its range over the rounds."""
    rows = []
    for name, values in result.values.items():
        low, high = result.range_of_ratios(name)
        cells = [
            name,
            f"{result.median(name):.3g} ({min(values):.3g} to {max(values):.3g})",
            f"{result.tokens / result.median(name):,.0f}" if result.tokens else "",
            f"{result.ratio(name):.2f} ({low:.2f} to {high:.2f})",
            f"{result.share_of_peak(name):.2f}" if result.peak and result.flops else "",
            result.what[name],
        ]
        rows.append(cells)
    unit = "seconds" if result.unit == "s" else result.unit
    header = ("variant", unit, "real tokens/s", "times the reference", "of the peak", "what it does")
    others = "unknown" if result.others_busy is None else f"{result.others_busy:.2f}"
    busy = " THE MACHINE WAS NOT IDLE." if result.disturbed else ""
    return "\n\n".join(
        [
            f"### {result.case}",
            f"{result.sizes}. {result.agreement}. Processors in use by others: {others}.{busy}",
            table(header, rows),
        ]
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
