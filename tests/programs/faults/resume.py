"""Mistakes of saving a run and resuming it."""

from tests.programs.faults.fault import faults

FAULTS = [
    *faults(
        "workbench/runs",
        "workbench/runs/test_state",
        ("random state not restored", "generator.set_rng_state(state)", "pass"),
        ("schedule not restored", "training.schedule.go_to(updates)", "pass"),
        ("scaler not restored", "training.scaler.load_state_dict(scaler)", "pass"),
        (
            "optimizer by position",
            'if key.rpartition("/")[0] == name]',
            'if key.startswith(sorted(n for n, _ in _named_parameters(state))[position] + "/")]',
        ),
        ("best weights forgotten", "state.history, state.best_weights = history, best", "state.history = history"),
        ("groups not compared", '_compare(path / STATE, stored["groups"], _groups(state))', "pass"),
        (
            "the newest checkpoint deleted with the old ones",
            "_step_of(path) < _step_of(newest)",
            "_step_of(path) <= _step_of(newest)",
        ),
    ),
    *faults(
        "io/files.py",
        "workbench/runs/test_state",
        ("sums not compared", 'found["sha256"] = sha256(path)', 'found["sha256"] = facts["sha256"]'),
    ),
    *faults(
        "training.py",
        "workbench/runs/test_resume",
        (
            "the epoch starts again",
            "        position = training.position\n",
            "        position = training.position\n        position.batches = 0\n",
        ),
    ),
    *faults(
        "workbench/runs",
        "workbench/runs/test_resume",
        ("the loss of the epoch starts again", '"terms": LossSums(**stored["terms"])', '"terms": LossSums()'),
        (
            "the log not brought back",
            "if self.ranks.is_first:  # a kill may have come",
            "if False:  # a kill may have come",
        ),
        ("other data in a new place", '"source": found.get("source"), "files": files}', "**found}"),
    ),
]
