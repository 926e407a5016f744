"""Downloads that fail: what happened, in one sentence, and what to do about it.

A failure is known by the client's and the system's errors that led to it. No text of theirs is
passed on, since a token could be in it: an address, or an answer that repeats what was sent.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from minibert.io.errors import DiskError, HubError

KINDS = {"model": "model", "dataset": "data set"}

_LATER = "Try again later; what has been fetched already is kept."
_CACHED = "HF_HUB_OFFLINE=1 uses what is in the cache."

# What happened, and what to do about it. Each follows "X could not be fetched from HOST: ".
_SENTENCES = {
    "gated": (
        "the repository is gated, and its owners have not let this account in (status {status})",
        "Ask for access on {endpoint}/{name}, then set HF_TOKEN to your token.",
    ),
    "repository": (
        "it has no {kind} {name}, or it is private (status {status})",
        "Check the spelling; for a private one set HF_TOKEN to your token.",
    ),
    "revision": ("there is no revision {revision!r} (status {status})", "Name a branch, a tag or a whole commit."),
    "file": (
        "the file is in the list, but not there (status {status})",
        "Try another revision, or tell the owners of {name}.",
    ),
    "401": (
        "it asks for a valid token (status 401)",
        "Set HF_TOKEN to one; where the repository is public, HF_TOKEN can be unset.",
    ),
    "403": ("it refused access (status 403)", "Check that the token in HF_TOKEN may read {name}."),
    "429": ("too many requests (status 429)", "Try again in {wait}; the files so far are kept."),
    "500": ("it failed by a fault of its own (status 500)", _LATER),
    "down": ("it is down or overloaded (status {status})", f"{_LATER} {_CACHED}"),
    "status": ("it answered with status {status}", _LATER),
    "dns": ("the name of this host is not known (DNS)", f"Check the network, and HF_ENDPOINT if it is set; {_CACHED}"),
    "refused": ("it refused the connection", f"Check the network, its proxy, and HF_ENDPOINT if it is set; {_CACHED}"),
    "tls": (
        "it could not prove who it is (TLS)",
        f"Check the clock; behind a proxy that opens connections, set SSL_CERT_FILE to its certificate; {_CACHED}",
    ),
    "timeout": (
        "it did not answer in time",
        "Try again, or raise HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT (in seconds); " + _CACHED,
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
# Errors of the system, and by their names those of the client and of the HTTP library under it,
# which are not the same ones in every release. "" says no more than that another one led to it.
_ERRORS: dict[type[Exception] | str, str] = {
    "GatedRepoError": "gated",
    "RepositoryNotFoundError": "repository",
    "RevisionNotFoundError": "revision",
    "LocalEntryNotFoundError": "",
    "EntryNotFoundError": "file",
    "RemoteEntryNotFoundError": "file",
    "HfHubHTTPError": "status",
    "FileMetadataError": "answer",
    "RemoteProtocolError": "cut",
    "ProtocolError": "cut",
    ssl.SSLError: "tls",
    socket.gaierror: "dns",
    ConnectionRefusedError: "refused",
    TimeoutError: "timeout",
    ConnectionError: "cut",
    ValueError: "answer",
    LookupError: "answer",
    TypeError: "answer",
    AttributeError: "answer",
}
# With these the Hub has said something of the repository; with all others it is out of reach.
_ANSWERS = ("gated", "repository", "revision", "file", "401", "403", "status")
# A mistyped folder looks like a Hub id, and these are what comes of it.
_OF_A_FOLDER = ("repository", "dns", "refused", "tls", "timeout")


@dataclass(frozen=True)
class Wanted:
    """A repository of the Hub at a revision, or one file of it."""

    name: str
    kind: str
    revision: str
    endpoint: str
    cache: str
    file: str = ""

    def __str__(self) -> str:
        what = self.name if self.kind == "model" else f"{KINDS[self.kind]} {self.name}"
        return (f"{self.file} of " if self.file else "") + f"{what} at revision {self.revision!r}"

    @property
    def no_folder(self) -> str:
        """The beginning of a sentence, where a folder may have been meant."""
        return "" if self.file else f"There is no folder {self.name!r} here, and "


def explain(problem: Exception, wanted: Wanted) -> HubError | DiskError:
    """The error to raise, `from None`, in the place of what the client raised."""
    kind = _kind(problem)
    if kind == "disk":
        return DiskError(
            f"The cache {wanted.cache} could not be written to when {wanted} was fetched: "
            f"{getattr(problem, 'strerror', None)}.",
            path=wanted.cache,
            hint="Free some space there, or set HF_HOME to a folder that can be written to.",
        )
    return _failure(kind, wanted, problem)


def not_as_listed(wanted: Wanted) -> HubError:
    """The error for a file of other content than it should have."""
    return _failure("content", wanted)


def is_answer(problem: Exception) -> bool:
    """Whether the Hub has said something of the repository, and is not out of reach."""
    return _kind(problem) in _ANSWERS


def _failure(kind: str, wanted: Wanted, problem: Exception | None = None) -> HubError:
    responses = (getattr(step, "response", None) for step in _chain(problem))
    response = next((one for one in responses if one is not None), None)
    status = getattr(response, "status_code", None)
    wait = str(getattr(response, "headers", {}).get("Retry-After"))
    reason, hint = (
        text.format(
            name=wanted.name,
            kind=KINDS[wanted.kind],
            revision=wanted.revision,
            endpoint=wanted.endpoint,
            status=status,
            wait=f"{wait} seconds" if wait.isdigit() else "a few minutes",
            problem=type(problem).__name__,
        )
        for text in _SENTENCES[kind]
    )
    return HubError(
        f"{wanted.no_folder if kind in _OF_A_FOLDER else ''}{wanted} could not be fetched from "
        f"{_host(problem) or wanted.endpoint}: {reason}.",
        key=wanted.file or wanted.name,
        hint=hint,
    )


def _kind(problem: Exception) -> str:
    """The key of _SENTENCES for an exception, or "disk"."""
    for step in _chain(problem):
        names = (_ERRORS.get(base, _ERRORS.get(base.__name__)) for base in type(step).__mro__)
        kind = next((name for name in names if name is not None), None)
        if kind == "status":
            status = getattr(step.response, "status_code", 0)
            return str(status) if str(status) in _SENTENCES else "down" if status > 500 else kind
        if kind:
            return kind
        if type(step) is OSError and step.errno is None:
            return "content"  # the client's way to say that the length is wrong
        if isinstance(step, OSError) and step.errno is not None:
            return "disk" if step is problem else "network"
    return "other"


def _host(problem: Exception | None) -> str | None:
    """The host that failed, which need not be the Hub: large files are kept elsewhere."""
    for step in _chain(problem):
        with contextlib.suppress(AttributeError, RuntimeError):  # no request, or none yet
            url = urlsplit(str(step.request.url))
            return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
    return None


def _chain(problem: BaseException | None) -> Iterator[Any]:
    """An exception and those that led to it."""
    while problem is not None:
        yield problem
        problem = problem.__cause__ or problem.__context__
