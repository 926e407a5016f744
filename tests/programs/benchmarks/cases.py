"""The list of cases: what is measured, under which name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial

from tests.programs.benchmarks import inference, processes, tokenising, training
from tests.programs.benchmarks.material import prepare
from tests.programs.benchmarks.measure import Case, Job

# (kind, texts) -> the models that it is measured with. Every case of every kind is in this table.
WORK = {
    ("inference", "short"): ("MiniLM", "BERT-base"),
    ("inference", "long"): ("MiniLM", "BERT-base"),
    ("training", "short"): ("MiniLM", "BERT-base"),
    ("training", "long"): ("MiniLM", "BERT-base"),
    ("masked-LM", "long"): ("MiniLM", "minibert-small"),
    ("tokenising", "short"): ("MiniLM",),
    ("tokenising", "long"): ("MiniLM",),
    ("start-up", "short"): ("MiniLM", "BERT-base"),
    ("memory", "long"): ("MiniLM",),
}
# Kind -> the ways to do it: as people commonly write it, and (in each dtype) the same work.
WRITTEN = {
    "inference": inference.as_written,
    "training": training.as_written,
    "tokenising": tokenising.as_written,
    "start-up": processes.start_up,
}
SAME = {
    "inference": inference.same_work,
    "training": training.same_work,
    "masked-LM": training.masked_lm,
    "memory": processes.memory,
}


def all_cases(quick: bool = False) -> list[Case]:
    """Every case, in the order of the table; quick: with a tiny model and made-up texts."""
    cases = []
    for (kind, texts), models in WORK.items():
        for model in ("tiny",) if quick else models:
            head = "MaskedLM" if kind == "masked-LM" else "SequenceClassification"
            material = partial(prepare, kind, texts, model, head)
            name = f"{kind}/{texts}/{model}"
            if kind in WRITTEN:
                cases.append(_case(f"{name}/written", WRITTEN[kind], material))
            if kind == "inference":  # where both sides can sort, only kernels are compared
                material = partial(material, of_one_length=True)
            if kind in SAME:
                for dtype in ("fp32", "bf16"):
                    way = partial(SAME[kind], dtype=dtype)
                    cases.append(_case(f"{name}/same/{dtype}", way, material))
    return cases


def chosen(cases: Sequence[Case], patterns: Sequence[str]) -> list[Case]:
    """The cases of which a part matches one of the patterns (with * and ?); all without any."""
    return [
        case for case in cases if not patterns or any(fnmatchcase(case.name, f"*{pattern}*") for pattern in patterns)
    ]


def _case(name: str, way: Callable[..., Job], material: Callable[[], object]) -> Case:
    return Case(name, lambda: way(material()))
