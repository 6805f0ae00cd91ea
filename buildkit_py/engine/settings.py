"""What a build takes from the user's settings beside its command line.

Docker's documentation, "Use a proxy server with the Docker CLI": ``proxies`` of the client's config.json
become build arguments in both spellings. Proxy variables of the caller's environment are not looked at.
"""

from __future__ import annotations

import os

from buildkit_py.errors import UsageError
from buildkit_py.typed import Any

_NAMES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "ftpProxy": "FTP_PROXY",
    "noProxy": "NO_PROXY",
    "allProxy": "ALL_PROXY",
}


def proxies() -> dict[str, str]:
    """Proxy variables by name. Raises UsageError where the file is damaged."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    path = os.path.join(folder, "config.json")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return {}
    if b'"proxies"' not in data:
        return {}
    import json

    try:
        loaded = json.loads(data)
    except ValueError as e:
        raise UsageError(f"{path} is no JSON: {e}") from e
    section = _section(_section(loaded, "proxies"), "default")
    found: dict[str, str] = {}
    for key, name in _NAMES.items():
        value = section.get(key)
        if isinstance(value, str) and value:
            found[name] = found[name.lower()] = value
    return found


def _section(document: Any, name: str) -> dict[str, Any]:
    found = document.get(name) if isinstance(document, dict) else None
    return found if isinstance(found, dict) else {}
