"""Who we are to a registry: the files that ``docker login`` and ``podman login`` write (and our own login:
buildkit_py.registry.login).

Looked at in this order, the first that knows the registry wins:

1. ``~/.config/pybuild/auth.json`` and ``/etc/pybuild/auth.json``
2. ``$DOCKER_CONFIG/config.json``, else ``~/.docker/config.json``
3. ``$REGISTRY_AUTH_FILE``, else ``$XDG_RUNTIME_DIR/containers/auth.json``, ``~/.config/containers/auth.json``

All have Docker's form: ``auths`` (base64 of user:password, or an identity token), ``credHelpers`` by registry
and ``credsStore`` for all, whose program ``docker-credential-NAME`` is asked for the secret (the credential
helper protocol of Docker's documentation).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from buildkit_py import paths
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

_HUB = ("https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io")
_HELPER_SECONDS = 30.0


class Credential(NamedTuple):
    username: str
    password: str
    identity_token: str = ""
    """An OAuth refresh token, used instead of the password."""

    def __repr__(self) -> str:
        """Without the secret: this lands in tracebacks."""
        return f"Credential({self.username!r})"


class Credentials:
    """Reads the files at the first question. ``problems``: what kept a file or helper from answering."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._env = os.environ if environ is None else environ
        self._known: dict[tuple[str, str], Credential | None] = {}
        self._files: list[dict[str, Any]] | None = None
        self.problems: list[str] = []

    def of(self, registry: str, repository: str = "") -> Credential | None:
        """The credential for a registry (``host[:port]``); entries for a part of its repositories
        (``host/path``, as podman writes) go first."""
        key = (registry, repository)
        if key not in self._known:
            self._known[key] = self._find(registry, repository)
        return self._known[key]

    def _find(self, registry: str, repository: str) -> Credential | None:
        if self._files is None:
            self._files = list(self._read())
        for document in self._files:
            found = self._in_document(document, registry, repository)
            if found is not None:
                return found
        return None

    def _read(self) -> Iterator[dict[str, Any]]:
        import json

        for path in self._paths():
            try:
                with open(path, "rb") as f:
                    document = json.loads(f.read().strip() or b"{}")
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as e:
                self.problems.append(f"{path}: {e}")
                continue
            if isinstance(document, dict):
                yield document

    def _paths(self) -> Iterator[str]:
        home = self._env.get("HOME") or os.path.expanduser("~")
        for directory in paths.config_dirs():
            yield os.path.join(directory, "auth.json")
        file = docker_file(self._env)
        if file:
            yield file
        if self._env.get("REGISTRY_AUTH_FILE"):
            yield self._env["REGISTRY_AUTH_FILE"]
            return
        if self._env.get("XDG_RUNTIME_DIR"):
            yield os.path.join(self._env["XDG_RUNTIME_DIR"], "containers", "auth.json")
        if home.startswith("/"):
            yield os.path.join(home, ".config", "containers", "auth.json")

    def _in_document(self, document: dict[str, Any], registry: str, repository: str) -> Credential | None:
        names = names_of(registry)
        helper = own_helper(document, registry)
        if helper:
            return self._ask(helper, names[0])
        found = self._in_auths(document.get("auths"), names, repository)
        store = document.get("credsStore")
        if found is None and helper is None and isinstance(store, str) and store:
            return self._ask(store, names[0])
        return found

    def _in_auths(self, auths: Any, names: tuple[str, ...], repository: str) -> Credential | None:
        if not isinstance(auths, dict):
            return None
        entries = {plain(key): value for key, value in auths.items()}
        parts = repository.split("/") if repository else []
        for length in range(len(parts), -1, -1):
            for name in names:
                entry = entries.get("/".join([plain(name), *parts[:length]]))
                found = self._entry(entry)
                if found is not None:
                    return found
        return None

    def _entry(self, entry: Any) -> Credential | None:
        import base64

        if not isinstance(entry, dict):
            return None
        token = entry.get("identitytoken") or ""
        username, password = entry.get("username") or "", entry.get("password") or ""
        if isinstance(entry.get("auth"), str) and entry["auth"]:
            try:
                text = base64.b64decode(entry["auth"]).decode()
            except ValueError:  # binascii.Error and UnicodeDecodeError are
                self.problems.append("an 'auth' entry is not base64")
                return None
            username, _, password = text.rstrip("\0").partition(":")
        if all(isinstance(v, str) for v in (token, username, password)) and (token or username):
            return Credential(username, password, token)
        return None

    def _ask(self, helper: str, server: str) -> Credential | None:
        """Run ``docker-credential-HELPER get``: the server's name in, JSON out."""
        import json

        try:
            found = call_helper(helper, "get", server.encode())
            if found is None:
                return None
            answer = json.loads(found)
            username, secret = str(answer["Username"]), str(answer["Secret"])
        except HelperError as e:
            self.problems.append(str(e))
            return None
        except (ValueError, KeyError, TypeError):
            self.problems.append(f"docker-credential-{helper}: its answer is not the JSON of the protocol")
            return None
        if username == "<token>":
            return Credential("", "", secret)
        return Credential(username, secret)


class HelperError(Exception):
    """A credential helper could not be run, or refused."""


def call_helper(helper: str, action: str, data: bytes) -> bytes | None:
    """What ``docker-credential-HELPER ACTION`` answers; None where it knows no such credential.

    Raises HelperError.
    """
    import subprocess

    program = f"docker-credential-{helper}"
    if "/" in helper:
        raise HelperError(f"{helper!r} is not the name of a credential helper")
    try:
        done = subprocess.run(
            [program, action], input=data, capture_output=True, timeout=_HELPER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise HelperError(f"{program}: {e.strerror if isinstance(e, OSError) else 'no answer'}") from e
    if done.returncode != 0:
        message = (done.stdout + done.stderr).decode("utf-8", "replace").strip()[:200]
        if "credentials not found" not in message:
            raise HelperError(f"{program}: {message}")
        return None
    return done.stdout


def docker_file(environ: Mapping[str, str]) -> str:
    """The file that all of docker's tools read; "" without a home directory."""
    home = environ.get("HOME") or os.path.expanduser("~")
    folder = environ.get("DOCKER_CONFIG") or (os.path.join(home, ".docker") if home.startswith("/") else "")
    return os.path.join(folder, "config.json") if folder else ""


def names_of(registry: str) -> tuple[str, ...]:
    """What files call a registry; the first is what helpers are asked for."""
    return _HUB if registry in _HUB else (registry,)


def own_helper(document: Mapping[str, Any], registry: str) -> str | None:
    """What ``credHelpers`` says of a registry; "": no helper, not even the ``credsStore``."""
    helpers = document.get("credHelpers")
    named = [helpers.get(name) for name in names_of(registry)] if isinstance(helpers, dict) else []
    return next((helper for helper in named if isinstance(helper, str)), None)


def plain(key: str) -> str:
    """A key of ``auths`` without scheme and API version."""
    name = key.split("://", 1)[-1].rstrip("/")
    for version in ("/v1", "/v2"):
        name = name.removesuffix(version)
    return name
