"""The report of a finished run: one HTML page, and the pictures beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minibert.io.errors import ConfigError
from minibert.io.files import write_text
from minibert.workbench.reports.page import document
from minibert.workbench.reports.pictures import picture_of_features, pictures
from minibert.workbench.runs.folders import read_run


@dataclass(frozen=True)
class Written:
    """What `write_report` wrote."""

    page: Path
    pictures: tuple[Path, ...]


def write_report(
    folder: str | Path,
    output: str | Path | None = None,
    *,
    features: bool = True,
    progress: bool = True,
) -> Written:
    """Writes the page, and the pictures into the run folder if matplotlib is installed.

    Args:
        folder: a finished run.
        output: the page; None: report.html in the run folder.
        features: whether to run the model for the picture of its features.

    Raises:
        DataError: it is no run folder, or the run is not finished.
        ConfigError: `output` is a folder.
        DiskError: the page could not be written.
    """
    run = read_run(folder)
    page = Path(output) if output is not None else run.folder / "report.html"
    if page.is_dir():
        raise ConfigError(
            f"{page} is a folder, and the page is a file.",
            path=page,
            key="output",
            hint=f"Say --output {page / 'report.html'}.",
        )
    write_text(page, document(run))
    drawn = pictures(folder)
    if features:
        drawn += picture_of_features(folder, progress=progress)
    return Written(page, tuple(drawn))
