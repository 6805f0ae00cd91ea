"""The snapshot store: layer directories in overlay form, and the stacks that they make.

A *layer* is a directory ``<root>/snapshots/<mode>/<layer id>/fs``; a *snapshot* is a layer on a parent
snapshot. Several snapshots may use one layer (base images that share layers, COPY --link).

Written: a directory is staged (buildkit_py.snapshot.staging), renamed to its layer id, then its rows are
inserted in one transaction. Removed: the rows go first, then the directory is renamed into ``.trash``, and
deleted at leisure. A crash leaves a staged directory, an unnamed layer directory or trash; all three are
found by :meth:`SnapshotStore.collect_trash`. Rows never point at what is not there, but after a power cut:
whole() asks, and buildkit_py.engine.store_check looks at what was made last.

Lock rule: SQLite's; directories are never changed after their rename. Nothing is synced: after a power cut
the file system decides what of the last seconds is left.
"""

from __future__ import annotations

import os
import stat
import time
from _thread import allocate_lock  # what threading.Lock is, without importing threading
from collections.abc import Iterable
from contextlib import suppress

from buildkit_py import digest
from buildkit_py.database import Database
from buildkit_py.digest import ChainID, DiffID, SnapshotID
from buildkit_py.errors import NotFoundError, StoreError
from buildkit_py.linux.identity import Identity
from buildkit_py.snapshot import staging
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.snapshot.staging import Staged
from buildkit_py.snapshot.usage import Usage, measure, usages
from buildkit_py.tuples import NamedTuple

SCHEMA = """
CREATE TABLE IF NOT EXISTS layers (
    id TEXT PRIMARY KEY, mode TEXT NOT NULL, diff_id TEXT, size INTEGER, files INTEGER, created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS snapshots (
    id TEXT PRIMARY KEY, parent TEXT, layer TEXT NOT NULL, chain_id TEXT, depth INTEGER NOT NULL,
    created REAL NOT NULL, used REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS doomed (snapshot TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS snapshots_parent ON snapshots (parent);
CREATE INDEX IF NOT EXISTS snapshots_layer ON snapshots (layer);
CREATE INDEX IF NOT EXISTS snapshots_chain ON snapshots (chain_id)
"""
MODES = ("ids", "single")
MAX_LAYERS = 400
"""Deeper stacks are squashed: the kernel takes 500 lower directories, and a lookup asks each."""
_SQUASH_STEP = 200

_CHAIN = """
WITH RECURSIVE chain (id, parent, layer, chain_id, depth) AS (
    SELECT id, parent, layer, chain_id, depth FROM snapshots WHERE id = ?
    UNION ALL
    SELECT s.id, s.parent, s.layer, s.chain_id, s.depth FROM snapshots s JOIN chain c ON s.id = c.parent
)
SELECT c.id, c.layer, l.diff_id, c.chain_id, l.size, l.mode, c.depth
FROM chain c JOIN layers l ON l.id = c.layer ORDER BY c.depth
"""


class LayerInfo(NamedTuple):
    snapshot: SnapshotID
    layer: str
    diff_id: DiffID | None
    chain_id: ChainID | None
    size: int | None
    """Bytes on disk; None until measured (SnapshotStore.measure)."""
    mode: str = "ids"


