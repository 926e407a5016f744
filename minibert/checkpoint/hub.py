"""The Hub: an id or a folder becomes local files, pinned to a commit, never a pickle.

The only module that imports `huggingface_hub`. Nothing is fetched but the files that the caller
lists, and a branch or tag is resolved to its commit first, so that all files are of one version.
What was fetched is compared with the Hub's own list, by length and hash, before it is used; what
is wrong is deleted. A commit that is whole in the cache is taken from there, without a network.

No text of the client's or the server's is passed on, nor is the exception that it came in: there
could be a token in it.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import logging
import os
import re
import socket
import ssl
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.utils import logging as client_logging

from minibert.errors import CheckpointError, DiskError, HubError, MinibertError
from minibert.files import sha256, write_text

_HUB_ID = re.compile(r"(?!.*(--|\.\.|\.git\Z))(\w[\w.-]{0,94}\b/)?\w[\w.-]{0,94}\b", re.ASCII)
_COMMIT = re.compile("[0-9a-f]{40}")
# In a file name or revision: control characters, Windows' ways to name another place, an empty
# part, "." or "..", and parts that no file system takes.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\:]|(^|/)\.{0,2}(/|\Z)|[^/]{256}")
# In an address: a user name and password, and all that follows a question mark.
_SECRETS = re.compile(r"(?<=://)[^\s/@]+(?=@)|(?<=\?)\S+")
_KINDS = {"model": "model", "dataset": "data set"}
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack")
_LATER = "Try again later; what has been fetched already is kept."
_CACHED = "HF_HUB_OFFLINE=1 uses what is in the cache."

# What happened, and what to do about it. Each follows "X could not be fetched from HOST: ".
_FAILURES = {
    "gated": (
        "the repository is gated, and its owners have not let this account in (status {status})",
        "Ask for access on {endpoint}/{name}, then set HF_TOKEN to your token.",
    ),
    "repository": (
        "it has no {kind} {name}, or it is private (status {status})",
        "Check the spelling; for a private one set HF_TOKEN to your token.",
    ),
    "revision": (
        "there is no revision {revision!r} (status {status})",
        "Name a branch, a tag or a whole commit.",
    ),
    "file": (
        "the file is in the list, but not there (status {status})",
        "Try another revision, or tell the owners of {name}.",
    ),
    "401": (
        "it asks for a valid token (status 401)",
        "Set HF_TOKEN to one; where the repository is public, HF_TOKEN can be unset.",
    ),
    "403": (
        "it refused access (status 403)",
        "Check that the token in HF_TOKEN may read {name}.",
    ),
    "429": ("too many requests (status 429)", "Try again in {wait}; the files so far are kept."),
    "500": ("it failed by a fault of its own (status 500)", _LATER),
    "down": ("it is down or overloaded (status {status})", f"{_LATER} {_CACHED}"),
    "status": ("it answered with status {status}", _LATER),
    "dns": (
        "the name of this host is not known (DNS)",
        f"Check the network, and HF_ENDPOINT if it is set; {_CACHED}",
    ),
    "refused": (
        "it refused the connection",
        f"Check the network, its proxy, and HF_ENDPOINT if it is set; {_CACHED}",
    ),
    "tls": (
        "it could not prove who it is (TLS)",
        "Check the clock; behind a proxy that opens connections, set SSL_CERT_FILE to its "
        f"certificate; {_CACHED}",
    ),
    "timeout": (
        "it did not answer in time",
        "Try again, or raise HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT (in seconds); "
        + _CACHED,
    ),
    "network": ("there is no way to it on the network", f"Check the network; {_CACHED}"),
    "cut": ("the connection was cut", "Try again; whole files are kept, half ones are not."),
    "content": (
        "what came is not what the Hub lists, and was deleted",
        "Try again; if it comes back, something on the way changes files.",
    ),
    "answer": (
        "the answer is not one of a Hub",
        "Look for a login page or a proxy on the way, and at HF_ENDPOINT if it is set.",
    ),
    "other": ("the client failed ({problem})", f"Check the network; {_CACHED}"),
}
# The client's words for what the Hub said.
_CLIENT = (
    (errors.GatedRepoError, "gated"),
    (errors.RepositoryNotFoundError, "repository"),
    (errors.RevisionNotFoundError, "revision"),
    (errors.EntryNotFoundError, "file"),
)
# The system's own errors, found among those that led to the client's, whatever HTTP client it has.
_SYSTEM: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (ssl.SSLError, "tls"),
    (socket.gaierror, "dns"),
    (ConnectionRefusedError, "refused"),
    (TimeoutError, "timeout"),
    (ConnectionError, "cut"),
    ((ValueError, LookupError, TypeError, AttributeError, errors.FileMetadataError), "answer"),
)
# With these the Hub has said something of the repository; with all others it is out of reach.
_ANSWERS = {"gated", "repository", "revision", "file", "401", "403", "status"}
# A mistyped folder looks like a Hub id, and these are what comes of it.
_OF_A_FOLDER = {"repository", "dns", "refused", "tls", "timeout"}


@dataclass(frozen=True)
class Local:
    """Files of one version of a model or data set, on the disk.

    Attributes:
        folder: holds the files that were asked for, as far as they exist.
        revision: the commit they belong to; None for a folder of the user's own.
        listing: every file name of the folder or repository, fetched or not; of a repository that
            was found in the cache, those that are there.
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
            run that has no model yet; the revision is not one; or the repository has no file that
            matches, or one whose name leads elsewhere.
        HubError: the download failed, or the files are not in the cache in offline mode.
        DiskError: the cache cannot be written to.
    """
    if source == "":
        raise CheckpointError(
            f"The name of the {_KINDS[repo_type]} is empty.",
            key="source",
            found=source,
            hint="Name a folder, or a Hub id: owner/name.",
        )
    path = Path(os.path.expanduser(source))
    if os.path.isdir(path):
        if revision is not None:
            raise CheckpointError(
                f"{path} is a folder, which has no revision {revision!r}.", path=path
            )
        folder = _model_folder(path) if repo_type == "model" else path
        return Local(folder, None, _files_in(folder))
    if os.path.exists(path):
        raise CheckpointError(
            f"{path} is a file, not a folder.", path=path, hint="Name the folder that it is in."
        )
    if not _HUB_ID.fullmatch(str(source)):
        raise CheckpointError(
            f"There is no folder {_printable(str(path))}.",
            path=path,
            hint="Name a folder, or a Hub id: owner/name.",
        )
    repository = _Repository(str(source), repo_type, "main" if revision is None else revision)
    if _UNSAFE.search(repository.revision):
        raise CheckpointError(
            f"{repository.revision!r} is not a revision of {repository.name}.",
            key="revision",
            found=revision,
            hint="Name a branch, a tag or a whole commit.",
        )
    if constants.HF_HUB_OFFLINE:
        return _from_cache(repository, patterns)
    return _pinned(repository, patterns) or _from_hub(repository, patterns)


def is_pickle(name: str) -> bool:
    """Whether a file name is that of a pickle or another form of weights that is never opened."""
    return name.endswith(_PICKLES)


@dataclass(frozen=True)
class _Repository:
    name: str
    kind: str
    revision: str

    def __str__(self) -> str:
        what = self.name if self.kind == "model" else f"{_KINDS[self.kind]} {self.name}"
        return f"{what} at revision {self.revision!r}"

    def cached(self, name: str, commit: str) -> Any:
        """Where a file is in the cache; None if that is not known, else the client's sign that
        the commit has no such file."""
        return huggingface_hub.try_to_load_from_cache(
            self.name, name, revision=commit, repo_type=self.kind
        )


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


def _printable(text: str) -> str:
    return "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in text)


# --- from the cache -----------------------------------------------------------------------------


def _pinned(repository: _Repository, patterns: Sequence[str]) -> Local | None:
    """A commit never changes: if all that is asked for is in the cache, nobody need be asked."""
    commit = repository.revision
    if not _COMMIT.fullmatch(commit):
        return None
    known = {name: repository.cached(name, commit) for name in patterns}
    paths = {name: Path(path) for name, path in known.items() if isinstance(path, str)}
    if (
        not paths
        or None in known.values()
        or not all(path.stat().st_size for path in paths.values())
    ):
        return None
    folder = _folder_of(*paths.popitem())
    return Local(folder, commit, _files_in(folder))


def _from_cache(repository: _Repository, patterns: Sequence[str]) -> Local:
    """The version that was fetched before, without a network."""
    files: dict[str, Path] = {}
    with contextlib.suppress(OSError, ValueError, errors.EntryNotFoundError):
        folder = Path(
            huggingface_hub.snapshot_download(
                repository.name,
                repo_type=repository.kind,
                revision=repository.revision,
                allow_patterns=list(patterns),
                local_files_only=True,
            )
        )
        if _COMMIT.fullmatch(folder.name):
            paths = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
            names = {path.relative_to(folder).as_posix(): path for path in paths}
            files = {name: names[name] for name in _matching(tuple(names), patterns)}
    if not files:
        raise HubError(
            f"{_no_folder(repository)}{repository} is not, or not whole, in the cache "
            f"{constants.HF_HUB_CACHE}; the Hub is not asked in offline mode.",
            path=constants.HF_HUB_CACHE,
            key=repository.name,
            hint="Fetch it once with a network (without HF_HUB_OFFLINE), or name a folder.",
        )
    for name, path in files.items():
        if not path.is_file() or not path.stat().st_size:
            raise HubError(
                f"{name} of {repository} is damaged in the cache: {path} is empty, or leads "
                "nowhere.",
                path=path,
                key=name,
                hint="Fetch it again with a network (without HF_HUB_OFFLINE).",
            )
    return Local(folder, folder.name, _files_in(folder))


# --- from the Hub -------------------------------------------------------------------------------


def _from_hub(repository: _Repository, patterns: Sequence[str]) -> Local:
    """Asks the Hub for its list of files, then fetches those that match, all of one commit."""
    if "@" in urlsplit(constants.ENDPOINT).netloc:
        raise HubError(
            "HF_ENDPOINT holds a user name or a password, which would end up in messages.",
            key="HF_ENDPOINT",
            hint="Take it out; a token goes into HF_TOKEN.",
        )
    try:
        commit, listed = _listing(repository)
    except Exception as problem:  # the HTTP client's own classes differ from release to release
        failure = _explain(problem, repository)
        if _kind(problem) in _ANSWERS:
            raise failure from None
        try:
            local = _from_cache(repository, patterns)
        except HubError:
            raise failure from None
        warnings.warn(f"{failure} The copy in the cache is used: {local.folder}", stacklevel=3)
        return local
    wanted = _matching(sorted(listed), patterns)
    if not wanted:
        raise CheckpointError(
            f"{repository} on {constants.ENDPOINT} has none of the files {', '.join(patterns)}.",
            key=repository.name,
            expected=list(patterns),
            found=sorted(listed),
        )
    for name in wanted:
        try:
            path = _fetch(repository, commit, listed[name])
        except MinibertError:
            raise
        except Exception as problem:
            raise _explain(problem, repository, name) from None
    folder = _folder_of(name, path)
    _remember(folder, repository, patterns, listed)
    return Local(folder, commit, tuple(sorted(listed)))


def _listing(repository: _Repository) -> tuple[str, dict[str, Any]]:
    """The commit that the revision names, and what the Hub says of each of its files."""
    info: Any = huggingface_hub.HfApi().repo_info(
        repository.name,
        repo_type=repository.kind,
        revision=repository.revision,
        timeout=constants.HF_HUB_ETAG_TIMEOUT,
        files_metadata=True,
    )
    if not _COMMIT.fullmatch(info.sha):
        raise ValueError("the commit is not one")
    return info.sha, {file.rfilename: file for file in info.siblings or ()}


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The names that match; never a pickle, whatever the patterns say."""
    found = [
        name
        for name in names
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns) and not is_pickle(name)
    ]
    for name in found:
        if _UNSAFE.search(name):
            raise CheckpointError(
                f"The repository lists a file {name!r}, whose name leads out of its folder.",
                key=name,
                hint="Nothing was fetched; do not trust this repository.",
            )
    return found


