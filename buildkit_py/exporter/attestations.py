"""Attestations: what is stated about an image, as in-toto statements that travel beside it.

An image's attestations are a manifest of their own in its index, whose layers are the statements (Docker's
"image attestation storage"); with ``type=local`` and ``type=tar`` each is a file among the others.
See https://docs.docker.com/build/metadata/attestations/attestation-storage/ and
https://github.com/in-toto/attestation/blob/main/spec/v0.1.0/statement.md
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from hashlib import file_digest
from urllib.parse import quote

from buildkit_py import digest as digests
from buildkit_py.digest import DiffID
from buildkit_py.errors import StoreError
from buildkit_py.image import assemble, reference
from buildkit_py.oci import media
from buildkit_py.oci.documents import DescriptorDict
from buildkit_py.snapshot.tree import Tree
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

STATEMENT = "application/vnd.in-toto+json"
ARTIFACT = "application/vnd.docker.attestation.manifest.v1+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v0.1"
_UNKNOWN = {"architecture": "unknown", "os": "unknown"}


class Predicate(NamedTuple):
    """What is stated, whatever it is stated of."""

    type: str
    """A URI."""
    file: str
    """What the statement's file is called among the files of a result."""
    document: Mapping[str, Any]


Subject = tuple[str, str]
"""(name, digest)"""


class Attested(NamedTuple):
    """What goes out beside the images of one output."""

    names: tuple[str, ...]
    """Of the image."""
    predicates: Mapping[str, tuple[Predicate, ...]]
    """By platform."""
    artifact: bool = False
    """Their manifest is an OCI artifact that refers to the image's."""


class Attestation(NamedTuple):
    blobs: tuple[bytes, ...]
    """The statements, and a config that stands for one."""
    manifest: bytes
    descriptor: DescriptorDict
    """As the index lists it."""


def purl(name: str, platform: str) -> str:
    """A package URL (https://github.com/package-url/purl-spec) of an image, ``name`` normalised or not."""
    ref = reference.parse(name)
    short = ref.name.removeprefix("docker.io/").removeprefix("library/")
    where = {"digest": ref.digest, "platform": platform}
    query = "&".join(f"{key}={quote(value, safe=':')}" for key, value in where.items() if value)
    return f"pkg:docker/{short}" + (f"@{ref.tag}" if ref.tag else "") + (f"?{query}" if query else "")


def statement(predicate: Predicate, subjects: Sequence[Subject]) -> bytes:
    return digests.canonical(
        {
            "_type": _STATEMENT_TYPE,
            "predicateType": predicate.type,
            "subject": [{"name": name, "digest": {"sha256": digest[7:]}} for name, digest in subjects],
            "predicate": predicate.document,
        }
    )


def attestation(
    entry: DescriptorDict, platform: str, attested: Attested, *, docker: bool = False
) -> Attestation | None:
    """What is stated of the manifest that an index lists as ``entry``; None: nothing."""
    predicates = attested.predicates.get(platform, ())
    if not predicates:
        return None
    subjects = [(purl(name, platform), entry["digest"]) for name in attested.names]
    statements = [statement(p, subjects or [("_", entry["digest"])]) for p in predicates]
    layers = [assemble.descriptor(STATEMENT, digests.of_bytes(s), len(s)) for s in statements]
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media.DOCKER_MANIFEST if docker else media.OCI_MANIFEST,
        "layers": [
            {**layer, "annotations": {"in-toto.io/predicate-type": predicate.type}}
            for layer, predicate in zip(layers, predicates, strict=True)
        ],
    }
    if attested.artifact:
        config, kind = b"{}", media.OCI_EMPTY
        subject = {name: entry[name] for name in ("mediaType", "digest", "size")}
        document |= {"artifactType": ARTIFACT, "subject": subject}
    else:
        diff_ids = [DiffID(layer["digest"]) for layer in layers]
        config = assemble.config_bytes({**_UNKNOWN, "config": {}}, diff_ids)
        kind = media.DOCKER_CONFIG if docker else media.OCI_CONFIG
    document["config"] = assemble.descriptor(kind, digests.of_bytes(config), len(config))
    manifest = digests.canonical(document)
    descriptor = assemble.descriptor(document["mediaType"], digests.of_bytes(manifest), len(manifest))
    descriptor["platform"] = dict(_UNKNOWN)  # type: ignore[typeddict-item]
    descriptor["annotations"] = {
        "vnd.docker.reference.digest": entry["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }
    return Attestation((*statements, config), manifest, descriptor)


def files(predicates: Sequence[Predicate], tree: Tree) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the files that state something of a tree's files."""
    if not predicates:
        return
    subjects = list(_contents(tree))
    for predicate in predicates:
        yield predicate.file, statement(predicate, subjects) + b"\n"


def _contents(tree: Tree) -> Iterator[Subject]:
    for entry in tree.walk(""):
        if stat.S_ISREG(entry.mode):
            try:
                with open(entry.host, "rb") as file:
                    yield entry.path, "sha256:" + file_digest(file, "sha256").hexdigest()
            except OSError as e:
                raise StoreError(f"cannot read /{entry.path} of the result: {e.strerror}") from e
