"""What is in an image: its packages, as an SPDX 2.3 document (https://spdx.github.io/spdx-spec/v2.3/).

Found by what package managers leave behind: dpkg, apk, Python's and npm's metadata. A database of rpm can't
be read; a list without its packages would be wrong, so it is refused.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import quote

from buildkit_py import __version__, digest
from buildkit_py.errors import UsageError
from buildkit_py.exporter.attestations import Predicate
from buildkit_py.snapshot.tree import Entry, Tree
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

TYPE = "https://spdx.dev/Document"
_MAX_FILE = 64 << 20
_RPM = ("var/lib/rpm", "usr/lib/sysimage/rpm")
_DPKG = re.compile(r"var/lib/dpkg/(status|status\.d/[^/]+)\Z")
_APK = re.compile(r"(usr/)?lib/apk/db/installed\Z")
_PYTHON = re.compile(r".*\.(dist-info/METADATA|egg-info(/PKG-INFO)?)\Z", re.DOTALL)
_NPM = re.compile(r".*/node_modules/(@[^/]+/)?[^/@.][^/]*/package\.json\Z", re.DOTALL)
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")
_NONE = "NOASSERTION"


class Package(NamedTuple):
    kind: str
    """As package URLs have it: deb, apk, pypi, npm."""
    name: str
    version: str
    arch: str = ""
    licence: str = ""
    found: str = ""
    """Where, as a path in the image."""


def sbom(tree: Tree, names: Sequence[str], created: float) -> Predicate:
    """``created``: seconds since the epoch. Raises UsageError for what can't be listed."""
    distribution = _distribution(tree)
    packages = sorted(dict.fromkeys(_packages(tree)))
    written = [_written(package, distribution) for package in packages]
    contents = digest.of_record(written)[7:]
    name = names[0] if names else "image"
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://spdx.org/spdxdocs/{quote(name, safe='')}-{contents}",
        "creationInfo": {
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created)),
            "creators": [f"Tool: pybuild-{__version__}"],
        },
        "packages": written,
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": package["SPDXID"],
            }
            for package in written
        ],
    }
    return Predicate(TYPE, "sbom.spdx.json", document)


def _packages(tree: Tree) -> Iterator[Package]:
    for folder in _RPM:
        entry = tree.lookup(folder)
        if entry is not None and stat.S_ISDIR(entry.mode) and tree.children(entry.path):
            raise UsageError(
                "--sbom: the image's packages are in a database of rpm, which pybuild cannot read",
                hint="leave --sbom out, and let another tool list them",
            )
    for entry in tree.walk(""):
        for pattern, read in _READERS:
            if stat.S_ISREG(entry.mode) and pattern.match(entry.path):
                yield from read(_text(entry), entry.path)


def _dpkg(text: str, path: str) -> Iterator[Package]:
    for fields in _stanzas(text):
        installed = fields.get("Status", "install ok installed").endswith(" installed")
        if installed and "Package" in fields:
            yield Package(
                "deb", fields["Package"], fields.get("Version", ""), fields.get("Architecture", ""), "", path
            )


def _apk(text: str, path: str) -> Iterator[Package]:
    for fields in _stanzas(text):
        if "P" in fields:
            get = fields.get
            yield Package("apk", fields["P"], get("V", ""), get("A", ""), get("L", ""), path)


def _python(text: str, path: str) -> Iterator[Package]:
    fields = next(_stanzas(text), {})
    if "Name" in fields:
        name = re.sub(r"[-_.]+", "-", fields["Name"]).lower()
        licence = fields.get("License-Expression") or fields.get("License", "")
        yield Package("pypi", name, fields.get("Version", ""), "", licence, path)


def _npm(text: str, path: str) -> Iterator[Package]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(fields, dict) and isinstance(fields.get("name"), str):
        licence = fields.get("license", "")
        licence = licence if isinstance(licence, str) else ""
        yield Package("npm", fields["name"], str(fields.get("version", "")), "", licence, path)


_READERS: tuple[tuple[re.Pattern[str], Callable[[str, str], Iterator[Package]]], ...] = (
    (_DPKG, _dpkg),
    (_APK, _apk),
    (_PYTHON, _python),
    (_NPM, _npm),
)


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """Blocks of ``Key: value`` lines; what stands on continuation lines is left out."""
    for block in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        for line in block.splitlines():
            key, colon, value = line.partition(":")
            if colon and not line[:1].isspace():
                fields.setdefault(key, value.strip())
        if fields:
            yield fields


def _distribution(tree: Tree) -> tuple[str, str]:
    """(id, version) of os-release(5)."""
    for path in ("etc/os-release", "usr/lib/os-release"):
        entry = tree.lookup(path)
        if entry is not None and stat.S_ISREG(entry.mode):
            found = dict(line.partition("=")[::2] for line in _text(entry).splitlines())
            return found.get("ID", "linux").strip("\"'"), found.get("VERSION_ID", "").strip("\"'")
    return "linux", ""


def _text(entry: Entry) -> str:
    try:
        with open(os.open(entry.host, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            return file.read(_MAX_FILE).decode("utf-8", "replace")
    except OSError as e:
        raise UsageError(f"--sbom: cannot read /{entry.path} of the image: {e.strerror}") from e


def _written(package: Package, distribution: tuple[str, str]) -> dict[str, Any]:
    licence = package.licence if re.fullmatch(r"[A-Za-z0-9.+ ()-]{1,100}", package.licence) else ""
    identity = digest.of_record(list(package))[7:19]
    return {
        "name": package.name,
        "SPDXID": f"SPDXRef-Package-{package.kind}-{_UNSAFE.sub('-', package.name)}-{identity}",
        "versionInfo": package.version,
        "supplier": _NONE,
        "downloadLocation": _NONE,
        "filesAnalyzed": False,
        "sourceInfo": f"acquired package info from /{package.found}",
        "licenseConcluded": _NONE,
        # A word that is no SPDX licence would make the document invalid.
        "licenseDeclared": _NONE,
        **({"licenseComments": f"declared as {licence}"} if licence else {}),
        "copyrightText": _NONE,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": _purl(package, distribution),
            }
        ],
    }


def _purl(package: Package, distribution: tuple[str, str]) -> str:
    space, name = posixpath.split(package.name)
    query = ""
    if package.kind in ("deb", "apk"):
        space = distribution[0]
        where = {"arch": package.arch, "distro": "-".join(part for part in distribution if part)}
        query = "?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in where.items() if value)
    path = "/".join(quote(part, safe="") for part in (space, name) if part)
    version = f"@{quote(package.version, safe='')}" if package.version else ""
    return f"pkg:{package.kind}/{path}{version}{query}"
