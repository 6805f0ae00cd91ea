"""``-o``: what the result of a build becomes, as ``type=oci,dest=FILE.tar`` or just a path."""

from __future__ import annotations

from collections.abc import Mapping

from buildkit_py.errors import UsageError
from buildkit_py.exporter import EXPORTERS
from buildkit_py.exporter.annotations import Annotation, of_attribute
from buildkit_py.layer.compress import COMPRESSION, Method
from buildkit_py.request import Output
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.exporter.attestations import Attested

_IMAGE = frozenset(
    {
        "name",
        "oci-mediatypes",
        "oci-artifact",
        "compression",
        "compression-level",
        "force-compression",
        "rewrite-timestamp",
    }
)
_STORED = frozenset({"push-by-digest", "registry.insecure", "store", "unpack", "name-canonical"})
_FILES = frozenset({"platform-split", "rewrite-timestamp"})
_KNOWN: Mapping[str, frozenset[str]] = {
    "image": _IMAGE | _STORED | {"push"},
    "registry": _IMAGE | _STORED,
    "oci": _IMAGE | {"tar"},
    "docker": _IMAGE | {"tar"},
    "local": _FILES,
    "tar": _FILES,
    "cacheonly": frozenset(),
}
_FLAGS = frozenset(
    {
        "push",
        "push-by-digest",
        "tar",
        "oci-mediatypes",
        "oci-artifact",
        "platform-split",
        "force-compression",
        "rewrite-timestamp",
        "registry.insecure",
        "store",
        "unpack",
        "name-canonical",
    }
)
_BOOLEANS = {"t": "true", "f": "false"}
"""What is written for short."""
_LEVELS = {"gzip": 9, "zstd": 22}
_YES = ("true", "1", "")
_TYPES = ", ".join((*EXPORTERS, "cacheonly"))


class Packing(NamedTuple):
    """How an image's layers and documents are written where it leaves the store."""

    method: Method | None = None
    """The compression that is asked for; None: any that a layer has, gzip where it has none."""
    level: int | None = None
    force: bool = False
    """Compress layers again that came from outside in another form."""
    docker: bool = False
    """Docker's media types instead of the OCI's."""
    annotations: tuple[Annotation, ...] = ()
    created: str = ""
    """RFC 3339; annotates indexes where it is given."""
    attested: Attested | None = None

    @property
    def made(self) -> Method:
        """The compression of what has none yet."""
        return self.method or "gzip"


PLAIN = Packing()
"""As it comes."""


class OutputSpec(NamedTuple):
    kind: str
    """A key of EXPORTERS."""
    dest: str = ""
    """A path, or ``-`` for standard output."""
    attributes: Mapping[str, str] = {}
    annotations: tuple[Annotation, ...] = ()
    created: str = ""
    """As in Packing."""
    as_index: bool = False
    """Write an index though there may be one platform alone."""
    attested: Attested | None = None

    @property
    def listed(self) -> bool:
        """Whether what leaves the store is an index."""
        return self.as_index or self.attested is not None

    def flag(self, name: str, default: bool) -> bool:
        value = self.attributes.get(name)
        return default if value is None else value in _YES

    @property
    def names(self) -> tuple[str, ...]:
        """``name=``: one or several, separated by commas (quoted in the option)."""
        return tuple(n.strip() for n in self.attributes.get("name", "").split(",") if n.strip())

    @property
    def packing(self) -> Packing:
        compression = self.attributes.get("compression")
        level = self.attributes.get("compression-level", "")
        own = (of_attribute(name, value) for name, value in self.attributes.items())
        return Packing(
            None if compression is None else COMPRESSION[compression],
            int(level) if level else None,
            self.flag("force-compression", False),
            not self.flag("oci-mediatypes", True),
            (*self.annotations, *(a for a in own if a is not None)),
            self.created,
            self.attested,
        )


def parse_output(text: str) -> Output:
    """Read one ``-o`` option. A path alone means a directory, ``-`` a tar on standard output.

    ``type=registry`` is ``type=image,push=true``. Raises UsageError.
    """
    if text == "-":
        return Output("tar", (("dest", "-"),))
    if "=" not in text:
        if not text:
            raise UsageError("-o is empty", hint="write -o DIR or -o type=oci,dest=FILE.tar")
        return Output("local", (("dest", text),))
    fields = _fields(text)
    kind = fields.pop("type", "")
    if kind not in _KNOWN:
        what = f"{kind!r} is no type" if kind else "it has no type"
        raise UsageError(f"-o {text}: {what} of output", hint=f"types: {_TYPES}")
    if kind == "registry":
        kind = "image"
        fields.setdefault("push", "true")
    _check(OutputSpec(kind, fields.get("dest", ""), {k: v for k, v in fields.items() if k != "dest"}), text)
    return Output(kind, tuple(fields.items()))


