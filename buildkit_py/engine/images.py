"""Images between the store, registries and archives."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from buildkit_py.digest import ChainID, Digest, chain_id, of_bytes
from buildkit_py.errors import NotFoundError, UsageError
from buildkit_py.image import reference
from buildkit_py.image.store import Image
from buildkit_py.llb.result import ResolvedImage
from buildkit_py.progress.events import Emit, VertexEvent, told
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.exporter.spec import Packing


class _Step:
    """One vertex around a pull or a push, so that its layers show under a name."""

    def __init__(self, emit: Emit, name: str) -> None:
        self._emit = emit
        self.event = VertexEvent(name, name, started=time.time())

    def __enter__(self) -> str:
        self._emit(self.event)
        return self.event.digest

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._emit(self.event._replace(completed=time.time(), error=told(error)))


def pull(engine: Engine, ref: str, emit: Emit, platform: str) -> Image:
    """Fetch an image and unpack it."""
    engine.share()
    engine.enter()
    with _Step(emit, f"pulling {ref}") as vertex:
        return engine.sources.pull(ref, platform, emit, vertex)


def tags_here(engine: Engine, repository: str) -> list[str]:
    """The names in the store that are tags of a repository. Raises NotFoundError, UsageError."""
    name = _repository(repository)
    names = {known for image in engine.images.images() for known in image.names}
    found = sorted(known for known in names if reference.parse(known).name == name)
    if not found:
        hint = "`pybuild images` lists what is here"
        raise NotFoundError(f"no image here has a tag of {repository}", hint=hint)
    return found


def tags_there(engine: Engine, repository: str) -> list[str]:
    """The names of all that a registry has of a repository. Raises NotFoundError, RegistryError."""
    ref = reference.parse(_repository(repository))
    return [f"{ref.name}:{tag}" for tag in engine.sources.client.tags(ref.registry, ref.repository)]


def _repository(text: str) -> str:
    """The normalised name of a repository that is written without a tag. Raises UsageError."""
    if not _is_bare(text):
        raise UsageError(f"--all-tags: {text} names one image", hint="leave its tag out")
    return reference.parse(text).name


def _is_bare(text: str) -> bool:
    return "@" not in text and ":" not in text.rpartition("/")[2]


def push(engine: Engine, ref: str, emit: Emit) -> Digest:
    """Send an image under the name it has here, with all platforms of it that are here.

    Returns the digest of its manifest, or of the index of several.
    """
    from buildkit_py.exporter.push import push, push_index

    engine.share()
    images, packing, is_index = meaning(engine, ref)
    engine.enter()
    with _Step(emit, f"pushing {ref}") as vertex:
        if is_index:
            pushed = push_index(images, ref, engine.stores, emit, vertex, packing)
        else:
            pushed = push(images[0], ref, engine.stores, emit, vertex, packing)
    return Digest(pushed["digest"])


def meaning(engine: Engine, ref: str) -> tuple[list[Image], Packing, bool]:
    """The images that a name means, how they go out under it, and whether as an index."""
    from buildkit_py.exporter.annotations import Annotation
    from buildkit_py.exporter.spec import Packing

    images = engine.images.platforms(ref)
    annotations = tuple(Annotation(*row) for row in engine.images.annotations(ref))  # type: ignore[arg-type]
    return images, Packing(annotations=annotations), len(images) > 1 or engine.images.means_own_index(ref)


def save(engine: Engine, names: Sequence[str], dest: str, form: str) -> None:
    """Write images as one archive; ``form`` is docker or oci, ``dest`` a file or ``-``."""
    from buildkit_py.exporter.save import Wanted, save

    engine.share()
    wanted = []
    for name in _spelled_out(engine, names):
        images, packing, is_index = meaning(engine, name)
        wanted.append(Wanted(images, _named(images[0], name), packing, is_index))
    engine.enter()
    save(wanted, dest, engine.stores, docker=form == "docker")


def _spelled_out(engine: Engine, names: Sequence[str]) -> list[str]:
    """A repository means all of its tags; each image once."""
    found: list[str] = []
    for name in names:
        try:
            found += tags_here(engine, name) if _is_bare(name) else [name]
        except (NotFoundError, UsageError):
            found.append(name)  # an id, or nothing
    return list(dict.fromkeys(found))


def load(engine: Engine, source: str, emit: Emit) -> list[Image]:
    """Take the images of an archive (a file, an OCI directory, ``-`` for standard input) into the store."""
    from buildkit_py.image.archive import opened
    from buildkit_py.source.load import load

    engine.share()
    with _Step(emit, f"loading {'standard input' if source == '-' else source}"):
        loaded = load(engine.content, engine.images, opened(engine.content, source))
    found = [engine.images.find(item.id) for item in loaded]
    return [image._replace(names=item.names) for image, item in zip(found, loaded, strict=True)]


def import_tar(
    engine: Engine, source: str, name: str, *, changes: Sequence[str], message: str, platform: str
) -> Image:
    """Make an image of one layer out of a root file system's tar (a file, an HTTP URL, or ``-``)."""
    from buildkit_py.source.load import import_rootfs

    engine.share()
    config = changed_config(changes)
    path = source
    if source.startswith(("http://", "https://")):
        from buildkit_py.source.http import HttpFiles

        http = HttpFiles(engine.content, engine.db)
        path = http.path(http.ensure(source, http.get(source).digest))
    try:
        stream = sys.stdin.buffer if source == "-" else open(path, "rb")
    except OSError as e:
        raise UsageError(f"cannot read {source}: {e.strerror}") from e
    with stream:
        made = import_rootfs(
            engine.content, engine.images, stream, name=name, config=config, message=message, wanted=platform
        )
    return engine.images.find(made.id)


