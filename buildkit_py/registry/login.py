"""``login`` and ``logout``: store who we are to a registry, where docker's own tools find it too.

Written is ``$DOCKER_CONFIG/config.json``, else ``~/.docker/config.json``: base64 of user:password, or, where
the file names a credential helper for the registry (``credHelpers``, ``credsStore``), by that helper, and
then no secret stands in the file. Everything else in the file stays as it is.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping

from buildkit_py.errors import RegistryError
from buildkit_py.registry.credentials import (
    Credential,
    Credentials,
    HelperError,
    call_helper,
    docker_file,
    names_of,
    own_helper,
    plain,
)
from buildkit_py.typed import Any


class Given(Credentials):
    """One credential that was just given, for a registry alone."""

    def __init__(self, registry: str, credential: Credential) -> None:
        super().__init__({})
        self._known[registry, ""] = credential
        self._files = []


def store(
    registry: str, credential: Credential, environ: Mapping[str, str] | None = None
) -> tuple[str, bool]:
    """Where it is now: the file, and whether the secret itself stands in it. Raises RegistryError."""
    path = _file(os.environ if environ is None else environ)
    document = _read(path)
    server = names_of(registry)[0]
    helper = _helper(document, registry)
    auths = document["auths"]
    if helper:
        _call(helper, "store", _helped(server, credential))
        auths[server] = {}
    else:
        secret = f"{credential.username}:{credential.password}".encode()
        auths[server] = {"auth": base64.b64encode(secret).decode()}
    _write(path, document)
    return path, not helper


def erase(registry: str, environ: Mapping[str, str] | None = None) -> bool:
    """Forget it; whether anything was known. Raises RegistryError."""
    path = _file(os.environ if environ is None else environ)
    document = _read(path)
    names = {plain(name) for name in names_of(registry)}
    auths = document["auths"]
    gone = [key for key in auths if plain(key) in names]
    for key in gone:
        del auths[key]
    helper = _helper(document, registry)
    helped = bool(helper) and _call(helper, "erase", names_of(registry)[0].encode())
    if gone:
        _write(path, document)
    return bool(gone) or helped


def _file(environ: Mapping[str, str]) -> str:
    path = docker_file(environ)
    if not path:
        raise RegistryError(
            "there is no place for credentials: the user has no home directory", hint="set DOCKER_CONFIG"
        )
    return path


def _helped(server: str, credential: Credential) -> bytes:
    import json

    words = {"ServerURL": server, "Username": credential.username, "Secret": credential.password}
    return json.dumps(words).encode()


def _call(helper: str, action: str, data: bytes) -> bool:
    try:
        return call_helper(helper, action, data) is not None
    except HelperError as e:
        raise RegistryError(f"the credential helper failed: {e}") from e


def _helper(document: dict[str, Any], registry: str) -> str:
    own = own_helper(document, registry)
    if own is not None:
        return own
    found = document.get("credsStore")
    return found if isinstance(found, str) else ""


def _read(path: str) -> dict[str, Any]:
    import json

    try:
        with open(path, "rb") as f:
            document = json.loads(f.read().strip() or b"{}")
    except FileNotFoundError:
        document = {}
    except (OSError, ValueError) as e:
        raise RegistryError(f"{path} cannot be read: {e}", hint="mend it, or move it away") from e
    if not isinstance(document, dict) or not isinstance(document.get("auths"), dict | None):
        raise RegistryError(f"{path} is not a configuration of docker's", hint="mend it, or move it away")
    document["auths"] = document.get("auths") or {}
    return document


def _write(path: str, document: dict[str, Any]) -> None:
    """Through a new file, for its owner alone: a crash leaves the old one. A link stays one."""
    import json
    import tempfile

    path = os.path.realpath(path)
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        fd, new = tempfile.mkstemp(prefix=".config.json.", dir=os.path.dirname(path))
        try:
            with open(fd, "w") as f:
                json.dump(document, f, indent="\t")
                f.write("\n")
            os.rename(new, path)
        except BaseException:
            os.unlink(new)
            raise
    except OSError as e:
        raise RegistryError(f"{path} cannot be written: {e.strerror}") from e