def spec_of(
    output: Output, annotations: tuple[Annotation, ...] = (), created: str = "", *, index: bool = False
) -> OutputSpec:
    attributes = dict(output.attributes)
    dest = attributes.pop("dest", "")
    return OutputSpec(
        output.kind, dest or _default_dest(output.kind), attributes, annotations, created, index
    )


def _default_dest(kind: str) -> str:
    return "-" if EXPORTERS[kind].needs_dest else ""


def _fields(text: str) -> dict[str, str]:
    import csv

    fields: dict[str, str] = {}
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as e:
        raise UsageError(f"-o {text}: {e}") from e
    for word in rows[0] if len(rows) == 1 else ():
        key, equals, value = word.partition("=")
        # The keys of annotations are names in documents, where the case counts.
        key = key.strip()
        key = key if key.startswith("annotation") else key.lower()
        if not equals and key not in _FLAGS:
            raise UsageError(f"-o {text}: {word!r} has no value", hint="fields are written key=value")
        if key in fields:
            raise UsageError(f"-o {text}: {key!r} is given twice")
        if key in _FLAGS:
            value = _BOOLEANS.get(value.lower(), value.lower()) if equals else "true"
        fields[key] = value
    return fields


def _check(spec: OutputSpec, text: str) -> None:
    own = [name for name, value in spec.attributes.items() if of_attribute(name, value) is not None]
    known = _KNOWN[spec.kind]
    annotated = "name" in known
    unknown = sorted(set(spec.attributes) - known - set(own if annotated else ()))
    if unknown:
        hint = "fields: " + ", ".join(sorted((*known, *(["annotation.KEY"] if annotated else ()))))
        raise UsageError(f"-o {text}: type={spec.kind} has no field {unknown[0]!r}", hint=hint)
    _check_dest(spec, text)
    for key in _FLAGS & set(spec.attributes):
        if spec.attributes[key] not in ("true", "false", "1", "0", ""):
            raise UsageError(f"-o {text}: {key!r} is true or false")
    _check_compression(spec, text)
    _check_artifact(spec, text)
    if spec.flag("push-by-digest", False):
        check_untagged(spec.names)
    if own and not spec.flag("oci-mediatypes", True):
        raise UsageError(
            f"-o {text}: Docker's media types know no annotations", hint="leave oci-mediatypes out"
        )


def _check_artifact(spec: OutputSpec, text: str) -> None:
    if spec.flag("oci-artifact", False) and not spec.flag("oci-mediatypes", True):
        raise UsageError(
            f"-o {text}: Docker's media types know no artifacts", hint="leave oci-mediatypes out"
        )


def check_untagged(names: tuple[str, ...]) -> None:
    """Names by which is pushed by digest have no tag. Raises UsageError."""
    for name in names:
        if ":" in name.rpartition("/")[2]:
            raise UsageError(f"push-by-digest: {name} has a tag", hint="name the repository alone")


def _check_dest(spec: OutputSpec, text: str) -> None:
    needs = spec.kind in EXPORTERS and EXPORTERS[spec.kind].needs_dest
    if spec.dest and not needs:
        raise UsageError(f"-o {text}: type={spec.kind} has no field 'dest'")
    if spec.kind == "local" and not spec.dest:
        raise UsageError(f"-o {text}: type=local needs a directory", hint="add dest=DIR")
    if spec.kind == "local" and spec.dest == "-":
        raise UsageError(f"-o {text}: a directory cannot go to standard output", hint="use type=tar")
    if not spec.flag("tar", True) and spec.dest in ("", "-"):
        raise UsageError(f"-o {text}: tar=false needs a directory", hint="add dest=DIR")


def _check_compression(spec: OutputSpec, text: str) -> None:
    compression = spec.attributes.get("compression", "gzip")
    if compression == "estargz":
        raise UsageError(f"-o {text}: compression=estargz is not supported", hint="gzip or zstd")
    if compression not in COMPRESSION:
        raise UsageError(f"-o {text}: unknown compression", hint=f"one of {', '.join(COMPRESSION)}")
    level = spec.attributes.get("compression-level", "")
    if level and not (level.isascii() and level.isdigit() and len(level) < 3):
        raise UsageError(f"-o {text}: the compression level must be a number")
    highest = _LEVELS.get(COMPRESSION[compression], 22)
    if level and int(level) > highest:
        hint = f"0 to {highest}"
        raise UsageError(f"-o {text}: {compression} has no compression level {level}", hint=hint)
