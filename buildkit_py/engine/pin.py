"""``pin``: digests into the images that a Dockerfile names, and out of them."""

from __future__ import annotations

from buildkit_py import textfile
from buildkit_py.errors import DockerfileError, PybuildError
from buildkit_py.frontends.dockerfile import pins
from buildkit_py.frontends.dockerfile.lexer import Lexer
from buildkit_py.frontends.dockerfile.parser import read
from buildkit_py.frontends.dockerfile.pins import Place, Skipped
from buildkit_py.image import reference
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


class Pinned(NamedTuple):
    """``text`` is the new file; ``changes`` are those that are made in it, ``same`` what stays."""

    text: str
    changes: tuple[tuple[Place, str], ...]
    """(place of the image, what it becomes)"""
    same: tuple[Place, ...]
    skipped: tuple[Skipped, ...]


def pin(engine: Engine, path: str, *, undo: bool = False) -> Pinned:
    """What a Dockerfile becomes; the file is not written. Each image is asked for at its registry once.

    Raises DockerfileError, RegistryError, NotFoundError for an image that its registry doesn't have.
    """
    data = _read(path)
    tree = read(Lexer(data, path))
    text = data.decode("utf-8", "surrogateescape")
    found, skipped = pins.places(tree, text)
    digests: dict[str, str] = {}
    changes: dict[Place, str] = {}
    for place in found:
        new = _without(place) if undo else _with(engine, place, digests)
        if new != place.image:
            changes[place] = new
    same = tuple(place for place in found if place not in changes)
    return Pinned(pins.replaced(text, changes), tuple(changes.items()), same, tuple(skipped))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError as e:
        raise DockerfileError(f"cannot read {path}: {e.strerror}", path=path) from e


def _without(place: Place) -> str:
    """Only what also has a tag: a digest alone is all that is known of the image."""
    name = pins.undigested(place.image)
    return name if ":" in name.rpartition("/")[2] else place.image


def _with(engine: Engine, place: Place, digests: dict[str, str]) -> str:
    name = pins.undigested(place.image)
    ref = reference.parse(place.image)
    if not ref.tag:
        return place.image
    key = str(ref._replace(digest=""))
    if key not in digests:
        digests[key] = _digest(engine, ref)
    tagged = name if ":" in name.rpartition("/")[2] else f"{name}:{ref.tag}"
    return f"{tagged}@{digests[key]}"


def _digest(engine: Engine, ref: reference.Reference) -> str:
    """Of the manifest or, for an image of several platforms, of their index."""
    found = engine.sources.client.manifest_digest(ref.registry, ref.repository, ref.tag)
    if found is None:
        found = engine.sources.client.fetch_manifest(ref.registry, ref.repository, ref.tag).digest
    return found


def write(path: str, text: str) -> None:
    """Whole or not at all, with the file's mode. Raises PybuildError."""
    try:
        textfile.write(path, text.encode("utf-8", "surrogateescape"))
    except OSError as e:
        raise PybuildError(f"cannot write {path}: {e.strerror}") from e