def _fetch(repository: _Repository, commit: str, file: Any) -> Path:
    """One file, from the cache if it is there in its full length, else from the Hub."""
    cached = repository.cached(file.rfilename, commit)
    if isinstance(cached, str):
        if file.size in (None, os.path.getsize(cached)):
            return Path(cached)
        _forget(Path(cached))
    path = Path(
        huggingface_hub.hf_hub_download(
            repository.name, file.rfilename, repo_type=repository.kind, revision=commit
        )
    )
    if _folder_of(file.rfilename, path).name != commit:
        raise ValueError("the file is of another commit")
    if not _is_as_listed(path, file):
        _forget(path)
        raise _failure("content", repository, file.rfilename)
    return path


def _is_as_listed(path: Path, file: Any) -> bool:
    """Compares a new file with the list; the client itself looks at its length only."""
    size = path.stat().st_size
    if file.lfs:
        return sha256(path) == file.lfs["sha256"]
    if file.blob_id:  # git's name for a file: sha1 of a header and the content
        content = hashlib.sha1(b"blob %d\0" % size + path.read_bytes(), usedforsecurity=False)
        return content.hexdigest() == file.blob_id
    return file.size in (None, size)


def _forget(path: Path) -> None:
    """Deletes a file of the cache: its name there, which is a link, and the content."""
    content = path.resolve()
    path.unlink()
    content.unlink(missing_ok=True)


