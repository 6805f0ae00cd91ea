"""``cache verify``: the store against its own digests; what is broken is mended or dropped.

What can be had again is dropped, and a later build or pull brings it back: blobs, records, layers of steps. A
layer of a pulled image is unpacked again in its place where its blob is here. What an image built here lost
with a layer can't be mended: it is named.
"""

from __future__ import annotations

import os

from buildkit_py import digest as digests
from buildkit_py.digest import ChainID, DiffID, Digest, SnapshotID
from buildkit_py.engine.garbage import Alone
from buildkit_py.engine.leftovers import leftovers
from buildkit_py.errors import PybuildError
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.snapshot.staging import Staged
    from buildkit_py.snapshot.store import LayerInfo
    from buildkit_py.snapshot.tree import Tree

_CHUNK = 1 << 20


class Finding(NamedTuple):
    """One thing that is not as it should be."""

    kind: str
    """index, blob, layer, snapshot, record, alias, name, image, left-over."""
    id: str
    problem: str
    mend: str
    """What was done, or in a dry run what would be; "": nothing can be."""


class Checked(NamedTuple):
    findings: tuple[Finding, ...]
    blobs: int
    layers: int
    """Whose digest was found right."""
    unchecked: int
    """Layers whose digest is not known, or of pulled images whose blobs are not here."""
    records: int

    @property
    def broken(self) -> bool:
        """Whether anything is wrong besides what a killed process left."""
        return any(f.kind != "left-over" for f in self.findings)


def check(engine: Engine, *, mend: bool = True) -> Checked:
    """Check all of the store; the store's lock is held alone meanwhile. Raises StoreError where the index
    itself is damaged."""
    engine.enter()
    with Alone(engine):
        return _Check(engine, mend).run()


_WRITTEN_BACK = 60.0
"""Seconds after which the kernel has written a changed file to the disk by itself, amply: every 5 seconds it
takes those that are 30 seconds old (proc_sys_vm(5): dirty_expire_centisecs, dirty_writeback_centisecs)."""


def after_boot(engine: Engine, boot: str) -> None:
    """Check the layers that were made last before the machine was started anew: nothing was synced, and where
    it lost its power, files may have been cut short. Those that are wrong are forgotten, so that their steps
    run again, and with them the others of that time whose digest is not known."""
    engine.enter()
    with Alone(engine):
        row = engine.db.one("SELECT boot, checked FROM boots")
        if row is None or row[0] == boot:
            return  # another process was faster
        last = engine.snapshots.newest()
        _Check(engine, mend=True).recent(max(row[1], last - _WRITTEN_BACK))
        engine.db.run("UPDATE boots SET boot = ?, checked = ?", (boot, last))


