"""A registry in a thread that can be told to misbehave: what a real one does only on its worst days."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

Answer = Callable[["Handler"], None]


class Seen(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", /, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self) -> None:
        """End the connection as a crashed server does."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _any(self) -> None:
        fake = self.server.fake
        fake.seen.append(Seen(self.command, self.path, dict(self.headers)))
        for number, (method, pattern, answer) in enumerate(fake.faults):
            if method == self.command and re.search(pattern, self.path):
                del fake.faults[number]
                answer(self)
                return
        fake.serve(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _any


def answering(status: int, **headers: str) -> Callable[[Handler], bool]:
    """A guard that lets nobody in."""

    def guard(handler: Handler) -> bool:
        handler.body()
        handler.reply(status, **headers)
        return False

    return guard


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeRegistry

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class FakeRegistry:
    """``faults``: (method, pattern of the path, what to do instead), each once. ``guard`` looks at each
    request first and may answer it (authentication)."""

    def __init__(self, certificate: tuple[str, str] | None = None) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.faults: list[tuple[str, str, Answer]] = []
        self.seen: list[Seen] = []
        self.guard: Callable[[Handler], bool] = lambda handler: True
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.fake = self
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.scheme = "https" if certificate else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add_blob(self, data: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def add_manifest(self, repository: str, tag: str, document: Any, media_type: str) -> str:
        data = json.dumps(document).encode()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.manifests[repository, tag] = self.manifests[repository, digest] = (media_type, data)
        return digest

    def fault(self, method: str, pattern: str, answer: Answer, times: int = 1) -> None:
        self.faults += [(method, pattern, answer)] * times

    def asked(self, method: str, pattern: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method and re.search(pattern, seen.path)]

    def serve(self, handler: Handler) -> None:
        if not self.guard(handler):
            return
        url = urlsplit(handler.path)
        found = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/(.+?)/?", url.path)
        if found is None:
            handler.reply(200 if url.path == "/v2/" else 404)
            return
        repository, kind, name = found.groups()
        if kind == "manifests":
            self._manifest(handler, repository, name)
        elif name.startswith("uploads"):
            self._upload(handler, repository, name, parse_qs(url.query))
        else:
            self._blob(handler, name)

    def _manifest(self, handler: Handler, repository: str, name: str) -> None:
        if handler.command == "PUT":
            data = handler.body()
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            for key in (name, digest):
                self.manifests[repository, key] = (handler.headers["Content-Type"], data)
            handler.reply(201, Docker_Content_Digest=digest)
            return
        if (repository, name) not in self.manifests:
            body = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
            handler.reply(404, json.dumps(body).encode())
            return
        media_type, data = self.manifests[repository, name]
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        handler.reply(200, data, Content_Type=media_type, Docker_Content_Digest=digest)

    def _blob(self, handler: Handler, digest: str) -> None:
        data = self.blobs.get(digest)
        if data is None:
            handler.reply(404)
            return
        offset = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if offset:
            start = int(offset[1])
            handler.reply(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            handler.reply(200, data)

    def _upload(self, handler: Handler, repository: str, name: str, query: dict[str, list[str]]) -> None:
        data = handler.body()
        key = f"/v2/{repository}/blobs/{name}"
        if handler.command == "POST":
            if query.get("mount", [""])[0] in self.blobs:
                handler.reply(201)
                return
            key = f"/v2/{repository}/blobs/uploads/{len(self.uploads)}"
            self.uploads[key] = b""
            handler.reply(202, Location=key + "?state=1")
        elif handler.command == "PATCH":
            self.uploads[key] += data
            handler.reply(202, Location=key + "?state=2")
        elif handler.command == "PUT":
            whole = self.uploads.pop(key) + data
            if self.add_blob(whole) != query["digest"][0]:
                handler.reply(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"digest invalid"}]}')
                return
            handler.reply(201)
        else:
            handler.reply(204)
