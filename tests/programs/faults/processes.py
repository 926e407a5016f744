"""Mistakes of several processes that train together."""

from tests.programs.faults.fault import faults

FAULTS = faults(
    "workbench/runs",
    "workbench/runs/test_ranks",
    ("a mean where the sum is meant", "dist.get_world_size() * gradient", "gradient"),
    (
        "labels of this rank alone",
        "_Share(model.count_labels(inputs),",
        "_Share(\n        model.count_labels({n: v[own] for n, v in tensors.items()}),",
    ),
    ("a stand-in row counts", "share.weight * total", "total"),
    ("the loss of this rank alone", "        dist.all_reduce(total)\n        return total", "        return total"),
    ("all evaluate everything", "batches[ranks.rank :: ranks.size]", "batches"),
    ("one dropout for all", "seed if self.is_first else mixed_seed", "seed if self.size else mixed_seed"),
    ("all tell the same", 'add("reported", 1) > 1', 'add("reported", 1) > 9'),
)
