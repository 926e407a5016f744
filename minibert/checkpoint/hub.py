"""The Hub: an id or a folder becomes local files, pinned to a commit, never a pickle.

The only module that imports `huggingface_hub`. Nothing is fetched but the files that the caller
lists, and a branch or tag is resolved to its commit first, so that all files are of one version.
"""

from __future__ import annotations

import fnmatch
import re
import socket
import ssl
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import huggingface_hub
from huggingface_hub import constants, errors

from minibert.errors import CheckpointError, HubError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_KINDS = {"model": "model", "dataset": "data set"}
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack")


@dataclass(frozen=True)
class Local:
    """Files of one version of a model or data set, on the disk.

    Attributes:
        folder: holds the files that were asked for, as far as they exist.
        revision: the commit they belong to; None for a folder of the user's own.
        listing: every file name of the folder or repository, fetched or not.
    """

    folder: Path
    revision: str | None
    listing: tuple[str, ...] = ()


def resolve(
    source: str | Path,
    patterns: Sequence[str],
    *,
    revision: str | None = None,
    repo_type: str = "model",
) -> Local:
    """Finds a folder, or fetches the files of a Hub repository that match.

    Args:
        source: a folder, or a Hub id such as "google-bert/bert-base-uncased". The folder of a run
            stands for the `model/` inside it.
        patterns: file names, which may hold `*` and `?`; only these are fetched.
        revision: branch, tag or commit of the repository; by default its main branch.
        repo_type: "model" or "dataset".

    Returns:
        The folder, with the commit that a Hub id was resolved to.

    Raises:
        CheckpointError: there is no such folder, and the text is not a Hub id; the folder is a
            run that has no model yet; or the repository has no file that matches.
        HubError: the download failed, or the files are not in the cache in offline mode.
    """
    if source == "":
        raise CheckpointError(
            f"The name of the {_KINDS[repo_type]} is empty.",
            key="source",
            found=source,
            hint="Name a folder, or a Hub id: owner/name.",
        )
    path = Path(source).expanduser()
    if path.is_dir():
        if revision is not None:
            raise CheckpointError(
                f"{path} is a folder, which has no revision {revision!r}.", path=path
            )
        folder = _model_folder(path) if repo_type == "model" else path
        return Local(folder, None, _files_in(folder))
    if path.exists():
        raise CheckpointError(
            f"{path} is a file, not a folder.", path=path, hint="Name the folder that it is in."
        )
    if not _HUB_ID.fullmatch(str(source)):
        raise CheckpointError(
            f"There is no folder {path}.", path=path, hint="Name a folder, or a Hub id: owner/name."
        )
    repository = _Repository(str(source), repo_type, revision)
    if constants.HF_HUB_OFFLINE:
        return _from_cache(repository, patterns)
    return _from_hub(repository, patterns)


def is_pickle(name: str) -> bool:
    """Whether a file name is that of a pickle or another form of weights that is never opened."""
    return name.endswith(_PICKLES)


@dataclass(frozen=True)
class _Repository:
    name: str
    kind: str
    revision: str | None

    def snapshot(self, patterns: Sequence[str], *, local_files_only: bool = False) -> Path:
        """The folder of one commit in the cache, with the files that match."""
        return Path(
            huggingface_hub.snapshot_download(
                self.name,
                repo_type=self.kind,
                revision=self.revision,
                allow_patterns=list(patterns),
                local_files_only=local_files_only,
            )
        )

    def __str__(self) -> str:
        what = self.name if self.kind == "model" else f"{self.kind} {self.name}"
        return what if self.revision is None else f"{what} at revision {self.revision!r}"


def _model_folder(folder: Path) -> Path:
    """The folder itself, unless it is that of a run, whose model is in `model/`."""
    inside = folder / "model"
    if (folder / "config.json").is_file():
        return folder
    if (inside / "config.json").is_file():
        return inside
    if (folder / "run.json").is_file():
        raise CheckpointError(
            f"{folder} is a run that has not finished: there is no model in it.",
            path=inside,
            hint="Wait until it has, or train again.",
        )
    return folder


def _files_in(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_file()))


def _from_hub(repository: _Repository, patterns: Sequence[str]) -> Local:
    """Asks the Hub for its list of files, then fetches those that match, all of one commit."""
    try:
        info: Any = huggingface_hub.HfApi().repo_info(
            repository.name, repo_type=repository.kind, revision=repository.revision
        )
        listing = tuple(sorted(file.rfilename for file in info.siblings or ()))
        wanted = _matching(listing, patterns)
        folder = repository.snapshot(wanted) if wanted else None
    except Exception as problem:  # the HTTP client's own classes differ from release to release
        failure = _explain(repository, problem)
        if not _is_unreachable(problem):
            raise failure from problem
        try:
            local = _from_cache(repository, patterns)
        except HubError:
            raise failure from problem
        warnings.warn(f"{failure} The copy in the cache is used: {local.folder}", stacklevel=3)
        return local
    if folder is None:
        raise CheckpointError(
            f"{repository} on {constants.ENDPOINT} has none of the files {', '.join(patterns)}.",
            key=repository.name,
            expected=list(patterns),
            found=list(listing),
        )
    return Local(folder, folder.name, listing)