class SnapshotStore:
    """Any number of threads and processes may use one store."""

    def __init__(self, root: str, db: Database) -> None:
        self._root = root + "/snapshots"
        self._trash = self._root + "/.trash"
        self._db = db
        db.ensure(SCHEMA)
        self._mode = ""
        self._lock = allocate_lock()
        self._token: staging.Token | None = None
        self._count = 0
        self._layers: dict[SnapshotID, tuple[str, ...]] = {}
        self._seen: set[str] = set()

    def use(self, identity: Identity) -> None:
        """Say who we are; before anything is read from or written to a layer directory."""
        self._mode = "single" if identity.mode == "single" else "ids"

    @property
    def mode(self) -> str:
        if not self._mode:
            raise StoreError("the snapshot store is used before the process has entered its identity")
        return self._mode

    # writing

    def prepare(self, parent: SnapshotID | None = None) -> Staged:
        """A new empty layer directory for the caller to fill and commit.

        Its root, which hides the lower ones' when mounted, is as the parent's, else 0755 0:0.
        """
        directory = f"{self._root}/{self.mode}"
        with self._lock:
            if self._token is None:
                self._open_mode(directory)
                self._token = staging.Token(self._root)
            self._count += 1
            base = f"{directory}/{staging.PREFIX}{self._token.name}-{self._count}"
        staged = Staged(base, self._trash)
        try:
            os.mkdir(base, 0o700)
            os.mkdir(staged.fs, 0o755)
            os.mkdir(staged.work, 0o700)
            self._set_root(staged.fs, parent)
        except OSError as e:
            staged.abort()
            raise StoreError(f"cannot make a layer directory in {directory}: {e.strerror}") from e
        return staged

    def _set_root(self, fs: str, parent: SnapshotID | None) -> None:
        uid, gid, mode = 0, 0, 0o755
        if parent is not None:
            like = os.lstat(self.layers(parent)[0])
            uid, gid, mode = like.st_uid, like.st_gid, stat.S_IMODE(like.st_mode)
        # The store's own directory may be set-group-id, and the umask may be anything.
        st = os.lstat(fs)
        if (st.st_uid, st.st_gid) != (uid, gid):
            os.chown(fs, uid, gid)
        if stat.S_IMODE(st.st_mode) != mode:
            os.chmod(fs, mode)

    def _open_mode(self, directory: str) -> None:
        for path in (self._root, directory):
            os.makedirs(path, 0o700, exist_ok=True)
        try:
            # What the store's directory would bequeath to every file is not the image's.
            os.removexattr(directory, "system.posix_acl_default")
        except OSError:
            pass

    def commit(
        self,
        staged: Staged,
        parent: SnapshotID | None,
        *,
        diff_id: DiffID | None = None,
        id: SnapshotID | None = None,
    ) -> SnapshotID:
        """Make a staged directory a layer on ``parent`` and return the snapshot.

        Nothing may be mounted on it any more. Where ``id`` exists already (another process was
        faster), the staged directory is thrown away; where it has lost a layer, it is put in its place.
        """
        if staged.done:
            raise StoreError("a staged layer directory is committed twice, or after it was aborted")
        staging.remove_work(staged.work)
        staged.owners.save(staged.owners_file)
        layer = os.urandom(8).hex()
        path = f"{self._root}/{self.mode}/{layer}"
        os.rename(staged.base, path)
        staged.done = True
        snapshot = id or SnapshotID(os.urandom(12).hex())
        with self._db.transaction():
            fresh = not (self.exists(snapshot) and self.whole(snapshot))
            if fresh:
                self._forget_unusable(snapshot)
                self._db.run(
                    "INSERT INTO layers VALUES (?, ?, ?, NULL, NULL, ?)",
                    (layer, self.mode, diff_id, time.time()),
                )
                self._insert(snapshot, layer, parent, diff_id)
        if not fresh:
            staging.discard(path, self._trash)
        return snapshot

    def stack(
        self, layer_of: SnapshotID, parent: SnapshotID | None, *, id: SnapshotID | None = None
    ) -> SnapshotID:
        """The layer of another snapshot on another parent: no file is touched."""
        snapshot = id or SnapshotID(os.urandom(12).hex())
        with self._db.transaction():
            row = self._db.one(
                "SELECT l.id, l.diff_id FROM snapshots s JOIN layers l ON l.id = s.layer WHERE s.id = ?",
                (layer_of,),
            )
            if row is None:
                raise NotFoundError(f"there is no snapshot {layer_of}")
            if not (self.exists(snapshot) and self.whole(snapshot)):
                self._forget_unusable(snapshot)
                self._insert(snapshot, row[0], parent, row[1])
        return snapshot

    def _forget_unusable(self, snapshot: SnapshotID) -> None:
        # Of a user who got (or lost) subordinate ids since then; the files are found by collect_trash().
        if self._db.run("DELETE FROM snapshots WHERE id = ?", (snapshot,)):
            self._db.run("DELETE FROM layers WHERE id NOT IN (SELECT layer FROM snapshots)")

    def _insert(
        self, snapshot: SnapshotID, layer: str, parent: SnapshotID | None, diff_id: DiffID | None
    ) -> None:
        depth, above = 1, None
        if parent is not None:
            row = self._db.one("SELECT depth, chain_id FROM snapshots WHERE id = ?", (parent,))
            if row is None:
                raise NotFoundError(f"there is no snapshot {parent}")
            depth, above = row[0] + 1, row[1]
        chain = None
        if diff_id is not None and (parent is None or above is not None):
            chain = digest.chain_id(above, diff_id)
        now = time.time()
        self._db.run(
            "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?)",
            (snapshot, parent, layer, chain, depth, now, now),
        )

    def set_diff_id(self, id: SnapshotID, diff_id: DiffID) -> None:
        """Remember the diff id of a snapshot's layer, and the chain ids that become known by it."""
        with self._db.transaction():
            row = self._db.one("SELECT layer FROM snapshots WHERE id = ?", (id,))
            if row is None:
                raise NotFoundError(f"there is no snapshot {id}")
            self._db.run("UPDATE layers SET diff_id = ? WHERE id = ?", (diff_id, row[0]))
            todo = [s for (s,) in self._db.all("SELECT id FROM snapshots WHERE layer = ?", (row[0],))]
            while todo:
                snapshot = todo.pop()
                if self._set_chain(snapshot):
                    todo += [
                        s for (s,) in self._db.all("SELECT id FROM snapshots WHERE parent = ?", (snapshot,))
                    ]

    def _set_chain(self, snapshot: str) -> bool:
        row = self._db.one(
            "SELECT s.parent, p.chain_id, l.diff_id, s.chain_id FROM snapshots s"
            " JOIN layers l ON l.id = s.layer LEFT JOIN snapshots p ON p.id = s.parent WHERE s.id = ?",
            (snapshot,),
        )
        if row is None or row[2] is None or (row[0] is not None and row[1] is None):
            return False
        chain = digest.chain_id(row[1], row[2])
        if chain == row[3]:
            return False
        self._db.run("UPDATE snapshots SET chain_id = ? WHERE id = ?", (chain, snapshot))
        return True

    # reading

    def exists(self, id: SnapshotID) -> bool:
        """Whether the snapshot is there (and, once the identity is known, usable by it)."""
        row = self._db.one(
            "SELECT l.mode FROM snapshots s JOIN layers l ON l.id = s.layer WHERE s.id = ?", (id,)
        )
        return row is not None and (not self._mode or row[0] == self._mode)

    def by_chain_id(self, chain: ChainID) -> SnapshotID | None:
        """The snapshot with this stack of layers. One that is doomed is needed again from now on."""
        for snapshot, mode, doomed in self._db.all(
            "SELECT s.id, l.mode, d.snapshot FROM snapshots s JOIN layers l ON l.id = s.layer"
            " LEFT JOIN doomed d ON d.snapshot = s.id WHERE s.chain_id = ? ORDER BY s.created",
            (chain,),
        ):
            if self._mode and mode != self._mode:
                continue
            if (doomed is None or self._spare(snapshot)) and self.whole(snapshot):
                return SnapshotID(snapshot)
        return None

    def whole(self, id: SnapshotID) -> bool:
        """Whether all layers of a snapshot are on disk; looked at once by each process.

        One that is lost (to a power cut, to somebody's rm) is made again by whoever wants it; the rows stay
        until then, or until the store is checked.
        """
        try:
            chain = self.chain(id)
        except NotFoundError:
            return False
        for info in chain:
            if info.layer in self._seen:
                continue
            try:
                os.stat(self.layer_path(info))
            except FileNotFoundError:
                return False
            except OSError:
                pass  # another identity's may not be looked at
            self._seen.add(info.layer)
        return True

    def _spare(self, id: str) -> bool:
        """Whether the snapshot is still there; it is no longer doomed then."""
        with self._db.transaction():
            self._db.run("DELETE FROM doomed WHERE snapshot = ?", (id,))
            return self._db.one("SELECT 1 FROM snapshots WHERE id = ?", (id,)) is not None

    def chain(self, id: SnapshotID | None) -> tuple[LayerInfo, ...]:
        """The layers of a snapshot, lowest first. Raises NotFoundError."""
        if id is None:
            return ()
        rows = self._db.all(_CHAIN, (id,))
        if not rows or rows[0][6] != 1:
            raise NotFoundError(f"there is no snapshot {id}")
        return tuple(LayerInfo(*row[:6]) for row in rows)

    def layer_path(self, info: LayerInfo) -> str:
        """The host path of one layer's directory."""
        return f"{self._root}/{info.mode}/{info.layer}/fs"

    def layers(self, id: SnapshotID | None) -> tuple[str, ...]:
        """The host paths to mount, topmost first; deep stacks come squashed."""
        if id is None:
            return ()
        known = self._layers.get(id)
        if known is None:
            chain = self.chain(id)
            paths = tuple(self.layer_path(info) for info in reversed(chain))
            for path in paths:
                if not os.path.isdir(path):
                    raise StoreError(
                        f"the layer {path} is gone from the store",
                        hint="run `pybuild cache verify` and build again",
                    )
            if len(chain) > MAX_LAYERS:
                below = (len(chain) - 1) // _SQUASH_STEP * _SQUASH_STEP
                paths = (*paths[: len(chain) - below], self._squashed(chain[below - 1].snapshot))
            known = self._layers[id] = _distinct(paths)
        return known

    def tree(self, id: SnapshotID | None) -> LayerTree:
        return LayerTree(self.layers(id), recorded=self._mode == "single")

    def parent(self, id: SnapshotID) -> SnapshotID | None:
        row = self._db.one("SELECT parent FROM snapshots WHERE id = ?", (id,))
        if row is None:
            raise NotFoundError(f"there is no snapshot {id}")
        return None if row[0] is None else SnapshotID(row[0])

    def touch(self, *ids: SnapshotID) -> None:
        """Note that snapshots are in use now (prune spares what was used lately)."""
        with self._db.transaction():
            for id in ids:
                self._db.run("UPDATE snapshots SET used = ? WHERE id = ?", (time.time(), id))

    # squashing

    def _squashed(self, id: SnapshotID) -> str:
        """One directory that holds the whole tree of a snapshot, by hard links."""
        from buildkit_py.snapshot.merge import link_tree

        path = f"{self._root}/{self.mode}/squash-{id}"
        if not os.path.isdir(path + "/fs"):
            with self.prepare() as staged:
                link_tree(self.tree(id), staged.fs, staged.owners)
                staging.remove_work(staged.work)
                staged.owners.save(staged.owners_file)
                try:
                    os.rename(staged.base, path)
                    staged.done = True
                except OSError:
                    # Another process was faster.
                    if not os.path.isdir(path + "/fs"):
                        raise
        return path + "/fs"

    # removing

    def remove(self, id: SnapshotID) -> int:
        """Forget a snapshot; its layer goes to the trash when no other one uses it. Returns the bytes
        that frees. Raises StoreError while other snapshots stand on it."""
        row = self._db.one("SELECT layer FROM snapshots WHERE id = ?", (id,))
        if row is None:
            return 0
        self.measure(row[0])
        with self._db.transaction():
            if self._db.one("SELECT 1 FROM snapshots WHERE parent = ?", (id,)):
                raise StoreError(f"snapshot {id} has others standing on it")
            gone = self._remove_rows(id)
        return self._discard_removed(id, gone)

    def _remove_rows(self, id: SnapshotID) -> tuple[str, str, int, bool] | None:
        """(layer, mode, size, whether no other snapshot has it); within a transaction."""
        row = self._db.one(
            "SELECT l.id, l.mode, l.size FROM snapshots s JOIN layers l ON l.id = s.layer WHERE s.id = ?",
            (id,),
        )
        self._db.run("DELETE FROM snapshots WHERE id = ?", (id,))
        if row is None:
            return None
        last = self._db.one("SELECT 1 FROM snapshots WHERE layer = ?", (row[0],)) is None
        if last:
            self._db.run("DELETE FROM layers WHERE id = ?", (row[0],))
        return row[0], row[1], row[2] or 0, last

    def _discard_removed(self, id: SnapshotID, gone: tuple[str, str, int, bool] | None) -> int:
        self._layers.pop(id, None)
        if gone is None:
            return 0
        layer, mode, size, last = gone
        directory = f"{self._root}/{mode}"
        staging.discard(f"{directory}/squash-{id}", self._trash)
        if not last:
            return 0
        staging.discard(f"{directory}/{layer}", self._trash)
        return size

    # removing beside builds (buildkit_py.engine.garbage)

    def doom(self, ids: Iterable[SnapshotID]) -> None:
        """Mark what no root leads to now, in place of an earlier marking."""
        with self._db.transaction():
            self._db.run("DELETE FROM doomed")
            for id in ids:
                self._db.run("INSERT INTO doomed VALUES (?)", (id,))

    def doomed(self) -> list[SnapshotID]:
        """The marked ones, those that stand on others first."""
        rows = self._db.all(
            "SELECT s.id FROM doomed d JOIN snapshots s ON s.id = d.snapshot ORDER BY s.depth DESC"
        )
        return [SnapshotID(row[0]) for row in rows]

    def remove_doomed(self, id: SnapshotID) -> int:
        """As remove(); 0 where the snapshot is no longer doomed, or something stands on it."""
        row = self._db.one("SELECT layer FROM snapshots WHERE id = ?", (id,))
        if row is not None:
            self.measure(row[0])  # not within the transaction: it walks through the files
        with self._db.transaction():
            if self._db.one("SELECT 1 FROM doomed WHERE snapshot = ?", (id,)) is None:
                return 0
            if self._db.one("SELECT 1 FROM snapshots WHERE parent = ?", (id,)) is not None:
                return 0
            gone = self._remove_rows(id)
        return self._discard_removed(id, gone)

    def collect_dead(self) -> None:
        """Delete what was removed and what dead processes were writing; what lives beside it stays."""
        staging.sweep(self._root, MODES, self._trash)
        self._empty_trash()

    # checking, with the store's lock held alone

    def directories(self) -> set[str]:
        """The names that our mode's directory may hold."""
        rows = {row[0] for row in self._db.all("SELECT id FROM layers WHERE mode = ?", (self.mode,))}
        return rows | {"squash-" + row[0] for row in self._db.all("SELECT id FROM snapshots")}

    def discard(self, directories: Iterable[str]) -> None:
        """Move directories of our mode, which no row of the store names, to the trash and delete them."""
        for name in directories:
            staging.discard(f"{self._root}/{self.mode}/{name}", self._trash)
        self._empty_trash()

    def newest(self) -> float:
        """When the last snapshot was made, seconds since the epoch; 0.0: there is none."""
        return float(self._db.all("SELECT coalesce(max(created), 0) FROM snapshots")[0][0])

    def since(self, time: float) -> list[SnapshotID]:
        """Those that were made after a time (seconds since the epoch), the oldest first."""
        rows = self._db.all("SELECT id FROM snapshots WHERE created > ? ORDER BY created", (time,))
        return [SnapshotID(id) for (id,) in rows]

    def dangling(self) -> list[tuple[SnapshotID, str]]:
        """(snapshot, what is wrong with it) of those that miss a part; not of those that stand on them."""
        rows = self._db.all(
            "SELECT s.id, s.parent, p.id, l.id, l.mode FROM snapshots s"
            " LEFT JOIN snapshots p ON p.id = s.parent LEFT JOIN layers l ON l.id = s.layer"
        )
        found: list[tuple[SnapshotID, str]] = []
        for id, parent, below, layer, mode in rows:
            if parent is not None and below is None:
                found.append((SnapshotID(id), f"what it stands on, {parent}, is gone"))
            elif layer is None:
                found.append((SnapshotID(id), "its layer is not known"))
            elif mode == self.mode and not os.path.isdir(f"{self._root}/{mode}/{layer}/fs"):
                found.append((SnapshotID(id), f"its layer {layer} is gone"))
        return found

    def of_layer(self, layer: str) -> list[SnapshotID]:
        return [SnapshotID(s) for (s,) in self._db.all("SELECT id FROM snapshots WHERE layer = ?", (layer,))]

    def forget(self, id: SnapshotID) -> None:
        """Forget a snapshot and all that stand on it; layers that nothing has then go to the trash."""
        with self._db.transaction():
            todo = [id]
            while todo:
                snapshot = todo.pop()
                rows = self._db.all("SELECT id FROM snapshots WHERE parent = ?", (snapshot,))
                todo += [SnapshotID(row[0]) for row in rows]
                self._db.run("DELETE FROM snapshots WHERE id = ?", (snapshot,))
                self._layers.pop(snapshot, None)
            unused = self._db.all("SELECT id, mode FROM layers WHERE id NOT IN (SELECT layer FROM snapshots)")
            for layer, _ in unused:
                self._db.run("DELETE FROM layers WHERE id = ?", (layer,))
        for layer, mode in unused:
            staging.discard(f"{self._root}/{mode}/{layer}", self._trash)

    def replace(self, info: LayerInfo, staged: Staged) -> None:
        """Put a staged directory in the place of a layer's. The snapshots that have it stay what they are."""
        staging.remove_work(staged.work)
        staged.owners.save(staged.owners_file)
        place = f"{self._root}/{info.mode}/{info.layer}"
        staging.discard(place, self._trash)
        os.rename(staged.base, place)
        staged.done = True
        self._db.run("UPDATE layers SET size = NULL, files = NULL WHERE id = ?", (info.layer,))

    def collect_trash(self) -> int:
        """Delete what was removed, and what crashed processes left; return the bytes freed."""
        staging.sweep(self._root, MODES, self._trash)
        for mode in MODES:
            self._sweep_unnamed(mode)
        return self._empty_trash()

    def _empty_trash(self) -> int:
        freed = 0
        try:
            names = os.listdir(self._trash)
        except FileNotFoundError:
            return 0
        for name in names:
            # What another identity's ids own stays until a process with that identity comes by.
            with suppress(OSError):
                freed += remove_tree(f"{self._trash}/{name}")
        return freed

    def _sweep_unnamed(self, mode: str) -> None:
        rows = {row[0] for row in self._db.all("SELECT id FROM layers WHERE mode = ?", (mode,))}
        rows |= {"squash-" + row[0] for row in self._db.all("SELECT id FROM snapshots")}
        staging.sweep_unnamed(f"{self._root}/{mode}", rows, self._trash)

    # numbers

    def measure(self, layer: str) -> tuple[int, int]:
        """(bytes on disk, number of files) of a layer; walked once, then remembered."""
        row = self._db.one("SELECT size, files, mode FROM layers WHERE id = ?", (layer,))
        if row is None:
            return 0, 0
        if row[0] is not None:
            return row[0], row[1]
        size, files = measure(f"{self._root}/{row[2]}/{layer}/fs")
        self._db.run("UPDATE layers SET size = ?, files = ? WHERE id = ?", (size, files, layer))
        return size, files

    def unmeasured(self) -> bool:
        """Whether usage() would walk through layers."""
        return self._db.one("SELECT 1 FROM layers WHERE size IS NULL LIMIT 1") is not None

    def usage(self) -> list[Usage]:
        """What every snapshot takes, oldest first."""
        return usages(self._db, self.measure)

    def close(self) -> None:
        """Give the process's staging lock back (its end does that too)."""
        if self._token is not None:
            self._token.close()
            self._token = None


def _distinct(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Overlayfs refuses a directory that is given twice; its lower occurrence shows nothing anyway…
    unless something between hides it, which the upper occurrence then shows again. So the first counts."""
    return tuple(dict.fromkeys(paths))
