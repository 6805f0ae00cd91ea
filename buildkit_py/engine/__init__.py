"""The engine: the only place that wires concrete parts together.

An Engine is one store and one process's identity. Everything in it is made when first needed: a build where
nothing changed opens the index and no more.
"""

from __future__ import annotations

import fcntl
import os
import sys
from functools import cached_property

from buildkit_py import paths
from buildkit_py.errors import SandboxError, StoreError, UsageError
from buildkit_py.linux import smallfiles
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buildkit_py.cache.index import CacheIndex
    from buildkit_py.cache.inputs import KeyInputs
    from buildkit_py.content.store import ContentStore
    from buildkit_py.database import Database
    from buildkit_py.digest import Digest
    from buildkit_py.engine.cachefile import Moved
    from buildkit_py.engine.client import Client
    from buildkit_py.engine.inventory import Inventory
    from buildkit_py.engine.networking import Home
    from buildkit_py.engine.plan import Plan
    from buildkit_py.engine.prune import Pruned, PruneRequest
    from buildkit_py.engine.store_check import Checked
    from buildkit_py.engine.verify import Verified
    from buildkit_py.errors import StepError
    from buildkit_py.exporter import Stores
    from buildkit_py.history.record import Build
    from buildkit_py.history.store import History
    from buildkit_py.history.why import Explanation
    from buildkit_py.image.store import Image, ImageStore
    from buildkit_py.layer.compress import Method
    from buildkit_py.linux.identity import Identity
    from buildkit_py.linux.userns import Entering
    from buildkit_py.network.ahead import Ahead
    from buildkit_py.network.store import NetworkStore
    from buildkit_py.progress.events import Emit
    from buildkit_py.registry.client import RegistryClient
    from buildkit_py.request import BuildRequest, BuildResult, NetworkSpec, RunRequest
    from buildkit_py.runtime.container import Container, ContainerStore
    from buildkit_py.runtime.front import Front
    from buildkit_py.runtime.hooks import Hooks
    from buildkit_py.runtime.volumes import VolumeStore
    from buildkit_py.sandbox.launcher import Launcher
    from buildkit_py.snapshot.store import SnapshotStore
    from buildkit_py.source.image import ImageSources


_BOOTS = """
CREATE TABLE IF NOT EXISTS boots (one INTEGER PRIMARY KEY, boot TEXT NOT NULL, checked REAL NOT NULL)
"""


