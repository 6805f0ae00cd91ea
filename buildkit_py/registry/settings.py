"""How registries are reached: the ``[registry."HOST"]`` tables of a TOML file of buildkitd.toml's form.

The file is ``$PYBUILD_REGISTRY_CONFIG``, or else ``registries.toml`` in ``~/.config/pybuild`` and
``/etc/pybuild`` (both are read; the user's table for a host replaces the system's)::

    [registry."docker.io"]
    mirrors = ["127.0.0.1:5799", "proxy.example.com/docker-hub"]

    [registry."registry.example.com"]
    http = false                 # true: plain http
    insecure = false             # true: certificates are not checked; plain http where TLS does not answer
    ca = ["/etc/ssl/own-ca.pem"]
    tlsconfigdir = ["/etc/certs/registry.example.com"]      # *.crt: authorities; NAME.cert + NAME.key: ours
    [[registry."registry.example.com".keypair]]
    key = "/etc/ssl/client.key"
    cert = "/etc/ssl/client.pem"

``$PYBUILD_INSECURE_REGISTRIES`` lists hosts (``host[:port]``, separated by commas) that speak plain http.

Without a setting, a registry on a loopback address is asked by plain http first and by TLS where that fails:
nobody can listen in, and it is what such a registry speaks nearly always. Every other one is asked by TLS.
Other tables of the file are left alone, so buildkitd.toml itself can be named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from buildkit_py import paths
from buildkit_py.errors import UsageError
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

_FILE = "registries.toml"
_ADDRESS = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?\Z")
_PREFIX = re.compile(r"[a-z0-9._/-]*\Z")


class HostSettings(NamedTuple):
    mirrors: tuple[str, ...] = ()
    """``host[:port][/path]``; the path goes before the repository's name."""
    http: bool | None = None
    insecure: bool = False
    ca: tuple[str, ...] = ()
    """PEM files."""
    keypair: tuple[tuple[str, str], ...] = ()
    """(key file, certificate file)"""


class Settings(NamedTuple):
    hosts: Mapping[str, HostSettings] = {}

    def of(self, host: str) -> HostSettings:
        """The settings of ``host[:port]``."""
        return self.hosts.get(host, _DEFAULT)


_DEFAULT = HostSettings()


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of this user. Raises UsageError where a file is wrong or a named one is missing."""
    env = os.environ if environ is None else environ
    hosts: dict[str, HostSettings] = {}
    named = env.get("PYBUILD_REGISTRY_CONFIG", "")
    for path in [named] if named else [os.path.join(d, _FILE) for d in reversed(paths.config_dirs())]:
        hosts.update(_read(path, required=bool(named)))
    for host in env.get("PYBUILD_INSECURE_REGISTRIES", "").split(","):
        if host.strip():
            hosts[host.strip()] = hosts.get(host.strip(), _DEFAULT)._replace(http=True)
    return Settings(hosts)


def parse(text: str, path: str = _FILE) -> dict[str, HostSettings]:
    """The hosts of a settings file. Raises UsageError, which names ``path``."""
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{path} is not valid TOML: {e}") from e
    tables = document.get("registry", {})
    if not isinstance(tables, dict):
        raise UsageError(f"{path}: 'registry' must be a table", hint='write [registry."HOST"]')
    return {host: _host(table, f'{path}: registry."{host}"') for host, table in tables.items()}


def is_loopback(address: str) -> bool:
    """Whether ``host[:port]`` names this machine by itself."""
    host = address.rpartition("]")[0].lstrip("[") if address.startswith("[") else address.partition(":")[0]
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def is_address(text: str) -> bool:
    """Whether a text has the form ``host[:port]``."""
    port = text.rpartition(":")[2] if not text.endswith("]") else ""
    return _ADDRESS.match(text) is not None and (not port.isdigit() or ":" not in text or int(port) < 65536)


def split_mirror(mirror: str) -> tuple[str, str]:
    """``host:port/some/path`` -> (``host:port``, ``some/path/``)."""
    address, _, prefix = mirror.partition("/")
    prefix = prefix.strip("/")
    return address, prefix + "/" if prefix else ""


def _read(path: str, *, required: bool) -> dict[str, HostSettings]:
    try:
        with open(path, "rb") as f:
            data = f.read()
    except FileNotFoundError as e:
        if required:
            raise UsageError(f"PYBUILD_REGISTRY_CONFIG names {path}, which does not exist") from e
        return {}
    except OSError as e:
        raise UsageError(f"cannot read {path}: {e.strerror}") from e
    try:
        return parse(data.decode(), path)
    except UnicodeDecodeError as e:
        raise UsageError(f"{path} is not UTF-8") from e


def _host(table: Any, where: str) -> HostSettings:
    if not isinstance(table, dict):
        raise UsageError(f"{where} must be a table")
    known = {"mirrors", "http", "insecure", "ca", "keypair", "tlsconfigdir", "capabilities"}
    unknown = sorted(set(table) - known)
    if unknown:
        raise UsageError(
            f"{where}: unknown setting {unknown[0]!r}", hint=f"known: {', '.join(sorted(known))}"
        )
    ca = list(_strings(table, "ca", where))
    pairs = [_pair(entry, where) for entry in _list(table, "keypair", where)]
    for directory in _strings(table, "tlsconfigdir", where):
        more_ca, more_pairs = _of_directory(directory, where)
        ca += more_ca
        pairs += more_pairs
    mirrors = tuple(_mirror(mirror, where) for mirror in _strings(table, "mirrors", where))
    http = _flag(table, "http", where)
    return HostSettings(mirrors, http, bool(_flag(table, "insecure", where)), tuple(ca), tuple(pairs))


def _mirror(text: str, where: str) -> str:
    mirror = text.removeprefix("https://").removeprefix("http://").rstrip("/")
    address, prefix = split_mirror(mirror)
    if not is_address(address) or not _PREFIX.match(prefix):
        raise UsageError(f"{where}: {text!r} is not a mirror", hint="a mirror is written host[:port][/path]")
    return mirror


def _list(table: dict[str, Any], key: str, where: str) -> list[Any]:
    value = table.get(key, [])
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise UsageError(f"{where}: {key!r} must be a list")
    return value


def _strings(table: dict[str, Any], key: str, where: str) -> list[str]:
    value = _list(table, key, where)
    if not all(isinstance(entry, str) for entry in value):
        raise UsageError(f"{where}: {key!r} must be a list of strings")
    return value


def _flag(table: dict[str, Any], key: str, where: str) -> bool | None:
    value = table.get(key)
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{where}: {key!r} must be true or false")
    return value


def _pair(entry: Any, where: str) -> tuple[str, str]:
    if isinstance(entry, dict) and isinstance(entry.get("key"), str) and isinstance(entry.get("cert"), str):
        return entry["key"], entry["cert"]
    raise UsageError(f"{where}: a keypair has the file names 'key' and 'cert'")


def _of_directory(directory: str, where: str) -> tuple[list[str], list[tuple[str, str]]]:
    try:
        names = sorted(os.listdir(directory))
    except OSError as e:
        raise UsageError(f"{where}: cannot read tlsconfigdir {directory}: {e.strerror}") from e
    ca = [os.path.join(directory, name) for name in names if name.endswith(".crt")]
    stems = [name[:-5] for name in names if name.endswith(".cert") and name[:-5] + ".key" in names]
    return ca, [(os.path.join(directory, s + ".key"), os.path.join(directory, s + ".cert")) for s in stems]
