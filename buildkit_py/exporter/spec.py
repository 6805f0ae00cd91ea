"""``-o``: what the result of a build becomes, as ``type=oci,dest=FILE.tar`` or just a path."""

from __future__ import annotations

from collections.abc import Mapping

from buildkit_py.errors import UsageError
from buildkit_py.exporter import EXPORTERS
from buildkit_py.layer.compress import COMPRESSION, Method
from buildkit_py.tuples import NamedTuple

_COMPRESSED = frozenset({"compression", "compression-level"})
_KNOWN: Mapping[str, frozenset[str]] = {
    "image": frozenset({"name", "push", "oci-mediatypes"}) | _COMPRESSED,
    "registry": frozenset({"name", "oci-mediatypes"}) | _COMPRESSED,
    "oci": frozenset({"name", "tar", "oci-mediatypes"}) | _COMPRESSED,
    "docker": frozenset({"name", "tar"}) | _COMPRESSED,
    "local": frozenset({"platform-split"}),
    "tar": frozenset({"platform-split"}),
}
_FLAGS = frozenset({"push", "tar", "oci-mediatypes", "platform-split"})


class OutputSpec(NamedTuple):
    kind: str
    """A key of EXPORTERS."""
    dest: str = ""
    """A path, or ``-`` for standard output."""
    attributes: Mapping[str, str] = {}

    def flag(self, name: str, default: bool) -> bool:
        value = self.attributes.get(name)
        return default if value is None else value in ("true", "1", "")

    @property
    def names(self) -> tuple[str, ...]:
        """``name=``: one or several, separated by commas (quoted in the option)."""
        return tuple(n.strip() for n in self.attributes.get("name", "").split(",") if n.strip())

    @property
    def compression(self) -> Method:
        """Of layers that are not compressed yet."""
        return COMPRESSION[self.attributes.get("compression", "gzip")]

    @property
    def level(self) -> int | None:
        text = self.attributes.get("compression-level", "")
        return int(text) if text else None


def parse_output(text: str) -> OutputSpec:
    """Read one ``-o`` option. A path alone means a directory, ``-`` a tar on standard output.

    Raises UsageError.
    """
    if text == "-":
        return OutputSpec("tar", "-")
    if "=" not in text:
        if not text:
            raise UsageError("-o is empty", hint="write -o DIR or -o type=oci,dest=FILE.tar")
        return OutputSpec("local", text)
    fields = _fields(text)
    kind = fields.pop("type", "")
    if kind not in EXPORTERS:
        what = f"{kind!r} is no type" if kind else "it has no type"
        raise UsageError(f"-o {text}: {what} of output", hint=f"types: {', '.join(EXPORTERS)}")
    dest = fields.pop("dest", "")
    return checked(OutputSpec(kind, dest, fields))


def checked(spec: OutputSpec) -> OutputSpec:
    """The spec with its default destination. Raises UsageError where its fields make no sense."""
    fields = {"type": spec.kind, **({"dest": spec.dest} if spec.dest else {}), **spec.attributes}
    text = ",".join(f"{key}={value}" for key, value in fields.items())
    spec = spec._replace(dest=spec.dest or _default_dest(spec.kind, text))
    _check(spec, text)
    return spec


def _fields(text: str) -> dict[str, str]:
    import csv

    fields: dict[str, str] = {}
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as e:
        raise UsageError(f"-o {text}: {e}") from e
    for word in rows[0] if len(rows) == 1 else ():
        key, equals, value = word.partition("=")
        key = key.strip().lower()
        if not equals and key not in _FLAGS:
            raise UsageError(f"-o {text}: {word!r} has no value", hint="fields are written key=value")
        if key in fields:
            raise UsageError(f"-o {text}: {key!r} is given twice")
        fields[key] = value if equals else "true"
    return fields


def _default_dest(kind: str, text: str) -> str:
    if kind == "local":
        raise UsageError(f"-o {text}: type=local needs a directory", hint="add dest=DIR")
    return "-" if EXPORTERS[kind].needs_dest else ""


def _check(spec: OutputSpec, text: str) -> None:
    unknown = sorted(set(spec.attributes) - _KNOWN[spec.kind])
    if unknown:
        known = ", ".join(sorted(_KNOWN[spec.kind]))
        raise UsageError(f"-o {text}: type={spec.kind} has no field {unknown[0]!r}", hint=f"fields: {known}")
    if spec.dest and not EXPORTERS[spec.kind].needs_dest:
        raise UsageError(f"-o {text}: type={spec.kind} has no field 'dest'")
    if spec.kind == "local" and spec.dest == "-":
        raise UsageError(f"-o {text}: a directory cannot go to standard output", hint="use type=tar")
    for key in _FLAGS & set(spec.attributes):
        if spec.attributes[key] not in ("true", "false", "1", "0", ""):
            raise UsageError(f"-o {text}: {key!r} is true or false")
    if spec.attributes.get("compression", "gzip") not in COMPRESSION:
        raise UsageError(f"-o {text}: unknown compression", hint=f"one of {', '.join(COMPRESSION)}")
    level = spec.attributes.get("compression-level", "")
    if level and not (level.isascii() and level.isdigit() and len(level) < 3):
        raise UsageError(f"-o {text}: the compression level must be a number")
    if not spec.flag("oci-mediatypes", True):
        raise UsageError(f"-o {text}: images are written with OCI media types alone")
