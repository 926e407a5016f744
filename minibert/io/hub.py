"""The Hub: the files of a repository, pinned to a commit, never a pickle.

The only module that imports `huggingface_hub`. Only files that the caller lists are downloaded, and
a branch or tag is resolved to its commit first, so that all files are of one version. A new file is
compared with the Hub's own list, by length and hash, before it is used; a wrong one is deleted. A
commit that is whole in the cache is taken from there, without a network.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import logging
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.utils import logging as client_logging

from minibert.io.errors import CheckpointError, DiskError, HubError, MinibertError
from minibert.io.files import files_in, is_pickle, sha256, write_text
from minibert.io.hub_failures import Wanted, explain, is_answer, not_as_listed

_COMMIT = re.compile("[0-9a-f]{40}")
# In a file name or revision: control characters, Windows' ways to name another place, an empty
# part, "." or "..", and parts that no file system takes.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\:]|(^|/)\.{0,2}(/|\Z)|[^/]{256}")
# In an address: a user name and password, and all that follows a question mark.
_SECRETS = re.compile(r"(?<=://)[^\s/@]+(?=@)|(?<=\?)\S+")


# The folder with the files of one commit; the commit; every file name of the repository, downloaded
# or not (of one that was found in the cache, those that are there).
Snapshot = tuple[Path, str, tuple[str, ...]]


def fetch(name: str, patterns: Sequence[str], revision: str, kind: str) -> Snapshot:
    """The files of a repository that match, from the cache or from the Hub.

    Args:
        name: the Hub id.
        patterns: file names, which may hold `*` and `?`; no others are downloaded.
        revision: branch, tag or commit.
        kind: "model" or "dataset".

    Raises:
        CheckpointError: the revision is not one; or the repository has no file that matches, or
            one whose name leads elsewhere.
        HubError: the download failed, or the files are not in the cache in offline mode.
        DiskError: the cache cannot be written to.
    """
    repository = Wanted(name, kind, revision, constants.ENDPOINT, constants.HF_HUB_CACHE)
    if _UNSAFE.search(revision):
        raise CheckpointError(
            f"{revision!r} is not a revision of {name}.", key="revision", hint="Name a branch, a tag or a whole commit."
        )
    if constants.HF_HUB_OFFLINE:
        return _from_cache(repository, patterns)
    return _pinned(repository, patterns) or _from_hub(repository, patterns)


# --- from the cache -----------------------------------------------------------------------------


def _pinned(repository: Wanted, patterns: Sequence[str]) -> Snapshot | None:
    """A commit never changes: if all that is asked for is in the cache, nobody need be asked."""
    commit = repository.revision
    if not _COMMIT.fullmatch(commit):
        return None
    known = {name: _cached(repository, name, commit) for name in patterns}
    paths = {name: Path(path) for name, path in known.items() if isinstance(path, str)}
    if not paths or None in known.values() or not all(map(_has_content, paths.values())):
        return None
    folder = _folder_of(*paths.popitem())
    return folder, commit, files_in(folder)


def _from_cache(repository: Wanted, patterns: Sequence[str]) -> Snapshot:
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
            f"{repository.no_folder}{repository} is not, or not whole, in the cache "
            f"{repository.cache}; the Hub is not asked in offline mode.",
            path=repository.cache,
            key=repository.name,
            hint="Fetch it once with a network (without HF_HUB_OFFLINE), or name a folder.",
        )
    for name, path in files.items():
        if not _has_content(path):
            raise HubError(
                f"{name} of {repository} is damaged in the cache: {path} is empty, or leads nowhere.",
                path=path,
                key=name,
                hint="Fetch it again with a network (without HF_HUB_OFFLINE).",
            )
    return folder, folder.name, files_in(folder)


# --- from the Hub -------------------------------------------------------------------------------


def _from_hub(repository: Wanted, patterns: Sequence[str]) -> Snapshot:
    """Asks the Hub for its list of files, then fetches those that match, all of one commit."""
    if "@" in urlsplit(repository.endpoint).netloc:
        raise HubError(
            "HF_ENDPOINT holds a user name or a password, which would end up in messages.",
            key="HF_ENDPOINT",
            hint="Take it out; a token goes into HF_TOKEN.",
        )
    try:
        commit, listed = _listing(repository)
    except Exception as problem:  # the HTTP client's own classes differ from release to release
        failure = explain(problem, repository)
        if is_answer(problem):
            raise failure from None
        try:
            snapshot = _from_cache(repository, patterns)
        except HubError:
            raise failure from None
        warnings.warn(f"{failure} The copy in the cache is used: {snapshot[0]}", stacklevel=3)
        return snapshot
    wanted = _matching(sorted(listed), patterns)
    if not wanted:
        raise CheckpointError(
            f"{repository} on {repository.endpoint} has none of the files {', '.join(patterns)}.", key=repository.name
        )
    for name in wanted:
        try:
            path = _fetch(repository, commit, listed[name])
        except MinibertError:
            raise
        except Exception as problem:
            raise explain(problem, replace(repository, file=name)) from None
    folder = _folder_of(name, path)
    _remember(folder, repository, patterns, listed)
    return folder, commit, tuple(sorted(listed))


def _listing(repository: Wanted) -> tuple[str, dict[str, Any]]:
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
                f"The repository lists a file {name!r}, which is not a path within a folder.",
                key=name,
                hint="Do not trust this repository.",
            )
    return found


def _fetch(repository: Wanted, commit: str, file: Any) -> Path:
    """One file, from the cache if it is there in its full length, else from the Hub."""
    cached = _cached(repository, file.rfilename, commit)
    if isinstance(cached, str):
        if file.size in (None, os.path.getsize(cached)):
            return Path(cached)
        _forget(Path(cached))
    path = Path(
        huggingface_hub.hf_hub_download(repository.name, file.rfilename, repo_type=repository.kind, revision=commit)
    )
    if _folder_of(file.rfilename, path).name != commit:
        raise ValueError("the file is of another commit")
    if not _is_as_listed(path, file):
        _forget(path)
        raise not_as_listed(replace(repository, file=file.rfilename))
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


def _cached(repository: Wanted, name: str, commit: str) -> Any:
    """Where a file is in the cache; None if it is not; another value if there is no such file."""
    return huggingface_hub.try_to_load_from_cache(repository.name, name, revision=commit, repo_type=repository.kind)


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _folder_of(name: str, path: Path) -> Path:
    """The folder of the commit that a path belongs to."""
    return path.parents[len(PurePosixPath(name).parts) - 1]


def _remember(folder: Path, repository: Wanted, patterns: Sequence[str], listed: Mapping[str, Any]) -> None:
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


def _without_secrets(record: logging.LogRecord) -> bool:
    """Takes out of the client's log lines what opens doors: tokens, passwords, signed addresses."""
    text = _SECRETS.sub("...", record.getMessage())
    token = huggingface_hub.get_token()
    record.msg, record.args = text.replace(token, "...") if token else text, None
    record.exc_info = None
    return True


for _handler in client_logging.get_logger("huggingface_hub").handlers:
    _handler.addFilter(_without_secrets)
