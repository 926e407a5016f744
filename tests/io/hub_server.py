"""A Hub on loopback, as small as the real client needs, with the faults of the real one.

Serves one model `owner/tiny` (and one data set of the same name) of two commits. Files whose names
end in `.safetensors` or `.parquet` are "large": as on the real Hub, a redirect leads to them on
another host (`localhost`), and their etag is their sha256. Any other repository is a fault: its
name says how the server answers (`owner/gated`, see ANSWERS). Faults of `owner/tiny` itself are set
on the server, and stay until a request for `/heal` comes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import unquote

COMMIT = "a" * 40
OLD_COMMIT = "b" * 40
REVISIONS = {"main": COMMIT, COMMIT: COMMIT, "v1": OLD_COMMIT, OLD_COMMIT: OLD_COMMIT}

_LFS = "version https://git-lfs.github.com/spec/v1"  # the first line of a pointer

# Name of a fault -> status and headers. What is echoed is the request's own token.
ANSWERS: dict[str, tuple[int, dict[str, str]]] = {
    "token": (401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
    "private": (401, {"X-Error-Code": "RepoNotFound"}),
    "gated": (403, {"X-Error-Code": "GatedRepo"}),
    "forbidden": (403, {}),
    "missing": (404, {"X-Error-Code": "RepoNotFound"}),
    "revision": (404, {"X-Error-Code": "RevisionNotFound"}),
    "entry": (404, {"X-Error-Code": "EntryNotFound"}),
    "busy": (429, {"Retry-After": "7"}),
    "broken": (500, {}),
    "gateway": (502, {}),
    "down": (503, {}),
    "teapot": (418, {}),
    "portal": (200, {"Content-Type": "text/html"}),
    "silent": (0, {}),
}


class HubServer:
    """Serves `files` (name -> bytes).

    Attributes:
        requests: the method and path of each request.
        answers: what to answer where a path ends in a text: the text -> a key of ANSWERS.
        stops_at: how many bytes of a file are sent before the line goes dead; None: all.
        changed: makes what is sent of what should be.
        lengths: what is said of a file's length before it is fetched, by name.
        etags: what is said to be a file's etag, by name.
        store: where the large files are said to be.
        listed: names that are listed beside those of the files.
    """

    def __init__(self, files: dict[str, bytes]):
        self.files = files
        self.requests: list[tuple[str, str]] = []
        self.listed: list[str] = []
        self._closed = Event()
        self.heal()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if self.path == "/heal":
                    hub.heal()
                    return hub.send(self, 200, b"", {})
                hub.requests.append((self.command, self.path))
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # clients are killed, here and there
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def heal(self) -> None:
        self.answers: dict[str, str] = {}
        self.stops_at: int | None = None
        self.changed: Callable[[bytes], bytes] = lambda body: body
        self.lengths: dict[str, int] = {}
        self.etags: dict[str, str] = {}
        self.store = ""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fetched(self) -> set[str]:
        """The names of the files whose content was asked for."""
        paths = [path for method, path in self.requests if method == "GET"]
        matches = [re.search(r"/(?:resolve/[^/]+|large)/(.+)$", path) for path in paths]
        return {match.group(1) for match in matches if match}

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("?")[0]
        repository = re.search(r"owner/(\w+)", path)
        faults = [fault for ending, fault in self.answers.items() if path.endswith(ending)]
        if repository and repository.group(1) in ANSWERS:
            faults.append(repository.group(1))
        if faults:
            return self._fail(request, *ANSWERS[faults[0]])
        if match := re.fullmatch(r"/api/(?:models|datasets)/owner/tiny/revision/(.+)", path):
            return self._info(request, unquote(match.group(1)))
        if match := re.fullmatch(r"(?:/datasets)?/owner/tiny/resolve/([^/]+)/(.+)", path):
            return self._file(request, *match.groups())
        if path.startswith("/large/"):
            return self._body(request, self.files[path.removeprefix("/large/")], {})
        return self._fail(request, *ANSWERS["missing"])

    def _fail(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        if not status:
            self._closed.wait()
        echo = request.headers.get("Authorization", "").removeprefix("Bearer ")
        echoes = {"X-Error-Message": f"bad token {echo}", "X-HF-Warning": f"; bad token {echo}"}
        self.send(request, status, f"<html>{echo}".encode(), {**echoes, **headers})

    def _info(self, request: BaseHTTPRequestHandler, revision: str) -> None:
        if revision not in REVISIONS:
            return self._fail(request, *ANSWERS["revision"])
        siblings = [_listing(name, body) for name, body in self.files.items()]
        info = {
            "id": "owner/tiny",
            "sha": REVISIONS[revision],
            "siblings": siblings + [{"rfilename": name} for name in self.listed],
        }
        return self.send(request, 200, json.dumps(info).encode(), {})

    def _file(self, request: BaseHTTPRequestHandler, revision: str, name: str) -> None:
        body = self.files.get(name)
        if body is None:
            return self._fail(request, *ANSWERS["entry"])
        etag = self.etags.get(name, _sha256(body) if _is_large(name) else _git_name(body))
        length = self.lengths.get(name, len(body))
        if not _is_large(name):
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": REVISIONS[revision]}
            return self._body(request, body, headers, length)
        store = self.store or self.endpoint.replace("127.0.0.1", "localhost")
        headers = {
            "Location": f"{store}/large/{name}",
            "X-Linked-Etag": f'"{etag}"',
            "X-Linked-Size": str(length),
            "X-Repo-Commit": REVISIONS[revision],
        }
        return self.send(request, 302, b"", headers)

    def _body(self, request: BaseHTTPRequestHandler, body: bytes, headers: dict[str, str], length: int = 0) -> None:
        """The content of a file, or the rest of it; a dead line stays dead where it broke."""
        if request.command == "HEAD":
            return self.send(request, 200, b"", {**headers, "Content-Length": str(length)})
        content = self.changed(body)
        start = int((request.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        if start:
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self.send(request, 206 if start else 200, content[start:], headers, self.stops_at, start)

    def send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str],
        stops_at: int | None = None,
        start: int = 0,
    ) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body if stops_at is None else body[: max(0, stops_at - start)])
        request.close_connection = stops_at is not None


def _is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".parquet"))


def _listing(name: str, body: bytes) -> dict:
    """What the Hub tells of a file when it is asked for sizes and hashes."""
    entry = {"rfilename": name, "size": len(body), "blobId": _git_name(body)}
    if _is_large(name):  # what git has of it is a small text that points to the content
        sha256 = _sha256(body)
        pointer = f"{_LFS}\noid sha256:{sha256}\nsize {len(body)}\n".encode()
        entry["blobId"] = _git_name(pointer)
        entry["lfs"] = {"sha256": sha256, "size": len(body), "pointerSize": len(pointer)}
    return entry


def _git_name(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
