"""A store with everything that pulls, pushes and exports, and layers made by hand instead of by a build."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from buildkit_py.content.store import ContentStore
from buildkit_py.database import Database
from buildkit_py.digest import SnapshotID
from buildkit_py.exporter import Product, Stores
from buildkit_py.exporter import export as run_export
from buildkit_py.exporter.spec import parse_output, spec_of
from buildkit_py.image import assemble
from buildkit_py.image.store import Image, ImageStore
from buildkit_py.layer.diff import diff_id
from buildkit_py.linux.identity import Identity
from buildkit_py.progress.events import Event
from buildkit_py.registry.client import RegistryClient
from buildkit_py.registry.credentials import Credentials
from buildkit_py.registry.settings import Settings
from buildkit_py.snapshot.store import SnapshotStore
from buildkit_py.source.image import ImageSources

PLATFORM = "linux/amd64"


class Workbench:
    def __init__(self, root: Path, settings: Settings | None = None, auth: Path | None = None) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.events: list[Event] = []
        self._db = Database(str(root / "index.db"))
        self.content = ContentStore(str(root))
        self.images = ImageStore(self._db, self.content)
        self.snapshots = SnapshotStore(str(root), self._db)
        credentials = Credentials({"DOCKER_CONFIG": str(auth or root), "HOME": str(root)})
        self.sources = ImageSources(
            self.content,
            self.images,
            self.snapshots,
            lambda: RegistryClient(settings or Settings(), credentials=credentials),
        )
        self.snapshots.use(Identity("root"))
        self.sources.use(Identity("root"))
        self.stores = Stores(self.content, self.images, self.snapshots, self.sources)

    def close(self) -> None:
        self.sources.close()
        self.snapshots.close()
        self._db.close()

    def layer(self, parent: SnapshotID | None, fill: Callable[[Path], object]) -> SnapshotID:
        with self.snapshots.prepare() as staged:
            fill(Path(staged.fs))
            snapshot = self.snapshots.commit(staged, parent)
        info = self.snapshots.chain(snapshot)[-1]
        lower = self.snapshots.tree(parent) if parent else None
        self.snapshots.set_diff_id(snapshot, diff_id(self.snapshots.layer_path(info), lower=lower))
        return snapshot

    def product(self, snapshot: SnapshotID | None, *names: str) -> Product:
        diff_ids = [info.diff_id for info in self.snapshots.chain(snapshot) if info.diff_id]
        config = {
            "os": "linux",
            "architecture": "amd64",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/x"]},
            "history": [{"created_by": f"step {n}"} for n in range(len(diff_ids))],
        }
        return Product(PLATFORM, snapshot, assemble.config_bytes(config, diff_ids), names)

    def build(self, *names: str) -> tuple[Product, Image]:
        """An image of two layers with a bit of everything, stored under the names."""
        base = self.layer(None, first_layer)
        product = self.product(self.layer(base, second_layer), *names)
        self.export("type=image", product)
        image = self.images.by_id(self.content.write(product.config))
        assert image is not None
        return product, image

    def export(self, spec: str, *products: Product) -> dict[str, object]:
        parsed = spec_of(parse_output(spec), index=len(products) > 1)
        return run_export(parsed, products, self.stores, self.events.append, "v")

    def files(self, snapshot: SnapshotID | None) -> dict[str, tuple[int, int, int, str]]:
        """path -> (mode, uid, gid, content or target)"""
        tree = self.snapshots.tree(snapshot)
        found = {}
        for entry in tree.walk(""):
            text = ""
            if os.path.islink(entry.host):
                text = tree.readlink(entry)
            elif os.path.isfile(entry.host):
                text = Path(entry.host).read_text()
            found[entry.path] = (entry.mode, entry.uid, entry.gid, text)
        return found


def first_layer(fs: Path) -> None:
    (fs / "bin").mkdir()
    (fs / "bin" / "x").write_text("#!/bin/sh\n")
    (fs / "bin" / "x").chmod(0o4755)
    os.link(fs / "bin" / "x", fs / "bin" / "y")
    (fs / "old").write_text("to be deleted")
    (fs / "sh").symlink_to("bin/x")


def second_layer(fs: Path) -> None:
    (fs / "data").mkdir()
    (fs / "data" / "ümläut " / "deep").mkdir(parents=True)
    (fs / "data" / "file").write_text("hello")
    os.chown(fs / "data" / "file", 1000, 100)
    os.utime(fs / "data" / "file", ns=(0, 1_600_000_000_123_456_789))
    os.mknod(fs / "old", 0o020000, os.makedev(0, 0))
