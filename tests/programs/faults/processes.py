"""Mistakes of several processes that train together."""

from tests.programs.faults.fault import faults

FAULTS = [
    *faults(
        "training.py",
        "workbench/runs/test_ranks",
        ("a mean where the sum is meant", "ranks.size * loss", "loss"),
        (
            "labels of this rank alone",
            "model.count_labels(inputs) for inputs in loaded",
            "model.count_labels(ranks.share(inputs)[0]) for inputs in loaded",
        ),
        ("a stand-in row counts", "counted * total for", "total for"),
        ("the loss of this rank alone", "ranks.add({term: ", "dict({term: "),
        ("all evaluate everything", "batches[ranks.rank :: ranks.size]", "batches"),
    ),
    *faults(
        "workbench/runs",
        "workbench/runs/test_ranks",
        ("one dropout for all", "if self.is_first:", "if self.size:"),
        ("all tell the same", 'add("told", 1) > 1', 'add("told", 1) > 9'),
    ),
]