def _folder_of(name: str, path: Path) -> Path:
    """The folder of the commit that a path belongs to."""
    return path.parents[len(PurePosixPath(name).parts) - 1]


def _remember(
    folder: Path, repository: _Repository, patterns: Sequence[str], listed: Mapping[str, Any]
) -> None:
    """Notes, in the cache's own form, what the revision stood for and which files are not there.

    A repository without safetensors is asked again each time, so that the error that follows can
    name what it has instead.
    """
    cache, commit = folder.parents[1], folder.name
    notes = {}
    if repository.revision != commit:
        notes[cache / "refs" / repository.revision] = commit
    if any(name.endswith(".safetensors") for name in listed):
        absent = [name for name in patterns if name not in listed and not {*"*?["} & {*name}]
        notes.update({cache / ".no_exist" / commit / name: "" for name in absent})
    for path, text in notes.items():
        # A cache that can only be read goes without.
        with contextlib.suppress(OSError, DiskError):
            if not path.exists() or path.read_bytes() != text.encode():
                write_text(path, text)


# --- what went wrong ----------------------------------------------------------------------------


def _explain(problem: Exception, repository: _Repository, file: str = "") -> MinibertError:
    """The one sentence for what the client raised."""
    kind = _kind(problem)
    if kind == "disk":
        return DiskError(
            f"The cache {constants.HF_HUB_CACHE} could not be written to when "
            f"{_what(repository, file)} was fetched: {getattr(problem, 'strerror', problem)}.",
            path=constants.HF_HUB_CACHE,
            hint="Free some space there, or set HF_HOME to a folder that can be written to.",
        )
    return _failure(kind, repository, file, problem)