class _Check:
    def __init__(self, engine: Engine, mend: bool) -> None:
        self.engine = engine
        self.mend = mend
        self.findings: list[Finding] = []
        self.right = self.unchecked = 0
        self.lost: set[str] = set()

    def found(self, kind: str, id: str, problem: str, mend: str = "") -> None:
        self.findings.append(Finding(kind, id, problem, mend))

    def run(self) -> Checked:
        engine = self.engine
        self._index()
        self._leftovers()
        blobs = self._blobs()
        self._rows()
        self._layers(engine.snapshots.since(0))
        self._records()
        self._images()
        if self.mend:
            engine.snapshots.collect_trash()
        records = len(list(engine.index.records()))
        return Checked(tuple(self.findings), blobs, self.right, self.unchecked, records)

    def recent(self, since: float) -> None:
        """Only the layers that were made after a time (seconds since the epoch)."""
        self._rows()
        self._layers(self.engine.snapshots.since(since))
        if self.lost:
            self._records()

    # Each part stands on those before it.

    def _index(self) -> None:
        for (told,) in self.engine.db.all("PRAGMA integrity_check"):
            if told != "ok":
                hint = "move the store away and build again, or REINDEX it"
                self.found("index", "index.db", f"{told} ({hint})")

    def _blobs(self) -> int:
        content = self.engine.content
        count = 0
        for digest in list(content.digests()):
            if _digest_of(content.path(digest)) == digest:
                count += 1
                continue
            self.found("blob", digest, "its content has another digest", "removed")
            if self.mend:
                content.delete(digest)
        return count

    def _rows(self) -> None:
        """Snapshots that lead nowhere."""
        for snapshot, problem in self.engine.snapshots.dangling():
            self.found("snapshot", snapshot, problem, "forgotten")
            self.lost.add(snapshot)
            if self.mend:
                self.engine.snapshots.forget(snapshot)

    def _layers(self, made: list[SnapshotID]) -> None:
        snapshots = self.engine.snapshots
        pulled = {diff for image in self.engine.images.images() if image.manifest for diff in image.diff_ids}
        seen: set[str] = set()
        unknown: list[str] = []
        for snapshot in made:
            if not snapshots.exists(snapshot):
                continue
            parent = snapshots.parent(snapshot)
            if parent in self.lost:
                self.lost.add(snapshot)  # where nothing is mended, it is still there
            info = snapshots.chain(snapshot)[-1]
            if info.layer in seen or snapshot in self.lost:
                continue
            seen.add(info.layer)
            if info.diff_id is None:
                unknown.append(info.layer)
            elif info.diff_id in pulled:
                self._pulled_layer(info, parent)
            else:
                self._made_layer(info, parent)
        self._unknown_layers(unknown)

    def _unknown_layers(self, layers: list[str]) -> None:
        """Of steps that no image is made of. Where others are broken, these may be, and would be built on."""
        snapshots = self.engine.snapshots
        if not any(f.kind in ("layer", "snapshot") for f in self.findings):
            self.unchecked += len(layers)
            return
        for layer in layers:
            stacks = snapshots.of_layer(layer)
            if not stacks:
                continue  # it stood on a broken one
            self.found(
                "layer", layer, "others are broken, and it has no digest to be checked by", "forgotten"
            )
            self.lost.update(stacks)
            if self.mend:
                for snapshot in stacks:
                    snapshots.forget(snapshot)

    def _made_layer(self, info: LayerInfo, parent: SnapshotID | None) -> None:
        snapshots = self.engine.snapshots
        stacks = snapshots.of_layer(info.layer)
        if any(self._digest(info, snapshots.parent(stack)) == info.diff_id for stack in stacks):
            self.right += 1
        elif not self._unpacked_again(info, parent):
            self.found("layer", info.layer, f"its digest is not {info.diff_id} any more", "forgotten")
            self.lost.update(stacks)
            if self.mend:
                for snapshot in stacks:
                    snapshots.forget(snapshot)

    def _digest(self, info: LayerInfo, parent: SnapshotID | None) -> str:
        """What lies below a layer decides which marks its tar has."""
        from buildkit_py.layer.diff import diff_id

        snapshots = self.engine.snapshots
        try:
            lower = snapshots.tree(parent) if parent is not None else None
            return diff_id(snapshots.layer_path(info), lower=lower)
        except (PybuildError, OSError):
            return ""

    def _pulled_layer(self, info: LayerInfo, parent: SnapshotID | None) -> None:
        """Another tool made its tar, so the only thing to compare it with is what its blob unpacks to."""
        if not self._unpacked_again(info, parent):
            self.unchecked += 1

    def _unpacked_again(self, info: LayerInfo, parent: SnapshotID | None) -> bool:
        """Compare a layer with its blob, and put what that holds in its place where they differ; False where
        the blob is not here."""
        from buildkit_py.layer.diff import diff_id
        from buildkit_py.source.image import PREFERENCE

        engine, snapshots = self.engine, self.engine.snapshots
        assert info.diff_id is not None
        blob = engine.images.layer_blob(info.diff_id, PREFERENCE)
        if blob is None or not engine.content.has(blob.digest):
            return False
        lower = snapshots.tree(parent) if parent is not None else None
        with snapshots.prepare() as staged:
            if not self._unpack(blob.digest, info.diff_id, staged, lower):
                return False
            if self._digest(info, parent) == diff_id(staged.fs, owners=staged.owners, lower=lower):
                self.right += 1
                return True
            self.found("layer", info.layer, f"it is not what {blob.digest} unpacks to", "unpacked again")
            if self.mend:
                snapshots.replace(info, staged)
        return True

    def _unpack(self, blob: Digest, expected: DiffID, staged: Staged, lower: Tree | None) -> bool:
        """Whether the blob was the layer."""
        from buildkit_py.archive import compression
        from buildkit_py.layer.apply import apply_layer

        with self.engine.content.open(blob) as source:
            stream = compression.open_archive(source)
            if stream is None:
                return False
            found = apply_layer(stream, staged.fs, self.engine.identity, staged.owners, lower=lower)
        return found == expected

    def _records(self) -> None:
        index = self.engine.index
        for key, name in index.dangling():
            self.found("record", key, f"the result of {name} is gone", "forgotten")
            if self.mend:
                index.forget([Digest(key)])
        for definition in index.dangling_aliases():
            self.found("alias", definition, "what it leads to is gone", "forgotten")
            if self.mend:
                index.forget_alias(Digest(definition))

    def _images(self) -> None:
        engine = self.engine
        for name, target in engine.images.dangling_names():
            self.found("name", name, f"{target} is gone", "removed")
            if self.mend:
                engine.images.drop_name(name)
        used = {container.image for container in engine.containers.list()}
        for image in engine.images.images():
            if image.manifest is not None:
                continue  # its registry has what is missing
            chain: ChainID | None = None
            for diff in image.diff_ids:
                chain = digests.chain_id(chain, diff)
            if chain is None or engine.snapshots.by_chain_id(chain) is not None:
                continue
            if self._can_be_unpacked(image.diff_ids):
                continue
            if image.names or image.id in used:
                shown = ", ".join(image.names) or image.id
                self.found("image", shown, "a layer of it is gone: build it again")
                continue
            self.found("image", image.id, "a layer of it is gone, and it has no name", "removed")
            if self.mend:
                engine.images.remove(image.id)

    def _can_be_unpacked(self, diff_ids: list[DiffID]) -> bool:
        from buildkit_py.source.image import PREFERENCE

        blobs = [self.engine.images.layer_blob(diff, PREFERENCE) for diff in diff_ids]
        return all(
            b is not None and (self.engine.content.has(b.digest) or self.engine.images.origins(b.digest))
            for b in blobs
        )

    def _leftovers(self) -> None:
        for path in leftovers(self.engine):
            shown = os.path.relpath(path, self.engine.root)
            self.found("left-over", shown, "nothing names it", "removed")
            if self.mend:
                remove_tree(path)


def _digest_of(path: str) -> str:
    from hashlib import file_digest

    try:
        with open(path, "rb") as f:
            return "sha256:" + file_digest(f, "sha256").hexdigest()
    except OSError:
        return ""