class Engine:
    """``root`` is the store's directory (default: paths.data_root()); it is made where missing."""

    def __init__(self, root: str | None = None) -> None:
        self.root = root or paths.data_root()
        self._entering: Entering | None = None
        self._identity: Identity | None = None
        self._launcher: Launcher | None = None
        self._fronts: list[Front] = []
        self._home: Home | None = None
        self._ahead: Ahead | None = None
        self._bridged = False
        """Whether a container without a --network may be on the network bridge."""
        self._lock = -1
        self.last_build = ""
        """The id of the build that was begun last."""
        try:
            if not os.path.isdir(self.root):
                os.makedirs(self.root, mode=0o700, exist_ok=True)
        except OSError as e:
            raise StoreError(
                f"cannot make the store {self.root}: {e.strerror}",
                hint="set PYBUILD_ROOT to a directory of yours",
            ) from e

    # The parts, each made when first asked for.

    @cached_property
    def db(self) -> Database:
        from buildkit_py.database import Database

        if self._entering is not None:
            # SQLite gives its files beside the index to the index's owner. If the maps came between its look
            # and its chown, that would be "nobody" first, and then somebody else.
            self._entering.finish()
        return Database(os.path.join(self.root, "index.db"))

    @cached_property
    def content(self) -> ContentStore:
        from buildkit_py.content.store import ContentStore

        return ContentStore(self.root)

    @cached_property
    def snapshots(self) -> SnapshotStore:
        from buildkit_py.snapshot.store import SnapshotStore

        return SnapshotStore(self.root, self.db)

    @cached_property
    def images(self) -> ImageStore:
        from buildkit_py.image.store import ImageStore

        return ImageStore(self.db, self.content)

    @cached_property
    def index(self) -> CacheIndex:
        from buildkit_py.cache.index import CacheIndex

        return CacheIndex(self.db)

    @cached_property
    def inputs(self) -> KeyInputs:
        from buildkit_py.cache.inputs import KeyInputs

        return KeyInputs(self.db)

    @cached_property
    def history(self) -> History:
        from buildkit_py.history.store import History

        return History(self.root, self.db)

    @cached_property
    def containers(self) -> ContainerStore:
        from buildkit_py.runtime.container import ContainerStore

        return ContainerStore(self.root, self.db)

    @cached_property
    def networks(self) -> NetworkStore:
        from zlib import crc32

        from buildkit_py.network.store import NetworkStore

        return NetworkStore(self.db, crc32(os.fsencode(self.root)))

    @cached_property
    def volumes(self) -> VolumeStore:
        from buildkit_py.runtime.volumes import VolumeStore

        return VolumeStore(self.root)

    @cached_property
    def sources(self) -> ImageSources:
        from buildkit_py.source.image import ImageSources

        return ImageSources(self.content, self.images, self.snapshots, self._registry_client)

    @property
    def stores(self) -> Stores:
        from buildkit_py.exporter import Stores

        return Stores(self.content, self.images, self.snapshots, self.sources)

    def _registry_client(self) -> RegistryClient:
        from buildkit_py.registry.client import RegistryClient

        return RegistryClient()

    # The identity.

    @property
    def identity(self) -> Identity:
        self.enter()
        assert self._identity is not None
        return self._identity

    @property
    def launcher(self) -> Launcher:
        self.enter()
        if self._launcher is None:
            self._start_launcher(self.identity)
        assert self._launcher is not None
        return self._launcher

    def enter(self) -> None:
        """Become the identity that owns the store's snapshots, and start the sandbox launcher.

        Both must happen while the process has one thread: a thread can't share a user namespace that its
        process leaves, and a fork takes locks of other threads along. Raises SandboxError.
        """
        if self._identity is not None:
            return
        self.begin()
        assert self._entering is not None
        self._identity = self._entering.finish()
        if self._launcher is not None and self._launcher.mode != self._identity.mode:
            self._start_launcher(self._identity)
        self.snapshots.use(self._identity)
        self.sources.use(self._identity)

    def begin(self, *, supervisors: int | None = None, join: int = -1) -> None:
        """Begin to enter(): newuidmap works and the launcher gets ready while the caller goes on.

        ``supervisors``: make so many supervisors of containers, which have launchers of their own, in the
        launcher's place; before the index is opened.
        ``join``: a user namespace to be in with others (a descriptor), in the place of a new one.
        """
        if self._entering is None:
            from buildkit_py.linux import userns

            stop_tickers()
            self._entering = userns.begin(join)
            if supervisors is None:
                self._start_launcher(self._entering.plan)
            else:
                self._make_supervisors(self._entering.plan, supervisors)

    def _make_supervisors(self, identity: Identity, count: int) -> None:
        # Loaded before the fork, while newuidmap works: the supervisor needs much of it, too, and the command
        # writes to fewer pages that both have.
        from buildkit_py.engine import containers as containers
        from buildkit_py.runtime.front import Front
        from buildkit_py.sandbox.launcher import base_stubs

        base_stubs(self._stubs)
        for _ in range(count):
            self._fronts.append(Front.fork(identity, self._stubs, self._resources))

    def _resources(self) -> Hooks:
        from buildkit_py.engine.resources import Resources

        return Resources(self.root, bridged=self._bridged)

    def take_front(self) -> Front:
        """One of the supervisors that begin() made."""
        return self._fronts.pop()

    @property
    def _stubs(self) -> str:
        return os.path.join(self.root, "stubs")

    def _start_launcher(self, identity: Identity) -> None:
        from buildkit_py.sandbox.launcher import Launcher

        if self._launcher is not None:
            self._launcher.close()
        self._launcher = Launcher.start(identity, stubs_in=self._stubs)

    @cached_property
    def overlay(self) -> bool:
        """Whether overlayfs can be mounted here; where not, a root is a copy. Found out by mounting one.

        ``$PYBUILD_SNAPSHOTTER`` (overlay or copy) decides instead.
        """
        choice = os.environ.get("PYBUILD_SNAPSHOTTER", "")
        if choice in ("overlay", "copy"):
            return choice == "overlay"
        if choice:
            raise UsageError(f"PYBUILD_SNAPSHOTTER={choice} is not known", hint="overlay and copy are")
        # The trial costs a millisecond; a kernel that could once can again.
        mark = os.path.join(self._stubs, f"overlay-{self.identity.mode}-{os.uname().release}")
        if os.path.exists(mark):
            return True
        from buildkit_py.linux import overlay
        from buildkit_py.sandbox.launcher import base_stubs

        with self.snapshots.prepare() as trial:
            try:
                os.close(overlay.mount((base_stubs(self._stubs),), trial.fs, trial.work))
            except (SandboxError, OSError):
                return False
            finally:
                trial.abort()
        os.close(os.open(mark, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        return True

    # What commands ask for. Each is a module of its own, loaded when called.

    def build(
        self,
        request: BuildRequest,
        emit: Emit,
        entering: Callable[[StepError], None] = lambda error: None,
    ) -> BuildResult:
        """``entering`` is called before a shell gets the terminal (``on_failure``)."""
        if request.call != "build":
            from buildkit_py.engine.call import call

            return call(self, request, emit)
        from buildkit_py.engine.build import Build

        return Build(self, request, emit, entering).run()

    def plan(self, request: BuildRequest, emit: Emit) -> Plan:
        """What a build would do."""
        from buildkit_py.engine.plan import plan

        return plan(self, request, emit)

    def why(self, build: Build) -> list[Explanation]:
        """Why the steps of a build ran."""
        from buildkit_py.engine.why import explain

        return explain(self, build)

    def report(self, build: Build) -> bytes:
        """A build as an HTML page."""
        from buildkit_py.engine.report import report

        return report(self, build)

    def create(self, request: RunRequest, emit: Emit) -> Container:
        from buildkit_py.engine.create import make, plan

        return make(self, plan(self, request, emit))[0]

    def run(self, request: RunRequest, emit: Emit, client: Client) -> int | None:
        """Run a new container; its exit status, None where it was left to run by itself."""
        beside = [name for _, name in request.isolation.shared]
        self.begin_on_networks((request.networking.networks,), 1, beside)
        from buildkit_py.engine.containers import run

        return run(self, request, emit, client)

    def begin_starting(self, names: Sequence[str]) -> None:
        """begin() with a supervisor for each of these containers, which were made before."""
        from buildkit_py.engine.networking import find_containers
        from buildkit_py.network import record

        containers = [c for c in find_containers(self.root, names) if c is not None]
        requests = [c.config().request for c in containers]
        wanted = [
            record.specs(c.path, r.networking.networks) for c, r in zip(containers, requests, strict=True)
        ]
        beside = [name for request in requests for _, name in request.isolation.shared]
        self.begin_on_networks(wanted, len(names), beside)

    def begin_on_networks(
        self,
        wanted: Sequence[tuple[NetworkSpec, ...]],
        supervisors: int | None = None,
        beside: Sequence[str] = (),
    ) -> None:
        """begin() in the user namespace that containers on these networks have to be in, and those whose
        namespaces are shared (``beside``: their names)."""
        self._bridged = os.geteuid() == 0 and not all(wanted)
        if self._bridged:
            stop_tickers()
            self._ahead = self._start_ahead()
        if any(wanted) or beside:
            from buildkit_py.engine import networking

            stop_tickers()
            self._home = networking.home(self.root, wanted)
            if beside:
                self._home = networking.beside(self.root, self._home, beside)
        join = self._home.join if self._home is not None else -1
        self.begin(supervisors=supervisors, join=join)
        if self._ahead is not None:
            self._ahead.reap()

    def _start_ahead(self) -> Ahead | None:
        from buildkit_py.linux import forwarding
        from buildkit_py.network import ahead

        if forwarding.pair_obstacle():
            return None
        try:
            return ahead.start(self.root)
        except OSError:
            # Whoever needs the holder will start it, or tell.
            return None

    def pull(self, ref: str, emit: Emit, platform: str = "") -> Image:
        from buildkit_py.engine.images import pull

        return pull(self, ref, emit, platform)

    def tags_here(self, repository: str) -> list[str]:
        from buildkit_py.engine.images import tags_here

        return tags_here(self, repository)

    def tags_there(self, repository: str) -> list[str]:
        from buildkit_py.engine.images import tags_there

        return tags_there(self, repository)

    def push(self, ref: str, emit: Emit) -> Digest:
        from buildkit_py.engine.images import push

        return push(self, ref, emit)

    def save(self, names: Sequence[str], dest: str, form: str) -> None:
        from buildkit_py.engine.images import save

        save(self, names, dest, form)

    def load(self, source: str, emit: Emit) -> list[Image]:
        from buildkit_py.engine.images import load

        return load(self, source, emit)

    def size_of(self, image: Image) -> int:
        from buildkit_py.engine.images import size_of

        return size_of(self, image)

    def import_tar(
        self, source: str, name: str, *, changes: Sequence[str], message: str, platform: str
    ) -> Image:
        from buildkit_py.engine.images import import_tar

        return import_tar(self, source, name, changes=changes, message=message, platform=platform)

    def inventory(self) -> Inventory:
        from buildkit_py.engine.inventory import inventory

        return inventory(self)

    @property
    def disk(self) -> int:
        """Bytes that the store's file system holds."""
        space = os.statvfs(self.root)
        return space.f_blocks * space.f_frsize

    def prune(self, request: PruneRequest) -> Pruned:
        from buildkit_py.engine.prune import prune

        return prune(self, request)

    def export_cache(self, dest: str, emit: Emit, method: Method, mounts: bool) -> Moved:
        """Write the whole cache to a file; ``mounts``: cache mounts, too."""
        from buildkit_py.engine.cachefile import export

        return export(self, dest, emit, method, mounts)

    def import_cache(self, source: str, emit: Emit) -> Moved:
        from buildkit_py.engine.cachefile import import_

        return import_(self, source, emit)

    def verify(self, image: str, request: BuildRequest, emit: Emit, *, times: bool = False) -> Verified:
        self.begin()
        from buildkit_py.engine.verify import verify

        return verify(self, image, request, emit, times=times)

    def check(self, *, mend: bool = True) -> Checked:
        from buildkit_py.engine.store_check import check

        return check(self, mend=mend)

    # The store's lock: everything that reads or adds takes it shared, a prune alone (engine/garbage.py).

    def after_boot(self) -> None:
        """Where the machine was started anew since somebody last asked: see store_check.after_boot(). To be
        called before share(), by who is going to use what steps have made."""
        boot = smallfiles.read("/proc/sys/kernel/random/boot_id").strip()
        self.db.ensure(_BOOTS)
        row = self.db.one("SELECT boot FROM boots")
        if row is None:
            self.db.run("INSERT OR IGNORE INTO boots VALUES (1, ?, 0)", (boot,))
        elif boot not in ("", row[0]):
            from buildkit_py.engine.store_check import after_boot

            after_boot(self, boot)

    def share(self) -> None:
        """Keep a prune of another process from taking what this one uses. Held until the process ends."""
        path = os.path.join(self.root, "lock")
        while self._lock < 0:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_SH)
            if is_named(fd, path):
                self._lock = fd
            else:
                os.close(fd)

    def unshare(self) -> None:
        """All that this process uses is named by a row by now."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def lock_fd(self) -> int:
        self.share()
        return self._lock

    def close(self) -> None:
        """Stop the launcher. Safe to call twice.

        The index is left open for the process's end: closing its last connection would write the log back
        and wait for the disk, twenty times as long as all that a build without changes does with it.
        """
        if self._launcher is not None:
            self._launcher.close()
            self._launcher = None
        while self._fronts:
            self.take_front().close()
        if self._home is not None:
            self._home.close()
            self._home = None
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        if "sources" in self.__dict__:
            self.sources.close()
        self.unshare()


def is_named(fd: int, path: str) -> bool:
    """Whether a path still names the open file: between open(2) and flock(2) it may have been renamed."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def stop_tickers() -> None:
    """Before a fork: a display's thread has to end. Where its module was never loaded there is none."""
    ticker = sys.modules.get("buildkit_py.progress.ticker")
    if ticker is not None:
        ticker.stop_all()
