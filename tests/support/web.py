"""Servers on loopback, in a thread: files by HTTP, git repositories by `git http-backend`."""

from __future__ import annotations

import base64
import http.server
import os
import ssl
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

GIT_ENV = {
    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_AUTHOR_DATE": "2021-02-03T04:05:06Z",
    "GIT_COMMITTER_DATE": "2021-02-03T04:05:06Z",
}


class Page(NamedTuple):
    """What a path answers."""

    data: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = {}
    honours: bool = True
    """Whether If-None-Match and If-Modified-Since are answered."""
    cut: int = 0
    """Bytes of the promised data that are not sent."""


class Request(NamedTuple):
    path: str
    headers: Mapping[str, str]


class Web:
    """``pages`` may change while it runs; ``requests`` are those that came, ``answers`` their statuses."""

    def __init__(
        self, repositories: Path | None = None, token: str = "", *, certificate: Path | None = None
    ) -> None:
        """``certificate``: to be served by HTTPS, with this certificate and its key (see ``certify``)."""
        self.pages: dict[str, Page | list[Page]] = {}
        self.requests: list[Request] = []
        self.answers: list[int] = []
        self.repositories = repositories
        self.token = token
        """Where not empty, repositories want ``x-access-token:TOKEN``."""
        web = self

        class Handler(_Handler):
            pass

        Handler.web = web
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http{'s' if certificate else ''}://{self.address}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Web:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def paths(self) -> list[str]:
        return [request.path for request in self.requests]


class _Handler(http.server.BaseHTTPRequestHandler):
    web: Web

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.web.requests.append(Request(self.path, dict(self.headers.items())))
        found = self.web.pages.get(self.path)
        page = found.pop(0) if isinstance(found, list) and found else found
        if isinstance(page, Page):
            self._answer(page)
        elif self.web.repositories is not None:
            self._git()
        else:
            self._answer(Page(b"no", 404))

    do_POST = do_GET

    def _answer(self, page: Page) -> None:
        etag = page.headers.get("ETag")
        seen = page.honours and (
            (etag and self.headers.get("If-None-Match") == etag)
            or (
                page.headers.get("Last-Modified")
                and self.headers.get("If-Modified-Since") == page.headers["Last-Modified"]
            )
        )
        status = 304 if seen else page.status
        self.web.answers.append(status)
        self.send_response(status)
        for name, value in page.headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(page.data)))
        self.end_headers()
        if status != 304:
            self.wfile.write(page.data[: len(page.data) - page.cut])

    def _git(self) -> None:
        web = self.web
        if web.token:
            wanted = "Basic " + base64.b64encode(f"x-access-token:{web.token}".encode()).decode()
            if self.headers.get("Authorization") != wanted:
                self._answer(Page(b"no", 401, {"WWW-Authenticate": 'Basic realm="x"'}))
                return
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "http-backend"],
            input=body,
            stdout=subprocess.PIPE,
            check=True,
            env={
                **GIT_ENV,
                "GIT_PROJECT_ROOT": str(web.repositories),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
            },
        )
        head, _, data = done.stdout.partition(b"\r\n\r\n")
        headers = [line.partition(": ")[::2] for line in head.decode().split("\r\n")]
        status = next((int(v.split()[0]) for n, v in headers if n == "Status"), 200)
        web.answers.append(status)
        self.send_response(status)
        for name, value in headers:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Repository:
    """A git repository with a working tree, made by the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words],
            cwd=self.path,
            env={**GIT_ENV, "GIT_ALLOW_PROTOCOL": "file:http"},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str], message: str = "more") -> str:
        """Write files, commit everything; return the commit. A value ``-> x`` makes a link."""
        for name, content in files.items():
            place = self.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if content.startswith("-> "):
                place.symlink_to(content[3:])
            else:
                place.write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")


def certify(path: Path) -> Path:
    """A new certificate for 127.0.0.1 that signs itself, and its key, in one file."""
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    names = ("-addext", "subjectAltName=IP:127.0.0.1")
    key = path.with_name("key.pem")
    subprocess.run(
        ["openssl", *words.split(), *names, "-keyout", key, "-out", path], check=True, capture_output=True
    )
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path
