"""The list of cases: what is measured, under which name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial

from tests.benchmarks import inference, training
from tests.benchmarks.material import prepare
from tests.benchmarks.measure import Case, Job

MODELS = ("MiniLM", "BERT-base")
WAYS = {"inference": inference, "training": training}


def all_cases(quick: bool = False) -> list[Case]:
    """Every case, in the order of the table; quick: with a tiny model and made-up texts."""
    models = ("tiny",) if quick else MODELS
    cases = []
    for kind, module in WAYS.items():
        for model in models:
            for texts in ("short", "long"):
                material = partial(prepare, kind, texts, model)
                name = f"{kind}/{texts}/{model}"
                cases.append(_case(f"{name}/written", module.as_written, material))
                for dtype in ("fp32", "bf16"):
                    way = partial(module.same_work, dtype=dtype)
                    cases.append(_case(f"{name}/same/{dtype}", way, material))
    return cases


def chosen(cases: Sequence[Case], patterns: Sequence[str]) -> list[Case]:
    """The cases of which a part matches one of the patterns (with * and ?); all without any."""
    return [
        case
        for case in cases
        if not patterns or any(fnmatchcase(case.name, f"*{pattern}*") for pattern in patterns)
    ]


def _case(name: str, way: Callable[..., Job], material: Callable[[], object]) -> Case:
    return Case(name, lambda: way(material()))
