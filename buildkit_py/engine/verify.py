"""``verify``: an image built once more from its context, without cache, and compared with what it was.

Nothing of that build is kept. It goes by a copy of the store's index in memory, so no record, image or build
of the history changes; its layers lie in the store's directories without a row, as those of a build that was
killed, and are removed at the end (after a kill, by the next prune). Its cache mounts start empty.
"""

from __future__ import annotations

import os
from functools import cached_property

from buildkit_py.database import Database
from buildkit_py.digest import Digest, SnapshotID
from buildkit_py.engine import Engine
from buildkit_py.engine.build import Build, refuse
from buildkit_py.engine.contexts import BuildFiles
from buildkit_py.errors import DockerfileError, StepError, UsageError
from buildkit_py.image.assemble import config_bytes
from buildkit_py.image.store import Image
from buildkit_py.progress.events import Emit
from buildkit_py.request import BuildRequest
from buildkit_py.snapshot.compare import Difference, differences
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.worker.context import BuildContext

_TABLES = ("contents", "inputs", "builds")
"""Of which no copy is needed."""


class Verified(NamedTuple):
    image: Digest
    rebuilt: Digest
    """What the image's id would be now."""
    config: tuple[Difference, ...]
    """Fields of the config, with a path like ``config.Env``."""
    files: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        return not (self.config or self.files)


def verify(engine: Engine, name: str, request: BuildRequest, emit: Emit, *, times: bool = False) -> Verified:
    """Raises what a build raises, NotFoundError for an image that is nowhere."""
    if request.cache_from or request.cache_to or request.outputs or request.tags:
        raise UsageError("verify makes no image, and uses no cache", hint="leave -t, -o and --cache-… out")
    engine.share()
    engine.sources.resolve(name, request.platforms[0] if request.platforms else "")
    image = engine.images.find(name, request.platforms[0] if request.platforms else "")
    request = request._replace(no_cache=True, platforms=(image.platform,))
    refuse(request)
    engine.enter()
    old = engine.sources.unpack(image.id, emit, "verify")
    from buildkit_py.source.temporary import TemporaryDirectory

    with TemporaryDirectory(engine.root) as scratch, Aside(engine) as aside:
        again = _Again(aside, request, emit, scratch.path)
        snapshot, config = again.made_again()
        trees = engine.snapshots.tree(old), aside.snapshots.tree(snapshot)
        files = tuple(differences(*trees, times=times))
    return Verified(image.id, _id(config), tuple(compared(image, config)), files)


def _id(config: bytes) -> Digest:
    from buildkit_py.image.assemble import image_id

    return image_id(config)


def compared(image: Image, config: bytes) -> list[Difference]:
    """Two configs, field by field. Layers are compared by their files."""
    import json

    old, new = _flat(image.config), _flat(json.loads(config))
    found = []
    for path in sorted(old.keys() | new.keys()):
        left, right = old.get(path, ""), new.get(path, "")
        if left != right and not path.startswith("rootfs"):
            found.append(Difference(path, "config", left, right))
    return found


def _flat(value: Any, path: str = "") -> dict[str, str]:
    """A document's leaves as JSON, by dotted path; what is empty is as good as not there."""
    import json

    if isinstance(value, dict) and value:
        found: dict[str, str] = {}
        for key, inner in value.items():
            found |= _flat(inner, f"{path}.{key}" if path else str(key))
        return found
    if isinstance(value, list) and value and isinstance(value[0], dict):
        found = {}
        for n, inner in enumerate(value):
            found |= _flat(inner, f"{path}[{n}]")
        return found
    return {} if value in (None, "", [], {}) else {path: json.dumps(value)}


class Aside(Engine):
    """A store of which only the rows are another's: in memory, and gone at the end. A context manager."""

    def __init__(self, real: Engine) -> None:
        super().__init__(real.root)
        self._real = real

    @cached_property
    def db(self) -> Database:
        return Database.copy(os.path.join(self._real.root, "index.db"), _TABLES)

    def enter(self) -> None:
        self._real.enter()
        if self._identity is None:
            self._identity, self._launcher = self._real.identity, self._real.launcher
            self.snapshots.use(self._identity)
            self.sources.use(self._identity)

    def __enter__(self) -> Aside:
        self.enter()  # what is made aside is found and removed by who it belongs to
        return self

    def __exit__(self, *_: object) -> None:
        self._launcher = None  # it is the other's
        self.snapshots.discard(self.snapshots.directories() - self._real.snapshots.directories())
        self.snapshots.close()
        self.close()
        self.db.close()


class _Again(Build):
    """As a build, up to the image's config."""

    def __init__(self, engine: Aside, request: BuildRequest, emit: Emit, scratch: str) -> None:
        engine.history.keep = 0
        super().__init__(engine, request, emit)
        self.scratch = scratch

    def make_context(self) -> BuildContext:
        context = super().make_context()
        context.root = self.scratch
        return context

    def made_again(self) -> tuple[SnapshotID | None, bytes]:
        """The root file system's snapshot, and the config."""
        self.files = BuildFiles.open(self.request, self.engine, self.emit)
        try:
            self.load()
            self.solve()
            (target,) = self.frontend.targets
            snapshot = self.results[target.root] if target.root else None
            diff_ids = self.diffs.wait(snapshot, self.emit, "verify")
            return snapshot, config_bytes(target.config, diff_ids)
        except (StepError, DockerfileError) as e:
            if not e.lines and e.start:
                e.lines = self.files.lines()
            raise
        finally:
            self.files.close()
