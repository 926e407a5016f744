"""Runs that differ only in the seed: how much of a score is luck.

The order of the data, the fresh weights of the head and dropout depend on the seed, which alone can
move a score by points (Dodge et al. 2020). All runs draw subsets and the validation split with the
first seed, so that they train, validate and test on the same examples: the spread is that of
training, not of the data.

The folder of such a group holds a run folder seed-K for each seed, and seeds.json.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minibert.io.errors import ConfigError, DataError
from minibert.io.files import finite, read_object, sha256, write_json
from minibert.io.tables import table
from minibert.workbench.kinds import KINDS
from minibert.workbench.reports.columns import require_comparable, require_same, sums_of
from minibert.workbench.runs.folders import SavedRun, begun, make_folder, read_run
from minibert.workbench.runs.ranks import launched
from minibert.workbench.runs.settings import Settings, as_record, check, inputs_of
from minibert.workbench.scores.baselines import verdicts
from minibert.workbench.scores.significance import mean_interval
from minibert.workbench.tasks.finetune import finetune, resume

_VARIES = "order of the data, fresh weights, dropout"


@dataclass(frozen=True)
class Spread:
    """A score over seeds.

    Attributes:
        values: one for each seed.
        deviation: the sample standard deviation, over n - 1.
        low, high: the 95% interval of the mean, by Student's t.
    """

    values: list[float]
    mean: float
    deviation: float
    low: float
    high: float


@dataclass(frozen=True)
class Seeds:
    """The finished runs of a group.

    Attributes:
        folder: the folder with a run folder for each seed.
        runs: in the order of the seeds.
        trained: how many of them were trained now; the others were finished before.
    """

    folder: Path
    runs: tuple[SavedRun, ...]
    trained: int

    def spreads(self, split: str) -> dict[str, Spread]:
        """Metric -> its spread on one split."""
        known = KINDS[self.runs[0].record["problem_type"]].metrics
        metrics = [name for name in known if name in self.runs[0].metrics[split]]
        found = {name: [run.metrics[split][name]["value"] for run in self.runs] for name in metrics}
        return {name: _spread(values) for name, values in found.items() if None not in values}

    def _failures(self, spreads: Mapping[str, Spread]) -> list[str]:
        """What has to be said of the mean over seeds, beside the baselines of these data."""
        first = self.runs[0]
        baselines = {name: found for name, found in first.metrics.get("baselines", {}).items() if name != "split"}
        compared = KINDS[first.record["problem_type"]].compared(baselines)
        return [] if compared is None else verdicts(baselines, compared, spreads[compared].mean)

    def summary(self) -> str:
        """The scores of each seed, their means and spreads, as text."""
        split, count = self.runs[0].split, len(self.runs)
        spreads = self.spreads(split)
        rows = [
            (
                str(run.record["settings"]["seed"]),
                *(f"{spread.values[place]:.4f}" for spread in spreads.values()),
                run.record["best_epoch"],
                round(run.record["seconds"]),
            )
            for place, run in enumerate(self.runs)
        ]
        lines = [
            f"{split}: {len(self.runs[0].rows)} examples, {count} seeds ({self.trained} trained "
            f"now, {count - self.trained} finished before)",
            "",
            table(rows, ("seed", *spreads, "best epoch", "seconds")),
            "",
            *(
                f"  {name:<16} {spread.mean:.4f} +- {spread.deviation:.4f}"
                f"  (95% interval of the mean {spread.low:.4f} to {spread.high:.4f})"
                for name, spread in spreads.items()
            ),
            *self._failures(spreads),
            "",
            f"+- is the standard deviation over seeds ({_VARIES}); the examples are the same.",
            f"the runs are in {self.folder}",
            f"compare:  minibert compare {self.folder} OTHER",
        ]
        return "\n".join(lines)


def train_seeds(settings: Settings, count: int, *, progress: bool = True) -> Seeds:
    """Trains runs with `count` seeds from `settings.seed` on, and writes seeds.json.

    A run with the same settings that is finished in its folder is kept, and an unfinished one is
    resumed, so that a group can be stopped, or get more seeds later.

    Raises:
        ConfigError: fewer than 2 seeds, a folder that holds a run with other settings, or several
            processes started by torchrun, which train one run together.
        DataError: the model or the data have changed since a run of the group was trained.
        MinibertError: as `finetune`.
    """
    if count < 2:
        raise ConfigError(f"seeds is {count}, but a spread needs 2 or more.", key="seeds")
    if launched().size > 1:
        raise ConfigError(
            "Several processes train one run together, but seeds asks for several runs.",
            key="seeds",
            hint="Leave torchrun out, or start each run with a command of its own.",
        )
    data_seed = settings.seed if settings.data_seed is None else settings.data_seed
    check(settings)
    wanted = [replace(settings, seed=settings.seed + k, data_seed=data_seed) for k in range(count)]
    check(wanted[-1])
    folder = _folder(settings)
    wanted = [replace(each, output=folder / f"seed-{each.seed}") for each in wanted]
    finished = [_is_finished(each) for each in wanted]  # refuses before anything is trained
    for place, (each, done) in enumerate(zip(wanted, finished, strict=True), start=1):
        if progress:
            what = "finished before" if done else "training"
            tqdm.write(f"seed {each.seed} ({place} of {count}): {what}", file=sys.stderr)
        if done:
            continue
        if begun(str(each.output)):
            inputs = {key: getattr(each, key) for key in inputs_of(Settings)}
            resume(str(each.output), progress=progress, **{key: one for key, one in inputs.items() if one is not None})
        else:
            finetune(each, progress=progress)
    first, *others = runs = [read_run(str(each.output)) for each in wanted]
    for other in others:
        require_same(
            first,
            other,
            {
                "model": lambda run: [run.record["model"].get(key) for key in ("commit", "files")],
                "training files (sha256)": lambda run: sums_of(run, "train"),
            },
            hint="They have changed since; choose another --output.",
        )
        require_comparable(first, other)
    seeds = Seeds(folder, tuple(runs), trained=finished.count(False))
    _write(seeds, data_seed)
    return seeds


def _folder(settings: Settings) -> Path:
    """The folder of the group: a new one, or one that holds such runs and nothing else."""
    if settings.output is None:
        return make_folder(None)
    folder = Path(settings.output)
    others = sorted(
        item.name
        for item in (folder.iterdir() if folder.is_dir() else ())
        if item.name != "seeds.json" and not item.name.startswith("seed-")
    )
    if others:
        raise ConfigError(
            f"{folder} holds something other than runs of --seeds: {', '.join(others[:5])}.",
            path=folder,
            key="output",
            hint="Choose another --output.",
        )
    return make_folder(folder)


def _is_finished(settings: Settings) -> bool:
    """Whether the run is there and finished; a run with other settings is refused."""
    folder = Path(str(settings.output))
    if not begun(folder):
        return False
    record = read_object(folder / "run.json", DataError)
    found = record.get("settings")
    if not isinstance(found, dict):
        raise DataError(f"{folder / 'run.json'} has no settings.", path=folder, key="settings")
    for key, value in as_record(settings).items():
        if key != "output" and found.get(key) != value and not _was_moved(record, key, value):
            raise ConfigError(
                f"{folder} holds a run with {key} {found.get(key)!r}, not {value!r}.",
                path=folder,
                key=key,
                hint="Choose another --output, or use the same settings.",
            )
    return record.get("status") == "finished"


def _was_moved(record: Mapping[str, Any], key: str, value: Any) -> bool:
    """Whether a setting names the file that a split of the run was read from, in another place."""
    split = record.get("data", {}).get(key)
    return split is not None and os.path.isfile(value) and list(split["files"].values()) == [sha256(value)]


def _spread(values: Sequence[float]) -> Spread:
    mean, low, high = mean_interval(values)
    return Spread(list(values), mean, statistics.stdev(values), low, high)


def _write(seeds: Seeds, data_seed: int) -> None:
    record = {
        "seeds": [run.record["settings"]["seed"] for run in seeds.runs],
        "runs": [run.folder.name for run in seeds.runs],
        "varies": _VARIES,
        "data_seed": data_seed,
        "metrics": {
            split: {name: asdict(spread) for name, spread in seeds.spreads(split).items()}
            for split in ("validation", "test")
            if split in seeds.runs[0].metrics
        },
    }
    write_json(seeds.folder / "seeds.json", finite(record))
