"""What every check of the course has to do with the mistakes that it knows, alone and in pairs."""

from __future__ import annotations

import itertools
from functools import partial

from minibert.study.exercises.values import Task, difference, judge, plain


def singles(tasks: dict[str, Task]) -> list[tuple[str, str]]:
    return [(name, mistake) for name, task in tasks.items() for mistake in task.mistakes]


def assert_named(task: Task, *mistakes: str) -> None:
    """A function with exactly these mistakes is wrong, and the verdict names them or others that give the same."""
    verdict = judge(partial(task.truth, mistakes=frozenset(mistakes)), task)
    assert not verdict.right
    assert verdict.mistakes == (mistakes,), verdict


def assert_pairs_named(task: Task, least: int) -> None:
    """Each pair that gives other numbers than the right function is named, as itself or as one mistake that equals it.

    Args:
        least: how many pairs at least are named as themselves: the others have no effect on each other.
    """
    named = 0
    for pair in itertools.combinations(task.mistakes, 2):
        wrong = partial(task.truth, mistakes=frozenset(pair))
        try:
            found = [plain(task.right(case, *pair)) for case in task.cases]
        except Exception:  # the two do not go together
            continue
        if not any(difference(x, task.right(case)) for x, case in zip(found, task.cases, strict=True)):
            continue
        verdict = judge(wrong, task)
        assert not verdict.right and verdict.mistakes, (pair, verdict)
        named += pair in verdict.mistakes
    assert named >= least, named