def _matching(listing: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The names that match; never a pickle, whatever the patterns say, nor a path out of here."""
    return [
        name
        for name in listing
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        and not is_pickle(name)
        and ".." not in PurePosixPath(name).parts
    ]


def _from_cache(repository: _Repository, patterns: Sequence[str]) -> Local:
    """The version that was fetched before, without a network."""
    try:
        folder = repository.snapshot(patterns, local_files_only=True)
    except (OSError, ValueError, errors.EntryNotFoundError) as problem:
        raise HubError(
            f"{_no_folder(repository)} {repository} is not, or not whole, in the cache "
            f"{constants.HF_HUB_CACHE}; the Hub is not asked in offline mode.",
            path=constants.HF_HUB_CACHE,
            key=repository.name,
            hint="Fetch it once with a network (without HF_HUB_OFFLINE), or name a folder.",
        ) from problem
    return Local(folder, folder.name, _files_in(folder))


def _explain(repository: _Repository, problem: Exception) -> HubError:
    """One sentence for each way in which a download fails. No text of the client's is passed on,
    so that no token can be in it."""
    host = constants.ENDPOINT
    response = getattr(problem, "response", None)
    status = getattr(response, "status_code", None)
    hint: str | None = "Try again later; what has been fetched already is kept."
    if isinstance(problem, errors.GatedRepoError):
        what = f"{repository} on {host} is gated: its owners decide who may fetch it"
        hint = f"Ask for access on {host}/{repository.name}, then set HF_TOKEN to your token."
    elif isinstance(problem, errors.RevisionNotFoundError):
        what = f"{repository.name} on {host} has no revision {repository.revision!r}"
        hint = "Name a branch, a tag or a whole commit."
    elif isinstance(problem, errors.RepositoryNotFoundError):
        what = (
            f"{_no_folder(repository)} {host} has no {repository.kind} {repository.name}, "
            "or it is private"
        )
        hint = "Check the spelling; for a private one set HF_TOKEN to your token."
    elif isinstance(problem, errors.LocalEntryNotFoundError) and not _causes(
        problem, ConnectionError
    ):
        what = f"{repository} could not be fetched from {host}, and is not whole in the cache"
    elif isinstance(problem, errors.EntryNotFoundError):
        what = f"{repository} lists a file that {host} does not have"
    elif status in (401, 403):
        what = f"{host} refused access to {repository} (status {status})"
        hint = "Check that HF_TOKEN holds a valid token that may read it."
    elif status == 429:
        wait = getattr(response, "headers", {}).get("Retry-After")
        what = f"{host} refuses {repository} for now: too many requests (status 429)"
        hint = f"Try again in {wait} seconds." if wait else "Try again in a few minutes."
    elif status is not None:
        what = f"{host} failed to serve {repository} (status {status})"
    elif isinstance(problem, errors.HFValidationError):
        what = f"{_no_folder(repository)} {repository.name!r} is not a Hub id"
        hint = "A Hub id is owner/name."
    else:
        failure = _network_failure(problem, host)
        what = f"{_no_folder(repository)} {repository} could not be fetched: {failure}"
        hint = "Check the network; HF_HUB_OFFLINE=1 uses what is in the cache."
    return HubError(f"{what}.", path=None, key=repository.name, found=status, hint=hint)


def _no_folder(repository: _Repository) -> str:
    """The beginning of a sentence: a mistyped folder looks like a Hub id."""
    return f"There is no folder {repository.name!r} here, and"


def _network_failure(problem: Exception, host: str) -> str:
    """What the operating system said, whatever HTTP client it was said to."""
    if _causes(problem, ssl.SSLError):
        return f"{host} could not prove who it is (TLS)"
    if _causes(problem, socket.gaierror):
        return f"the name in {host} could not be found (DNS)"
    if _causes(problem, ConnectionRefusedError):
        return f"{host} refused the connection"
    if _causes(problem, TimeoutError) or "Timeout" in type(problem).__name__:
        return f"{host} did not answer in time"
    return f"the connection to {host} failed ({type(problem).__name__})"


def _is_unreachable(problem: Exception) -> bool:
    """Whether the Hub gave no answer, or none that says anything of the repository."""
    status = getattr(getattr(problem, "response", None), "status_code", None)
    if status is not None:
        return status == 429 or status >= 500
    return not isinstance(problem, (errors.HFValidationError, errors.EntryNotFoundError))


def _causes(problem: BaseException, kind: type[BaseException]) -> bool:
    """Whether an error, or one that led to it, is of this kind."""
    step: BaseException | None = problem
    while step is not None:
        if isinstance(step, kind):
            return True
        step = step.__cause__ or step.__context__
    return False
