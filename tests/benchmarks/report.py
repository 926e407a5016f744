"""The results as Markdown: one table to quote, and every number behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tests.benchmarks.measure import CONTROL, REFERENCE, Result

OURS = "minibert"
IN_FP32 = "minibert in fp32"
FUSED = "transformers, fused AdamW"
PREPARED = "minibert prepared"


def markdown(results: Sequence[Result], machine: dict[str, Any]) -> str:
    """The whole report."""
    return "\n\n".join([_setting(machine), summary(results), *map(_details, results)]) + "\n"


def summary(results: Sequence[Result]) -> str:
    """One row for each kind of work, texts and model: ratios, with the noise in brackets."""
    header = (
        "case",
        "minibert's defaults over what people commonly write",
        "the same in fp32",
        "same work, fp32",
        "same work, bf16",
    )
    by_name = {result.case: result for result in results}
    rows = []
    for row in dict.fromkeys(map(_row_of, by_name)):
        written = by_name.get(f"{row}/written")
        same = [by_name.get(f"{row}/same/{dtype}") for dtype in ("fp32", "bf16")]
        cells = [_written(written), _written_in_fp32(written), *map(_same, same)]
        rows.append((row.replace("/", ", "), *cells))
    explained = (
        "Ratios of medians, reference over minibert: above 1 minibert is faster (for memory: below "
        "1 it takes less). In brackets the reference over itself, which only noise keeps from 1."
    )
    return f"{_table(header, rows)}\n\n{explained}"


def _row_of(case: str) -> str:
    return case.partition("/written")[0].partition("/same")[0]


def _written(result: Result | None) -> str:
    if result is None or OURS not in result.values:
        return ""
    others = [n for n in result.values if n not in (REFERENCE, CONTROL) and OURS not in n]
    cells = [f"{result.ratio(OURS):.2f} [{result.noise:.2f}]"]
    cells += [f"{name} {result.ratio(OURS, over=name):.2f}" for name in others]
    return "; ".join(cells)


def _written_in_fp32(result: Result | None) -> str:
    return "" if result is None or IN_FP32 not in result.values else _ratio(result, IN_FP32)


def _same(result: Result | None) -> str:
    if result is None:
        return ""
    if result.unit == "MB":
        return f"{1 / result.ratio(OURS):.2f} [{result.noise:.2f}]"
    cells = [_ratio(result, OURS)]
    if PREPARED in result.values:
        cells.append(f"prepared {result.ratio(PREPARED):.2f}")
    if FUSED in result.values:
        cells.append(f"fused AdamW on both sides {result.ratio(OURS, over=FUSED):.2f}")
    return "; ".join(cells)


def _ratio(result: Result, name: str) -> str:
    return f"{result.ratio(name):.2f} [{result.noise:.2f}]"


def _setting(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
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
        pairs = zip(result.values[REFERENCE], values, strict=True)
        ratios = [one / other for one, other in pairs]
        cells = [
            name,
            f"{result.median(name):.3g} ({min(values):.3g} to {max(values):.3g})",
            f"{result.tokens / result.median(name):,.0f}" if result.tokens else "",
            f"{result.ratio(name):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{result.share_of_peak(name):.2f}" if result.peak and result.flops else "",
            result.what[name],
        ]
        rows.append(cells)
    unit = "seconds" if result.unit == "s" else result.unit
    header = (
        "variant",
        unit,
        "real tokens/s",
        "times the reference",
        "of the peak",
        "what it does",
    )
    others = "unknown" if result.others_busy is None else f"{result.others_busy:.2f}"
    busy = " THE MACHINE WAS NOT IDLE." if result.disturbed else ""
    return "\n\n".join(
        [
            f"### {result.case}",
            f"{result.sizes}. {result.agreement}. Processors in use by others: {others}.{busy}",
            _table(header, rows),
        ]
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
