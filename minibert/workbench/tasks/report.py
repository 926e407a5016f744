"""The report of a finished run: one HTML page, and the pictures in the run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minibert.data import Example
from minibert.io.errors import ConfigError
from minibert.io.files import write_text
from minibert.workbench.kinds import KINDS
from minibert.workbench.reports.charts import require_matplotlib
from minibert.workbench.reports.page import document
from minibert.workbench.reports.pictures import picture_of_features, picture_of_pretraining, pictures
from minibert.workbench.runs.folders import SavedRun, read_run
from minibert.workbench.tasks.features import extract_features

_MOST_FEATURES = 2_000  # texts in the picture of features


@dataclass(frozen=True)
class Written:
    """The files that `write_report` wrote."""

    page: Path
    pictures: tuple[Path, ...]


def write_report(
    folder: str | Path, output: str | Path | None = None, *, features: bool | None = None, progress: bool = True
) -> Written:
    """Writes the page, and the pictures into the run folder.

    Args:
        folder: a finished run.
        output: the page; by default report.html in the run folder.
        features: whether to run the model for the picture of its features; by default where each
            text has one class.

    Raises:
        DataError: the folder does not hold a finished run.
        ConfigError: `output` is a folder, matplotlib is not installed, or `features` were asked for
            that this kind of task has not.
        DiskError: the page could not be written.
    """
    require_matplotlib()
    run = read_run(folder, "train", "pretrain")
    page = Path(output) if output is not None else run.folder / "report.html"
    if page.is_dir():
        raise ConfigError(
            f"{page} is a folder, but the page is a file.",
            path=page,
            key="output",
            hint=f"Use --output {page / 'report.html'}.",
        )
    pretraining = run.record.get("command") == "pretrain"
    has_features = not pretraining and KINDS[run.record["problem_type"]].one_class
    if features and not has_features:
        raise ConfigError("Features are drawn of texts with one class, and these have not.", key="features")
    write_text(page, document(run))
    drawn = picture_of_pretraining(folder) if pretraining else pictures(folder)
    if has_features and features in (None, True):
        drawn += _features(run, progress)
    return Written(page, tuple(drawn))


def _features(run: SavedRun, progress: bool) -> list[Path]:
    """Draws the features of up to 2,000 examples that the run was measured on."""
    rows = run.rows[:: -(-len(run.rows) // _MOST_FEATURES) or 1]
    texts = [Example(row["text"], row.get("text_pair")) for row in rows]
    vectors = extract_features(run.folder, texts, cache=False, progress=progress)  # (texts, D)
    return picture_of_features(run, vectors, [row["label"] for row in rows])