def size_of(engine: Engine, image: Image) -> int:
    """Bytes of an image's layers: as the manifest it came with says, else as they lie unpacked (measured
    once, which only the owner of the files can do), else packed as they came."""
    if image.size or not image.diff_ids:
        return image.size
    engine.enter()
    chain: ChainID | None = None
    for diff in image.diff_ids:
        chain = chain_id(chain, diff)
    snapshot = engine.snapshots.by_chain_id(chain) if chain else None
    if snapshot is None:
        from buildkit_py.source.image import PREFERENCE

        blobs = (engine.images.layer_blob(diff, PREFERENCE) for diff in image.diff_ids)
        return sum(blob.size for blob in blobs if blob is not None)
    return sum(engine.snapshots.measure(info.layer)[0] for info in engine.snapshots.chain(snapshot))


CHANGES = "cmd entrypoint env expose healthcheck label onbuild stopsignal user volume workdir"
"""The instructions that ``import --change`` takes: those that change the config alone."""


def changed_config(changes: Sequence[str], base: dict[str, Any] | None = None) -> dict[str, Any]:
    """The run configuration that Dockerfile instructions make on top of another, or of nothing."""
    from buildkit_py.frontends.dockerfile.convert import ConvertOptions, convert
    from buildkit_py.frontends.dockerfile.parser import parse

    if not changes:
        return base or {}
    first = "FROM scratch" if base is None else "FROM base"
    dockerfile = parse("\n".join((first, *changes)).encode(), "--change")
    for instruction in dockerfile.instructions[1:]:
        if instruction.name not in CHANGES.split():
            raise UsageError(
                f"--change cannot be {instruction.name.upper()}", hint=f"one of {CHANGES.upper()}"
            )
    (target,) = convert(dockerfile, ConvertOptions(), _Base(base or {})).targets
    return dict(target.config.get("config") or {})


class _Base:
    """The image that FROM names; FROM scratch asks for none."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def resolve(self, ref: str, platform: str) -> ResolvedImage:
        system, _, architecture = platform.partition("/")
        document = {"os": system, "architecture": architecture.partition("/")[0], "config": self._config}
        return ResolvedImage(ref, of_bytes(b""), document)


def _named(image: Image, name: str) -> tuple[str, ...]:
    """Whether an image was asked for by a name of its own and not by its id."""
    try:
        return (name,) if str(reference.parse(name)) in image.names else ()
    except Exception:
        return ()
