"""A Hub on loopback, as small as the real client needs, with the faults of the real one.

Serves one model `owner/tiny` (and one data set of the same name) of two commits, and answers with
a status or a hang-up where the name of the repository asks for it: `owner/status-503`.
"""

from __future__ import annotations

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "a" * 40
OLD_COMMIT = "b" * 40
REVISIONS = {"main": COMMIT, COMMIT: COMMIT, "v1": OLD_COMMIT, OLD_COMMIT: OLD_COMMIT}

_ERROR_CODES = {
    "gated": (403, "GatedRepo"),
    "private": (401, "RepoNotFound"),
    "missing": (404, "RepoNotFound"),
    "refused": (403, ""),
    "busy": (429, ""),
    "broken": (500, ""),
    "down": (503, ""),
}


class HubServer:
    """Serves `files` (name -> bytes); `requests` holds the method and path of each request."""

    def __init__(self, files: dict[str, bytes]):
        self.files = files
        self.requests: list[tuple[str, str]] = []
        self.cut_body = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.requests.append((self.command, self.path))
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fetched(self) -> set[str]:
        """The names of the files whose content was asked for."""
        paths = [path for method, path in self.requests if method == "GET"]
        matches = [re.search(r"/resolve/[^/]+/(.+)$", path) for path in paths]
        return {match.group(1) for match in matches if match}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("?")[0]
        fault = re.search(r"owner/(\w+)", path)
        if fault and fault.group(1) in _ERROR_CODES:
            status, code = _ERROR_CODES[fault.group(1)]
            headers = {"X-Error-Code": code, "X-Error-Message": "secret"} if code else {}
            headers |= {"Retry-After": "7"} if status == 429 else {}
            return self._send(request, status, b"{}", headers)
        if match := re.fullmatch(r"/api/(?:models|datasets)/owner/tiny/revision/(.+)", path):
            return self._info(request, match.group(1))
        if re.fullmatch(r"/api/(?:models|datasets)/owner/tiny", path):
            return self._info(request, "main")
        if match := re.fullmatch(r"/api/(?:models|datasets)/owner/tiny/tree/(.+)", path):
            tree = [
                {"type": "file", "path": name, "size": len(body), "oid": _etag(body)}
                for name, body in self.files.items()
            ]
            return self._send(request, 200, json.dumps(tree).encode(), {})
        if match := re.fullmatch(r"(?:/datasets)?/owner/tiny/resolve/([^/]+)/(.+)", path):
            return self._file(request, *match.groups())
        return self._send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _info(self, request: BaseHTTPRequestHandler, revision: str) -> None:
        if revision not in REVISIONS:
            return self._send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        info = {
            "id": "owner/tiny",
            "sha": REVISIONS[revision],
            "siblings": [{"rfilename": name} for name in self.files],
        }
        return self._send(request, 200, json.dumps(info).encode(), {})

    def _file(self, request: BaseHTTPRequestHandler, revision: str, name: str) -> None:
        body = self.files.get(name)
        if body is None:
            return self._send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{_etag(body)}"', "X-Repo-Commit": REVISIONS[revision]}
        return self._send(request, 200, body, headers, cut=self.cut_body)

    def _send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str],
        cut: bool = False,
    ) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body[: len(body) // 2] if cut else body)
        request.close_connection = cut


def _etag(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