def _failure(
    kind: str, repository: _Repository, file: str = "", problem: Exception | None = None
) -> HubError:
    response = next((step.response for step in _chain(problem) if hasattr(step, "response")), None)
    status = getattr(response, "status_code", None)
    wait = str(getattr(response, "headers", {}).get("Retry-After"))
    fields = {
        "name": repository.name,
        "kind": _KINDS[repository.kind],
        "revision": repository.revision,
        "endpoint": constants.ENDPOINT,
        "status": status,
        "wait": f"{wait} seconds" if wait.isdigit() else "a few minutes",
        "problem": type(problem).__name__,
    }
    reason, hint = (text.format(**fields) for text in _FAILURES[kind])
    prefix = _no_folder(repository) if kind in _OF_A_FOLDER and not file else ""
    return HubError(
        f"{prefix}{_what(repository, file)} could not be fetched from {_host(problem)}: {reason}.",
        key=file or repository.name,
        found=status,
        hint=hint,
    )


def _what(repository: _Repository, file: str) -> str:
    return f"{file} of {repository}" if file else str(repository)


def _no_folder(repository: _Repository) -> str:
    """The beginning of a sentence."""
    return f"There is no folder {repository.name!r} here, and "


def _kind(problem: Exception) -> str:
    """The key of _FAILURES for an exception, or "disk"."""
    for step in _chain(problem):
        status = getattr(getattr(step, "response", None), "status_code", None)
        if isinstance(step, errors.LocalEntryNotFoundError):
            continue  # it says no more than that another one led to it
        for classes, kind in _CLIENT:
            if isinstance(step, classes):
                return kind
        if status is not None:
            return str(status) if str(status) in _FAILURES else "down" if status > 500 else "status"
        for kinds, kind in _SYSTEM:
            if isinstance(step, kinds):
                return kind
        if type(step).__name__ in ("RemoteProtocolError", "ProtocolError"):
            return "cut"
        if isinstance(step, OSError) and step.errno is not None:
            return "disk" if step is problem else "network"
        if type(step) is OSError:
            return "content"  # this is how the client says that the length is wrong
    return "other"


def _host(problem: Exception | None) -> str:
    """The Hub, or the host that it keeps its large files on, if that was the one that failed."""
    for step in _chain(problem):
        with contextlib.suppress(AttributeError, RuntimeError):  # no request, or none yet
            url = urlsplit(str(step.request.url))
            return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
    return constants.ENDPOINT


def _chain(problem: BaseException | None) -> Iterator[Any]:
    """An exception and those that led to it."""
    while problem is not None:
        yield problem
        problem = problem.__cause__ or problem.__context__


def _without_secrets(record: logging.LogRecord) -> bool:
    """Takes out of the client's log lines what opens doors: tokens, passwords, signed addresses."""
    text = _SECRETS.sub("...", record.getMessage())
    token = huggingface_hub.get_token()
    record.msg, record.args = text.replace(token, "...") if token else text, None
    record.exc_info = None
    return True


for _handler in client_logging.get_logger("huggingface_hub").handlers:
    _handler.addFilter(_without_secrets)
