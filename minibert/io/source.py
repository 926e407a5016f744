"""A model or data set is opened once, and handed on as a value: folder, commit, files, config.

What a user names may be a folder, the folder of a run, the model that ships with the project, or a
repository of the Hub.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from minibert.io import bundled
from minibert.io.errors import CheckpointError, HubError, MinibertError
from minibert.io.files import files_in, inside, read_object
from minibert.io.hub_failures import KINDS

CONFIG = "config.json"
HUB_ID = re.compile(r"(?!.*(--|\.\.|\.git\Z))(\w[\w.-]{0,94}\b/)?\w[\w.-]{0,94}\b", re.ASCII)

TENSORFLOW = ".ckpt.index"
CONVERT = "Convert it, from a folder on this machine: minibert convert FOLDER NEW-FOLDER."


@dataclass(frozen=True)
class Source:
    """One version of a model or data set, on the disk.

    Attributes:
        name: what the user called it; `str()` gives it too.
        folder: holds the files that were asked for, as far as they exist.
        revision: the commit of a repository; None for a folder.
        listing: every file name of the folder or repository, fetched or not; of a repository that
            was found in the cache, those that are there.
        kind: "model" or "dataset".
    """

    name: str
    folder: Path
    revision: str | None = None
    listing: tuple[str, ...] = ()
    kind: str = "model"

    def __str__(self) -> str:
        return self.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The object in config.json.

        Raises:
            CheckpointError: it is missing, or is not a JSON object.
        """
        found = [name for name in self.listing if name.endswith(TENSORFLOW)]
        if found and not self.has(CONFIG):
            message = f"{self} holds a TensorFlow checkpoint, {found[0]}, and no {CONFIG}."
            raise CheckpointError(message, path=self.folder, key=CONFIG, hint=CONVERT)
        return read_object(self.path(CONFIG))

    def path(self, name: str, error: type[MinibertError] = CheckpointError) -> Path:
        """The file of that name, which need not exist; refused if it leads out of the folder."""
        return inside(self.folder, name, error)

    def has(self, name: str) -> bool:
        """Whether there is a file of that name, a link that leads nowhere included."""
        return os.path.lexists(self.folder / name)

    def fetch(self, *patterns: str) -> None:
        """Downloads further files of the same commit, as far as they exist.

        Raises:
            HubError: a download failed.
        """
        if self.revision is not None:
            from minibert.io import hub  # as long to import as half of torch

            hub.fetch(self.name, patterns, self.revision, self.kind)


def open_source(
    source: str | Path | Source, revision: str | None = None, patterns: Sequence[str] = (CONFIG,), kind: str = "model"
) -> Source:
    """Finds a folder, or downloads the files of a repository that match.

    Args:
        source: a folder, or a Hub id such as "google-bert/bert-base-uncased". The folder of a run
            stands for the `model/` inside it; "minibert-small" and "minibert-sentiment" are the models
            that ship with the project. What is open already gets the files that are still missing.
        revision: branch, tag or commit of the repository; by default its main branch.
        patterns: file names, which may hold `*` and `?`; no others are downloaded.
        kind: "model" or "dataset".

    Raises:
        CheckpointError: there is no such folder, and the text is not a Hub id; a model that
            ships with the project is not there; the folder is a run that has no model yet; the
            revision is not one; or the repository has no file that matches, or one whose name
            leads elsewhere.
        HubError: the download failed, or the files are not in the cache in offline mode.
        DiskError: the cache cannot be written to.
    """
    if isinstance(source, Source):
        if revision not in (None, source.revision):
            raise CheckpointError(f"{source} is open at {source.revision}, not at {revision}.", key="revision")
        source.fetch(*patterns)
        return source
    if source == "":
        raise CheckpointError(
            f"The name of the {KINDS[kind]} is empty.", key="source", hint="Name a folder, or a Hub id: owner/name."
        )
    path = Path(os.path.expanduser(source))
    if str(source) in bundled.MODELS and kind == "model" and not os.path.exists(path):
        path = bundled.bundled(str(source))
    if os.path.isdir(path):
        if revision is not None:
            raise CheckpointError(f"{path} is a folder, which has no revision {revision!r}.", path=path)
        folder = _model_folder(path) if kind == "model" else path
        return Source(str(source), folder, None, files_in(folder), kind)
    if os.path.exists(path):
        raise CheckpointError(f"{path} is a file, not a folder.", path=path, hint="Name the folder that it is in.")
    if not HUB_ID.fullmatch(str(source)):
        raise CheckpointError(f"There is no folder {path}.", path=path, hint="Name a folder, or a Hub id: owner/name.")
    from minibert.io import hub

    try:
        folder, commit, listing = hub.fetch(str(source), patterns, revision or "main", kind)
    except HubError as problem:
        if path.parent != Path() and path.parent.is_dir():  # a folder was meant, such as runs/007
            problem.add_note(f"There is a folder {path.parent} here, with no {path.name} in it.")
        raise
    return Source(str(source), folder, commit, listing, kind)


def _model_folder(folder: Path) -> Path:
    """The folder itself, unless it is that of a run, whose model is in `model/`."""
    inner = folder / "model"
    if (folder / CONFIG).is_file():
        return folder
    if (inner / CONFIG).is_file():
        return inner
    if (folder / "run.json").is_file():
        raise CheckpointError(
            f"{folder} is a run that has not finished: there is no model in it.",
            path=inner,
            hint=f"Wait until it has, or resume it: --resume {folder}.",
        )
    return folder
