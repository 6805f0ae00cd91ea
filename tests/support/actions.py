"""A service that speaks both protocols of the GitHub Actions cache as they are documented.

Entries are reserved, uploaded and finished, then never change; a key that was reserved is refused. Signed
addresses need no token and bear none; everything else needs it. What a client does wrong is an answer of
400 and more, and stands in ``faults``.
"""

from __future__ import annotations

import base64
import http.server
import itertools
import json
import re
import threading
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "the-runtime-token"
TWIRP = "/base/twirp/github.actions.results.api.v1.CacheService/"
REST = "/base/_apis/artifactcache/"
MAX_BODY = 33 << 20


class Entry:
    def __init__(self, number: int, key: str, version: str) -> None:
        self.number, self.key, self.version = number, key, version
        self.data = bytearray()
        self.blocks: dict[str, bytes] = {}
        self.whole = False
        self.finished = False


class ActionsService:
    """``requests`` are ``METHOD path`` of all that came."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.camel = False
        """Whether names in answers are written in camelCase, as services may."""
        self.failures = 0
        """So many of the next requests are answered by 503."""
        self.lock = threading.Lock()
        self.numbers = itertools.count(1)
        service = self

        class Handler(_Handler):
            pass

        Handler.service = service
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self.url = f"http://127.0.0.1:{self._server.server_port}/base/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def newer(self) -> dict[str, str]:
        return {"ACTIONS_RESULTS_URL": self.url, "ACTIONS_RUNTIME_TOKEN": TOKEN}

    @property
    def older(self) -> dict[str, str]:
        return {"ACTIONS_CACHE_URL": self.url, "ACTIONS_RUNTIME_TOKEN": TOKEN}

    def __enter__(self) -> ActionsService:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def finished(self) -> list[str]:
        """The keys of what can be found."""
        return [e.key for e in self.entries if e.finished]

    def find(self, keys: list[str], version: str) -> Entry | None:
        """The first key that matches exactly, else the latest entry that begins with one of them."""
        with self.lock:
            finished = [e for e in self.entries if e.finished and e.version == version]
        for key in keys:
            for entry in reversed(finished):
                if entry.key == key:
                    return entry
            for entry in reversed(finished):
                if entry.key.startswith(key):
                    return entry
        return None

    def reserve(self, key: str, version: str) -> Entry | None:
        with self.lock:
            if any(e.key == key and e.version == version for e in self.entries):
                return None
            entry = Entry(next(self.numbers), key, version)
            self.entries.append(entry)
            return entry


class _Handler(http.server.BaseHTTPRequestHandler):
    service: ActionsService
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _answer(self, status: int, document: object = None, headers: dict[str, str] | None = None) -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        if document is None:
            data = b""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _fault(self, status: int, message: str) -> None:
        self.service.faults.append(f"{self.command} {self.path}: {message}")
        self._answer(status, {"code": "invalid_argument", "msg": message})

    def _any(self) -> None:
        service, body = self.service, self._body()
        parts = urlsplit(self.path)
        service.requests.append(f"{self.command} {parts.path}")
        if service.failures:
            service.failures -= 1
            self._answer(503, {"code": "unavailable", "msg": "later"})
            return
        if len(body) > MAX_BODY:
            self._fault(413, "too much at once")
        elif parts.path.startswith("/signed/"):
            self._signed(parts.path.split("/")[2:], parse_qs(parts.query), body)
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"code": "unauthenticated", "msg": "no such token"})
        elif parts.path.startswith(TWIRP) and self.command == "POST":
            self._twirp(parts.path.removeprefix(TWIRP), body)
        elif parts.path.startswith(REST):
            self._rest(parts.path.removeprefix(REST), parts.query, body)
        else:
            self._fault(404, "no such place")

    do_GET = do_POST = do_PUT = do_PATCH = _any

    # version 2

    def _twirp(self, call: str, body: bytes) -> None:
        asked = json.loads(body)
        key, version = asked.get("key"), asked.get("version")
        if self.headers.get("Content-Type") != "application/json" or not self._sound(key, version):
            return
        service = self.service
        if call == "CreateCacheEntry":
            entry = service.reserve(key, version)
            if entry is None:
                self._answer(409, {"code": "already_exists", "msg": "cache entry with the same key"})
            else:
                self._named({"ok": True, "signed_upload_url": self._sign(entry)})
        elif call == "FinalizeCacheEntryUpload":
            entry = next((e for e in service.entries if (e.key, e.version) == (key, version)), None)
            if entry is None or not entry.whole or asked.get("size_bytes") != str(len(entry.data)):
                self._fault(400, "not what was uploaded")
                return
            entry.finished = True
            self._named({"ok": True, "entry_id": str(entry.number)})
        elif call == "GetCacheEntryDownloadURL":
            found = service.find([key, *asked["restore_keys"]], version)
            if found is None or (not asked["restore_keys"] and found.key != key):
                self._named({"ok": False, "signed_download_url": "", "matched_key": ""})
            else:
                self._named({"ok": True, "signed_download_url": self._sign(found), "matched_key": found.key})
        else:
            self._fault(404, "no such call")

    def _named(self, fields: dict[str, Any]) -> None:
        if self.service.camel:
            fields = {re.sub(r"_(.)", lambda m: m[1].upper(), name): v for name, v in fields.items()}
        self._answer(200, fields)

    def _sound(self, key: object, version: object) -> bool:
        """The service's own rules for keys and versions."""
        if not isinstance(key, str) or not 0 < len(key) <= 512 or "," in key:
            self._fault(400, "a key has 1 to 512 characters, none of them a comma")
            return False
        if not isinstance(version, str) or not re.fullmatch("[0-9a-f]{64}", version):
            self._fault(400, "a version is a SHA-256")
            return False
        return True

    def _sign(self, entry: Entry) -> str:
        origin = self.service.url.removesuffix("/base/")
        return f"{origin}/signed/{entry.number}?sig=secret&se=2030"

    def _signed(self, path: list[str], query: dict[str, list[str]], body: bytes) -> None:
        """As Azure's blob storage: Put Blob, Put Block, Put Block List, Get Blob."""
        if "Authorization" in self.headers:
            self._fault(403, "a token was sent where it does not belong")
            return
        if query.get("sig") != ["secret"]:
            self._fault(403, "not signed")
            return
        entry = next(e for e in self.service.entries if e.number == int(path[0]))
        if self.command == "GET":
            self._download(bytes(entry.data))
        elif entry.finished or self.command != "PUT":
            self._fault(409, "it is finished")
        elif query.get("comp") == ["block"]:
            name = query["blockid"][0]
            base64.b64decode(name, validate=True)
            entry.blocks[name] = body
            self._answer(201)
        elif query.get("comp") == ["blocklist"]:
            names = re.findall("<Latest>(.*?)</Latest>", body.decode())
            if len({len(n) for n in names}) != 1 or not set(names) <= set(entry.blocks):
                self._fault(400, "InvalidBlockList")
                return
            entry.data = bytearray(b"".join(entry.blocks[n] for n in names))
            entry.whole = True
            self._answer(201)
        elif self.headers.get("x-ms-blob-type") == "BlockBlob":
            entry.data, entry.whole = bytearray(body), True
            self._answer(201)
        else:
            self._fault(400, "x-ms-blob-type is missing")

    def _download(self, data: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked:
            start = int(asked[1])
            headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            self._answer(206, data[start:], headers)
        else:
            self._answer(200, data)

    # version 1

    def _rest(self, path: str, query: str, body: bytes) -> None:
        if self.headers.get("Accept") != "application/json;api-version=6.0-preview.1":
            self._fault(400, "the API's version is not named")
            return
        service = self.service
        if path == "cache" and self.command == "GET":
            fields = dict(each.split("=", 1) for each in query.split("&"))
            found = service.find(unquote(fields["keys"]).split(","), fields["version"])
            if found is None:
                self._answer(204)
            else:
                self._answer(200, {"archiveLocation": self._sign(found), "cacheKey": found.key})
        elif path == "caches" and self.command == "POST":
            asked = json.loads(body)
            if not self._sound(asked["key"], asked["version"]):
                return
            entry = service.reserve(asked["key"], asked["version"])
            if entry is None:
                self._answer(409, {"message": "Cache already exists"})
            else:
                self._answer(201, {"cacheId": entry.number})
        else:
            self._upload(path, body)

    def _upload(self, path: str, body: bytes) -> None:
        entry = next(e for e in self.service.entries if f"caches/{e.number}" == path)
        if entry.finished:
            self._fault(409, "it is finished")
        elif self.command == "PATCH":
            asked = re.fullmatch(r"bytes (\d+)-(\d+)/\*", self.headers.get("Content-Range", ""))
            if asked is None or int(asked[2]) - int(asked[1]) + 1 != len(body):
                self._fault(400, "Content-Range is not the body's")
                return
            entry.data[int(asked[1]) : int(asked[2]) + 1] = body
            self._answer(204)
        elif json.loads(body) != {"size": len(entry.data)}:
            self._fault(400, "not what was uploaded")
        else:
            entry.finished = True
            self._answer(204)
