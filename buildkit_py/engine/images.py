"""Images between the store, registries and archives."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from buildkit_py.digest import Digest
from buildkit_py.image.store import Image
from buildkit_py.progress.events import Emit, VertexEvent

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


class _Step:
    """One vertex around a pull or a push, so that its layers show under a name."""

    def __init__(self, emit: Emit, name: str) -> None:
        self._emit = emit
        self.event = VertexEvent(name, name, started=time.time())

    def __enter__(self) -> str:
        self._emit(self.event)
        return self.event.digest

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._emit(self.event._replace(completed=time.time(), error="" if error is None else str(error)))


def pull(engine: Engine, ref: str, emit: Emit, platform: str) -> Image:
    """Fetch an image and unpack it."""
    engine.share()
    engine.enter()
    with _Step(emit, f"pulling {ref}") as vertex:
        return engine.sources.pull(ref, platform, emit, vertex)


def push(engine: Engine, ref: str, emit: Emit) -> Digest:
    """Send an image under the name it has here; return its manifest's digest."""
    from buildkit_py.exporter.push import push

    engine.share()
    image = engine.images.find(ref)
    engine.enter()
    with _Step(emit, f"pushing {ref}") as vertex:
        return push(image, ref, engine.stores, emit, vertex)


def save(engine: Engine, names: Sequence[str], dest: str, form: str) -> None:
    """Write images as one archive; ``form`` is docker or oci, ``dest`` a file or ``-``."""
    from buildkit_py.exporter.save import save

    engine.share()
    images = [(engine.images.find(name), name) for name in names]
    engine.enter()
    wanted = [(image, (name,) if name in _named(image, name) else ()) for image, name in images]
    save(wanted, dest, engine.stores, docker=form == "docker")


def _named(image: Image, name: str) -> tuple[str, ...]:
    """Whether an image was asked for by a name of its own and not by its id."""
    from buildkit_py.image import reference

    try:
        return (name,) if str(reference.parse(name)) in image.names else ()
    except Exception:
        return ()
