"""A small model hub on loopback: the part of huggingface.co's interface that a download needs, and its faults.

Written from the hub's own descriptions: the API's list of files with blob ids and LFS digests, `resolve` with a
redirect to a storage address for LFS files, byte ranges, and errors told apart by X-Error-Code.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LFS = re.compile(r".*\.(safetensors|bin|onnx|gguf)")


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Hub:
    """Repositories by name, and what is wrong today.

    `cuts` maps a file to the bytes after which responses for it break off, one each. `refuse` maps the beginning of a
    path to statuses that are answered first, one request each.
    """

    url: str = ""
    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    branches: dict[tuple[str, str], str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    refuse: dict[str, list[int]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    private: dict[str, str] = field(default_factory=dict)
    """Repositories that only this token opens."""
    after_a_cut: list[int] = field(default_factory=list)
    """What the storage answers once a response has been cut."""
    ranges: bool = True
    trickle: set[str] = field(default_factory=set)
    """Files whose bytes come slowly, over a minute."""
    garble: set[str] = field(default_factory=set)
    """Files whose bytes are not the listed ones."""

    def add(self, name: str, content: dict[str, bytes] | Path, *, branch: str = "main") -> str:
        """A commit with these files (of a directory); its id."""
        if isinstance(content, Path):
            content = {file.name: file.read_bytes() for file in content.iterdir()}
        parts = [name, branch, *(each for file in sorted(content) for each in (file, _sha256(content[file])))]
        commit = hashlib.sha1("\0".join(parts).encode()).hexdigest()
        self.files[name, commit] = dict(content)
        self.branches[name, branch] = commit
        return commit

    def fetched(self) -> list[str]:
        """Names of the files whose content was asked for, in order."""
        asked = [each.path for each in self.requests if each.method == "GET" and not each.path.startswith("/api/")]
        return [path.rsplit("/", 1)[1] for path in asked]

    def commit_of(self, name: str, revision: str) -> str | None:
        return revision if (name, revision) in self.files else self.branches.get((name, revision))

    def knows(self, name: str) -> bool:
        return any(each == name for each, _ in self.files)


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range"), token))
        for start, statuses in self.hub.refuse.items():
            if path.startswith(start) and statuses:
                self._send(statuses.pop(0))
                return
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(.+)", path):
            self._tree(self.hub.files[match[1], str(self.hub.commit_of(match[1], match[2]))])
            return
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._list(match[1], match[2] or "main", token)
            return
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*match.groups(), token=token)
            return
        if match := re.fullmatch(r"/storage/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            self._content(self.hub.files[match[1], match[2]][match[3]], match[3])
            return
        self._send(404)

    def _closed(self, name: str, token: str | None) -> bool:
        """Answers for repositories that are not there, or not for the bearer of `token`."""
        private = name in self.hub.private and self.hub.private[name] != token
        if private or not self.hub.knows(name):  # the hub does not tell the two apart
            self._send(401 if token is None else 404, {"X-Error-Code": "RepoNotFound"})
            return True
        return False

    def _list(self, name: str, revision: str, token: str | None) -> None:
        if self._closed(name, token):
            return
        commit = self.hub.commit_of(name, revision)
        if commit is None:
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
            return
        files = self.hub.files[name, commit]
        siblings = [self._sibling(file, data) for file, data in files.items()]
        body = {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": [], "private": False}
        self._send(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _tree(self, files: dict[str, bytes]) -> None:
        entries: list[dict[str, Any]] = []
        for file, data in files.items():
            entry: dict[str, Any] = {"type": "file", "path": file, "size": len(data), "oid": _git_sha1(data)}
            if LFS.fullmatch(file):
                entry["lfs"] = {"oid": _sha256(data), "size": len(data), "pointerSize": 134}
            entries.append(entry)
        self._send(200, {"Content-Type": "application/json"}, json.dumps(entries).encode())

    def _sibling(self, file: str, data: bytes) -> dict[str, Any]:
        found: dict[str, Any] = {"rfilename": file, "size": len(data), "blobId": _git_sha1(data)}
        if LFS.fullmatch(file):
            found["lfs"] = {"sha256": _sha256(data), "size": len(data), "pointerSize": 134}
        return found

    def _resolve(self, name: str, revision: str, file: str, *, token: str | None) -> None:
        if self._closed(name, token):
            return
        if name in self.hub.gated:
            self._send(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
            return
        commit = self.hub.commit_of(name, revision)
        if commit is None:
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
            return
        data = self.hub.files[name, commit].get(file)
        if data is None:
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        if not LFS.fullmatch(file):
            self._content(data, file, {"X-Repo-Commit": commit, "ETag": f'"{_git_sha1(data)}"'})
            return
        # huggingface.co leaves storage to another host; here it is another name of this one
        storage = f"{self.hub.url.replace('127.0.0.1', 'localhost')}/storage/{name}/{commit}/{file}"
        linked = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{_sha256(data)}"', "X-Repo-Commit": commit}
        self._send(302, {"Location": storage, **linked})

    def _content(self, data: bytes, file: str, headers: dict[str, str] | None = None) -> None:
        headers = {"Accept-Ranges": "bytes", **(headers or {})}
        if file in self.hub.garble:
            data = bytes(len(data))
        status, start = 200, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and self.hub.ranges:
            status, start = 206, int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cuts = self.hub.cuts.get(file, [])
        cut = cuts.pop(0) if cuts and self.command == "GET" else None
        self._send(status, headers, data[start:], cut=cut, parts=60 if file in self.hub.trickle else 1)

    def _send(
        self,
        status: int,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        cut: int | None = None,
        parts: int = 1,
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        with suppress(OSError):  # the other side may have gone
            for part in range(parts - 1):
                self.wfile.write(body[part * (len(body) // parts) : (part + 1) * (len(body) // parts)])
                self.wfile.flush()
                time.sleep(1)
            self.wfile.write(body[(parts - 1) * (len(body) // parts) : cut])
            self.wfile.flush()
            if cut is not None:
                self.hub.refuse["/storage"] = self.hub.after_a_cut
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
