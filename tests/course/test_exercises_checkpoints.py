"""The checks of chapter 06: right code passes in any style, known mistakes are named, unknown ones are placed."""

from __future__ import annotations

import itertools
import re
import runpy
from pathlib import Path

import pytest

from minibert.study import exercises as check
from minibert.study.exercises import checkpoints, parameter_names

SOLUTIONS = runpy.run_path(str(Path(__file__).parents[2] / "notebooks/solutions/06_official_weights.py"))
STYLES = {
    "official_name": ("my_official_name", "my_official_name_with_rules", "my_official_name_by_listing"),
    "modern_name": ("my_modern_name", "my_modern_name_with_patterns", "my_modern_name_by_parts"),
    "from_tensorflow": ("my_conversion", "my_conversion_with_patterns", "my_conversion_in_two_passes"),
    "plan_loading": ("my_plan", "my_plan_with_sets", "my_plan_in_one_pass"),
}
MODULES = {
    "official_name": parameter_names, "modern_name": parameter_names, "from_tensorflow": checkpoints,
    "plan_loading": checkpoints,
}  # fmt: skip


def task_of(kind, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(MODULES[kind], "judge", lambda mine, task: task)
        return getattr(check, kind)(None)


def wrong(task, *mistakes):
    return lambda *inputs: task.truth(*inputs, mistakes=frozenset(mistakes))


@pytest.mark.parametrize("kind, style", [(kind, style) for kind, styles in STYLES.items() for style in styles])
def test_right_code_passes_in_any_style(kind, style):
    verdict = getattr(check, kind)(SOLUTIONS[style])
    assert verdict.right and verdict.mistakes == (), verdict


@pytest.mark.parametrize("kind", STYLES)
def test_every_known_mistake_is_named_and_no_other(kind, monkeypatch):
    task = task_of(kind, monkeypatch)
    for name, words in task.mistakes.items():
        verdict = getattr(check, kind)(wrong(task, name))
        assert verdict.mistakes == ((name,),) and words in str(verdict), name


@pytest.mark.parametrize("kind", STYLES)
def test_pairs_are_named(kind, monkeypatch):
    task = task_of(kind, monkeypatch)

    def answers(names):
        return [task.right(case, *names) for case in task.cases]

    for pair in itertools.combinations(task.mistakes, 2):
        verdict = getattr(check, kind)(wrong(task, *pair))
        alone = any(len(names) == 1 for names in verdict.mistakes)  # one of the two hides the other
        assert verdict.right or alone or pair in verdict.mistakes, pair
        assert all(repr(answers(names)) == repr(answers(pair)) for names in verdict.mistakes), pair


# Mistakes as students make them.

KNOWN = [
    ("modern_name", lambda n: SOLUTIONS["my_modern_name"](n) and SOLUTIONS["my_modern_name"](n.lstrip("bert.")),
     "letters stripped"),
    ("modern_name", lambda name: SOLUTIONS["my_modern_name"](name.replace("bert.", "")), "prefix anywhere"),
    ("from_tensorflow", lambda v: SOLUTIONS["my_conversion"]({k: x.T if "kernel" in k else x for k, x in v.items()}),
     "not transposed"),
    ("plan_loading", lambda *given: SOLUTIONS["my_plan"](*given)[:2] + ([],), "shapes not compared"),
    ("plan_loading", lambda *given: [SOLUTIONS["my_plan"](*given)[i] for i in (1, 0, 2)], "swapped"),
    ("official_name", lambda name: SOLUTIONS["my_official_name"](re.sub(r"\d+", "0", name)), "one layer"),
    ("official_name", lambda name: SOLUTIONS["my_official_name"](name).removeprefix("bert."), "no prefix"),
]  # fmt: skip


@pytest.mark.parametrize("kind, function, name", KNOWN, ids=[name for _, _, name in KNOWN])
def test_mistakes_written_by_hand_are_named(kind, function, name):
    assert getattr(check, kind)(function).mistakes == ((name,),)


def transposed_vectors_too(variables):
    return {name: tensor.flip(0) if tensor.dim() == 1 else tensor for name, tensor in variables.items()}


UNKNOWN = [
    ("official_name", lambda name: SOLUTIONS["my_official_name"](name).replace("LayerNorm", "layer_norm"),
     "embeddings.norm.weight"),
    ("official_name", lambda name: SOLUTIONS["my_official_name"](name).replace("pooler", "pool"),
     "pooler.dense.weight"),
    ("official_name", lambda name: re.sub(r"layer\.\d", "layer.x", SOLUTIONS["my_official_name"](name)),
     "encoder.layers.0.attention.query.weight"),
    ("modern_name", lambda name: str(SOLUTIONS["my_modern_name"](name)), "position_ids"),
    ("modern_name", lambda name: SOLUTIONS["my_modern_name"](name) or "embeddings.positions", "position_ids"),
    ("from_tensorflow", lambda v: {k: x * 2 for k, x in SOLUTIONS["my_conversion"](v).items()},
     "norm of the embeddings"),
    ("from_tensorflow", lambda v: SOLUTIONS["my_conversion"](transposed_vectors_too(v)), "norm of the embeddings"),
    ("from_tensorflow", lambda v: {k: x.flatten() for k, x in SOLUTIONS["my_conversion"](v).items()}, "tables"),
    ("plan_loading", lambda *given: ([], [], SOLUTIONS["my_plan"](*given)[2]), "two tensors that the file lacks"),
    ("plan_loading", lambda *given: tuple(map(len, SOLUTIONS["my_plan"](*given))), "a file that fits"),
]  # fmt: skip


@pytest.mark.parametrize("kind, function, place", UNKNOWN)
def test_for_an_unknown_mistake_the_first_case_that_departs_is_told(kind, function, place):
    verdict = getattr(check, kind)(function)
    assert not verdict.right and verdict.mistakes == ()
    assert place in str(verdict).splitlines()[0]


@pytest.mark.parametrize("kind", STYLES)
def test_nothing_written_and_errors_get_a_sentence(kind):
    assert str(getattr(check, kind)(lambda *given: None)) == "Not written yet: the function returns None."
    assert "ZeroDivisionError" in str(getattr(check, kind)(lambda *given: 1 / 0))
